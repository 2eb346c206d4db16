from __future__ import annotations

import pytest
import torch

from spikekit.datasets import ImageSet, SequentialImages
from spikekit.errors import InputError


@pytest.fixture
def images():
    pixels = torch.randint(256, (10, 1, 4, 5), dtype=torch.uint8)
    return ImageSet("Small", pixels, torch.arange(10), (0.5,), (0.5,))


def test_rows_one_after_the_other(images):
    sequences = SequentialImages(images)
    x, y = next(iter(sequences.batches(3)))
    assert torch.equal(x, images.images[:3].flatten(1).t()[..., None] / 255)
    assert y.tolist() == [0, 1, 2]
    assert sequences.name == "sequential Small"


def test_one_permutation_for_all(images):
    sequences = SequentialImages(images, permuted=True, seed=3)
    assert sequences.order.sort().values.tolist() == list(range(20))
    assert sequences.order.tolist() != list(range(20))
    assert torch.equal(sequences.order, SequentialImages(images, permuted=True, seed=3).order)
    assert not torch.equal(sequences.order, SequentialImages(images, permuted=True).order)
    assert sequences.name == "permuted sequential Small"


def test_every_image_once_in_an_order_of_the_seed(images):
    sequences = SequentialImages(images)
    labels = [torch.cat([y for _, y in sequences.batches(4, shuffle=True, seed=seed)]).tolist() for seed in (0, 0, 1)]
    assert sorted(labels[0]) == list(range(10))
    assert labels[0] == labels[1] != labels[2]


def test_tokens_are_grey_levels(images):
    sequences = SequentialImages(images)
    tokens = sequences.tokens(torch.arange(10), 16)
    assert torch.equal(tokens, (images.images.flatten(1).t() // 16).long())
    with pytest.raises(InputError, match="levels must be between 2 and 256, got 1"):
        sequences.tokens(torch.arange(2), 1)
    colour = ImageSet(
        "Colour", torch.zeros(2, 3, 2, 2, dtype=torch.uint8), torch.zeros(2).long(), (0.0,) * 3, (1.0,) * 3
    )
    with pytest.raises(InputError, match="one channel, these have 3"):
        SequentialImages(colour).tokens(torch.arange(1))
