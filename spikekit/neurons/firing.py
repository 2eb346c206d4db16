"""What all neurons with a threshold and a reset share: settings, learnable parameters, what they print."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from spikekit.errors import InputError
from spikekit.neurons.base import Neuron
from spikekit.neurons.parameters import add_parameter, broadcast, describe, read_parameter
from spikekit.ops.lif import LIFRule, state_dtype
from spikekit.rectifier import MPR
from spikekit.surrogate import ATan, Surrogate

RESETS = {"soft": "soft", "hard": "hard", "none": "none", "subtract": "soft", "zero": "hard"}


class FiringNeuron(Neuron):
    """Base of LIF, CUBALIF, RecurrentLIF, ALIF and RefractoryLIF, which say what their arguments mean.

    parameters: name -> value of all that may be learned.
    """

    # Private: it adds nothing to what a checkpoint compares, since `rule` holds what it does.
    _rectifier: MPR | None = None

    def __init__(
        self,
        parameters: Mapping[str, float | Tensor],
        reset: str,
        reset_quantum: float | Tensor | None,
        surrogate: Surrogate | None,
        detach_reset: bool,
        inclusive: bool,
        learn: Collection[str],
        reset_mechanism: str | None,
        rectifier: MPR | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        asked = reset if reset_mechanism is None else reset_mechanism
        if asked not in RESETS:
            raise InputError(f"{name}: unknown reset {asked!r}; choose 'soft', 'hard' or 'none'")
        learn = (learn,) if isinstance(learn, str) else tuple(learn)
        if unknown := set(learn) - set(parameters):
            raise InputError(f"{name}: cannot learn {sorted(unknown)}; choose {', '.join(map(repr, parameters))}")
        if not (surrogate is None or isinstance(surrogate, Surrogate)):
            raise InputError(
                f"{name}: surrogate must be one of spikekit.surrogate, for example "
                f"sk.surrogate.ATan(2.0), got {surrogate!r}"
            )
        if not (rectifier is None or isinstance(rectifier, MPR)):
            raise InputError(f"{name}: rectifier must be an sk.MPR or None, got {rectifier!r}")
        self._rectifier = rectifier
        self._given_surrogate = surrogate
        self.rule = LIFRule(RESETS[asked], inclusive, detach_reset, surrogate or ATan())
        self._names = tuple(parameters)
        for parameter, value in parameters.items():
            add_parameter(self, parameter, value, parameter in learn)
        if reset_quantum is None:
            self.register_buffer("reset_quantum", None)
        else:
            add_parameter(self, "reset_quantum", reset_quantum, learn=False)
        self._rectify()

    def _rectify(self) -> None:
        """Put the rectifier into the surrogate, whose shape depends on the threshold."""
        if self._rectifier is None:
            return
        if "threshold_raw" in self._parameters or self.threshold.ndim > 0:
            found = "a learned threshold" if "threshold_raw" in self._parameters else "one a channel or neuron"
            raise InputError(
                f"{type(self).__name__}: rectifier={self._rectifier} needs one fixed threshold for its curve, "
                f"got {found}. Give one number; sk.MPBN learns a threshold a channel, and goes with it."
            )
        curve = self._rectifier.surrogate(self.threshold.item(), self._given_surrogate)
        self.rule = replace(self.rule, surrogate=curve)

    def _load_from_state_dict(self, *args: Any, **settings: Any) -> None:
        # A checkpoint may bring another threshold.
        super()._load_from_state_dict(*args, **settings)
        self._rectify()

    def __getattr__(self, name: str) -> Tensor:
        # A learnable parameter is stored as <name>_raw: reading lif.beta gives its value either way.
        if f"{name}_raw" in self.__dict__.get("_parameters", {}):
            return read_parameter(self, name)
        return super().__getattr__(name)  # type: ignore[return-value]

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "threshold":
            self._rectify()

    @property
    def rectifier(self) -> MPR | None:
        """The rectifier, which is already part of the surrogate of `rule`."""
        return self._rectifier

    def drop_rectifier(self) -> None:
        """Leave the rectifier out: the surrogate is again the one that was given, and no spike changes."""
        self._rectifier = None
        self.rule = replace(self.rule, surrogate=self._given_surrogate or ATan())

    @property
    def reset(self) -> str:
        """The kind of reset: "soft", "hard" or "none"."""
        return self.rule.reset

    def _tensors(self) -> dict[str, Tensor]:
        """Every parameter and the quantum, which follows the threshold unless it was given."""
        values = {name: read_parameter(self, name) for name in self._names}
        quantum = self._buffers["reset_quantum"]
        return values | {"reset_quantum": values["threshold"] if quantum is None else quantum}

    def _broadcast(self, x: Tensor) -> list[Tensor]:
        """The values of `_tensors`, in their order, as a state of drive `x` needs them."""
        dtype = state_dtype(x.dtype)
        return [broadcast(self, name, value, x).to(dtype) for name, value in self._tensors().items()]

    def extra_repr(self) -> str:
        """The settings that differ from the defaults, and the parameters and the reset always."""
        shown = {name: describe(value.detach()) for name, value in self._tensors().items()}
        if self.reset_quantum is None:
            del shown["reset_quantum"]
        shown |= {"reset": repr(self.rule.reset), "surrogate": str(self.rule.surrogate)}
        shown |= {flag: "True" for flag in ("inclusive", "detach_reset") if getattr(self.rule, flag)}
        if self._rectifier is not None:
            shown["rectifier"] = str(self._rectifier)
        if learned := [name for name in self._names if f"{name}_raw" in self._parameters]:
            shown["learn"] = repr(tuple(learned))
        return ", ".join(f"{name}={text}" for name, text in shown.items())
