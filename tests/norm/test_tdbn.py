from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import InputError

KINDS = [(sk.TDBN1d, nn.BatchNorm1d, (6, 5)), (sk.TDBN2d, nn.BatchNorm2d, (6, 5, 4, 3))]
SETTINGS = [{}, {"affine": False}, {"momentum": None}, {"track_running_stats": False}]


@pytest.mark.parametrize(("ours", "torchs", "shape"), KINDS)
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("training", [True, False])
def test_it_is_batch_norm_times_alpha_threshold(ours, torchs, shape, settings, training):
    norm = ours(5, threshold=0.4, alpha=0.7, **settings).double()
    plain = torchs(5, **settings).double()
    if norm.affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    plain.load_state_dict(norm.state_dict())
    norm.train(training)
    plain.train(training)
    for _ in range(2):
        x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        z = x.detach().clone().requires_grad_()
        y, expected = norm(x), 0.28 * plain(z)
        torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
        g = torch.randn_like(y)
        y.backward(g)
        expected.backward(g)
        torch.testing.assert_close(x.grad, z.grad, rtol=1e-10, atol=1e-12)
    for (name, value), (other, wanted) in zip(norm.state_dict().items(), plain.state_dict().items(), strict=True):
        assert name == other
        torch.testing.assert_close(value, wanted)
    for ours_p, theirs in zip(norm.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours_p.grad, theirs.grad, rtol=1e-10, atol=1e-12)


def test_in_a_chain_statistics_are_over_time_batch_and_space():
    net = sk.Sequential(sk.TDBN2d(3, threshold=0.5, alpha=1.0, eps=1e-12))
    x = 4 + 3 * torch.randn(5, 6, 3, 4, 4)
    x[0] += 10
    y = net(x)
    torch.testing.assert_close(y.mean((0, 1, 3, 4)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(y.std((0, 1, 3, 4), correction=0), torch.full((3,), 0.5), rtol=1e-4, atol=0)


def test_half_precision_without_affine_keeps_the_dtype():
    norm = sk.TDBN2d(3, affine=False)
    assert norm(torch.randn(4, 3, 2, 2, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_it_compiles_in_one_graph():
    norm = sk.TDBN2d(3).eval()
    x = torch.randn(4, 3, 5, 5)
    torch.testing.assert_close(torch.compile(copy.deepcopy(norm), fullgraph=True, backend="eager")(x), norm(x))


def test_its_factor_is_shown():
    assert repr(sk.TDBN1d(4, 0.5, 0.5)).endswith("track_running_stats=True, scale=0.25)")


@pytest.mark.parametrize("settings", [{"threshold": 0}, {"threshold": float("nan")}, {"alpha": -1}, {"alpha": "1"}])
def test_bad_factors_are_refused(settings):
    with pytest.raises(InputError, match=r"TDBN2d: \w+ must be a number greater than 0"):
        sk.TDBN2d(3, **settings)


def test_a_flat_drive_is_refused_by_the_images_norm():
    with pytest.raises(InputError, match="layer 0: TDBN2d"):
        sk.Sequential(sk.TDBN2d(3))(torch.randn(2, 4, 3))
