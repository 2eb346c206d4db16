from __future__ import annotations

import pytest
import torch

from spikekit.datasets import Cutout, ImageSet, RandomCrop, RandomFlip, RepeatedImages
from spikekit.errors import InputError
from spikekit.events import Compose
from spikekit.train.shard import begin_epoch


@pytest.fixture
def source():
    images = torch.randint(0, 256, (23, 3, 8, 6), dtype=torch.uint8)
    return ImageSet("pictures", images, torch.arange(23) % 5, (0.4, 0.5, 0.6), (0.1, 0.2, 0.3))


def standard(source):
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (source.mean, source.std))
    return (source.images.float() / 255 - mean) / std


def test_every_step_is_the_standardised_picture(source):
    frames = RepeatedImages(source, 3)
    x, y = frames[4]
    assert x.shape == (3, 3, 8, 6)
    assert y == 4
    torch.testing.assert_close(x, standard(source)[4].expand(3, -1, -1, -1))
    batches = list(frames.loader(10))
    assert [tuple(x.shape) for x, _ in batches] == [(3, 10, 3, 8, 6)] * 2 + [(3, 3, 3, 8, 6)]
    torch.testing.assert_close(torch.cat([x for x, _ in batches], 1), standard(source).expand(3, -1, -1, -1, -1))
    assert torch.equal(torch.cat([y for _, y in batches]), source.labels)


def test_a_seed_decides_order_and_augmentation(source):
    def epoch(number):
        loader = RepeatedImages(source, 2).loader(5, shuffle=True, transform=Compose(RandomCrop(2), RandomFlip()))
        begin_epoch(loader, 3, number, 0)
        return torch.cat([x for x, _ in loader], 1)

    assert torch.equal(epoch(1), epoch(1))
    assert not torch.equal(epoch(1), epoch(2))


def test_loader_processes_give_the_same_pictures(source):
    loader = RepeatedImages(source, 2).loader(5, transform=RandomFlip(0))
    workers = torch.utils.data.DataLoader(loader.dataset, 5, collate_fn=loader.collate_fn, num_workers=1)
    for (x, _), (other, _) in zip(loader, workers, strict=True):
        assert torch.equal(x, other)


def test_crop_cuts_a_window_of_the_padded_picture():
    images = torch.rand(40, 2, 5, 6)
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    cropped = RandomCrop(2)(images)
    offsets = set()
    for whole, part in zip(padded, cropped, strict=True):
        found = [(i, j) for i in range(5) for j in range(5) if torch.equal(whole[:, i : i + 5, j : j + 6], part)]
        assert found
        offsets.update(found)
    assert len(offsets) > 12
    assert torch.equal(RandomCrop(0)(images), images)


def test_flip_mirrors_some_pictures():
    images = torch.rand(40, 2, 5, 6)
    flipped = RandomFlip()(images)
    same = [torch.equal(a, b) for a, b in zip(images, flipped, strict=True)]
    mirrored = [torch.equal(a.flip(-1), b) for a, b in zip(images, flipped, strict=True)]
    assert all(s != m for s, m in zip(same, mirrored, strict=True))
    assert 8 < sum(same) < 32
    assert torch.equal(RandomFlip(1)(images), images.flip(-1))


def test_cutout_paints_a_square_in_each_picture():
    images = torch.ones(60, 2, 10, 12)
    painted = Cutout(4, fill=(0.25, 0.5))(images)
    hidden = painted[:, 0] == 0.25
    assert torch.equal(hidden, painted[:, 1] == 0.5)
    assert torch.equal(painted == 1, ~hidden[:, None].expand_as(painted))
    for mask in hidden:
        rows, columns = mask.any(1).sum(), mask.any(0).sum()
        assert mask.sum() == rows * columns
        assert 2 <= rows <= 4
        assert 2 <= columns <= 4
    assert hidden.any(0).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomCrop(-1), "RandomCrop: padding"),
        (lambda: RandomFlip(1.5), "RandomFlip: p"),
        (lambda: RandomFlip("half"), "RandomFlip: p"),
        (lambda: Cutout(0), "Cutout: size"),
        (lambda: Cutout(4, "grey"), "Cutout: fill"),
        (lambda: Cutout(4, (0.1, 0.2, 0.3))(torch.zeros(1, 1, 8, 8)), "fill has 3 numbers, images have 1 channels"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_bad_sequences_are_refused(source):
    with pytest.raises(InputError, match="steps must be a whole number"):
        RepeatedImages(source, 0)
    with pytest.raises(InputError, match="pictures has no images"):
        RepeatedImages(source.subset(torch.arange(0)))
    with pytest.raises(InputError, match="leaves no batch of 23 images"):
        RepeatedImages(source).loader(24, drop_last=True)


def test_part_of_the_set(source):
    frames = RepeatedImages(source, 2)
    ((x, y),) = frames.loader(10, indices=[3, 9, 4])
    torch.testing.assert_close(x[0], standard(source)[[3, 9, 4]])
    assert torch.equal(y, source.labels[[3, 9, 4]])
    with pytest.raises(InputError, match="leaves no batch of 3 images"):
        frames.loader(4, indices=[3, 9, 4], drop_last=True)
