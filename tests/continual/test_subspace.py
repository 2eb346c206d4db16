"""Rows that span what a layer is given: of patches, made orthonormal, and as they were taught to the tests."""

from __future__ import annotations

import torch

from spikekit.continual.subspace import Subspace, inputs, orthonormal
from spikekit.learning import presynaptic
from tests.continual.nets import build, drive


def test_patches_are_what_the_convolution_multiplies():
    layer = torch.nn.Conv2d(2, 3, 3, stride=2, padding="valid", dilation=1, padding_mode="zeros", bias=False).double()
    for mode, padding in (("zeros", 1), ("circular", 1), ("zeros", "valid")):
        layer = torch.nn.Conv2d(2, 3, 3, padding=padding, padding_mode=mode, bias=False).double()
        x = torch.randn(4, 2, 6, 6, dtype=torch.float64)
        y = layer(x)
        expected = y.permute(0, 2, 3, 1).reshape(-1, 3)
        torch.testing.assert_close(inputs(layer, x) @ layer.weight.flatten(1).T, expected)


def test_orthonormalising_keeps_the_span_and_the_old_rows():
    space = Subspace("0", build("mlp")[0])
    old = orthonormal(torch.randn(3, 12).double(), torch.zeros(0, 12).double())
    rows = torch.cat([old, torch.randn(4, 12).double()])
    space.restore(rows, 3)
    space.orthonormalise()
    assert torch.equal(space.rows[:3], old)
    assert space.drift() < 1e-14
    # What the rows spanned they still span.
    space.keep()
    assert space.outside(rows).abs().max() < 1e-13


def test_rows_that_are_nearly_old_ones_are_orthogonal_to_them_too():
    old = orthonormal(torch.randn(3, 12).double(), torch.zeros(0, 12).double())
    fresh = orthonormal(old[:2] + 1e-9 * torch.randn(2, 12).double(), old)
    assert (fresh @ old.T).abs().max() < 1e-14
    assert (fresh @ fresh.T - torch.eye(2).double()).abs().max() < 1e-14


def test_presynaptic_of_the_contract_is_what_teach_uses():
    seen = []
    net = build("mlp")
    with presynaptic(net, lambda name, layer, signal: seen.append((name, tuple(signal.shape)))):
        net(drive("mlp", 1))
    assert seen == [("0", (12, 12)), ("2", (12, 40)), ("4", (12, 32))]
