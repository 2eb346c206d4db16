"""The LIF with a refractory period; the equations are in `spikekit.ops.refractory.reference`."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

from torch import Tensor

from spikekit.errors import InputError
from spikekit.neurons.firing import FiringNeuron
from spikekit.ops.refractory import refractory
from spikekit.rectifier import MPR
from spikekit.surrogate import Surrogate

# Up to here a countdown in float32 holds every whole number.
_LONGEST = 2**24


class RefractoryLIF(FiringNeuron):
    """LIF that neither integrates nor fires for `period` steps after a spike.

    In these steps the membrane is held at the value that the reset left, without decay, and the drive is lost, as in
    Lava's LIFRefractory. A neuron that fires at step t can fire again at t + period + 1.
    Drive x [T, B, ...] to spikes [T, B, ...] of the same dtype, in {0, 1}. Half-precision drives integrate in float32.
    The state is {"v": [B, ...], "r": [B, ...]}, r the steps that are left, and `sk.record` offers "countdown", r[t],
    besides. A drive that is lost is not looked at: what is not finite there raises no error.

    period: whole number >= 0, the same for all neurons; 0 makes it `sk.LIF`, bit for bit. All other arguments as in
    `sk.LIF`; learn: names among "beta" and "threshold". Raises InputError as `sk.LIF` does, and for another period.

    Source: lava-nc 0.10.0, lava.proc.lif, LIFRefractory, which is in floating point alone and resets hard.
    """

    records: ClassVar[tuple[str, ...]] = ("drive", "membrane", "countdown", "spikes")
    carries: ClassVar[tuple[str, ...]] = ("v", "r")

    def __init__(
        self,
        period: int,
        beta: float | Tensor = 0.9,
        threshold: float | Tensor = 1.0,
        reset: str = "soft",
        *,
        reset_quantum: float | Tensor | None = None,
        surrogate: Surrogate | None = None,
        rectifier: MPR | None = None,
        detach_reset: bool = False,
        inclusive: bool = False,
        learn: Collection[str] = (),
        reset_mechanism: str | None = None,
    ) -> None:
        parameters = {"beta": beta, "threshold": threshold}
        super().__init__(
            parameters, reset, reset_quantum, surrogate, detach_reset, inclusive, learn, reset_mechanism, rectifier
        )
        if isinstance(period, bool) or not isinstance(period, int) or not 0 <= period <= _LONGEST:
            raise InputError(
                f"{type(self).__name__}: period must be a whole number of steps from 0 to 2^24, got {period!r}"
            )
        self.period = period

    def integrate(
        self, x: Tensor, state: dict[str, Tensor] | None, keep: Collection[str]
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """The equations over the whole sequence; the state is {"v": [B, ...], "r": [B, ...]}."""
        v0, r0 = (None, None) if state is None else (state["v"], state["r"])
        beta, threshold, quantum = self._broadcast(x)
        wanted = "membrane" in keep or "countdown" in keep
        spikes, membranes, countdowns, v, r = refractory(
            x, v0, r0, beta, threshold, quantum, self.period, self.rule, keep_traces=wanted
        )
        traces = {"drive": x, "spikes": spikes}
        if membranes is not None and countdowns is not None:
            traces |= {"membrane": membranes, "countdown": countdowns}
        return spikes, {"v": v, "r": r}, {what: traces[what] for what in keep}

    def extra_repr(self) -> str:
        """The period and the settings of an LIF."""
        return f"{self.period}, {super().extra_repr()}"
