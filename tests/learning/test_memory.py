"""What is alive while a rule runs, counted tensor by tensor: OTTT's share does not grow with T."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor, nn

import spikekit as sk
from spikekit.learning import BPTT, OTTT, feedback_alignment

BATCH, CLASSES = 4, 3


def storages():
    """Address and size of the memory of every tensor that is alive."""
    gc.collect()
    # Sparse ones have no single memory; they are of other tests.
    alive = [a for a in gc.get_objects() if type(a) in (Tensor, nn.Parameter) and a.layout == torch.strided]
    return {a.untyped_storage().data_ptr(): a.untyped_storage().nbytes() for a in alive}


def alive_at_the_end(rule, steps, change=lambda net: net):
    """Bytes of all tensors alive when the last loss is computed that were not before, with all that autograd keeps."""
    layers = [nn.Conv2d(2, 4, 3, padding=1), sk.LIF(0.9, 0.2), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), sk.LIF(0.9, 0.2)]
    net = change(sk.Sequential(*layers, nn.Flatten(), nn.Linear(4 * 6 * 6, CLASSES)))
    x = torch.rand(steps, BATCH, 2, 8, 8)
    calls, found, before = 0, 0, storages()

    class Kept:
        def __init__(self, tensor):
            self.tensor = tensor.detach()

    def loss(output):
        nonlocal calls, found
        calls += 1
        if calls == steps // len(output):
            found = sum(size for place, size in storages().items() if place not in before)
        return output.square().mean()

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        rule(net, x, loss)
    assert found
    return found


@pytest.mark.parametrize("change", [lambda net: net, feedback_alignment])
def test_ottt_keeps_one_step_however_many_there_are(change):
    short, long = (alive_at_the_end(OTTT(), steps, change) for steps in (8, 64))
    # The outputs, which the caller is given.
    assert long - short == (64 - 8) * BATCH * CLASSES * 4


def test_backpropagation_keeps_all_of_them():
    short, long = (alive_at_the_end(BPTT(), steps) for steps in (8, 64))
    assert long > 6 * short
    assert alive_at_the_end(OTTT(), 64) < long / 10
