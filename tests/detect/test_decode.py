"""Raw predictions to boxes: each at its place, and none twice."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import spikekit as sk
from spikekit.detect import Grid, Stream, detect, iou, suppress
from spikekit.errors import InputError
from tests.detect.shapes import Shape, inverse


def test_the_grid_counts_as_the_network_does():
    net = sk.models.ems_res10(in_channels=2, classes=4, width=1 / 16).eval()
    grid = Grid.of(net, (96, 64))
    assert net(torch.zeros(1, 1, 2, 64, 96)).shape[2:] == (grid.count, 9)
    assert [scale.start for scale in grid.scales] == [0, 3 * 24]


def test_places_are_anchor_row_column(grid):
    cells, strides, anchors = grid.places(torch.zeros(1))
    place = (2 * 4 + 1) * 6 + 5
    assert cells[place].tolist() == [5, 1]
    assert (strides[place].item(), anchors[place].tolist()) == (16, [37, 58])
    place = 72 + (1 * 2 + 1) * 3 + 2
    assert cells[place].tolist() == [2, 1]
    assert (strides[place].item(), anchors[place].tolist()) == (32, [60, 40])


def test_boxes_come_back(grid):
    boxes = [torch.tensor([[1.0, 20, 10, 45, 40], [2, 30, 20, 90, 60]]), torch.tensor([[0.0, 3, 3, 12, 20]])]
    # The cells of the centres, and, for the second, its neighbour to the left.
    places = [[24 + 1 * 6 + 2, 72 + 6 + 1 * 3 + 1], [0]]
    found = detect(inverse(boxes, places, grid).expand(3, -1, -1, -1), grid)
    for one, (wanted, got) in enumerate(zip(boxes, found, strict=True)):
        order = got[:, 0].argsort()
        assert torch.allclose(got[order][:, :5], wanted[wanted[:, 0].argsort()], atol=1e-3), one
        assert bool((got[:, 5] > 0.99).all())


def test_steps_are_averaged_before_the_sigmoid(grid):
    output = torch.zeros(2, 1, grid.count, 8)
    output[0, 0, 7, 4:] = 8.0
    (found,) = detect(output, grid, confidence=0.5)
    raw = torch.tensor(4.0).sigmoid()
    assert found[:, 0].sort().values.tolist() == [0, 1, 2]
    assert torch.allclose(found[:, 5], (raw * raw).expand(3))


def test_boxes_are_cut_at_the_edge_and_weak_ones_left_out(grid):
    box = [torch.tensor([[0.0, -5, -3, 20, 20]])]
    (found,) = detect(inverse(box, [[24]], grid), grid)
    assert found[0, 1:5].tolist() == pytest.approx([0, 0, 20, 20], abs=1e-3)
    assert len(detect(inverse(box, [[24]], grid, sure=0.1), grid, confidence=0.5)[0]) == 0


def greedy(boxes, scores, classes, overlap):
    """Suppression as it is told, one box after the other."""
    kept = []
    for i in range(len(boxes)):
        rivals = [j for j in kept if classes[j] == classes[i]]
        if scores[i] > 0 and all(float(iou(boxes[i], boxes[j])) <= overlap for j in rivals):
            kept.append(i)
    return kept


@given(seed=st.integers(0, 10_000), count=st.integers(1, 30), overlap=st.floats(0.1, 0.9))
def test_suppression_is_greedy(seed, count, overlap):
    torch.manual_seed(seed)
    corner = torch.rand(2, count, 2) * 20
    boxes = torch.cat([corner, corner + 1 + torch.rand(2, count, 2) * 20], -1)
    scores = (torch.rand(2, count) - 0.1).clamp(min=0).sort(1, descending=True).values
    classes = torch.randint(2, (2, count))
    stay = suppress(boxes, scores, classes, overlap)
    for b in range(2):
        assert stay[b].nonzero()[:, 0].tolist() == greedy(boxes[b], scores[b], classes[b], overlap)


def test_a_chain_of_overlaps_keeps_both_ends():
    """The middle box goes, so it can remove nothing itself."""
    boxes = torch.tensor([[[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]]])
    scores, classes = torch.tensor([[0.9, 0.8, 0.7]]), torch.zeros(1, 3, dtype=torch.long)
    assert suppress(boxes, scores, classes, 0.3).tolist() == [[True, False, True]]


def test_other_shapes_are_refused(grid):
    with pytest.raises(InputError, match=r"must return \[T, B, 90, 8\]"):
        detect(torch.zeros(1, 1, 90, 7), grid)
    with pytest.raises(InputError, match="multiples of 32, got"):
        Grid.of(Shape(), (100, 64))
    with pytest.raises(InputError, match="steps must be 1"):
        Stream(torch.nn.Identity(), grid, steps=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": 45}, "detect: overlap must be between 0 and 1, got 45"),
        ({"confidence": 25}, "detect: confidence must be between 0 and 1, got 25"),
        ({"confidence": float("nan")}, "confidence must be between 0 and 1, got nan"),
        ({"most": -1}, "detect: most must be 1 or more, got -1"),
    ],
)
def test_limits_that_are_none_are_refused(grid, options, message):
    with pytest.raises(InputError, match=message):
        detect(torch.zeros(1, 1, grid.count, 8), grid, **options)


def test_what_a_detector_should_not_give_or_be_is_named(grid):
    with pytest.raises(InputError, match="detect: output holds NaN or Inf"):
        detect(torch.full((1, 1, grid.count, 8), float("nan")), grid)
    with pytest.raises(InputError, match="Stream: overlap must be between 0 and 1"):
        Stream(torch.nn.Identity(), grid, overlap=45)
    with pytest.raises(InputError, match=r"in train mode, .* call net\.eval\(\)"):
        Stream(torch.nn.Identity(), grid)(torch.zeros(1, 1, 2, 64, 96))
    for size in (64, (64,), (64.0, 64)):
        with pytest.raises(InputError, match=r"Grid: size must be \(width, height\), two whole numbers"):
            Grid.of(Shape(), size)


def test_a_stream_finds_what_one_call_finds():
    torch.manual_seed(1)
    net = sk.models.ems_res10(in_channels=2, classes=3, width=1 / 8)
    x = (torch.rand(6, 1, 2, 64, 96) < 0.2).float()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    for _ in range(3):
        net(x)
    net.eval()
    grid = Grid.of(net, (96, 64))
    confidence = 1e-4
    with torch.no_grad():
        (wanted,) = detect(net(x[:4]), grid, confidence)
    stream = Stream(net, grid, steps=4, confidence=confidence)
    stream(x[:1])
    (found,) = stream(x[1:4])
    assert len(wanted) > 3
    assert torch.allclose(found, wanted, atol=1e-3)
    # Further on it is not the same as from rest, and after a reset it is.
    (later,) = stream(x[4:])
    with torch.no_grad():
        (rest,) = detect(net(x[2:]), grid, confidence)
    assert later.shape != rest.shape or not torch.allclose(later, rest, atol=1e-3)
    stream.reset()
    assert torch.allclose(stream(x[:4])[0], wanted, atol=1e-3)
