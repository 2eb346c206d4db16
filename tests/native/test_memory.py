"""Memory that is used again: never by two at once, never more of it kept than allowed, and tensors like any other."""

from __future__ import annotations

import copy
import gc
import io
import os
import pickle
import threading
import weakref

import numpy as np
import pytest
import torch

from spikekit.errors import InputError
from spikekit.native import memory
from spikekit.native.memory import Store, empty, empty_like

MB = 1 << 20
SHAPE = (4, 8, 1 << 13)  # 1 MiB of float32


@pytest.fixture
def store(monkeypatch):
    store = Store(64 * MB)
    monkeypatch.setattr(memory, "store", store)
    return store


def lying(store):
    return [piece for pieces in store._pieces.values() for piece in pieces]


def test_a_piece_comes_back_with_its_tensor_and_is_used_again(store):
    y = empty(SHAPE, torch.float32)
    address = y.data_ptr()
    assert store.unused == 0
    del y
    assert store.unused == MB
    again = empty(SHAPE, torch.float32)
    assert again.data_ptr() == address
    assert store.unused == 0
    assert not store._returned


@pytest.mark.parametrize("look", [lambda y: y[1:], lambda y: y.numpy(), lambda y: y.view(-1)[::2].view(2, -1).T])
def test_a_piece_in_use_is_not_handed_out(store, look):
    y = empty(SHAPE, torch.float32).fill_(3)
    held = look(y)
    del y
    gc.collect()
    other = empty(SHAPE, torch.float32).fill_(7)
    assert (np.asarray(held) == 3).all()
    assert bool((other == 7).all())


def test_a_piece_that_a_gradient_needs_is_not_handed_out(store):
    leaf = torch.ones(SHAPE, requires_grad=True)
    y = empty(SHAPE, torch.float32).fill_(3)
    product = (leaf * y).sum()
    del y
    empty(SHAPE, torch.float32).fill_(7)
    assert bool((torch.autograd.grad(product, leaf)[0] == 3).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.uint8, torch.bool])
def test_shapes_dtypes_and_sizes(store, dtype):
    for shape in ((0,), (), (3, 0, 2), (5, 7), (513, 1031), (1, 1 << 20), (3, 3 * MB)):
        y = empty(shape, dtype)
        assert (tuple(y.shape), y.dtype, y.is_contiguous()) == (shape, dtype, True)
        assert y.untyped_storage().nbytes() >= y.numel() * y.itemsize
        assert y.data_ptr() % 64 == 0
        y.fill_(1)
        assert y.numel() == 0 or bool((y == 1).all())


def test_large_pieces_are_rounded_to_huge_pages(store):
    del_me = empty((9 * MB + 1,), torch.uint8)
    del del_me
    assert store.unused == 10 * MB


def channels_last():
    return torch.empty(4, 8, 32, 32, 16).movedim(-1, 2)


@pytest.mark.parametrize(
    "model",
    [
        torch.empty(SHAPE),
        channels_last(),
        torch.empty(8, 4, 1 << 14).transpose(0, 1),
        torch.empty(3, 4).T,
        torch.empty(1 << 18).expand(4, 1 << 18),
        torch.empty(8, 1 << 18)[:, ::2],
    ],
    ids=lambda model: f"{list(model.shape)} {model.stride()}",
)
@pytest.mark.parametrize("dtype", [None, torch.float64])
def test_empty_like_has_the_strides_of_torchs(store, model, dtype):
    y, expected = empty_like(model, dtype), torch.empty_like(model, dtype=dtype)
    assert (y.shape, y.stride(), y.dtype) == (expected.shape, expected.stride(), expected.dtype)
    y.zero_()


def test_no_more_than_the_limit_is_kept(store):
    store.limit = 5 * MB
    pieces = [store.take(size * MB) for size in (1, 2, 3, 4)]
    while pieces:
        pieces.pop(0)
        assert store.unused <= 5 * MB
    # The smaller ones were used longer ago.
    assert store.unused == 4 * MB
    larger_than_all = store.take(6 * MB)
    del larger_than_all
    assert store.unused <= 5 * MB


def test_what_is_freed_last_is_given_back_at_once(store):
    """Not at the next allocation, which may never come."""
    store.limit = MB
    pieces = [store.take(MB) for _ in range(8)]
    del pieces
    assert store._unused == MB
    assert not store._returned


def test_a_size_in_use_outlives_one_that_is_not(store):
    store.limit = 4 * MB
    old = store.take(3 * MB)
    del old
    for _ in range(3):
        often = [store.take(MB) for _ in range(2)]
        del often
    assert sorted(map(len, lying(store))) == [MB, MB]


def test_zero_leaves_everything_to_torch(store):
    store.limit = 0
    assert empty(SHAPE, torch.float32).untyped_storage().resizable()
    assert empty_like(channels_last()).untyped_storage().resizable()
    assert store.unused == 0


@pytest.mark.parametrize("text", ["-1", "many", "nan", "inf", "1e9"])
def test_a_limit_that_is_none_is_refused(text, monkeypatch):
    monkeypatch.setenv("SPIKEKIT_KEEP_MB", text)
    with pytest.raises(InputError, match=rf"SPIKEKIT_KEEP_MB must be a number of megabytes.*{text!r}"):
        memory._limit()


def test_the_limit_is_set_by_the_environment(monkeypatch):
    monkeypatch.setenv("SPIKEKIT_KEEP_MB", "1.5")
    assert memory._limit() == 3 * MB // 2
    monkeypatch.delenv("SPIKEKIT_KEEP_MB")
    assert 0 < memory._limit() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 8


def test_without_memory_torchs_own_error_is_raised(store, monkeypatch):
    def none(*_, **__):
        raise OSError(12, "Cannot allocate memory")

    kept = store.take(MB)
    del kept
    monkeypatch.setattr(memory.mmap, "mmap", none)
    assert empty((3 * MB,), torch.uint8).numel() == 3 * MB
    assert store.unused == 0
    with pytest.raises(RuntimeError, match="memory"):
        empty((1 << 60,), torch.uint8)


def test_a_tensor_outlives_its_store():
    store = Store(4 * MB)
    array = store.take(MB)
    array.fill(5)
    gone = weakref.ref(store)
    del store
    gc.collect()
    assert gone() is None
    assert int(array.sum()) == 5 * MB


def test_many_threads(store):
    """A piece with two owners would show the other's number."""
    store.limit = 3 * MB
    wrong = []

    def work(number):
        for turn in range(200):
            ys = [empty(((1 + (turn + i) % 3) * MB // 4,), torch.float32) for i in range(2)]
            for i, y in enumerate(ys):
                y[::1024] = number + i / 4
            wrong.extend(number for i, y in enumerate(ys) if not bool((y[::1024] == number + i / 4).all()))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not store._lent
    assert store.unused <= 3 * MB
    assert store._unused == sum(map(len, lying(store)))


def test_a_destructor_inside_the_lock_does_not_wait_for_it(store):
    array = store.take(MB)
    with store._lock:
        del array
    assert store.unused == MB


def test_copies_and_pickles():
    y = empty(SHAPE, torch.float32).fill_(3)
    file = io.BytesIO()
    torch.save(y, file)
    file.seek(0)
    for other in (copy.deepcopy(y), pickle.loads(pickle.dumps(y)), torch.load(file), y.clone()):
        assert other.data_ptr() != y.data_ptr()
        assert torch.equal(other, y)


def test_what_may_be_done_in_place():
    y = empty(SHAPE, torch.float32).zero_()
    torch.add(y, 1, out=y)
    y.mul_(2)
    assert bool((y == 2).all())
    y.resize_(2, 3)  # smaller needs no memory
    assert y.shape == (2, 3)
    with pytest.raises(RuntimeError, match="not resizable"):
        y.resize_(1 << 20)
    y.set_(torch.zeros(3))
    assert y.resize_(1 << 20).shape == (1 << 20,)
