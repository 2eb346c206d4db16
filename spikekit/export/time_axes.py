"""Time folded into the batch by a forward of the user's own, and taken apart again.

`y = layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])` runs a layer on all steps at once. A signal has neither axis;
what a reader must know is how many of the two stand in front of it: its `lead`.
"""

from __future__ import annotations

import operator
from typing import Any, Final

import torch

from spikekit.errors import ExportError
from spikekit.export.signal import Signal


class _Shape:
    """The shape of a tensor with time and batch in front, of which only these two can be asked for."""


_SHAPE: Final = _Shape()
_TIME_AND_BATCH: Final = object()


def refold(where: str, function: Any, given: list[Any], named: dict[str, Any], lead: int) -> tuple[Any, int] | None:
    """What a step that touches time or batch gives, and its lead; None for a step that does not.

    given, named: its arguments; lead: of the signals among them. Raises ExportError for a shape that is not theirs.
    """
    one, *others = given or [None]
    if function is getattr and isinstance(one, Signal) and others == ["shape"] and lead == 2:
        return _SHAPE, lead
    if one is _SHAPE:
        if function is operator.getitem and others == [slice(None, 2, None)]:
            return _TIME_AND_BATCH, lead
        raise ExportError(f"{where}: of a shape only x.shape[:2] can be read, for unflatten; write sizes as numbers")
    if not isinstance(one, Signal):
        return None
    if function is torch.flatten and lead == 2 and _arguments(others, named, ("start_dim", "end_dim")) == [0, 1]:
        return one, 1
    if function == "unflatten":
        if lead == 1 and _arguments(others, named, ("dim", "sizes")) == [0, _TIME_AND_BATCH]:
            return one, 2
        raise ExportError(f"{where}: unflatten can be read as y.unflatten(0, x.shape[:2]), for time and batch, alone")
    return None


def _arguments(given: list[Any], named: dict[str, Any], names: tuple[str, ...]) -> list[Any]:
    """Arguments in their order; None for those that are not there."""
    return [*given, *(named.get(name) for name in names[len(given) :])]
