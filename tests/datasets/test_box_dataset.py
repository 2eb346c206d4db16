"""Frames with boxes, BCCD, N-MNIST mosaic: what is read is what was written, and the real sets are as published."""

from __future__ import annotations

import logging
import os

import numpy as np
import pytest
import torch

from spikekit.datasets import BCCD, NMNIST, BoxDataset, NMNISTMosaic, collate_boxes
from spikekit.datasets.bccd import read_voc
from spikekit.datasets.box_dataset import Letterbox
from spikekit.datasets.nmnist_mosaic import Scenes, digit_box, scene
from spikekit.errors import EventError, InputError
from spikekit.events import EventStream

HAS_DATA = bool(os.environ.get("SPIKEKIT_DATA"))
REAL_BCCD = pytest.mark.skipif(not (HAS_DATA and BCCD.available()), reason="no BCCD here")
REAL_NMNIST = pytest.mark.skipif(not (HAS_DATA and NMNIST.available()), reason="no N-MNIST here")


def small(steps=None, n=5):
    frames = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1, 1).expand(n, 1, 2, 8, 8)
    return BoxDataset(
        "small", ("a", "b"), frames, [torch.tensor([[1.0, 0, 0, 4, 4]] * i).reshape(-1, 5) for i in range(n)], steps
    )


def test_batches_are_time_first_and_padded():
    data = small(steps=3)
    x, y = next(iter(data.loader(5)))
    assert x.shape == (3, 5, 2, 8, 8)
    assert x.dtype == y.dtype == torch.float32
    assert y.shape == (5, 4, 5)
    assert (y[..., 0] >= 0).sum(1).tolist() == [0, 1, 2, 3, 4]
    assert x[:, :, 0, 0, 0].tolist() == [[0, 1, 2, 3, 4]] * 3
    assert data.sizes().tolist() == [[4, 4]] * 10


def test_the_order_is_the_seeds():
    def order(seed):
        return [int(v) for x, _ in small().loader(2, shuffle=True, seed=seed) for v in x[0, :, 0, 0, 0]]

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert sorted(order(1)) == [0, 1, 2, 3, 4]
    assert [len(y) for _, y in small().loader(2, indices=[1, 3, 4])] == [2, 1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BoxDataset("x", ("a",), torch.zeros(1, 1, 2, 8, 8), [torch.zeros(0, 5)]), "must be uint8"),
        (lambda: BoxDataset("x", ("a",), small().frames, []), "5 frames have 0 sets"),
        (lambda: BoxDataset("x", ("a",), small().frames, small().boxes), "class 1, the classes are 0 to 0"),
        (lambda: BoxDataset("x", "ab", small().frames.expand(5, 2, 2, 8, 8), small().boxes, 3), "T = 2 steps"),
        (lambda: collate_boxes([]), "no samples"),
        (lambda: collate_boxes([(torch.zeros(1, 2, 4, 4), None), (torch.zeros(1, 2, 4, 5), None)]), "sample 1"),
        (lambda: BCCD("validation"), "split must be one of"),
        (lambda: NMNISTMosaic("all"), "split must be one of"),
        (lambda: NMNISTMosaic("train", root="none", count=0), "count must be a whole number, 1 or more, got 0"),
        (lambda: NMNISTMosaic("train", root="none", steps=0), "steps must be a whole number, 1 or more, got 0"),
        (lambda: NMNISTMosaic("train", root="none", steps=2.5), "steps must be a whole number, 1 or more, got 2.5"),
        (lambda: Scenes(side=20), "side must be 34"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(InputError, match=message):
        make()


VOC = """<annotation><size><width>80</width><height>60</height></size>{}</annotation>"""
OBJECT = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"


@pytest.fixture
def written(tmp_path):
    """Two photographs of 80 × 60 with a white box; the second has a box without area too."""
    image = pytest.importorskip("PIL.Image")
    home = tmp_path / "BCCD"
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (home / name).mkdir(parents=True)
    boxes = {"one": [("RBC", 10, 20, 50, 40)], "two": [("WBC", 0, 0, 20, 20), ("RBC", 7, 7, 7, 9)]}
    for name, objects in boxes.items():
        pixels = np.zeros((60, 80, 3), np.uint8)
        _, x0, y0, x1, y1 = objects[0]
        pixels[y0:y1, x0:x1] = 255
        image.fromarray(pixels).save(home / f"JPEGImages/{name}.jpg", quality=95)
        (home / f"Annotations/{name}.xml").write_text(VOC.format("".join(OBJECT.format(*o) for o in objects)))
    (home / "ImageSets/Main/train.txt").write_text("one\ntwo\n")
    return tmp_path


def test_bccd_boxes_lie_where_they_are_painted(written, caplog):
    with caplog.at_level(logging.WARNING):
        data = BCCD("train", written, size=(160, 160), steps=2)
    assert data.dropped == 1
    assert "a box without area was left out: two.xml: RBC [7.0, 7.0, 7.0, 9.0]" in caplog.text
    frames, boxes = data[0]
    assert frames.shape == (2, 3, 160, 160)
    assert boxes.tolist() == [[0, 20, 40, 100, 80]]
    bright = frames[0, 0] > 0.5
    assert bright[42:78, 22:98].all()
    assert bright.sum() == pytest.approx(80 * 40, rel=0.1)
    assert not frames[..., 121:, :].any()
    assert data[1][1].tolist() == [[1, 0, 0, 40, 40]]


def test_a_cached_set_still_says_what_it_dropped(written, caplog):
    BCCD("train", written)
    with caplog.at_level(logging.WARNING):
        assert BCCD("train", written).dropped == 1
    assert "1 boxes without area" in caplog.text


def test_damaged_annotations_are_named(written):
    path = written / "BCCD/Annotations/one.xml"
    path.write_text("<annotation>")
    with pytest.raises(InputError, match=r"one\.xml: is not a sound Pascal VOC file"):
        BCCD("train", written)
    path.write_text(VOC.format(OBJECT.format("cat", 1, 2, 3, 4)))
    with pytest.raises(InputError, match="a box of 'cat'"):
        read_voc(path, BCCD.kinds)
    path.write_text(VOC.format("<object><name>RBC</name></object>"))
    with pytest.raises(InputError, match="lacks xmin"):
        read_voc(path, BCCD.kinds)
    with pytest.raises(InputError, match="Set SPIKEKIT_DATA"):
        BCCD("test", written)


def test_letterbox():
    assert Letterbox.fit((640, 480), (320, 256)) == Letterbox(0.5, 320, 240, (640, 480))
    assert Letterbox.fit((480, 640), (320, 256)) == Letterbox(0.4, 192, 256, (480, 640))


@REAL_BCCD
def test_the_real_bccd_is_the_published_one():
    sets = [BCCD(split, size=(64, 64), steps=1) for split in ("train", "val", "test")]
    assert [len(data) for data in sets] == [205, 87, 72]
    assert sum(data.dropped for data in sets) == 2
    assert sum(len(boxes) for data in sets for boxes in data.boxes) == 4888 - 2


def stroke(x, y, w, h, noise=()):
    """A recording in which a block of pixels fires three times, and noise once."""
    xs, ys = (a.ravel() for a in np.meshgrid(np.arange(x, x + w), np.arange(y, y + h)))
    xs, ys = np.tile(xs, 3), np.tile(ys, 3)
    extra = np.array(noise, dtype=np.int64).reshape(-1, 2)
    xs, ys = np.append(xs, extra[:, 0]), np.append(ys, extra[:, 1])
    t = np.arange(len(xs)) * 100
    return EventStream.checked(t, xs, ys, t // 100 % 2, (34, 34))


def test_the_box_is_around_the_digit_and_not_around_noise():
    hot = [(30, 2)] * 20
    assert digit_box(stroke(5, 7, 10, 20, noise=[(0, 0), (33, 33), *hot])) == (5, 7, 15, 27)
    with pytest.raises(EventError, match="no digit to draw a box around"):
        digit_box(stroke(5, 5, 1, 1))


class Strokes:
    name, sensor = "strokes", (34, 34)
    labels = np.array([3, 8])

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return stroke(4 + index, 6, 20, 12), int(self.labels[index])

    def fingerprint(self):
        return "strokes"


def test_a_scene_has_its_events_where_its_boxes_say():
    for number in range(20):
        stream, boxes = scene(Strokes(), np.random.default_rng(number), Scenes(side=96, objects=4, overlap=0.0))
        assert 1 <= len(boxes) <= 4
        canvas = np.zeros((96, 96), bool)
        for label, x0, y0, x1, y1 in boxes.astype(int):
            assert label in (3, 8)
            assert (x1 - x0, y1 - y0) == (20, 12)
            assert not canvas[y0:y1, x0:x1].any()
            canvas[y0:y1, x0:x1] = True
        seen = np.zeros_like(canvas)
        seen[stream.y, stream.x] = True
        assert (seen == canvas).all()
        assert len(stream) == len(boxes) * 3 * 20 * 12


@REAL_NMNIST
def test_the_real_mosaic_is_repeatable_and_its_own_whatever_the_count():
    few, more = NMNISTMosaic("test", count=3), NMNISTMosaic("test", count=5, cache=False)
    assert few.frames.shape == (3, 4, 2, 128, 128)
    assert torch.equal(few.frames, more.frames[:3])
    assert all(torch.equal(a, b) for a, b in zip(few.boxes, more.boxes, strict=False))
    other = NMNISTMosaic("test", count=3, scenes=Scenes(seed=1))
    assert not torch.equal(few.frames, other.frames)
    for frames, boxes in zip(few.frames, few.boxes, strict=True):
        for _, x0, y0, x1, y1 in boxes.int().tolist():
            assert frames[..., y0:y1, x0:x1].float().mean() > 3 * frames.float().mean()
