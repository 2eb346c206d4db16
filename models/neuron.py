"""Neurons described by plain values, so that a recipe and a checkpoint can say which one a network is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from spikekit import surrogate as surrogates
from spikekit.errors import InputError
from spikekit.keys import check_keys, choose
from spikekit.neurons import LIF, Neuron
from spikekit.norm import MPBN
from spikekit.rectifier import MPR

Factory = Callable[[int], Neuron]
"""Makes a new neuron for a layer of so many channels."""

_PLAIN: Final[dict[str, Any]] = {
    "beta": 0.25,
    "threshold": 0.5,
    "reset": "hard",
    "quantum": None,
    "detach_reset": False,
    "mpr": False,
    "mpbn": False,
    "surrogate": None,
}
# The settings of `spikekit.presets`, which a test holds them to.
_KINDS: Final[dict[str, dict[str, Any]]] = {
    "lif": _PLAIN,
    "inflor_snn": _PLAIN | {"beta": 1.0, "reset": "soft", "quantum": 1.0, "mpr": True},
    "mpbn": _PLAIN | {"mpbn": True, "mpr": True},
}
_SURROGATES: Final = {
    cls.__name__: cls
    for cls in (
        *(surrogates.ATan, surrogates.Sigmoid, surrogates.FastSigmoid, surrogates.Triangle),
        *(surrogates.Rectangle, surrogates.StraightThrough, surrogates.SechBump),
    )
}
_NORMS: Final = ("per_channel", "positive")


def neuron_factory(neuron: Mapping[str, Any] | Factory | None = None) -> Factory:
    """A factory of neurons from a description of plain values; a factory is returned as it is.

    kind: "lif", or a paper's neuron, "inflor_snn" or "mpbn", whose settings the other keys then change.
    beta, threshold, reset, detach_reset: as in `sk.LIF`; 0.25, 0.5, "hard" and False unless the kind says otherwise.
    quantum: what soft reset subtracts, None for the threshold.
    mpr: the membrane potential rectifier, True for the paper's sharpness or a number.
    mpbn: membrane potential batch normalisation, True or "per_channel"; "positive" keeps its weight above 0.
    surrogate: such as {"name": "ATan", "alpha": 2.0}; None is the straight-through estimator clamped to
    (0, 2·threshold), a rectangle, which `mpr` shapes.
    Raises InputError for unknown keys, naming the nearest, and for bad values.
    """
    if callable(neuron):
        return neuron
    given = check_keys({} if neuron is None else neuron, ("kind", *_PLAIN), "neuron")
    kind = choose(given.get("kind", "lif"), _KINDS, "neuron: kind")
    settings = _KINDS[kind] | {key: value for key, value in given.items() if key != "kind"}
    for key in ("beta", "threshold"):
        if isinstance(settings[key], bool) or not isinstance(settings[key], int | float):
            raise InputError(f"neuron: {key} must be a number, got {settings[key]!r}")

    def make(channels: int) -> Neuron:
        return _make(settings, channels)

    # A bad value is to be found here, not in the middle of a network.
    make(1)
    return make


def _make(settings: Mapping[str, Any], channels: int) -> LIF:
    return LIF(
        settings["beta"],
        settings["threshold"],
        settings["reset"],
        reset_quantum=settings["quantum"],
        surrogate=_surrogate(settings),
        rectifier=_rectifier(settings["mpr"]),
        detach_reset=settings["detach_reset"],
        norm=_norm(settings["mpbn"], channels),
    )


def _rectifier(mpr: Any) -> MPR | None:
    return None if mpr is False else MPR() if mpr is True else MPR(mpr)


def _norm(mpbn: Any, channels: int) -> MPBN | None:
    if mpbn is False:
        return None
    if mpbn is not True:
        choose(mpbn, _NORMS, "neuron: mpbn")
    return MPBN(channels, positive=mpbn == "positive")


def _surrogate(settings: Mapping[str, Any]) -> surrogates.Surrogate | None:
    given = settings["surrogate"]
    if given is None:
        # With a rectifier and no surrogate the neuron takes the rectifier's own.
        return None if settings["mpr"] is not False else surrogates.Rectangle(2.0 * settings["threshold"])
    named = {"name": given} if isinstance(given, str) else dict(given) if isinstance(given, Mapping) else {}
    kind = _SURROGATES[choose(named.pop("name", None), _SURROGATES, "neuron: surrogate: name")]
    return kind(**check_keys(named, kind.__dataclass_fields__, "neuron: surrogate"))
