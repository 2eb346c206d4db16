"""checkpoint_time: what it refuses, and how it says so."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import InputError
from tests.rematerialise.nets import chain


@pytest.mark.parametrize("chunk", [0, -1, 2.0, True, "4"])
def test_a_chunk_is_a_number_of_steps(chunk):
    with pytest.raises(InputError, match=rf"chunk must be .* an int > 0 or None, got {chunk!r}"):
        sk.checkpoint_time(sk.LIF(), chunk)


def test_what_is_not_a_network_is_refused():
    with pytest.raises(InputError, match="net must be a module, got function"):
        sk.checkpoint_time(chain)


@pytest.mark.parametrize("bad", [torch.zeros(3), torch.zeros(0, 2, 6), [1.0]])
def test_what_is_not_a_sequence_is_refused(bad):
    with pytest.raises(InputError, match=r"must have the axes \[T, B, ...\] with T > 0, got"):
        sk.checkpoint_time(sk.LIF(), 4)(bad)


@pytest.mark.parametrize("reduce", [lambda y: y.mean(0), lambda y: y[::2], lambda y: y.sum(), lambda y: (y, None)])
def test_a_network_that_spans_time_is_refused(reduce, x):
    class Spans(nn.Module):
        def forward(self, x):
            return reduce(x)

    with pytest.raises(InputError, match=r"Spans must return \[T, B, ...\] .*\[T=4, B=2, ...\] it returned .*after"):
        sk.checkpoint_time(Spans(), 4)(x)


def test_a_layer_that_forgets_is_refused(x):
    class Within(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(1, 6, batch_first=True)

        def forward(self, x):
            return self.gru(x.unsqueeze(-1))[0][:, -1]

    with pytest.raises(InputError, match=r"GRU\(1, 6.*\) starts from zero at every piece.*sk.scan"):
        sk.checkpoint_time(nn.Sequential(Within()))
    net = sk.fold_time(Within()).double()
    torch.testing.assert_close(sk.checkpoint_time(net, 4)(x), net(x))
