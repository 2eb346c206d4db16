"""Time-first batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spikekit.errors import InputError
from spikekit.events import collate_time_first


def test_time_comes_first_and_samples_second():
    samples = [(np.full((3, 2, 4), i, np.uint8), i) for i in range(5)]
    x, y = collate_time_first(samples)
    assert x.shape == (3, 5, 2, 4)
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64
    assert y.tolist() == [0, 1, 2, 3, 4]
    assert x[0, :, 0, 0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("label", [3, np.int32(3), torch.tensor(3), True + 2])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint16, np.float64])
def test_labels_and_frames_of_any_kind(label, dtype):
    frame = np.arange(6, dtype=dtype).reshape(3, 2)
    frame.flags.writeable = False
    x, y = collate_time_first([(frame, label), (torch.ones(3, 2), label)])
    assert x[:, 0].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert y.tolist() == [3, 3]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], "no samples"),
        (
            [(np.zeros((3, 2)), 0), (np.zeros((4, 2)), 1)],
            r"sample 1 has frames of shape \[4, 2\], sample 0 has",
        ),
        ([(np.zeros(()), 0)], r"sample 0 has frames of shape \[\]"),
        ([(np.zeros(3), 0.5)], "label of sample 0 is not a whole number: 0.5"),
    ],
)
def test_bad_samples(samples, message):
    with pytest.raises(InputError, match=message):
        collate_time_first(samples)
