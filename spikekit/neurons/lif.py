"""Leaky integrate-and-fire neurons; the equations are in `spikekit.ops.lif.reference`."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import torch
from torch import Tensor

from spikekit import state as sessions
from spikekit.errors import InputError
from spikekit.neurons.firing import FiringNeuron
from spikekit.norm import MPBN
from spikekit.ops.lif import LIFRule, lif
from spikekit.rectifier import MPR
from spikekit.surrogate import Surrogate

# State (None at rest), beta, threshold and quantum as the drive needs them, and the rule -> spikes and the last state.
Fire = Callable[[Tensor | None, Tensor, Tensor, Tensor, LIFRule], tuple[Tensor, Tensor]]


class LIF(FiringNeuron):
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
        """Whether it may run in one pass with the layer in front: not where its decision is normalised or recorded."""
        session = sessions.active()
        return self.norm is None and (session is None or not session.wants(self))

    def behind(self, drive: Tensor, fire: Fire, compute: Callable[[], Tensor]) -> Tensor:
        """The spikes [T, B, ...] of a pass together with the layer in front, for inference; see `spikekit.layers`.

        drive: its shape, dtype and device; numbers are not read. fire: the operation. compute: the drive, where its
        numbers are needed after all: to say which of them is not finite.
        """

        def integrate(
            drive: Tensor, state: dict[str, Tensor] | None, keep: Collection[str]
        ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
            beta, threshold, quantum = self._broadcast(drive)
            spikes, v = fire(None if state is None else state["v"], beta, threshold, quantum, self.rule)
            if not torch.compiler.is_compiling() and not math.isfinite(v.sum().item()):
                self._check_finite(compute(), state, {"v": v})
            return spikes, {"v": v}, {}

        return self._carry(drive, integrate)

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
