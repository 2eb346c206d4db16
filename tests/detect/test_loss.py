"""The loss: who answers for a box, what a perfect answer costs, and what a batch's filling does not change."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikekit.detect import DetectionLoss, pad_boxes
from spikekit.detect.loss import match
from spikekit.errors import InputError
from tests.detect.shapes import Shape, inverse


def answering(boxes, scale, ratio=4.0):
    """Pairs (place, box) by YOLOv5's rule, told in loops."""
    pairs = set()
    for number, (_, x0, y0, x1, y1) in enumerate(boxes.tolist()):
        x, y = (x0 + x1) / 2 / scale.stride, (y0 + y1) / 2 / scale.stride
        for a, (w, h) in enumerate(scale.anchors):
            factors = ((x1 - x0) / w, (y1 - y0) / h)
            if max(max(f, 1 / f) for f in factors) >= ratio:
                continue
            cells = [(math.floor(x), math.floor(y))]
            cells.append((math.floor(x) + (-1 if x % 1 < 0.5 else 1), math.floor(y)))
            cells.append((math.floor(x), math.floor(y) + (-1 if y % 1 < 0.5 else 1)))
            for column, row in cells:
                if 0 <= column < scale.width and 0 <= row < scale.height:
                    pairs.add((scale.start + (a * scale.height + row) * scale.width + column, number))
    return pairs


@given(seed=st.integers(0, 10_000))
def test_matches_are_those_of_the_rule(grid, seed):
    torch.manual_seed(seed)
    corner = torch.rand(4, 2) * torch.tensor([80.0, 50.0])
    boxes = torch.cat([torch.randint(3, (4, 1)).float(), corner, corner + 2 + torch.rand(4, 2) * 60], 1)
    batch = pad_boxes([boxes, boxes[:1]])
    for scale in grid.scales:
        found = match(batch, scale, 4.0)
        for b, own in enumerate((boxes, boxes[:1])):
            pairs = [(int(p), int(k)) for p, k, r in zip(found.place[b], found.box, found.real[b], strict=True) if r]
            assert len(pairs) == len(set(pairs))
            assert set(pairs) == answering(own, scale)


# Far enough from each other that none answers for two.
BOXES = [
    torch.tensor([[1.0, 20, 10, 32, 24], [2, 40, 25, 94, 62]]),
    torch.tensor([[0.0, 3, 3, 12, 20]]),
    torch.zeros(0, 5),
]


def perfect(grid):
    """An output in which all that answer for a box say it."""
    raw = torch.full((1, 3, grid.count, 5 + grid.classes), -14.0)
    for sample, boxes in enumerate(BOXES):
        for box in boxes:
            places = [p for scale in grid.scales for p, _ in answering(box[None], scale)]
            for place in places:
                raw[0, sample, place] = inverse([box[None]], [[place]], grid, sure=14.0)[0, 0, place]
    return raw


def test_a_perfect_answer_costs_nothing(grid):
    loss = DetectionLoss(grid)
    output, target = perfect(grid), pad_boxes(BOXES)
    parts = {name: float(value) for name, value in loss.parts(output, target).items()}
    assert parts["cls"] < 1e-4
    # The wanted certainty of a box's edge cells is exact; only floating point is in the way.
    assert parts["box"] < 1e-3
    assert parts["obj"] < 1e-2
    assert torch.equal(loss.score(output, target), torch.ones(3))
    assert float(loss(output, target)) == pytest.approx(sum(parts.values()))


def test_each_mistake_shows_in_its_own_term(grid):
    loss, target = DetectionLoss(grid), pad_boxes(BOXES)
    good = loss.parts(perfect(grid), target)
    for name, where in (("box", slice(0, 4)), ("obj", slice(4, 5)), ("cls", slice(5, 8))):
        output = perfect(grid)
        output[..., where] = torch.randn_like(output[..., where])
        bad = loss.parts(output, target)
        assert float(bad[name]) > float(good[name]) + 1e-4
    assert float(loss.score(perfect(grid) - 20, target)[:2].sum()) == 0


def test_filling_changes_nothing(grid):
    loss, output = DetectionLoss(grid), torch.randn(2, 3, grid.count, 8)
    target = pad_boxes(BOXES)
    more = torch.cat([target, torch.tensor([-1.0, 0, 0, 0, 0]).expand(3, 5, 5)], 1)
    assert torch.equal(loss(output, target), loss(output, more))
    assert torch.equal(loss.score(output, target), loss.score(output, more))


def test_no_box_at_all_is_a_batch_too(grid):
    output = torch.randn(1, 2, grid.count, 8, requires_grad=True)
    value = DetectionLoss(grid)(output, pad_boxes([torch.zeros(0, 5)] * 2))
    value.backward()
    assert bool(torch.isfinite(output.grad).all())
    assert float(output.grad[..., :4].abs().sum()) == 0


def test_gradients_reach_those_that_answer_alone(grid):
    output = torch.randn(2, 3, grid.count, 8, requires_grad=True)
    DetectionLoss(grid)(output, pad_boxes(BOXES)).backward()
    assert bool(torch.isfinite(output.grad).all())
    assert bool((output.grad[..., 4] != 0).all())
    moved = (output.grad[..., :4] != 0).any(-1)
    for sample, boxes in enumerate(BOXES):
        wanted = {p for scale in grid.scales for p, _ in answering(boxes, scale)}
        assert set(moved[0, sample].nonzero()[:, 0].tolist()) == wanted


def test_the_score_is_f1(grid):
    loss = DetectionLoss(grid)
    output, target = perfect(grid), pad_boxes(BOXES)
    # A third box drawn where none is, and one of another class.
    extra = inverse([torch.tensor([[0.0, 60, 0, 70, 14]])], [[4]], grid, sure=14.0)
    output[0, 0, 4] = extra[0, 0, 4]
    assert loss.score(output, target).tolist() == pytest.approx([2 * 2 / (3 + 2), 1, 1])
    wrong = target.clone()
    wrong[1, 0, 0] = 2
    assert loss.score(perfect(grid), wrong).tolist() == pytest.approx([1, 0, 1])


def test_a_box_drawn_counts_for_one_alone(grid):
    """Two true boxes that overlap by more than half, and one drawn: one is missed."""
    box = torch.tensor([[0.0, 3, 3, 13, 23]])
    output = inverse([box], [[0]], grid, sure=14.0)
    twice = torch.cat([box + torch.tensor([0.0, 1, 1, 1, 1]), box])
    assert DetectionLoss(grid).score(output, pad_boxes([twice])).tolist() == pytest.approx([2 / 3])
    assert DetectionLoss(grid).score(output, pad_boxes([box])).tolist() == [1]
    assert DetectionLoss(grid).score(output, torch.zeros(1, 0, 5)).tolist() == [0]


def test_one_class_has_no_class_loss():
    from spikekit.detect import Grid

    grid = Grid.of(Shape(classes=1), (96, 64))
    target = pad_boxes([torch.tensor([[0.0, 20, 10, 45, 40]])])
    assert float(DetectionLoss(grid).parts(torch.randn(1, 1, grid.count, 6), target)["cls"]) == 0


def test_wrong_targets_are_named(grid):
    loss = DetectionLoss(grid)
    with pytest.raises(InputError, match=r"here: y must be boxes, floating point \[B, M, 5\]"):
        loss.check_target(torch.zeros(3, dtype=torch.int64), "here")
    with pytest.raises(InputError, match="the class 7, the detector has 0 to 2"):
        loss.check_target(torch.tensor([[[7.0, 0, 0, 1, 1]]]), "here")
    for value in (math.nan, math.inf):
        with pytest.raises(InputError, match="here: y holds NaN or Inf"):
            loss.check_target(torch.tensor([[[value, 0, 0, 1, 1]]]), "here")
    with pytest.raises(InputError, match="here: the detector must return"):
        loss.check_output(torch.zeros(1, 1, 3), "here")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1.0, 30, 40, 5, 5], "here: y, sample 1, box 1, .* has no area"),
        ([1.0, 500, 500, 530, 540], "here: y, sample 1, box 1, .* lies outside the picture of 96 × 64 pixels"),
        ([1.0, -9, 5, -1, 9], "lies outside the picture"),
        ([1.5, 5, 5, 30, 40], "has a class that is no whole number from 0"),
        ([-2.0, 5, 5, 30, 40], "has a class that is no whole number from 0"),
    ],
)
def test_boxes_that_are_none_are_named(grid, row, message):
    target = pad_boxes([BOXES[0], torch.tensor([[0.0, -5, -5, 20, 200], row])])
    with pytest.raises(InputError, match=message):
        DetectionLoss(grid).check_target(target, "here")
    target[1, 1] = torch.tensor([-1.0, 0, 0, 0, 0])
    assert DetectionLoss(grid).check_target(target, "here") is target


def test_parts_of_the_sides_are_no_pixels(grid):
    target = pad_boxes([torch.tensor([[1.0, 0.1, 0.1, 0.5, 0.6]]), torch.zeros(0, 5)])
    with pytest.raises(InputError, match=r"all boxes of y lie in the first pixel.* multiply x by 96 and y by 64"):
        DetectionLoss(grid).check_target(target, "here")


def test_a_loss_that_is_called_looks_at_its_target(grid):
    loss, output, target = DetectionLoss(grid), torch.randn(2, 3, grid.count, 8), pad_boxes(BOXES)
    for wrong in (target[:1], target.repeat(2, 1, 1)[:4]):
        with pytest.raises(InputError, match=f"output holds B = 3 samples on cpu, target {len(wrong)}"):
            loss(output, wrong)
    for wrong in (target[0], target.long()):
        with pytest.raises(InputError, match=r"DetectionLoss: y must be boxes, floating point \[B, M, 5\]"):
            loss(output, wrong)
    with pytest.raises(InputError, match="got list; see pad_boxes"):
        loss(output, BOXES)
    with pytest.raises(InputError, match="the class 7, the detector has 0 to 2"):
        loss(output, torch.where(target == 2, 7.0, target))
    with pytest.raises(InputError, match="output holds B = 3"):
        loss.score(output, target[:1])
    assert torch.equal(loss(output, target.double()), loss(output, target))


def test_more_scales_than_there_are_weights_are_refused(grid):
    with pytest.raises(InputError, match="for 5 scales at most, the grid has 6"):
        DetectionLoss(replace(grid, scales=grid.scales * 3))


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("box", -1, "finite, 0 or more"),
        ("cls", math.nan, "finite, 0 or more"),
        ("ratio", 0.5, "finite, 1 or more"),
        ("overlap", 45, "between 0 and 1"),
    ],
)
def test_settings_of_the_loss_are_checked(grid, name, value, wanted):
    with pytest.raises(InputError, match=f"DetectionLoss: {name} must be {wanted}, got {value}"):
        DetectionLoss(grid, **{name: value})
