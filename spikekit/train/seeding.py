"""Randomness under one seed: every generator that training uses, as a function of (seed, epoch, process).

Seeding each epoch afresh makes the order of the samples independent of everything that happened before it, so
a resumed run needs no replay of earlier epochs, and a resume inside an epoch only needs the generators'
present state.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikekit.errors import InputError

_PYTHON = struct.Struct("<625I?d")
_NUMPY = struct.Struct("<624Iii d")


def seed_all(seed: int, *stream: int) -> int:
    """Seed Python's `random`, NumPy and torch (CPU and CUDA) from `seed` and the numbers of a `stream`.

    Different streams of one seed are independent. Returns the derived 64-bit seed of torch's generators.
    Call it with the seed alone before building a network to make its initial weights repeatable.
    """
    if seed < 0 or any(number < 0 for number in stream):
        raise InputError(f"seed_all: seeds are integers >= 0, got {(seed, *stream)}")
    # As a spawn key, because in entropy a trailing zero counts for nothing: (3,) and (3, 0) would be one stream.
    words = np.random.SeedSequence(seed, spawn_key=stream).generate_state(6, np.uint32)
    derived = int(words[4]) << 32 | int(words[5])
    random.seed(words[:4].tobytes())
    np.random.seed(words[:4])
    torch.manual_seed(derived)
    return derived


def loader_generators(loader: Any) -> list[torch.Generator]:
    """The generators a DataLoader and its samplers were built with."""
    sampler, batches = getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None)
    owners = (loader, sampler, batches, getattr(batches, "sampler", None))
    found = [getattr(owner, "generator", None) for owner in owners]
    return list({id(g): g for g in found if isinstance(g, torch.Generator)}.values())


def seed_loader(loader: Any, seed: int, *stream: int) -> None:
    """Seed all of `seed_all`, and the generators of `loader`."""
    derived = seed_all(seed, *stream)
    for generator in loader_generators(loader):
        generator.manual_seed(derived)


def capture_rng(device: torch.device) -> Tensor:
    """The state of all generators of this process: uint8 [n], n the same in every process of a run."""
    version, words, gauss = random.getstate()
    python = _PYTHON.pack(*words, gauss is not None, gauss or 0.0)
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    if version != 3 or kind != "MT19937":
        raise InputError(f"unknown random generators (random {version}, numpy {kind}); checkpoints store MT19937 only")
    numpy = _NUMPY.pack(*keys.tolist(), position, has_gauss, cached)  # type: ignore[union-attr]
    parts = [torch.frombuffer(bytearray(python + numpy), dtype=torch.uint8), torch.get_rng_state()]
    if device.type == "cuda":
        parts.append(torch.cuda.get_rng_state(device))
    return torch.cat(parts)


def restore_rng(state: Tensor, device: torch.device) -> None:
    """Put all generators back to `capture_rng`'s state; one made without CUDA leaves CUDA's alone."""
    data = state.cpu().contiguous()
    *words, has_gauss, gauss = _PYTHON.unpack(data[: _PYTHON.size].numpy().tobytes())
    random.setstate((3, tuple(words), gauss if has_gauss else None))
    data = data[_PYTHON.size :]
    *keys, position, has_cached, cached = _NUMPY.unpack(data[: _NUMPY.size].numpy().tobytes())
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), position, has_cached, cached))
    data = data[_NUMPY.size :]
    size = torch.get_rng_state().numel()
    torch.set_rng_state(data[:size].clone())
    if device.type == "cuda" and len(data) > size:
        torch.cuda.set_rng_state(data[size:].clone(), device)


@contextmanager
def borrowed_rng(loader: Any, device: torch.device) -> Iterator[None]:
    """Whatever happens inside, the generators of this process and of `loader` come out as they went in."""
    state = capture_rng(device)
    generators = [(generator, generator.get_state()) for generator in loader_generators(loader)]
    try:
        yield
    finally:
        restore_rng(state, device)
        for generator, before in generators:
            generator.set_state(before)
