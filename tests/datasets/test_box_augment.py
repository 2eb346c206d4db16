"""Augmentation moves boxes with the pixels: each is painted in its own value, and found again where it should be."""

from __future__ import annotations

import colorsys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset

from spikekit.datasets.box_augment import (
    AugmentedBoxes,
    BoxColour,
    BoxCompose,
    BoxFlip,
    BoxScale,
    hsv_to_rgb,
    mosaic,
    rgb_to_hsv,
    scaled,
)
from spikekit.errors import InputError

H, W = 48, 64


def sample(boxes, value=1.0, channels=2):
    """Frames [2, C, H, W] in which box i is painted in `value` + i."""
    frames = torch.zeros(2, channels, H, W)
    for i, (_, x0, y0, x1, y1) in enumerate(boxes):
        frames[..., y0:y1, x0:x1] = value + i
    return frames, torch.tensor(boxes, dtype=torch.float32).reshape(-1, 5)


def found(frames, value):
    """The box of the pixels that have `value`, or None; the same in every step and channel."""
    mask = frames == value
    assert bool((mask == mask[:1, :1]).all())
    rows, columns = mask[0, 0].any(1).nonzero(), mask[0, 0].any(0).nonzero()
    return None if not len(rows) else [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


BOXES = [[3, 2, 5, 12, 19], [7, 30, 8, 44, 20], [1, 40, 30, 60, 44]]


@pytest.mark.parametrize(("p", "vertical"), [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_flip(p, vertical):
    frames, boxes = BoxFlip(p, vertical)(*sample(BOXES))
    assert boxes[:, 0].tolist() == [3, 7, 1]
    for i, box in enumerate(boxes[:, 1:].tolist()):
        assert found(frames, 1 + i) == box
    untouched = sample(BOXES)
    assert all(a is b for a, b in zip(BoxFlip(0.0)(*untouched), untouched, strict=True))


@given(factor=st.floats(0.6, 1.5), right=st.floats(-0.2, 0.2), down=st.floats(-0.2, 0.2), seed=st.integers(0, 9))
def test_scale_and_shift(factor, right, down, seed):
    frames, boxes = scaled(*sample([BOXES[seed % 3]]), factor, right, down)
    assert set(frames.unique().tolist()) <= {0.0, 1.0}
    pixels = found(frames, 1)
    for box in boxes[:, 1:].tolist():
        assert max(abs(a - b) for a, b in zip(box, pixels, strict=True)) <= 1
    if not len(boxes):
        # What was left out is hardly seen.
        _, (_, x0, y0, x1, y1) = None, BOXES[seed % 3]
        area = (x1 - x0) * (y1 - y0) * factor**2
        assert pixels is None or (pixels[2] - pixels[0] - 1) * (pixels[3] - pixels[1] - 1) < max(0.25 * area, 2 * H)


def test_scale_mixes_photographs_and_draws_from_torch():
    torch.manual_seed(3)
    one = BoxScale(0.3, 0.1, nearest=False)(*sample(BOXES))
    torch.manual_seed(3)
    two = BoxScale(0.3, 0.1, nearest=False)(*sample(BOXES))
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])
    assert len(one[0].unique()) > 4


@given(x=st.integers(W // 4, W - W // 4), y=st.integers(H // 4, H - H // 4), data=st.data())
def test_mosaic(x, y, data):
    """Each sample paints its box in its own value; what is left of it in the mosaic is what its box says."""
    sets = []
    for number in range(4):
        x0, y0 = data.draw(st.integers(0, W - 8)), data.draw(st.integers(0, H - 8))
        x1, y1 = data.draw(st.integers(x0 + 4, W)), data.draw(st.integers(y0 + 4, H))
        sets.append([[number, x0, y0, x1, y1]])
    frames, boxes = mosaic([sample(boxes, value=10.0 * (i + 1)) for i, boxes in enumerate(sets)], (x, y))
    kept = {int(row[0]): row[1:] for row in boxes.tolist()}
    for number in range(4):
        pixels = found(frames, 10.0 * (number + 1))
        if number in kept:
            assert pixels == kept[number]
        elif pixels is not None:
            _, x0, y0, x1, y1 = sets[number][0]
            w, h = pixels[2] - pixels[0], pixels[3] - pixels[1]
            assert min(w, h) < 2 or w * h < 0.25 * (x1 - x0) * (y1 - y0)
    # The four quadrants meet at the point: the pixels around it are the samples' own corners.
    plain = mosaic([(torch.full((1, 1, H, W), float(i)), torch.zeros(0, 5)) for i in range(4)], (x, y))[0][0, 0]
    assert plain[y - 1 : y + 1, x - 1 : x + 1].tolist() == [[0, 1], [2, 3]]


def test_mosaic_needs_four():
    with pytest.raises(InputError, match="mosaic takes 4 samples of one shape"):
        mosaic([sample(BOXES)] * 3)


def test_colour_keeps_boxes_and_bounds():
    torch.manual_seed(0)
    frames, boxes = torch.rand(2, 3, H, W), torch.tensor([[0.0, 1, 1, 5, 5]])
    changed, same = BoxColour()(frames, boxes)
    assert same is boxes
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 1
    assert not torch.equal(changed, frames)
    assert torch.allclose(BoxColour(0.0, 0.0, 0.0)(frames, boxes)[0], frames, atol=1e-5)
    with pytest.raises(InputError, match="need 3 channels, got 2"):
        BoxColour()(*sample(BOXES))


def test_hsv_is_that_of_the_standard_library():
    image = torch.rand(3, 1, 40)
    image[:, 0, :4] = torch.tensor([[0.0, 1, 0.5, 0], [0, 1, 0.5, 0], [0, 1, 0.5, 1]])
    h, s, v = rgb_to_hsv(image)
    for i, pixel in enumerate(image[:, 0].T.tolist()):
        assert [float(h[0, i]), float(s[0, i]), float(v[0, i])] == pytest.approx(colorsys.rgb_to_hsv(*pixel), abs=1e-5)
    assert torch.allclose(hsv_to_rgb(h, s, v), image, atol=1e-5)


class Four(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return sample([[index, 4, 4, 60, 40]], value=float(index + 1))


def test_augmented_samples_are_mosaics_then_transformed():
    torch.manual_seed(0)
    data = AugmentedBoxes(Four(), BoxCompose((BoxFlip(1.0),)), mosaic=1.0)
    frames, boxes = data[2]
    assert len(data) == 4
    assert 1 <= len(boxes) <= 4
    # Sample 2 is the upper left part; mirrored, the upper right.
    assert float(frames[0, 0, 5, W - 5]) == 3.0
    plain = AugmentedBoxes(Four())[1]
    assert torch.equal(plain[1], Four()[1][1])


class Stills(Dataset):
    """Pictures of noise shown for three steps, as `BoxDataset` shows them."""

    pictures = torch.rand(4, 1, 3, H, W)

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.pictures[index].expand(3, -1, -1, -1), torch.tensor([[0.0, 4, 4, 60, 40]])


def test_a_picture_is_changed_once_for_all_its_steps():
    seen = []

    def watch(frames, boxes):
        seen.append(len(frames))
        return frames, boxes

    change = BoxCompose((BoxFlip(0.5, 0.5), BoxScale(0.3, nearest=False), BoxColour(), watch))
    torch.manual_seed(0)
    frames, _ = AugmentedBoxes(Stills(), change, mosaic=0.5)[1]
    assert seen == [1]
    assert frames.shape == (3, 3, H, W)
    assert frames.stride(0) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BoxFlip(1.5), "BoxFlip: p must be between"),
        (lambda: BoxFlip(vertical=-1), "BoxFlip: vertical must be between"),
        (lambda: BoxScale(1.0), "scale must be 0 or more and below 1"),
        (lambda: BoxColour(hue=-1), "BoxColour: hue"),
        (lambda: AugmentedBoxes(Four(), mosaic=2), "mosaic must be between"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(InputError, match=message):
        make()
