"""Refusing what cannot be trained on: batches that do not fit together, losses that are no numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from spikekit.errors import InputError, SpikekitError
from spikekit.measure.activity import LayerActivity


class DivergedError(SpikekitError, ArithmeticError):
    """Training produced a loss or weights that are not finite."""


def check_loader(loader: Any, name: str) -> int | None:
    """The number of batches of `loader`, None if it has no length; InputError when it cannot be used."""
    if not isinstance(loader, Iterable):
        raise InputError(f"{name} must yield (x, y) batches, got {type(loader).__name__}")
    if isinstance(loader, Iterator):
        raise InputError(f"{name} is an iterator, empty after one epoch; use a DataLoader or a list of batches")
    try:
        length = len(loader)  # type: ignore[arg-type]
    except TypeError:
        return None
    if length == 0:
        raise InputError(f"{name} is empty: it has no batches. Check the dataset, batch_size and drop_last")
    return length


def check_batch(batch: Any, where: str, loss: Any = None) -> tuple[Tensor, Tensor]:
    """The x [T, B, ...], floating point, and y of `batch`, or InputError.

    y is int64 [B], or what the loss's own `check_target(y, where)` makes of it.
    """
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise InputError(f"{where}: a batch must be a pair (x, y), got {type(batch).__name__}")
    x, y = batch
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        raise InputError(f"{where}: x and y must be tensors, got {type(x).__name__} and {type(y).__name__}")
    if x.ndim < 3 or not x.is_floating_point():
        raise InputError(f"{where}: x must be floating point, [T, B, ...], got {x.dtype} of shape {tuple(x.shape)}")
    check = getattr(loss, "check_target", None)
    y = _class_numbers(y, where) if check is None else check(y, where)
    if x.shape[1] != len(y):
        swapped = ". Axis 0 has that size: use x.transpose(0, 1)" if x.shape[0] == len(y) else ""
        raise InputError(
            f"{where}: x {tuple(x.shape)} holds B = {x.shape[1]} samples (axis 1), y holds {len(y)}{swapped}"
        )
    if x.shape[0] == 0 or len(y) == 0:
        raise InputError(f"{where}: x of shape {tuple(x.shape)} has no time steps (axis 0) or no samples (axis 1)")
    return x, y


def _class_numbers(y: Tensor, where: str) -> Tensor:
    if y.ndim != 1 or y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise InputError(f"{where}: y must be class numbers, int64 [B], got {y.dtype} of shape {tuple(y.shape)}")
    return y.long()


def check_output(output: Any, y: Tensor, where: str, loss: Any = None) -> None:
    """The network's output must be [T, B, C] with every class of y [B] in it, or what the loss's own check takes."""
    check = getattr(loss, "check_output", None)
    if check is not None and isinstance(output, Tensor):
        check(output, where)
        return
    if not isinstance(output, Tensor) or output.ndim != 3 or output.shape[1] != len(y):
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise InputError(f"{where}: the network must return [T, B = {len(y)}, classes], got {got}")
    low, high = y.min().item(), y.max().item()
    if low < 0 or high >= output.shape[2]:
        raise InputError(
            f"{where}: y holds the class {low if low < 0 else high}, the network has the classes "
            f"0 to {output.shape[2] - 1} (axis 2 of its output)"
        )


class LossWatch:
    """Notices the first loss that is not finite. A look waits for the device, so there is one in `every` steps."""

    def __init__(self, every: int) -> None:
        self.every = every
        self._first: Tensor | None = None

    def add(self, loss: Tensor, step: int) -> int | None:
        """Take note of the loss of `step`; returns the first bad step when it is time to look."""
        now = torch.where(torch.isfinite(loss.detach()), -1, step)
        self._first = now if self._first is None else torch.where(self._first >= 0, self._first, now)
        return self.look() if step % self.every == 0 else None

    def look(self) -> int | None:
        """The first bad step so far, or None."""
        first = -1 if self._first is None else int(self._first.item())
        return first if first >= 0 else None


def first_bad_weight(net: nn.Module) -> str | None:
    """The name of the first parameter or buffer of `net` that is not finite."""
    for name, value in net.state_dict().items():
        if isinstance(value, Tensor) and value.is_floating_point() and not bool(torch.isfinite(value).all()):
            return name
    return None


def show_rates(rows: Iterable[LayerActivity]) -> str:
    """Firing rates in one line."""
    return ", ".join(f"{row.name} ({row.kind}) {row.rate:.3g}" for row in rows) or "no spiking layers"


def advice(rows: Iterable[LayerActivity], period: str = "this epoch") -> list[str]:
    """What to do about layers that never fire, or fire almost always."""
    lines = []
    for row in rows:
        if row.dead:
            lines.append(
                f"dead: {row.name} ({row.kind}) never fired {period} — "
                "lower its threshold or raise the gain of the layer before"
            )
        elif row.rate > 0.9:
            lines.append(
                f"saturated: {row.name} ({row.kind}) fired in {row.rate:.0%} of its steps {period} — "
                "raise its threshold or lower the gain of the layer before"
            )
    return lines
