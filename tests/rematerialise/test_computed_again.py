"""checkpoint_time: a piece that is computed again sees what it saw, and leaves no mark."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import StateError
from spikekit.state import active
from tests.rematerialise.nets import Adapting, chain, gradients, in_pieces


def test_batch_statistics_are_of_the_piece_and_counted_once(x):
    net = chain(nn.BatchNorm1d(6)).double()
    by_hand = copy.deepcopy(net)
    expected, expected_grads = gradients(by_hand, x, in_pieces(by_hand, 4))
    y = sk.checkpoint_time(net, 4)(x)
    after_forward = {name: value.clone() for name, value in net.state_dict().items()}
    assert net[1].num_batches_tracked == 4
    weight = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(1))
    for _ in range(2):  # the second backward pass computes the pieces a third time
        grads = torch.autograd.grad((y * weight).sum(), [x, *net.parameters()], retain_graph=True)
        torch.testing.assert_close((y, grads), (expected, expected_grads), rtol=1e-12, atol=1e-12)
    for name, value in net.state_dict().items():
        assert torch.equal(value, after_forward[name])
        assert torch.equal(value, by_hand.state_dict()[name])
    assert not torch.allclose(y, chain(nn.BatchNorm1d(6)).double()(x))


def test_a_module_sees_the_buffers_it_wrote_then(x):
    net = chain(Adapting()).double()
    by_hand = copy.deepcopy(net)
    torch.testing.assert_close(
        gradients(net, x, sk.checkpoint_time(net, 4)), gradients(by_hand, x, in_pieces(by_hand, 4)), rtol=1e-12, atol=0
    )
    assert torch.equal(net[1].scale, by_hand[1].scale)


def test_dropout_draws_the_same_mask_again(x):
    net = chain(nn.Dropout(0.5)).double()
    torch.testing.assert_close(
        gradients(net, x, sk.checkpoint_time(net, 4)), gradients(net, x, in_pieces(net, 4)), rtol=1e-12, atol=1e-12
    )
    assert not torch.equal(gradients(net, x)[0], gradients(net, x, seed=1)[0])


def test_evaluating_before_the_backward_pass_changes_nothing(x):
    net = chain(nn.BatchNorm1d(6), nn.Dropout(0.5)).double()
    weights = list(net.parameters())
    y = sk.checkpoint_time(net, 4)(x)
    expected = torch.autograd.grad(y.sum(), weights, retain_graph=True)
    net.eval()
    grads = torch.autograd.grad(y.sum(), weights)
    assert all(torch.equal(grad, wanted) for grad, wanted in zip(grads, expected, strict=True))
    assert not any(module.training for module in net.modules())


def test_a_step_of_the_optimiser_before_the_backward_pass_is_refused(x):
    net = chain().double()
    y = sk.checkpoint_time(net, 4)(x)
    with torch.no_grad():
        net[2].bias.add_(1)
    with pytest.raises(StateError, match=r"'2.bias' was changed in place between the forward and the backward"):
        y.sum().backward()
    assert active() is None
