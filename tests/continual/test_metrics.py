"""ACC, BWT and forgetting against numbers done by hand."""

from __future__ import annotations

import pytest
import torch

from spikekit import continual as cl
from spikekit.errors import InputError

NAN = float("nan")
MATRIX = torch.tensor([[0.9, NAN, NAN], [0.95, 0.8, NAN], [0.6, 0.7, 0.85]])


def test_the_numbers_of_a_matrix():
    assert cl.average_accuracy(MATRIX) == pytest.approx((0.6 + 0.7 + 0.85) / 3)
    assert cl.backward_transfer(MATRIX) == pytest.approx((0.6 - 0.9 + 0.7 - 0.8) / 2)
    assert cl.forgetting(MATRIX) == pytest.approx((0.95 - 0.6 + 0.8 - 0.7) / 2)
    assert cl.learning_accuracy(MATRIX) == pytest.approx((0.9 + 0.8 + 0.85) / 3)
    assert cl.curve(MATRIX).tolist() == pytest.approx([0.9, 0.875, 2.15 / 3])
    assert cl.backward_transfer(MATRIX[:1, :1]) == 0


@pytest.mark.parametrize("matrix", [torch.zeros(2, 3), torch.zeros(0, 0), torch.tensor([[0.5, NAN], [NAN, 0.5]])])
def test_matrices_that_say_nothing_are_refused(matrix):
    with pytest.raises(InputError):
        cl.average_accuracy(matrix)


def test_accuracies_that_are_no_tensor_are_refused():
    with pytest.raises(InputError, match=r"a tensor \[K, K\], got list"):
        cl.average_accuracy([[0.5]])
