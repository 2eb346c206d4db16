"""Neurons with the exact settings of a paper. Every keyword argument of `sk.LIF` may be changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spikekit.neurons import LIF
from spikekit.norm import MPBN
from spikekit.rectifier import MPR
from spikekit.surrogate import Rectangle, SechBump


def inflor_snn(**changes: Any) -> LIF:
    """The neuron of InfLoR-SNN: soft reset and membrane potential rectifier. Guo et al. 2022, ECCV, arXiv 2307.04356.

    As in the authors' code: beta = 1 (no leak), threshold ½ and a quantum of 1, so that a spike rounds the membrane to
    the nearest of 0 and 1 and keeps the rest; the reset is part of the graph. changes: keyword arguments of `sk.LIF`.
    """
    settings: dict[str, Any] = {"beta": 1.0, "threshold": 0.5, "reset": "soft", "reset_quantum": 1.0}
    return LIF(**settings | {"rectifier": MPR()} | changes)


def mpbn(shape: int | Sequence[int], **changes: Any) -> LIF:
    """The neuron with membrane potential batch normalisation. Guo et al. 2023, ICCV, arXiv 2308.08359.

    As in the authors' code: beta = ¼, threshold ½ on the normalised membrane, hard reset of the raw one, which is part
    of the graph, and the gradient of InfLoR-SNN. shape: of `sk.MPBN`: a number of channels, or the shape of the
    neurons. changes: keyword arguments of `sk.LIF`.
    """
    settings: dict[str, Any] = {"beta": 0.25, "threshold": 0.5, "reset": "hard", "surrogate": SechBump(3.0, 1.0)}
    return LIF(**settings | {"norm": MPBN(shape)} | changes)


def ems(**changes: Any) -> LIF:
    """The neuron of EMS-YOLO. Su et al. 2023, ICCV, arXiv 2307.11411.

    As in the authors' code: beta = ¼, threshold ½, hard reset that is no part of the graph, and a rectangle of width 1
    for the gradient. changes: keyword arguments of `sk.LIF`.
    """
    settings: dict[str, Any] = {"beta": 0.25, "threshold": 0.5, "reset": "hard", "detach_reset": True}
    return LIF(**settings | {"surrogate": Rectangle(1.0)} | changes)
