"""Methods that project: from the second task on, steps of a weight leave its answers to old inputs alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from spikekit.continual.freezing import check_held, freeze, hold
from spikekit.continual.guards import check_optimizer, check_weights, momentum_buffers
from spikekit.continual.method import Method
from spikekit.continual.subspace import Subspace, inputs
from spikekit.errors import InputError
from spikekit.learning import Listener
from spikekit.learning.gradients import WEIGHTED
from spikekit.neurons import Neuron
from spikekit.rematerialise import CheckpointTime

PROJECT = ("auto", "inputs", "gradient", "update")

Space = TypeVar("Space", bound=Subspace)


class Projection(Method, Generic[Space]):
    """Base of HLOP and GPM: one subspace a weight matrix.

    layers: the paths of the weight layers that are protected; None: all that there are. A layer with outputs of its own
    for every task (task-incremental learning with masked outputs) needs no protection: leave it out, and it learns
    freely. Everything else of the network, recurrent weights too, stops learning when the second task begins.
    project: what is projected. "inputs": the presynaptic signals in the gradient of the weight. "gradient": that
    gradient, which is the same to rounding. "auto": whichever of the two is less work in a layer. The loss must be one
    of the network's outputs. "update": the step of the optimiser, after it; exact with every optimiser and loss, at the
    price of a copy of the weights a step.
    """

    def __init__(
        self, net: nn.Module, layers: Iterable[str] | None, project: str, space: Callable[[str, nn.Module], Space]
    ) -> None:
        super().__init__(net)
        if project not in PROJECT:
            raise InputError(f"{self._who}: project must be one of {PROJECT}, got {project!r}")
        self.project = project
        # Recurrent weights are a neuron's own: they act within it, on no input that could be told.
        own = {id(part) for neuron in net.modules() if isinstance(neuron, Neuron) for part in neuron.modules()}
        found = {name: m for name, m in net.named_modules() if isinstance(m, WEIGHTED) and id(m) not in own}
        chosen = list(found) if layers is None else [layers] if isinstance(layers, str) else list(layers)
        if unknown := sorted(set(chosen) - set(found)):
            raise InputError(f"{self._who}: {unknown} are no weight layers; this network has {sorted(found)}")
        if not chosen:
            raise InputError(f"{self._who}: the network has no layer to protect")
        check_weights(net, {name: found[name] for name in found if name in chosen}, self._who)
        # What is computed again in the backward pass is so with its own inputs.
        self._again = any(isinstance(module, CheckpointTime) for module in net.modules())
        if self._again and project == "inputs":
            raise InputError(
                f"{self._who}: in checkpoint_time inputs are computed again as they are, and cannot be projected; use "
                "project='gradient', without spiking units"
            )
        self.spaces = {name: space(name, found[name]) for name in found if name in chosen}
        self._free = {f"{name}.weight" for name in found if name not in chosen}
        self._first_step = True
        # Whether this method was told of a step's inputs.
        self._listening = False
        # Layers of this step, and whether their inputs are projected.
        self._by_inputs: dict[str, bool] = {}
        # Their last signal in it, its rows, and what is left of them: with a still image, that of every step.
        self._last: dict[str, tuple[Tensor, Tensor, Tensor]] = {}

    def train(self) -> None:
        super().train()
        if self.task > 1:
            hold(self.net)

    def _begin(self) -> None:
        self._first_step = True
        for space in self.spaces.values():
            space.to_layer()
        if self.task > 1:
            freeze(self.net, {f"{name}.weight" for name in self.spaces} | self._free)

    def _weights(self) -> dict[str, nn.Parameter]:
        return {name: cast(nn.Parameter, space.layer.weight) for name, space in self.spaces.items() if space.kept}

    def _check(self, optimizer: Optimizer) -> None:
        if self.task < 2:
            return
        check_held(self.net, self._who)
        if self.project != "update":
            check_optimizer(optimizer, self._weights().values(), self._who)

    def _listener(self, x: Tensor) -> Listener | None:
        self._listening = True
        self._by_inputs.clear()
        self._last.clear()

        def listen(name: str, layer: nn.Module, signal: Tensor) -> Tensor | None:
            space = self.spaces.get(name)
            if space is None:
                return None
            shown = once(signal, len(x))
            if not self._by_inputs.setdefault(name, self._wants_inputs(space, shown)):
                self._learn(space, shown)
                return None
            last = self._last.get(name)
            if last is None or not same(last[0], shown):
                rows = inputs(space.layer, shown)
                last = self._last[name] = (shown, rows, space.residual(rows))
            self._learn(space, *last)
            return last[2]

        return listen

    def _wants_inputs(self, space: Space, shown: Tensor) -> bool:
        """Whether the inputs of a layer are projected, and not its gradient."""
        if not space.kept or self._again or self.project in ("gradient", "update"):
            return False
        linear = isinstance(space.layer, nn.Linear)
        return self.project == "inputs" or (linear and len(shown) < len(space.layer.weight))

    def _learn(self, space: Space, shown: Tensor, rows: Tensor | None = None, left: Tensor | None = None) -> None:
        """What a method learns from the signal of a layer; rows, left: its inputs and their residual, where known."""

    def _update(self, optimizer: Optimizer) -> None:
        self._check_heard()
        weights = self._weights()
        with torch.no_grad():
            before = {}
            if self.project == "update":
                before = {name: weight.clone() for name, weight in weights.items()}
            else:
                self._project_gradients(weights, optimizer)
            optimizer.step()
            for name, old in before.items():
                weights[name].copy_(old + self.spaces[name].project(weights[name] - old))
        self._first_step = False

    def _check_heard(self) -> None:
        """Refuse weights that learn from what nobody was told of."""
        for name, space in self.spaces.items():
            if space.layer.weight.grad is not None and name not in self._by_inputs and self._listening:
                raise InputError(
                    f"{self._who}: the weight of layer {name!r} learns without a call of the layer, as in functional."
                    "linear or nn.MultiheadAttention, so that nothing is known of its inputs; call the layer, or leave "
                    "it out by layers=[...] and set requires_grad=False on this weight when the second task begins"
                )

    def _project_gradients(self, weights: dict[str, nn.Parameter], optimizer: Optimizer) -> None:
        for name, weight in weights.items():
            if weight.grad is not None and not self._by_inputs.get(name, False):
                weight.grad = self.spaces[name].project(weight.grad)
            if self._first_step:
                # An optimiser that was kept over the end of a task has gradients of before in mind.
                for buffer in momentum_buffers(optimizer, weight):
                    buffer.copy_(self.spaces[name].project(buffer))

    def _state(self) -> dict[str, Tensor]:
        state: dict[str, Tensor] = {}
        for name, space in self.spaces.items():
            state[f"{name}.rows"], state[f"{name}.kept"] = space.rows, torch.tensor(space.kept)
        return state | {"first_step": torch.tensor(self._first_step)}

    def _load(self, state: dict[str, Tensor], task: int, learning: bool) -> None:
        for name, space in self.spaces.items():
            rows = state[f"{name}.rows"]
            if rows.ndim != 2 or rows.shape[1] != space.width:
                raise ValueError(f"{name}.rows is {list(rows.shape)}, and the layer has {space.width} inputs")
            space.restore(rows, int(state[f"{name}.kept"]))
        self._first_step = bool(state["first_step"])
        if task > 1:
            freeze(self.net, {f"{name}.weight" for name in self.spaces} | self._free)


def once(signal: Tensor, steps: int) -> Tensor:
    """Signal [T·B, ...] without its repetitions, where all steps are the same, as with a still image; else as it is."""
    if steps < 2 or len(signal) % steps:
        return signal
    first, *others = signal.unflatten(0, (steps, -1))
    return first if all(same(first, other) for other in others) else signal


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two signals are equal; where they are not, the first sample mostly tells."""
    return a.shape == b.shape and torch.equal(a[0], b[0]) and torch.equal(a, b)
