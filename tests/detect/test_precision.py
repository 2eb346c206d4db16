"""Mean average precision against a reading of its definition, and anchors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spikekit.detect import average_precision, fit_anchors, iou, recall
from spikekit.errors import InputError

pytest.importorskip("faster_coco_eval")


def by_hand(found, truth, label, overlap):
    """COCO's average precision of a class: precision at 101 recalls, each the best at that recall or beyond."""
    rows = [(float(row[5]), image, row) for image, sample in enumerate(found) for row in sample if row[0] == label]
    taken, hits, total = set(), [], sum(int((t[:, 0] == label).sum()) for t in truth)
    for _, image, row in sorted(rows, key=lambda item: -item[0]):
        best, which = overlap, None
        for i, box in enumerate(truth[image]):
            value = float(iou(row[1:5], box[1:5]))
            if box[0] == label and (image, i) not in taken and value >= best:
                best, which = value, i
        hits.append(which is not None)
        taken.add((image, which))
    right = np.cumsum(hits)
    precision, reached = right / np.arange(1, len(hits) + 1), right / total
    return float(np.mean([max(precision[reached >= r], default=0.0) for r in np.linspace(0, 1, 101)]))


def test_precision_is_as_defined():
    torch.manual_seed(0)
    found, truth = [], []
    for _ in range(12):
        corner = torch.rand(5, 2) * 60
        boxes = torch.cat([torch.randint(2, (5, 1)).float(), corner, corner + 10 + torch.rand(5, 2) * 20], 1)
        moved = boxes.clone()
        moved[:, 1:] += torch.randn(5, 4) * 2
        wrong = torch.cat([boxes[:2, :1], torch.rand(2, 2) * 30, 40 + torch.rand(2, 2) * 30], 1)
        truth.append(boxes)
        found.append(torch.cat([torch.cat([moved, wrong]), torch.rand(7, 1)], 1))
    result = average_precision(found, truth, ("a", "b"))
    wanted = [by_hand(found, truth, label, 0.5) for label in (0, 1)]
    assert [result.classes["a"], result.classes["b"]] == pytest.approx(wanted, abs=1e-6)
    assert result.map50 == pytest.approx(np.mean(wanted), abs=1e-6)
    levels = np.linspace(0.5, 0.95, 10)
    every = np.mean([by_hand(found, truth, label, level) for label in (0, 1) for level in levels])
    assert result.map == pytest.approx(every, abs=1e-4)
    assert (result.images, result.boxes) == (12, 60)


def test_all_right_and_nothing_found():
    truth = [torch.tensor([[1.0, 0, 0, 10, 10]]), torch.zeros(0, 5)]
    right = [torch.cat([boxes, torch.ones(len(boxes), 1)], 1) for boxes in truth]
    assert average_precision(right, truth, ("a", "b")).map == 1
    nothing = average_precision([torch.zeros(0, 6)] * 2, truth, ("a", "b"))
    assert (nothing.map50, nothing.classes) == (0, {"b": 0.0})
    with pytest.raises(InputError, match="no true box"):
        average_precision([torch.zeros(0, 6)], [torch.zeros(0, 5)], ("a",))
    with pytest.raises(InputError, match="1 samples with boxes found, 2 with"):
        average_precision(right[:1], truth, ("a", "b"))


FOUND = [0.0, 0, 0, 10, 10, 0.9]
TRUE = [0.0, 0, 0, 10, 10]


@pytest.mark.parametrize(
    ("found", "truth", "classes", "message"),
    [
        ([FOUND], [TRUE, [5.0, 40, 40, 50, 50]], ["a"], "truth, sample 0, has the class 5; classes names 0 to 0"),
        ([FOUND], [TRUE, [-1.0, 0, 0, 0, 0]], ["a"], "rows of padding; take unpad_boxes first"),
        ([FOUND], [[0.0, 10, 10, 0, 0]], ["a"], "truth, sample 0: box 0, .* has no area"),
        ([FOUND], [TRUE], [], "classes must be names, one or more, each once"),
        ([FOUND], [TRUE], ["a", "a"], "classes must be names, one or more, each once"),
        ([[0.0, 0, 0, np.nan, 10, 0.9]], [TRUE], ["a"], "found in sample 0 hold NaN or Inf"),
        ([[3.0, 0, 0, 10, 10, 0.9]], [TRUE], ["a"], "found, sample 0, has the class 3; classes names 0 to 0"),
        ([TRUE], [FOUND], ["a"], r"boxes found must be \[n, 6\] .* found comes first, then truth"),
    ],
)
def test_what_cannot_be_judged_is_named(found, truth, classes, message):
    with pytest.raises(InputError, match=message):
        average_precision([torch.tensor(found)], [torch.tensor(truth)], classes)


def test_anchors_find_the_sizes_there_are():
    sizes = np.array([[10, 20], [40, 40], [80, 30], [100, 100], [150, 60], [200, 200]], dtype=float)
    noisy = np.concatenate([sizes * (1 + 0.01 * np.random.default_rng(i).standard_normal((6, 2))) for i in range(20)])
    found = fit_anchors(noisy)
    assert np.asarray(found).shape == (2, 3, 2)
    wanted, flat = sorted(map(tuple, sizes)), sorted(map(tuple, np.asarray(found).reshape(6, 2).round(-1)))
    assert flat == wanted
    assert np.asarray(found).prod(-1).flatten().tolist() == sorted(np.asarray(found).prod(-1).flatten())
    assert recall(noisy, found) == 1
    assert recall([[10, 20], [10, 81]], [[[10, 20]]]) == 0.5
    with pytest.raises(InputError, match="6 anchors need 6 or more"):
        fit_anchors(sizes[:3])


@pytest.mark.parametrize("value", [0, -1, np.nan, np.inf])
@pytest.mark.parametrize("call", [fit_anchors, lambda sizes: recall(sizes, [[[10, 20]]])])
def test_sizes_that_are_none_are_named_by_their_row(call, value):
    sizes = np.full((6, 2), 10.0)
    sizes[4, 1] = value
    with pytest.raises(InputError, match=r"finite sizes above 0, but row 4 is \[10\.0, "):
        call(sizes)


def test_of_no_boxes_there_is_no_recall():
    with pytest.raises(InputError, match=r"recall: needs 1 or more sizes \[n, 2\], got \[0, 2\]"):
        recall(np.zeros((0, 2)), [[[10, 20]]])
