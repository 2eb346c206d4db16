from __future__ import annotations

import itertools

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, WeightedRandomSampler
from torch.utils.data.distributed import DistributedSampler

from spikekit.errors import InputError
from spikekit.train.shard import begin_epoch, shard


def epochs(loader, world, even, seed=0, count=2):
    """What each process gets in each epoch: [epoch][rank] -> list of batches."""
    shares = [shard(loader(), rank, world, even=even) for rank in range(world)]
    result = []
    for epoch in range(count):
        row = []
        for rank, share in enumerate(shares):
            begin_epoch(share, seed, epoch, rank)
            row.append([batch.tolist() for batch in share])
            assert len(row[-1]) == len(share)
        result.append(row)
    return result


def shuffled(**options):
    return DataLoader(range(23), batch_size=4, shuffle=True, **options)


LOADERS = {
    "shuffle": shuffled,
    "generator": lambda: shuffled(generator=torch.Generator()),
    "sequence": lambda: DataLoader(range(23), batch_size=4),
    "batch_sampler": lambda: DataLoader(
        range(23), batch_sampler=BatchSampler(RandomSampler(range(23)), 4, drop_last=False)
    ),
}


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("world", [2, 4])
def test_every_sample_goes_to_one_process(kind, world):
    for row in epochs(LOADERS[kind], world, even=False):
        assert sorted(itertools.chain(*itertools.chain(*row))) == list(range(23))


@pytest.mark.parametrize("world", [2, 4, 7])
def test_even_shares_have_the_same_number_of_batches(world):
    for row in epochs(shuffled, world, even=True):
        assert len({len(batches) for batches in row}) == 1
        assert set(itertools.chain(*itertools.chain(*row))) == set(range(23))


def test_orders_differ_by_epoch_and_repeat_by_seed():
    first, second = epochs(shuffled, 2, even=True)
    assert first != second
    assert epochs(shuffled, 2, even=True) == [first, second]
    assert epochs(shuffled, 2, even=True, seed=1)[0] != first


def test_processes_draw_different_noise():
    class Noise:
        def __len__(self):
            return 8

        def __getitem__(self, index):
            return torch.rand(())

    row = epochs(lambda: DataLoader(Noise(), batch_size=2), 2, even=True, count=1)[0]
    assert not set(itertools.chain(*row[0])) & set(itertools.chain(*row[1]))


def test_loaders_without_batches_are_divided_by_sample():
    for row in epochs(lambda: DataLoader(torch.arange(7), batch_size=None, shuffle=True), 2, even=False):
        assert sorted(itertools.chain(*row)) == list(range(7))


def test_weighted_samplers_keep_their_weights():
    def weighted():
        return DataLoader(range(4), 2, sampler=WeightedRandomSampler([0, 0, 1, 1], 16))

    for row in epochs(weighted, 2, even=True):
        assert set(itertools.chain(*itertools.chain(*row))) == {2, 3}


def test_one_process_and_distributed_samplers_are_left_alone():
    loader = shuffled()
    assert shard(loader, 0, 1, even=True) is loader
    own = DataLoader(range(8), 2, sampler=DistributedSampler(range(8), 2, 0))
    assert shard(own, 0, 2, even=True) is own
    begin_epoch(own, 0, 5, 0)
    assert own.sampler.epoch == 5


def test_the_users_loader_is_unchanged():
    loader = shuffled()
    sampler = loader.batch_sampler
    assert shard(loader, 1, 2, even=True) is not loader
    assert loader.batch_sampler is sampler
    assert len(loader) == 6


def test_what_cannot_be_divided_is_refused():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(range(3))

    with pytest.raises(InputError, match="IterableDataset cannot be divided over 2 processes"):
        shard(DataLoader(Stream()), 0, 2, even=True)
    with pytest.raises(InputError, match="list cannot be divided"):
        shard([1, 2], 0, 2, even=True)
