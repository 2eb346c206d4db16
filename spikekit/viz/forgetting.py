"""Continual learning: what a network still knows, task after task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from spikekit.errors import InputError, require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Told apart also without colour.
_MARKS = "os^Dv<>Pp*X"


def forgetting(matrices: Mapping[str, Tensor], title: str = "") -> Figure:
    """Curves of accuracies A[k, j] on task j after task k: on the first task, and the mean over the tasks so far.

    matrices: name of a method -> [K, K], values in [0, 1], NaN above the diagonal. Returns a figure; save it with
    `figure.savefig(path)`.
    """
    if not matrices:
        raise InputError("viz.forgetting: no matrix is given")
    figure: Figure = require("matplotlib.figure", "viz").Figure(figsize=(10, 4.2), layout="constrained")
    first, mean = figure.subplots(1, 2, sharey=True)
    longest = 1
    for number, (name, matrix) in enumerate(matrices.items()):
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise InputError(f"viz.forgetting: {name!r} must be [K, K], got {list(matrix.shape)}")
        tasks = range(1, len(matrix) + 1)
        look = {"marker": _MARKS[number % len(_MARKS)], "color": f"C{number % 10}", "markersize": 5}
        so_far = [100 * float(matrix[k, : k + 1].mean()) for k in range(len(matrix))]
        first.plot(tasks, (100 * matrix[:, 0]).tolist(), **look)
        mean.plot(tasks, so_far, label=f"{name}  {so_far[-1]:.1f}", **look)
        longest = max(longest, len(matrix))
    first.set(title="on the first task", xlabel="tasks learned", ylabel="accuracy (%)")
    mean.set(title="mean over the tasks so far", xlabel="tasks learned")
    for ax in (first, mean):
        ax.set_xticks(range(1, longest + 1))
        ax.grid(alpha=0.3)
    figure.legend(loc="outside right center", frameon=False, fontsize="small")
    if title:
        figure.suptitle(title)
    return figure
