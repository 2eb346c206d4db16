"""Leaky integrate-and-fire neurons; the equations are in `spikekit.ops.lif.reference`."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor

from spikekit.errors import InputError
from spikekit.neurons.base import Neuron
from spikekit.neurons.parameters import add_parameter, broadcast, describe, read_parameter
from spikekit.norm import MPBN
from spikekit.ops.lif import LIFRule, lif, state_dtype
from spikekit.surrogate import ATan, Surrogate

RESETS = {"soft": "soft", "hard": "hard", "none": "none", "subtract": "soft", "zero": "hard"}


class LIF(Neuron):
    """Leaky integrate-and-fire: u = beta·v + x, a spike where u > threshold, then the reset.

    Drive x [T, B, ...] to spikes [T, B, ...] of the same dtype, in {0, 1}. Half-precision drives integrate in float32.

    beta: decay in [0, 1]. threshold: > 0. Each a number, a tensor [C] for one value a channel (axis 2 of the drive),
    or a tensor of the shape of one sample's neurons.
    reset: "soft" subtracts the quantum, "hard" sets to zero, "none" does nothing (snnTorch's names "subtract" and
    "zero" are understood, also as `reset_mechanism`). reset_quantum: what soft reset subtracts; None: the threshold.
    surrogate: the derivative of the spike in the backward pass. detach_reset: keep the reset out of the graph.
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
        detach_reset: bool = False,
        inclusive: bool = False,
        learn: Collection[str] = (),
        norm: MPBN | None = None,
        reset_mechanism: str | None = None,
    ) -> None:
        super().__init__()
        asked = reset if reset_mechanism is None else reset_mechanism
        if asked not in RESETS:
            raise InputError(f"{type(self).__name__}: unknown reset {asked!r}; choose 'soft', 'hard' or 'none'")
        learn = (learn,) if isinstance(learn, str) else tuple(learn)
        if unknown := set(learn) - {"beta", "threshold"}:
            raise InputError(f"{type(self).__name__}: cannot learn {sorted(unknown)}; choose 'beta', 'threshold'")
        surrogate = ATan() if surrogate is None else surrogate
        if not isinstance(surrogate, Surrogate):
            raise InputError(
                f"{type(self).__name__}: surrogate must be one of spikekit.surrogate, for example "
                f"sk.surrogate.ATan(2.0), got {surrogate!r}"
            )
        if not (norm is None or isinstance(norm, MPBN)):
            raise InputError(f"{type(self).__name__}: norm must be an sk.MPBN or None, got {norm!r}")
        self.register_module("norm", norm)
        self.rule = LIFRule(RESETS[asked], inclusive, detach_reset, surrogate)
        add_parameter(self, "beta", beta, "beta" in learn)
        add_parameter(self, "threshold", threshold, "threshold" in learn)
        if reset_quantum is None:
            self.register_buffer("reset_quantum", None)
        else:
            add_parameter(self, "reset_quantum", reset_quantum, learn=False)

    def __getattr__(self, name: str) -> Tensor:
        # A learnable parameter is stored as <name>_raw: reading lif.beta gives its value either way.
        if name in ("beta", "threshold") and f"{name}_raw" in self.__dict__.get("_parameters", {}):
            return read_parameter(self, name)
        return super().__getattr__(name)  # type: ignore[return-value]

    @property
    def reset(self) -> str:
        """The kind of reset: "soft", "hard" or "none"."""
        return self.rule.reset

    def integrate(
        self, x: Tensor, state: dict[str, Tensor] | None, keep: Collection[str]
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """The LIF equations over the whole sequence; the state is {"v": [B, ...]}."""
        dtype = state_dtype(x.dtype)
        beta, threshold, quantum = (
            broadcast(self, name, value, x).to(dtype) for name, value in self._tensors().items()
        )
        v0 = None if state is None else state["v"]
        operation = lif if self.norm is None else self.norm.lif
        spikes, membranes, v = operation(x, v0, beta, threshold, quantum, self.rule, keep_membranes="membrane" in keep)
        traces = {"drive": x, "spikes": spikes} | ({} if membranes is None else {"membrane": membranes})
        return spikes, {"v": v}, {what: traces[what] for what in keep}

    def _tensors(self) -> dict[str, Tensor]:
        beta, threshold = read_parameter(self, "beta"), read_parameter(self, "threshold")
        quantum = threshold if self.reset_quantum is None else self.reset_quantum
        return {"beta": beta, "threshold": threshold, "reset_quantum": quantum}

    def extra_repr(self) -> str:
        """The settings that differ from the defaults, and beta, threshold and reset always."""
        shown = {name: describe(value.detach()) for name, value in self._tensors().items()}
        if self.reset_quantum is None:
            del shown["reset_quantum"]
        shown |= {"reset": repr(self.rule.reset), "surrogate": str(self.rule.surrogate)}
        shown |= {flag: "True" for flag in ("inclusive", "detach_reset") if getattr(self.rule, flag)}
        if learned := [name for name in ("beta", "threshold") if f"{name}_raw" in self._parameters]:
            shown["learn"] = repr(tuple(learned))
        if self.norm is not None:
            shown["norm"] = repr(self.norm)
        return ", ".join(f"{name}={text}" for name, text in shown.items())


class IF(LIF):
    """Integrate-and-fire: the LIF without leak, beta = 1. Arguments as in `LIF`."""

    def __init__(
        self,
        threshold: float | Tensor = 1.0,
        reset: str = "soft",
        *,
        reset_quantum: float | Tensor | None = None,
        surrogate: Surrogate | None = None,
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
            detach_reset=detach_reset,
            inclusive=inclusive,
            learn=learn,
            norm=norm,
            reset_mechanism=reset_mechanism,
        )
