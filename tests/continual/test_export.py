"""What learned without forgetting goes to the chip as any other network: three tasks by HLOP, every spike compared."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit import continual as cl
from spikekit.datasets import ImageSet


def dots(count, seed):
    """Ten classes of black and white images, 8 x 8, of which an input is 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 10
    images = (torch.rand(count, 1, 8, 8, generator=generator) < 0.15).to(torch.uint8)
    images.flatten(1)[torch.arange(count)[:, None], 6 * labels[:, None] + torch.arange(4)] = 1
    return ImageSet("dots", images, labels, (0.0,), (1 / 255,))


def test_three_tasks_by_hlop_run_on_lava(worker):
    protocol = cl.permuted(dots(600, 0), dots(100, 1), tasks=3, steps=4)
    lif = partial(sk.LIF, 0.5, 0.3)
    layers = (nn.Linear(64, 80, bias=False), lif(), nn.Linear(80, 10, bias=False), sk.LI(0.5))
    hlop = cl.HLOP(sk.Sequential(*layers), cl.Schedule((16, 20), (12,)))
    matrix = cl.Course(hlop, protocol, partial(torch.optim.SGD, lr=0.3), epochs=5, batch_size=16).run()
    assert cl.average_accuracy(matrix) > 0.5
    batches = [next(task.test.batches(100)) for task in protocol.tasks]
    x = torch.cat([batch.x for batch in batches], 1)
    chip = sk.export.to_loihi(hlop.net.eval(), calibration=x)
    for task, batch in enumerate(batches):
        assert batch.correct(chip.simulate(batch.x)) / 100 == pytest.approx(float(matrix[-1, task]), abs=0.05)
    proof = chip.verify(torch.cat([batch.x[:, :2] for batch in batches], 1), "lava-fixed")
    assert proof.identical
    assert sum(layer.spike_mismatches + layer.membrane_mismatches for layer in proof.layers) == 0
