"""Boxes as a target: refused when wrong, padded and cut, and how much two of them overlap."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikekit.detect.boxes import check_boxes, ciou, clip_boxes, iou, pad_boxes, unpad_boxes
from spikekit.errors import InputError

whole = st.integers(0, 12)
corners = st.tuples(whole, whole, st.integers(1, 8), st.integers(1, 8)).map(
    lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]
)


def painted(box, side=32):
    mask = torch.zeros(side, side, dtype=torch.bool)
    x0, y0, x1, y1 = box
    mask[y0:y1, x0:x1] = True
    return mask


@given(corners, corners)
def test_iou_is_that_of_painted_pixels(a, b):
    one, two = painted(a), painted(b)
    wanted = float((one & two).sum() / (one | two).sum())
    assert float(iou(torch.tensor(a).float(), torch.tensor(b).float())) == pytest.approx(wanted)


@given(corners, corners)
def test_ciou_by_its_formula(a, b):
    found = float(ciou(torch.tensor(a).double(), torch.tensor(b).double()))
    one, two = painted(a), painted(b)
    overlap = float((one & two).sum() / (one | two).sum())
    apart = sum(((a[i] + a[i + 2] - b[i] - b[i + 2]) / 2) ** 2 for i in (0, 1))
    diagonal = sum((max(a[i + 2], b[i + 2]) - min(a[i], b[i])) ** 2 for i in (0, 1))
    ratio_a, ratio_b = (math.atan((c[2] - c[0]) / (c[3] - c[1])) for c in (a, b))
    v = 4 / math.pi**2 * (ratio_a - ratio_b) ** 2
    alpha = v / (1 - overlap + v) if v else 0
    assert found == pytest.approx(overlap - apart / diagonal - alpha * v, abs=1e-6)


def test_ciou_pulls_boxes_that_do_not_touch():
    box, goal = torch.tensor([0.0, 0.0, 4.0, 4.0], requires_grad=True), torch.tensor([10.0, 12.0, 16.0, 15.0])
    optimizer = torch.optim.Adam([box], lr=0.2)
    for _ in range(400):
        optimizer.zero_grad()
        (1 - ciou(box, goal)).backward()
        optimizer.step()
    assert float(iou(box.detach(), goal)) > 0.9


def test_padding_comes_off_again():
    sets = [torch.tensor([[1.0, 0, 0, 2, 3]]), torch.zeros(0, 5), torch.tensor([[0.0, 1, 1, 2, 2], [2, 4, 4, 9, 9]])]
    batch = pad_boxes(sets)
    assert batch.shape == (3, 2, 5)
    assert batch[..., 0].tolist() == [[1, -1], [-1, -1], [0, 2]]
    assert all(torch.equal(a, b) for a, b in zip(unpad_boxes(batch), sets, strict=True))
    assert pad_boxes([torch.zeros(0, 5)]).shape == (1, 1, 5)


def test_boxes_with_a_score_are_not_padded():
    with pytest.raises(InputError, match=r"pad_boxes: sample 1 must be \[n, 5\] .* leave out the score"):
        pad_boxes([torch.zeros(0, 5), torch.zeros(2, 6)])


def test_boxes_are_cut_and_those_hardly_seen_left_out():
    boxes = torch.tensor([[0.0, -5, 2, 5, 8], [1, -9, 2, 1, 8], [2, 30, 30, 40, 40], [3, 4, 4, 5, 20]])
    cut = clip_boxes(boxes, 32, 32, visible=0.25)
    assert cut.tolist() == [[0, 0, 2, 5, 8]]
    assert clip_boxes(boxes, 32, 32, visible=0.01, least=1)[:, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[0, 1, 1, 1, 2]], "data: box 0, .* has no area"),
        ([[0, 1, 1, 2, 2], [0.5, 1, 1, 2, 2]], "box 1, .* class that is no whole number"),
        ([[0, 1, 1, float("nan"), 2]], "is not finite"),
        ([[0, 1, 1, 2]], r"must be \[n, 5\]"),
    ],
)
def test_wrong_boxes_are_named(rows, message):
    with pytest.raises(InputError, match=message):
        check_boxes(torch.tensor(rows), "data")
