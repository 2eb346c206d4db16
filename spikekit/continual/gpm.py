"""Gradient projection memory: the subspace by a singular value decomposition when a task ends.

Saha, Garg, Roy 2021, ICLR, arXiv 2103.09762. Of the inputs R [N, n] of a layer, the part R̂ outside the kept rows M is
decomposed, and as many right singular vectors are kept as make |R·MᵀM|² + |R̂ₖ|² >= explained·|R|².
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from spikekit.continual.batch import Batch
from spikekit.continual.numbers import whole
from spikekit.continual.projection import Projection
from spikekit.continual.subspace import Subspace, inputs
from spikekit.errors import InputError
from spikekit.learning import Listener, presynaptic


class GPM(Projection[Subspace]):
    """Learn tasks one after the other; the subspaces come from a look at `samples` of each task when it ends.

    explained: part of the inputs' power that is kept, in (0, 1), a number or one by layer. samples: of a task, from the
    `batches` that `end_task` is given; every time step of them counts. rows: the most inputs of a layer that are
    decomposed, drawn at random with `seed`. layers, project: see `Projection`. Raises InputError when `end_task` gets
    no batches.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        explained: float | Mapping[str, float] = 0.95,
        samples: int = 300,
        rows: int = 4096,
        layers: Iterable[str] | None = None,
        project: str = "auto",
        seed: int = 0,
    ) -> None:
        super().__init__(net, layers, project, Subspace)
        parts = dict(explained) if isinstance(explained, Mapping) else dict.fromkeys(self.spaces, explained)
        numbers = all(isinstance(part, (int, float)) for part in parts.values())
        if set(parts) != set(self.spaces) or not (numbers and all(0 < part < 1 for part in parts.values())):
            raise InputError(
                f"GPM: explained must be in (0, 1), a number or one for each of {sorted(self.spaces)}; got "
                f"{explained!r}"
            )
        self.explained, self.samples, self.rows = parts, whole("GPM", "samples", samples), whole("GPM", "rows", rows)
        self._seed = whole("GPM", "seed", seed, 0)
        self._generator = torch.Generator().manual_seed(seed)

    def settings(self) -> dict[str, object]:
        return {
            "explained": self.explained,
            "samples": self.samples,
            "rows": self.rows,
            "project": self.project,
            "seed": self._seed,
        }

    def _listener(self, x: Tensor) -> Listener | None:
        return super()._listener(x) if self.task > 1 else None

    def _end(self, batches: Iterable[Batch]) -> None:
        for name, signals in self._look(batches).items():
            space = self.spaces[name]
            # A layer that was given nothing, such as the head of another task, has nothing to keep.
            if signals:
                space.rows = torch.cat([space.old, self._principal(space, torch.cat(signals))])
                space.keep()

    def _look(self, batches: Iterable[Batch]) -> dict[str, list[Tensor]]:
        seen: dict[str, list[Tensor]] = {name: [] for name in self.spaces}

        def listen(name: str, layer: nn.Module, signal: Tensor) -> None:
            if name in self.spaces:
                share = max(1, self.rows * count // self.samples)
                seen[name].append(inputs(self.spaces[name].layer, signal, share, self._generator))

        left = self.samples
        self.net.eval()
        with torch.no_grad(), presynaptic(self.net, listen):
            for batch in batches:
                count = min(left, len(batch))
                self.net(batch.x[:, :count])
                left -= count
                if not left:
                    break
        self.train()
        if left == self.samples:
            raise InputError("GPM: end_task needs batches of the task's training data: end_task(batches)")
        return seen

    def _principal(self, space: Subspace, signals: Tensor) -> Tensor:
        whole = float(signals.double().square().sum())
        outside = space.outside(signals)
        wanted = float(outside.double().square().sum()) - (1 - self.explained[space.name]) * whole
        if wanted <= 0:
            return space.rows[:0]
        # n × n, whatever the number of inputs; in float64, since squares halve the digits.
        powers, vectors = torch.linalg.eigh(outside.double().T @ outside.double())
        powers, vectors = powers.flip(0), vectors.flip(1)
        count = int((powers.cumsum(0) < wanted).sum()) + 1
        # One direction is left to learn in.
        count = min(count, space.width - 1 - space.kept)
        return vectors[:, :count].T.to(space.rows)

    def _state(self) -> dict[str, Tensor]:
        return super()._state() | {"generator": self._generator.get_state()}

    def _load(self, state: dict[str, Tensor], task: int, learning: bool) -> None:
        super()._load(state, task, learning)
        self._generator.set_state(state["generator"])
