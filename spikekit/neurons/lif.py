"""Leaky integrate-and-fire neurons; the equations are in `spikekit.ops.lif.reference`."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from torch import Tensor

from spikekit.errors import InputError
from spikekit.neurons.astrocyte import Astrocyte
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
    astrocyte: `sk.Astrocyte`, which modulates the neurons by what went on before; the state and what `sk.record` offers
    have its part besides. It does not go with a norm.
    Raises InputError for values outside these ranges and for drives that are not finite.
    """

    norm: MPBN | None
    astrocyte: Astrocyte | None

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
        astrocyte: Astrocyte | None = None,
        reset_mechanism: str | None = None,
    ) -> None:
        parameters = {"beta": beta, "threshold": threshold}
        super().__init__(
            parameters, reset, reset_quantum, surrogate, detach_reset, inclusive, learn, reset_mechanism, rectifier
        )
        if not (norm is None or isinstance(norm, MPBN)):
            raise InputError(f"{type(self).__name__}: norm must be an sk.MPBN or None, got {norm!r}")
        if not (astrocyte is None or isinstance(astrocyte, Astrocyte)):
            raise InputError(f"{type(self).__name__}: astrocyte must be an sk.Astrocyte or None, got {astrocyte!r}")
        if norm is not None and astrocyte is not None:
            raise InputError(f"{type(self).__name__}: norm and astrocyte cannot be combined; give one of them")
        if rectifier is not None and astrocyte is not None and astrocyte.acts_on == "threshold":
            raise InputError(
                f"{type(self).__name__}: rectifier={rectifier} needs a threshold that stays, and the astrocyte moves "
                "it; use acts_on='gain'"
            )
        self.register_module("norm", norm)
        self.register_module("astrocyte", astrocyte)
        if astrocyte is not None:
            self.records = (*type(self).records, *astrocyte.records)  # type: ignore[misc]
            self.carries = (*type(self).carries, *astrocyte.carries)  # type: ignore[misc]

    def forward(self, x: Tensor, presynaptic: Tensor | None = None) -> Tensor:
        """Drive x [T, B, ...], floating point, to the spikes [T, B, ...] of the whole sequence.

        presynaptic: the spikes [T, B, ...] behind the drive, for an astrocyte that senses them.
        """
        if presynaptic is None:
            return super().forward(x)
        if self.astrocyte is None:
            raise InputError(f"{self}: without an astrocyte nothing senses presynaptic spikes; leave them out")
        self._check_drive(x)
        return self._carry(x, partial(self.integrate, presynaptic=presynaptic))

    def integrate(
        self,
        x: Tensor,
        state: dict[str, Tensor] | None,
        keep: Collection[str],
        presynaptic: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """The LIF equations over the whole sequence; the state is {"v": [B, ...]} and that of the astrocyte."""
        beta, threshold, quantum = self._broadcast(x)
        if self.astrocyte is not None:
            return self.astrocyte.integrate(x, state, keep, (beta, threshold, quantum), self.rule, presynaptic)
        v0 = None if state is None else state["v"]
        operation = lif if self.norm is None else self.norm.lif
        spikes, membranes, v = operation(x, v0, beta, threshold, quantum, self.rule, keep_membranes="membrane" in keep)
        traces = {"drive": x, "spikes": spikes} | ({} if membranes is None else {"membrane": membranes})
        return spikes, {"v": v}, {what: traces[what] for what in keep}

    def _state_shapes(self, x: Tensor) -> dict[str, tuple[int, ...]]:
        shapes = super()._state_shapes(x)
        return shapes if self.astrocyte is None else shapes | self.astrocyte.state_shapes(x)

    def fuses(self) -> bool:
        """Whether it may run with the layer in front: not where it has a part, or where it is recorded."""
        return self.norm is None and self.astrocyte is None and super().fuses()

    def extra_repr(self) -> str:
        """What every firing neuron shows, and its part where there is one."""
        parts = {"norm": self.norm, "astrocyte": self.astrocyte}
        return super().extra_repr() + "".join(f", {name}={part!r}" for name, part in parts.items() if part is not None)


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
        astrocyte: Astrocyte | None = None,
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
            astrocyte=astrocyte,
            reset_mechanism=reset_mechanism,
        )
