"""Leaky integrate-and-fire neurons; the equations are in `spikekit.ops.lif.reference`."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor

from spikekit.errors import InputError
from spikekit.neurons.firing import FiringNeuron
from spikekit.neurons.together import RunsTogether
from spikekit.norm import MPBN
from spikekit.ops.lif import lif
from spikekit.rectifier import MPR
from spikekit.surrogate import Surrogate


class LIF(FiringNeuron, RunsTogether):
    """Leaky integrate-and-fire: u = beta·v + x, a spike where u > threshold, then the reset.

    Drive x [T, B, ...] to spikes [T, B, ...] of the same dtype, in {0, 1}. Half-precision drives integrate in float32.

    beta: decay in [0, 1]. threshold: > 0. Each a number, a tensor [C] for one value a channel (axis 2 of the drive),
    or a tensor of the shape of one sample's neurons.
    reset: "soft" subtracts the quantum, "hard" sets to zero, "none" does nothing (snnTorch's names "subtract" and
    "zero" are understood, also as `reset_mechanism`). reset_quantum: what soft reset subtracts; None: the threshold.
    surrogate: the derivative of the spike in the backward pass. detach_reset: keep the reset out of the graph.
    rectifier: `sk.MPR`, which shapes that derivative and changes no spike; it needs one fixed threshold.
    inclusive: fire at u >= threshold too. learn: names among "beta" and "threshold" that are trained.
    norm: `sk.MPBN`, which normalises u for the decision alone.
    Raises InputError for values outside these ranges and for drives that are not finite.
    """

    norm: MPBN | None

    def __init__(
        self,
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
        norm: MPBN | None = None,
        reset_mechanism: str | None = None,
    ) -> None:
        parameters = {"beta": beta, "threshold": threshold}
        super().__init__(
            parameters, reset, reset_quantum, surrogate, detach_reset, inclusive, learn, reset_mechanism, rectifier
        )
        if not (norm is None or isinstance(norm, MPBN)):
            raise InputError(f"{type(self).__name__}: norm must be an sk.MPBN or None, got {norm!r}")
        self.register_module("norm", norm)

    def integrate(
        self, x: Tensor, state: dict[str, Tensor] | None, keep: Collection[str]
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """The LIF equations over the whole sequence; the state is {"v": [B, ...]}."""
        beta, threshold, quantum = self._broadcast(x)
        v0 = None if state is None else state["v"]
        operation = lif if self.norm is None else self.norm.lif
        spikes, membranes, v = operation(x, v0, beta, threshold, quantum, self.rule, keep_membranes="membrane" in keep)
        traces = {"drive": x, "spikes": spikes} | ({} if membranes is None else {"membrane": membranes})
        return spikes, {"v": v}, {what: traces[what] for what in keep}

    def fuses(self) -> bool:
        """Whether it may run with the layer in front: not where its decision is normalised or recorded."""
        return self.norm is None and super().fuses()

    def extra_repr(self) -> str:
        """What every firing neuron shows, and the norm where there is one."""
        return super().extra_repr() + ("" if self.norm is None else f", norm={self.norm!r}")


class IF(LIF):
    """Integrate-and-fire: the LIF without leak, beta = 1. Arguments as in `LIF`."""

    def __init__(
        self,
        threshold: float | Tensor = 1.0,
        reset: str = "soft",
        *,
        reset_quantum: float | Tensor | None = None,
        surrogate: Surrogate | None = None,
        rectifier: MPR | None = None,
        detach_reset: bool = False,
        inclusive: bool = False,
        learn: Collection[str] = (),
        norm: MPBN | None = None,
        reset_mechanism: str | None = None,
    ) -> None:
        if "beta" in learn:
            raise InputError("IF: beta is 1 by definition and cannot be learned; use LIF")
        super().__init__(
            1.0,
            threshold,
            reset,
            reset_quantum=reset_quantum,
            surrogate=surrogate,
            rectifier=rectifier,
            detach_reset=detach_reset,
            inclusive=inclusive,
            learn=learn,
            norm=norm,
            reset_mechanism=reset_mechanism,
        )
