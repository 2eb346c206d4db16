"""What an integer network takes."""

from __future__ import annotations

import pytest
import torch

from spikekit.errors import InputError
from spikekit.export.inputs import check_whole, largest


@pytest.mark.parametrize(
    ("dtype", "low", "most"),
    [(torch.int8, -128, 128), (torch.int16, -32768, 32768), (torch.uint8, 0, 255), (torch.float32, -3, 7)],
)
def test_the_largest_of_every_dtype(dtype, low, most):
    high = most if low != -128 and low != -32768 else 5
    assert largest(torch.tensor([low, high, 1]).to(dtype)) == most


def test_booleans_count_as_one():
    assert largest(torch.tensor([False, True])) == 1
    check_whole(torch.ones(2, 1, 3, dtype=torch.bool), (3,), "net")


@pytest.mark.parametrize(
    "x",
    [
        torch.ones(2, 1, 3, dtype=torch.complex64),
        torch.ones(2, 1, 3).to_sparse(),
        torch.ones(2, 1, 3, device="meta"),
    ],
)
def test_what_holds_no_real_numbers_is_refused(x):
    with pytest.raises(InputError, match="net: the input must hold real numbers, dense and in memory"):
        check_whole(x, (3,), "net")
