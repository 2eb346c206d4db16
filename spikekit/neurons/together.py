"""Neurons that may run in one pass with the layer in front of them, whose drive is then never stored."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from torch import Tensor

from spikekit import state as sessions
from spikekit.neurons.base import Neuron
from spikekit.ops.lif import LIFRule

# State (None at rest), beta, threshold and quantum as the drive needs them, kind of reset and whether the comparison is
# inclusive -> spikes and the last state.
Fire = Callable[[Tensor | None, Tensor, Tensor, Tensor, str, bool], tuple[Tensor, Tensor]]


class RunsTogether(Neuron):
    """Base of the neurons whose sequence is the LIF operation and nothing else."""

    if TYPE_CHECKING:
        rule: LIFRule

    def _broadcast(self, x: Tensor) -> list[Tensor]:
        """Beta, threshold and quantum as a state of drive `x` needs them."""
        raise NotImplementedError(f"{type(self).__name__} must define _broadcast(x)")

    def fuses(self) -> bool:
        """Whether it may run so now: not where somebody records what lies between."""
        session = sessions.active()
        return session is None or not session.wants(self)

    def behind(self, drive: Tensor, fire: Fire, compute: Callable[[], Tensor]) -> Tensor:
        """The spikes [T, B, ...] of a pass together with the layer in front, for inference; see `spikekit.layers`.

        drive: its shape, dtype and device; numbers are not read. fire: the operation. compute: the drive, where its
        numbers are needed after all: to say which of them is not finite.
        """

        def integrate(
            drive: Tensor, state: dict[str, Tensor] | None, keep: Collection[str]
        ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
            beta, threshold, quantum = self._broadcast(drive)
            v0 = None if state is None else state["v"]
            spikes, v = fire(v0, beta, threshold, quantum, self.rule.reset, self.rule.inclusive)
            return spikes, {"v": v}, {}

        return self._carry(drive, integrate, compute)
