"""Hebbian learning based orthogonal projection: lateral units learn what a layer is given, and new tasks leave it be.

Xiao, Meng, Zhang, Wang, Lin 2024, ICLR, arXiv 2402.11984; `spikekit.continual.lateral` has the equations.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from spikekit.continual.batch import Batch
from spikekit.continual.growth import ByVariance, Growth, checked_growth
from spikekit.continual.guards import check_drift, check_room
from spikekit.continual.lateral import Hebbian, Lateral, Spiking
from spikekit.continual.numbers import whole
from spikekit.continual.projection import Projection
from spikekit.continual.subspace import draw, inputs
from spikekit.errors import InputError
from spikekit.learning import Listener, presynaptic

AUTHORS_LR = (0.001, 0.01)
"""η of the first layer, and of the others."""


class HLOP(Projection[Lateral]):
    """Learn tasks one after the other without forgetting, by lateral units beside every weight matrix.

    net: any network of spikekit with nn.Linear or nn.Conv2d layers; its forward pass is untouched. Used as `Method`
    says; from the second task on steps leave the answers to old inputs alone, as far as the units span them. A layer
    that was given nothing in a task, such as the head of another one, gets no units for it.

    units: lateral units by layer and task: a `Schedule`, `ByVariance`, the name of one of `PRESETS`, a number for every
    layer and task, or one a layer. layers, project: see `Projection`.
    lr: η of the lateral rule, a number for all layers or one by layer; "authors": 0.001 in the first layer and 0.01
    elsewhere; None: that of `hebbian`, relative to what a layer is given. hebbian: the other numbers of the rule.
    spiking: True or a `Spiking` for units that answer in spikes. orthonormalise: QR of the new rows when a task ends,
    within their span; False: as the authors, who leave the rows as they were learned.
    rows: the most inputs that a layer's units learn from in one call, drawn at random; None: all. share: the part of
    the calls that they learn from, drawn at random. What both save is most of the time that HLOP takes. review: of a
    task's data, from the `batches` that `end_task` is given, so many samples are shown twice to the units when it ends,
    in eval mode: what they learned while the layers below still changed is put right. seed: of the units' first rows
    and of all draws; torch's own generator is left alone.

    Raises InputError for numbers out of range, optimisers and modes that break the promise, and as many units as a
    layer has inputs. Warns of more than 3/4 of them, and when max|HHᵀ - I| passes 0.1.
    """

    def __init__(
        self,
        net: nn.Module,
        units: Growth | str | int | Sequence[int],
        *,
        layers: Iterable[str] | None = None,
        project: str = "auto",
        lr: float | Mapping[str, float] | Literal["authors"] | None = None,
        hebbian: Hebbian | None = None,
        spiking: bool | Spiking = False,
        orthonormalise: bool = True,
        rows: int | None = 1024,
        share: float = 1.0,
        review: int = 0,
        seed: int = 0,
    ) -> None:
        if not isinstance(net, nn.Module):
            raise InputError(f"HLOP: net must be an nn.Module, got {type(net).__name__}")
        if rows is not None:
            whole("HLOP", "rows", rows)
        whole("HLOP", "review", review, 0)
        self.growth = checked_growth(units)
        if not (isinstance(share, (int, float)) and 0 < share <= 1):
            raise InputError(f"HLOP: share must be above 0 and at most 1, got {share!r}")
        if not (isinstance(spiking, (bool, Spiking)) and (hebbian is None or isinstance(hebbian, Hebbian))):
            raise InputError(
                f"HLOP: spiking must be a bool or a Spiking(), hebbian a Hebbian() or None, got {spiking!r} and "
                f"{hebbian!r}"
            )
        self.orthonormalise, self.rows, self.share, self.review = orthonormalise, rows, share, review
        self._generator = torch.Generator().manual_seed(whole("HLOP", "seed", seed, 0))
        base = hebbian or Hebbian()
        answer = Spiking() if spiking is True else spiking or base.spiking

        if answer is not None:
            if project not in ("auto", "inputs"):
                raise InputError(
                    f"HLOP: units that answer in spikes are not linear, and only inputs can be projected by them; "
                    f"project={project!r} needs spiking=False"
                )
            project = "inputs"

        def lateral(name: str, layer: nn.Module) -> Lateral:
            given = lr.get(name) if isinstance(lr, Mapping) else lr
            if given == "authors":
                given = AUTHORS_LR[layer is not first]
            rate: dict[str, Any] = {} if given is None else {"lr": given, "relative": False}
            return Lateral(name, layer, replace(base, spiking=answer, **rate), self._generator)

        first = next((m for m in net.modules() if isinstance(m, (nn.Linear, nn.Conv2d))), None)
        super().__init__(net, layers, project, lateral)
        if isinstance(lr, Mapping) and (unknown := sorted(set(lr) - set(self.spaces))):
            raise InputError(f"HLOP: lr names {unknown}; the protected layers are {sorted(self.spaces)}")
        if not isinstance(self.growth, ByVariance):
            self.growth.check(list(self.spaces))
        self._batches = 0
        self._settings: dict[str, object] = {
            "units": repr(self.growth),
            "rules": {name: repr(space.rule) for name, space in self.spaces.items()},
            "project": project,
            "orthonormalise": orthonormalise,
            "rows": rows,
            "share": share,
            "review": review,
            "seed": seed,
        }

    def settings(self) -> dict[str, object]:
        return dict(self._settings)

    @property
    def explained(self) -> dict[str, float]:
        """The part of its inputs' power that a layer's units explain, lately; NaN before the first batch."""
        return {name: space.explained for name, space in self.spaces.items()}

    @property
    def drift(self) -> dict[str, float]:
        """max|HHᵀ - I| by layer: 0 where the rows are orthonormal."""
        return {name: space.drift() for name, space in self.spaces.items()}

    @property
    def units(self) -> dict[str, int]:
        """The number of lateral units by layer."""
        return {name: len(space.rows) for name, space in self.spaces.items()}

    def _begin(self) -> None:
        super()._begin()
        self._batches = 0
        if isinstance(self.growth, ByVariance):
            # Later tasks look first at what the old units explain.
            counts = {name: self._room(space, self.growth) * (self.task == 1) for name, space in self.spaces.items()}
        else:
            counts = self.growth.units(self.task, list(self.spaces))
        for name, space in self.spaces.items():
            if counts[name]:
                check_room(name, len(space.rows) + counts[name], space.width, "HLOP")
        for name, space in self.spaces.items():
            space.explained = math.nan
            space.grow(counts[name])

    def _end(self, batches: Iterable[Batch]) -> None:
        if self.review:
            self._look_again(batches)
        for name, space in self.spaces.items():
            if math.isnan(space.explained):
                space.forget()
            if self.orthonormalise:
                space.orthonormalise()
            check_drift(name, space.drift(), "HLOP")
            space.keep()

    def _look_again(self, batches: Iterable[Batch]) -> None:
        def listen(name: str, layer: nn.Module, signal: Tensor) -> None:
            if name in self.spaces:
                space = self.spaces[name]
                space.learn(inputs(space.layer, signal, self.rows, self._generator))

        shown, left = [], self.review
        for batch in batches:
            shown.append(batch.x[:, :left])
            left -= len(batch)
            if left <= 0:
                break
        if not shown:
            raise InputError("HLOP: review needs batches of the task's training data: end_task(batches)")
        self.net.eval()
        with torch.no_grad(), presynaptic(self.net, listen):
            for x in shown * 2:
                self.net(x)
        self.train()

    def _listener(self, x: Tensor) -> Listener | None:
        self._batches += 1
        if isinstance(self.growth, ByVariance) and self._batches % self.growth.patience == 0:
            for space in self.spaces.values():
                if space.explained < self.growth.explained:
                    space.grow(self._room(space, self.growth))
        return super()._listener(x)

    def _learn(self, space: Lateral, shown: Tensor, rows: Tensor | None = None, left: Tensor | None = None) -> None:
        if space.kept == len(space.rows) and not isinstance(self.growth, ByVariance):
            return
        if self.share < 1 and float(torch.rand((), generator=self._generator)) >= self.share:
            return
        if rows is None or left is None:
            space.learn(inputs(space.layer, shown, self.rows, self._generator))
        else:
            space.learn(*draw((rows, left), self.rows, self._generator))

    @staticmethod
    def _room(space: Lateral, growth: ByVariance) -> int:
        """How many units `space` is given next."""
        return max(0, min(growth.step, int(growth.most * space.width) - len(space.rows)))

    def _state(self) -> dict[str, Tensor]:
        state = super()._state()
        for name, space in self.spaces.items():
            state[f"{name}.velocity"] = space.velocity
            state[f"{name}.explained"] = torch.tensor(space.explained, dtype=torch.float64)
        return state | {"batches": torch.tensor(self._batches), "generator": self._generator.get_state()}

    def _load(self, state: dict[str, Tensor], task: int, learning: bool) -> None:
        super()._load(state, task, learning)
        for name, space in self.spaces.items():
            space.velocity = state[f"{name}.velocity"].to(space.rows, copy=True)
            space.explained = float(state[f"{name}.explained"])
        self._batches = int(state["batches"])
        self._generator.set_state(state["generator"])
