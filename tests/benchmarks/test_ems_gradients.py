from __future__ import annotations

import json

import pytest
import torch

from benchmarks import ems_gradients
from spikekit.detect import clip_boxes, pad_boxes, unpad_boxes


def test_norms_are_those_of_autograd():
    net = ems_gradients.network(10, "ems", 1 / 16, 0)
    x, boxes = next(iter(ems_gradients.scenes("val", 2).loader(2)))
    x = x[:2, :, :, :64, :64].contiguous()
    boxes = pad_boxes([clip_boxes(found, 64, 64) for found in unpad_boxes(boxes)])
    found = ems_gradients.gradients(net, x, boxes)
    assert len(found) == 4 + 1
    seen = []

    def keep(module, inputs):
        inputs[0].retain_grad()
        seen.append(inputs[0])

    net = ems_gradients.network(10, "ems", 1 / 16, 0)
    net.deep[0].register_forward_pre_hook(keep)
    grid = ems_gradients.Grid.of(net, (64, 64))
    ems_gradients.DetectionLoss(grid)(net(x), boxes).backward()
    assert found[3] == pytest.approx(float(seen[0].grad.norm()), rel=1e-4)


def test_plain_has_no_shortcut():
    net = ems_gradients.network(10, "plain", 1 / 16, 0)
    block = ems_gradients.blocks(net)[0]
    x = torch.rand(1, 2, 2, 64, 64)
    block.eval()
    assert torch.equal(block(x), block.branch(x))


def test_the_whole_of_it(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(ems_gradients, "DEPTHS", (10,))
    results, picture = tmp_path / "results" / "g.json", tmp_path / "picture.png"
    sizes = ["--seeds", "1", "--width", "0.0625", "--batch", "1", "--epochs", "2", "--scenes", "16"]
    ems_gradients.main([*sizes, "--results", str(results), "--picture", str(picture)])
    table = json.loads(results.read_text())
    for state in ("start", "trained"):
        assert set(table[state]) == {"ems 10", "ms 10", "plain 10"}
        assert all(row["relative"][-1] == 1 for row in table[state].values())
    first, last = table["trained"]["ems 10"]["losses"][0]
    assert last < first
    assert table["start"]["ems 10"]["relative"] != table["trained"]["ems 10"]["relative"]
    assert picture.stat().st_size > 1000


def test_the_summary_is_a_factor_a_block():
    row = ems_gradients.summary([[8.0, 4, 2, 1], [8.0, 4, 2, 1]])
    assert row["factor a block"] == pytest.approx(2)
    assert (row["first"], row["spread"]) == (8, 8)
