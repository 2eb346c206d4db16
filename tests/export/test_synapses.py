from __future__ import annotations

import numpy as np
import pytest
import torch

from spikekit.export.synapses import Synapses


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"),
    [((1, 1), (0, 0), (1, 1), 1), ((2, 1), (2, 1), (1, 1), 1), ((2, 3), (1, 2), (2, 1), 2)],
)
def test_connections_of_a_convolution_are_its_matrix(stride, padding, dilation, groups):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-3, 4, (4, 4 // groups, 3, 2), generator=generator, dtype=torch.float64)
    x = torch.randint(0, 2, (5, 4, 9, 8), generator=generator, dtype=torch.float64)
    expected = torch.nn.functional.conv2d(x, weight, None, stride, padding, dilation, groups)
    synapses = Synapses("conv", weight.numpy(), (4, 9, 8), tuple(expected.shape[1:]), stride, padding, dilation, groups)
    post, pre, values = synapses.connections
    matrix = np.zeros((synapses.n_out, synapses.n_in))
    matrix[post, pre] = values
    assert len(post) == synapses.count == np.count_nonzero(matrix)
    assert np.array_equal(x.flatten(1).numpy() @ matrix.T, expected.flatten(1).numpy())
    assert torch.equal(synapses.apply(x.flatten(1)), expected.flatten(1))
