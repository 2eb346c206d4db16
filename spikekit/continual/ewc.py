"""Elastic weight consolidation: parameters that old tasks need are held where they were.

Kirkpatrick et al. 2017, PNAS 114(13):3521, arXiv 1612.00796, with one sum for all tasks (Schwarz et al. 2018, ICML,
arXiv 1805.06370). The loss of a new task gains strength/2·Σ F·(θ - θ*)², with θ* as the last task left it and F the sum
over tasks of the mean squared gradient of a sample's loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from spikekit.continual.batch import Batch
from spikekit.continual.method import Method
from spikekit.continual.numbers import whole
from spikekit.errors import InputError
from spikekit.learning import BPTT, OTTT, Rule


class EWC(Method):
    """Learn tasks one after the other, with a pull back to old parameters.

    strength: λ, > 0. samples: of a task, from the `batches` that `end_task` is given, on which F is computed, one by
    one, by `rule` (None: BPTT) and the labels. The pull is added to the gradients, so that it goes with every rule.
    A pull that would overshoot, lr·strength·F above 1, is limited to what brings a parameter back at once. Raises
    InputError when `end_task` gets no batches.
    """

    def __init__(
        self, net: nn.Module, *, strength: float = 1000.0, samples: int = 200, rule: Rule | None = None
    ) -> None:
        super().__init__(net)
        if not (isinstance(strength, (int, float)) and math.isfinite(strength) and strength > 0):
            raise InputError(f"EWC: strength must be a number greater than 0, got {strength!r}")
        self.strength, self.samples = strength, whole("EWC", "samples", samples)
        self.rule = BPTT() if rule is None else rule
        if not isinstance(self.rule, Rule) or (isinstance(self.rule, OTTT) and self.rule.every_step):
            raise InputError(
                f"EWC: rule must be a rule whose gradient is that of a whole sequence, got {rule!r}; leave it out, or "
                "give OTTT(every_step=False)"
            )
        self._fisher: dict[str, Tensor] = {}
        self._anchor: dict[str, Tensor] = {}

    def settings(self) -> dict[str, object]:
        return {"strength": self.strength, "samples": self.samples, "rule": repr(self.rule)}

    def _update(self, optimizer: Optimizer) -> None:
        rates = {id(p): float(group["lr"]) for group in optimizer.param_groups for p in group["params"]}
        for name, parameter in self._learned():
            if name in self._fisher and id(parameter) in rates:
                with torch.no_grad():
                    pull = (self._fisher[name] * self.strength).clamp_(max=1 / max(rates[id(parameter)], 1e-12))
                    pull = pull * (parameter - self._anchor[name])
                    parameter.grad = pull if parameter.grad is None else parameter.grad + pull
        optimizer.step()

    def _end(self, batches: Iterable[Batch]) -> None:
        self.net.eval()
        found = {name: torch.zeros_like(p) for name, p in self._learned()}
        left = self.samples
        for batch in batches:
            count = min(left, len(batch))
            for index in range(count):
                one = batch.taken(torch.tensor([index]))
                self.net.zero_grad(set_to_none=True)
                self.rule(self.net, one.x, one.loss)
                for name, parameter in self._learned():
                    if parameter.grad is not None:
                        found[name] += parameter.grad.square()
            left -= count
            if not left:
                break
        self.net.zero_grad(set_to_none=True)
        self.train()
        if left == self.samples:
            raise InputError("EWC: end_task needs batches of the task's training data: end_task(batches)")
        for name, parameter in self._learned():
            self._fisher[name] = self._fisher.get(name, 0) + found[name] / (self.samples - left)
            self._anchor[name] = parameter.detach().clone()

    def _learned(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.net.named_parameters() if p.requires_grad]

    def _state(self) -> dict[str, Tensor]:
        state = {f"fisher.{name}": value for name, value in self._fisher.items()}
        return state | {f"anchor.{name}": value for name, value in self._anchor.items()}

    def _load(self, state: dict[str, Tensor], task: int, learning: bool) -> None:
        shapes = dict(self._learned())
        parts: dict[str, dict[str, Tensor]] = {"fisher": {}, "anchor": {}}
        for key, value in state.items():
            part, _, name = key.partition(".")
            if value.shape != shapes[name].shape:
                raise ValueError(f"{key} is {list(value.shape)}, the parameter {list(shapes[name].shape)}")
            parts[part][name] = value.to(shapes[name], copy=True)
        self._fisher, self._anchor = parts["fisher"], parts["anchor"]
