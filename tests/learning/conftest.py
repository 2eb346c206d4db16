"""Small networks in float64, a loss that is a mean over steps, and the gradients that a rule leaves."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional


@pytest.fixture
def target():
    return torch.tensor([0, 2, 1, 0])


@pytest.fixture
def loss(target):
    """The cross-entropy of every step, averaged: the same for the whole sequence as in steps."""
    return lambda output: functional.cross_entropy(output.flatten(0, 1), target.repeat(len(output)))


@pytest.fixture
def gradients():
    """The result of a rule, and a copy of all gradients of the network, which are cleared."""

    def run(rule, net, x, loss, **settings):
        net.zero_grad()
        result = rule(net, x, loss, **settings)
        found = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
        net.zero_grad()
        return result, found

    return run


@pytest.fixture
def same():
    """Whether two dictionaries of gradients hold the same numbers, to 1e-12 of the largest."""

    def check(found, expected, names=None):
        names = list(expected) if names is None else names
        assert names
        for name in names:
            scale = float(expected[name].abs().max())
            assert scale > 0, name
            torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-12 * scale, msg=name)

    return check
