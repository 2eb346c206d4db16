"""The comparison at toy size: every arm runs, nothing is repeated, and the table pairs by seed."""

from __future__ import annotations

import json
import statistics

import pytest
import torch

from benchmarks import ems_compare
from spikekit.datasets import BoxDataset
from spikekit.models import ems_res10

ANCHORS = [[[10, 14], [23, 27], [37, 58]], [[81, 82], [60, 60], [100, 90]]]


class Scenes(BoxDataset):
    """Random events in place of N-MNIST's, of fixed seed, on 128 × 128."""

    kinds = tuple("0123456789")

    def __init__(self, split, count=None, steps=4):
        count = count or 2
        draw = torch.Generator().manual_seed(0)
        frames = (torch.rand(count, steps, 2, 128, 128, generator=draw) < 0.05).to(torch.uint8)
        boxes = [torch.tensor([[float(i % 10), 40 + i, 40, 60 + i, 66]]) for i in range(count)]
        super().__init__(split, self.kinds, frames, boxes)


@pytest.fixture
def toy(monkeypatch, tmp_path):
    pytest.importorskip("faster_coco_eval")
    monkeypatch.setattr("spikekit.detection.NMNISTMosaic", Scenes)
    monkeypatch.setattr(ems_compare, "NMNISTMosaic", Scenes)
    monkeypatch.setattr(ems_compare, "CHOSEN_BY", 3)
    monkeypatch.setattr("spikekit.detection.fit_anchors", lambda sizes: ANCHORS)
    threads = torch.get_num_threads()

    def run(*more):
        sizes = ["--epochs", "1", "--scenes", "16", "--width", "0.0625", "--judged", "2", "--out", str(tmp_path)]
        ems_compare.main([*sizes, *more])
        return [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]

    yield run
    torch.set_num_threads(threads)


def test_all_arms_run_once(toy, capsys):
    lines = toy("--seeds", "0")
    assert [line["arm"] for line in lines] == list(ems_compare.ARMS)
    by_arm = {line["arm"]: line for line in lines}
    detection = {"detect.0.0", "detect.1.0"}
    assert set(by_arm["EMS, T = 4"]["real"]) == detection
    assert len(by_arm["MS, T = 4"]["real"]) > 5
    assert by_arm["ANN"]["microjoules"] == pytest.approx(by_arm["ANN"]["of_products"])
    assert all(line["zeros_free"] > 0 for line in lines)
    first = capsys.readouterr().out
    assert toy("--seeds", "0") == lines
    assert capsys.readouterr().out == first


def test_the_ann_sees_the_mean_once():
    net = ems_res10(in_channels=2, width=1 / 16, ann=True).eval()
    x = torch.rand(4, 1, 2, 64, 64)
    assert torch.equal(ems_compare.OneFrame(net)(x), net(x.mean(0, keepdim=True)))


def test_unseen_scenes_are_those_behind(toy):
    every = Scenes("test", 5, 2)
    assert torch.equal(ems_compare.unseen(2, 2).frames, every.frames[3:])


def test_differences_are_paired_by_seed():
    def line(arm, seed, map50):
        other = {"map": 0.5, "microjoules": 10.0, "of_products": 4.0, "zeros_free": 20.0, "rate": 0.1}
        return {"arm": arm, "seed": seed, "map50": map50} | other

    text = ems_compare.table(
        [line("EMS, T = 4", 0, 0.8), line("EMS, T = 4", 1, 0.6), line("MS, T = 4", 0, 0.7), line("MS, T = 4", 1, 0.4)]
    )
    error = statistics.stdev([0.1, 0.2]) / 2**0.5
    assert f"| MS, T = 4 | -0.150 ± {error:.3f} |" in text
    assert "| EMS, T = 4 (2) | 0.700 ± 0.100 |" in text
    assert "–" in text
