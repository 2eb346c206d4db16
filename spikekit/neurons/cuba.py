"""The LIF with a synaptic current ("current-based", CUBA); the equations are in `spikekit.ops.cuba.reference`."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

from torch import Tensor

from spikekit.neurons.firing import FiringNeuron
from spikekit.ops.cuba import cuba
from spikekit.rectifier import MPR
from spikekit.surrogate import Surrogate


class CUBALIF(FiringNeuron):
    """LIF behind a synaptic current: i = alpha·i + x, u = beta·v + i, a spike where u > threshold, then the reset.

    Drive x [T, B, ...] to spikes [T, B, ...] of the same dtype, in {0, 1}. Half-precision drives integrate in float32.
    The same numbers as `sk.LI(alpha)` followed by `sk.LIF(beta, ...)`; the state is {"i": [B, ...], "v": [B, ...]}, and
    `sk.record` offers "current" besides.

    alpha: decay of the current, beta: of the membrane, both in [0, 1]. All other arguments as in `sk.LIF`; learn: names
    among "alpha", "beta" and "threshold". Raises InputError as `sk.LIF` does.

    Others: snnTorch's `Synaptic` is this current, with a reset that comes a step later: its soft reset by the threshold
    is `reset_quantum=threshold / beta` here. norse's `LIFCell` has alpha = 1 - dt/tau_syn and beta = 1 - dt/tau_mem,
    multiplies the current by 1 - beta and resets hard (to v_reset = 0). Lava's `LIF` and lava-dl's `cuba` have
    alpha = 1 - du and beta = 1 - dv, in integers with a rounding of their own, and reset hard; lava-dl fires at
    u >= threshold (`inclusive=True`).
    """

    records: ClassVar[tuple[str, ...]] = ("drive", "current", "membrane", "spikes")
    carries: ClassVar[tuple[str, ...]] = ("i", "v")

    def __init__(
        self,
        alpha: float | Tensor = 0.5,
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
        parameters = {"alpha": alpha, "beta": beta, "threshold": threshold}
        super().__init__(
            parameters, reset, reset_quantum, surrogate, detach_reset, inclusive, learn, reset_mechanism, rectifier
        )

    def integrate(
        self, x: Tensor, state: dict[str, Tensor] | None, keep: Collection[str]
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """The equations over the whole sequence; the state is {"i": [B, ...], "v": [B, ...]}."""
        i0, v0 = (None, None) if state is None else (state["i"], state["v"])
        alpha, beta, threshold, quantum = self._broadcast(x)
        spikes, currents, membranes, v = cuba(
            x, i0, v0, alpha, beta, threshold, quantum, self.rule, keep_membranes="membrane" in keep
        )
        traces = {"drive": x, "current": currents, "spikes": spikes}
        traces |= {} if membranes is None else {"membrane": membranes}
        # A copy: a view would keep the whole sequence alive, and change with a recorded current.
        return spikes, {"i": currents[-1].clone(), "v": v}, {what: traces[what] for what in keep}
