"""What is left of old tasks, in numbers. A[k, j] is the accuracy on task j after learning task k.

Lopez-Paz, Ranzato 2017, NeurIPS, arXiv 1706.08840 (ACC, BWT); Chaudhry et al. 2018, ECCV, arXiv 1801.10112
(forgetting).
"""

from __future__ import annotations

import torch
from torch import Tensor

from spikekit.errors import InputError


def average_accuracy(matrix: Tensor) -> float:
    """ACC: the mean accuracy on all tasks after the last; matrix [K, K], NaN where a task was not looked at."""
    return float(_checked(matrix)[-1].mean())


def backward_transfer(matrix: Tensor) -> float:
    """BWT: mean over j < K of A[K, j] - A[j, j]; below 0 is forgetting. 0 for one task."""
    matrix = _checked(matrix)
    return float((matrix[-1] - matrix.diagonal())[:-1].mean()) if len(matrix) > 1 else 0.0


def forgetting(matrix: Tensor) -> float:
    """Mean over j < K of the best accuracy on task j before the last task, less that after it. 0 for one task."""
    matrix = _checked(matrix)
    if len(matrix) < 2:
        return 0.0
    best = torch.stack([matrix[j:-1, j].max() for j in range(len(matrix) - 1)])
    return float((best - matrix[-1, :-1]).mean())


def learning_accuracy(matrix: Tensor) -> float:
    """Mean of A[j, j]: how well tasks are learned when they come."""
    return float(_checked(matrix).diagonal().mean())


def curve(matrix: Tensor) -> Tensor:
    """Mean accuracy on the tasks so far, after each task: [K]."""
    matrix = _checked(matrix)
    return torch.stack([matrix[k, : k + 1].mean() for k in range(len(matrix))])


def _checked(matrix: Tensor) -> Tensor:
    if not isinstance(matrix, Tensor):
        raise InputError(f"the accuracies must be a tensor [K, K], got {type(matrix).__name__}; use torch.tensor(...)")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not len(matrix):
        raise InputError(f"the accuracies must be a matrix [K, K], got {list(matrix.shape)}")
    below = torch.ones_like(matrix, dtype=torch.bool).tril()
    if not bool(torch.isfinite(matrix[below]).all()):
        raise InputError("the accuracies have no number for a task that was learned; wait for the run to end")
    return matrix.double()
