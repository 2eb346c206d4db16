from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from benchmarks import ems_chip
from spikekit.datasets.box_dataset import BoxDataset
from spikekit.detect import Grid
from spikekit.export.lava import worker_python
from spikekit.models import ems_res10


class Recipe:
    """Two scenes of random events, with a box each."""

    def dataset(self, split):
        generator = torch.Generator().manual_seed(len(split))
        events = (torch.rand(2, 3, 2, 32, 32, generator=generator) < 0.2).to(torch.uint8)
        boxes = [torch.tensor([[0.0, 4, 4, 20, 20]])] * 2
        return BoxDataset("events", ("a", "b"), events, boxes)

    def grid(self, net):
        return Grid.of(net, (32, 32))


@pytest.mark.parametrize("scenes", [0, 1])
def test_the_whole_of_it(scenes, monkeypatch, capsys):
    pytest.importorskip("faster_coco_eval")
    if scenes and worker_python() is None:
        pytest.skip("Lava is not installed")
    torch.manual_seed(0)
    net = ems_res10(in_channels=2, classes=2, width=1 / 16)
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.momentum = 1.0
    net(ems_chip.frames(Recipe().dataset("train"), 2))
    monkeypatch.setattr(ems_chip, "trained_detector", lambda run: (Recipe(), net.eval()))
    ems_chip.main(["runs/none", "--bits", "8", "4", "--scenes", str(scenes)])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    judged = [row for row in rows if "map50" in row]
    assert [(row["bits"], row["scenes"]) for row in judged] == [(None, 2), (8, 2), (4, 2)]
    proofs = [row for row in rows if "backend" in row]
    assert len(proofs) == 2 * scenes
    assert all(row["different"] == 0 and row["scenes"] == 1 for row in proofs)
