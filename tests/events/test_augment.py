from __future__ import annotations

import pytest
import torch

from spikekit.errors import InputError
from spikekit.events import Compose, RandomAffine, RandomDrop, RandomElastic, RandomShift


def test_shift_moves_the_whole_recording_and_fills_with_nothing():
    torch.manual_seed(0)
    frames = torch.zeros(3, 2, 7, 9)
    frames[:, :, 3, 4] = 1
    seen = set()
    for _ in range(100):
        moved = RandomShift(2)(frames)
        where = moved.nonzero()
        assert moved.shape == frames.shape
        assert len(where) == 6
        assert len(where[:, 2:].unique(dim=0)) == 1
        seen.add(tuple((where[0, 2:] - torch.tensor([3, 4])).tolist()))
    assert seen == {(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)}


def test_shift_loses_what_leaves_the_sensor():
    torch.manual_seed(0)
    corner = torch.zeros(1, 1, 5, 5)
    corner[..., 0, 0] = 1
    sums = {float(RandomShift(2)(corner).sum()) for _ in range(50)}
    assert sums == {0.0, 1.0}


def test_affine_keeps_spikes_binary_and_steps_together():
    torch.manual_seed(0)
    frames = (torch.rand(1, 2, 20, 30) < 0.3).float().expand(4, -1, -1, -1)
    moved = RandomAffine()(frames)
    assert set(moved.unique().tolist()) == {0.0, 1.0}
    assert (moved == moved[:1]).all()
    assert not torch.equal(moved, frames)


def test_affine_of_nothing_is_the_identity():
    frames = (torch.rand(3, 2, 11, 8) < 0.3).float()
    assert torch.equal(RandomAffine(degrees=0, scale=0, shear=0, pixels=0)(frames), frames)


def test_affine_moves_by_pixels_as_much_as_it_says():
    frames = torch.zeros(1, 1, 21, 41)
    frames[..., 10, 20] = 1
    torch.manual_seed(1)
    reach = [RandomAffine(degrees=0, scale=0, shear=0, pixels=3)(frames).nonzero()[0, 2:] for _ in range(200)]
    away = (torch.stack(reach) - torch.tensor([10, 20])).abs().amax(0)
    assert away.tolist() == [3, 3]


def test_elastic_keeps_spikes_binary_and_steps_together():
    frames = (torch.rand(1, 2, 20, 30) < 0.3).float().expand(4, -1, -1, -1)
    bent = RandomElastic()(frames)
    assert set(bent.unique().tolist()) == {0.0, 1.0}
    assert (bent == bent[:1]).all()
    assert not torch.equal(bent, frames)
    assert torch.equal(RandomElastic(pixels=0)(frames), frames)


def test_elastic_moves_by_pixels_as_much_as_it_says():
    # On a ramp, the value that arrives tells where it came from.
    ramp = torch.arange(41.0).expand(1, 1, 21, 41)
    knot = (slice(None), slice(None), 10, 20)
    moved = torch.stack([RandomElastic(pixels=2.0, knots=3)(ramp)[knot] - 20 for _ in range(400)])
    assert 1.7 < float(moved.std()) < 2.3


def test_drop_loses_spikes_and_makes_none():
    frames = (torch.rand(10, 2, 20, 20) < 0.5).float()
    shares = torch.tensor([1 - float(RandomDrop(0.4)(frames).sum() / frames.sum()) for _ in range(200)])
    assert (RandomDrop(0.4)(frames) <= frames).all()
    assert 0 <= shares.min() < 0.05
    assert 0.35 < shares.max() < 0.43
    assert abs(float(shares.mean()) - 0.2) < 0.03


def test_compose_goes_from_left_to_right():
    assert Compose(lambda x: x + 1, lambda x: 2 * x)(torch.zeros(1)) == 2
    assert repr(Compose(RandomDrop(0.1))) == "Compose(RandomDrop(most=0.1))"


def test_the_generator_decides():
    frames = (torch.rand(2, 2, 9, 9) < 0.5).float()
    for augment in (
        RandomShift(2),
        RandomAffine(),
        RandomElastic(),
        RandomDrop(),
        Compose(RandomAffine(), RandomDrop()),
    ):
        torch.manual_seed(5)
        first = augment(frames)
        torch.manual_seed(5)
        assert torch.equal(augment(frames), first)


def test_negative_ranges_are_refused():
    with pytest.raises(InputError, match="pixels must be 0 or more"):
        RandomShift(-1)
    with pytest.raises(InputError, match="scale must be"):
        RandomAffine(scale=1.5)
    with pytest.raises(InputError, match="RandomElastic: knots"):
        RandomElastic(knots=1)
    with pytest.raises(InputError, match="RandomDrop: most"):
        RandomDrop(1.0)
