"""Random stacks of EMS and MS blocks: the integer simulator beside Lava, every spike, every number, every last state.

`python -m pytest -m slow tests/export/lava/test_random_blocks.py` runs the full set.
"""

from __future__ import annotations

import pytest
import torch

import spikekit as sk
from spikekit.export import to_loihi
from spikekit.models import ems_res10
from tests.export.lava.held import hold
from tests.export.random_blocks import chips

FULL, FAST, EACH = 124, 4, 20


def extremes(chip, traces):
    """Whether, where a maximum is sent, a sum wrapped, and a number was the largest there is."""
    graded = [(layer, trace) for layer, trace in zip(chip.layers, traces, strict=True) if layer.graded]
    return (
        any(bool((trace.peak_drive > 2**23).any()) for _, trace in graded),
        any(bool((trace.spikes.abs() == layer.largest).any()) for layer, trace in graded),
    )


def prove(seed, worker):
    """Both networks beside Lava; returns which extremes were seen."""
    chip, loud, x = chips(seed)
    hold(seed, worker, chip, x, loud, x)
    return extremes(loud, loud.trace(x))


@pytest.mark.parametrize("seed", range(FAST))
def test_random_blocks_are_equal_in_lava(seed, worker):
    prove(seed, worker)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FAST, FULL, EACH))
def test_many_random_blocks_are_equal_in_lava(first, worker):
    seen = [prove(seed, worker) for seed in range(first, min(first + EACH, FULL))]
    # The extremes were really visited.
    assert all(map(any, zip(*seen, strict=True)))


def test_the_draw_covers_every_part():
    drawn = [chips(seed) for seed in range(40)]
    layers = [layer for chip, *_ in drawn for layer in chip.layers]
    pooled = [layer for layer in layers if layer.graded]
    inputs = [(layer, each) for layer in layers for each in layer.inputs]
    # Numbers and spikes, into maxima and into spiking neurons.
    assert {(each.grain is not None, layer.graded) for layer, each in inputs if each.source >= 0} == {
        (True, True), (True, False), (False, True), (False, False)
    }  # fmt: skip
    assert {1 + max(each.dendrite for each in layer.inputs) for layer in pooled} == {2, 4}
    assert any(each.shift for layer, each in inputs if layer.graded)
    assert any(len(set(layer.message_shift.tolist())) > 1 for layer in pooled)
    assert {layer.reset for layer in layers if not layer.graded} == {"soft", "hard", "none"}
    assert any(chip.layers[-1].graded for chip, *_ in drawn)
    seen = [extremes(loud, loud.trace(x)) for _, loud, x in drawn]
    assert torch.tensor(seen).double().mean(0).min() > 0.1
    rates = [trace.spikes.bool().double().mean() for chip, _, x in drawn[:10] for trace in chip.trace(x)]
    assert sum(rates) / len(rates) > 0.1


@pytest.mark.parametrize("backend", ["lava-fixed", "lava-float"])
@torch.no_grad()
def test_a_whole_detector_on_ems_res10(backend, worker):
    """Narrow, on small frames, with statistics of the data: the backbone of four EMS-Block2, the neck, the head."""
    torch.manual_seed(0)
    net = ems_res10(in_channels=2, width=1 / 16)
    x = (torch.rand(4, 2, 2, 32, 32) < 0.3).float()
    for norm in (m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.momentum = 1.0
    for _ in range(8):
        net(x)
    chip = to_loihi(sk.detect.ChipDetector(net.eval()), x)
    proof = chip.verify(x, backend, python=worker)
    assert proof.identical, str(proof)
    assert sum(layer.graded for layer in proof.layers) >= 4
    assert all(trace.spikes.any() for trace in chip.trace(x)[:-1])
