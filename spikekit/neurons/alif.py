"""The LIF with an adaptive threshold (ALIF); the equations are in `spikekit.ops.alif.reference`."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

from torch import Tensor

from spikekit.neurons.firing import FiringNeuron
from spikekit.ops.alif import alif
from spikekit.surrogate import Surrogate


class ALIF(FiringNeuron):
    """LIF whose threshold rises with every spike: a spike where u > threshold + step·a, then a = rho·a + s.

    u[t] = beta·v[t-1] + x[t] as in `sk.LIF`; the threshold of step t knows the spikes before it, a[t-1], alone.
    Drive x [T, B, ...] to spikes [T, B, ...] of the same dtype, in {0, 1}. Half-precision drives integrate in float32.
    The state is {"v": [B, ...], "a": [B, ...]}, and `sk.record` offers "adaptation", a[t], besides.

    threshold: that of a neuron at rest. rho: decay of a, in [0, 1]. step: >= 0, what a spike adds to the threshold of
    the next step; 0 makes it `sk.LIF`, bit for bit. reset_quantum: what soft reset subtracts; None: `threshold`,
    without the part that adapts. All other arguments as in `sk.LIF`; there is no rectifier, whose curve needs a
    threshold that stays. detach_reset leaves the gradient through a in place. learn: names among "beta", "threshold",
    "rho" and "step", which then starts above 0. Raises InputError as `sk.LIF` does.

    Source: Bellec et al. 2018, NeurIPS, arXiv 1803.09574 (LSNN). There b = (1 - rho)·a, and its factor is
    step / (1 - rho); the authors' code scales the drive by 1 - beta, and subtracts the raised threshold, a step later.
    """

    records: ClassVar[tuple[str, ...]] = ("drive", "adaptation", "membrane", "spikes")
    carries: ClassVar[tuple[str, ...]] = ("v", "a")

    def __init__(
        self,
        beta: float | Tensor = 0.9,
        threshold: float | Tensor = 1.0,
        reset: str = "soft",
        *,
        rho: float | Tensor = 0.95,
        step: float | Tensor = 0.1,
        reset_quantum: float | Tensor | None = None,
        surrogate: Surrogate | None = None,
        detach_reset: bool = False,
        inclusive: bool = False,
        learn: Collection[str] = (),
        reset_mechanism: str | None = None,
    ) -> None:
        parameters = {"beta": beta, "threshold": threshold, "rho": rho, "step": step}
        super().__init__(parameters, reset, reset_quantum, surrogate, detach_reset, inclusive, learn, reset_mechanism)

    def integrate(
        self, x: Tensor, state: dict[str, Tensor] | None, keep: Collection[str]
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """The equations over the whole sequence; the state is {"v": [B, ...], "a": [B, ...]}."""
        v0, a0 = (None, None) if state is None else (state["v"], state["a"])
        beta, threshold, rho, step, quantum = self._broadcast(x)
        wanted = "membrane" in keep or "adaptation" in keep
        spikes, membranes, adaptations, v, a = alif(
            x, v0, a0, beta, threshold, quantum, rho, step, self.rule, keep_traces=wanted
        )
        traces = {"drive": x, "spikes": spikes}
        if membranes is not None and adaptations is not None:
            traces |= {"membrane": membranes, "adaptation": adaptations}
        return spikes, {"v": v, "a": a}, {what: traces[what] for what in keep}
