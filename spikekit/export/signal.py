"""What flows between neurons while a network is read: a sum of linear maps of spikes, and a constant.

Everything without state that a spiking network may hold between two layers of neurons (convolutions, pooling,
normalisation, sums of branches, concatenation) maps such a sum to another one, exactly. So a `Signal` is passed through
the network in place of a tensor, and what arrives at a neuron are its synapses and its bias.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikekit.errors import ExportError
from spikekit.export.compose import compose, gather, identity
from spikekit.export.synapses import Projection, Synapses

Floats = NDArray[np.float64]
Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Term:
    """One source in a signal: its synapses, None for the source itself, onto a part of the signal.

    The part begins at `offset` on the signal's first axis and has the shape `shape`.
    """

    source: int
    synapses: Synapses | None
    shape: Shape
    offset: int = 0

    def map(self) -> Synapses:
        """The synapses onto the part."""
        return identity(self.shape) if self.synapses is None else self.synapses

    def behind(self, name: str, then: Synapses, offset: int = 0) -> Term:
        """The term with more synapses behind it, onto a part that begins at `offset`."""
        found = then if self.synapses is None else compose(name, self.synapses, then)
        return Term(self.source, found, then.out_shape, offset)


@dataclass(frozen=True, eq=False)
class Signal:
    """A value of `shape` a sample and step: the sum of the terms and of `bias`, an array of that shape."""

    shape: Shape
    terms: tuple[Term, ...]
    bias: Floats
    origin: str
    """The layer that it comes from, for errors."""

    @staticmethod
    def of(source: int, shape: Shape, origin: str) -> Signal:
        """What a source sends."""
        return Signal(shape, (Term(source, None, shape),), np.zeros(shape), origin)

    def bare(self) -> bool:
        """Whether it holds what sources send and nothing else: one at each place, and no constant."""
        parts = sorted((term.offset, term.shape[0]) for term in self.terms)
        ends = [offset + size for offset, size in parts]
        tiled = [offset for offset, _ in parts] == [0, *ends[:-1]] and ends[-1] == self.shape[0]
        return tiled and all(term.synapses is None for term in self.terms) and not self.bias.any()

    def projections(self) -> tuple[Projection, ...]:
        """The synapses onto neurons of the signal's shape."""
        return tuple(Projection(term.source, _placed(term, self.shape)) for term in self.terms)


def linear(name: str, layer: nn.Linear, signal: Signal) -> Signal:
    """`nn.Linear` of a flat signal."""
    weight = _weight(name, layer)

    def behind(term: Term) -> Term:
        part = weight[:, term.offset : term.offset + term.shape[0]]
        return term.behind(name, Synapses("dense", part, term.shape, (len(weight),)))

    return _mapped(name, signal, behind, layer)


def convolution(name: str, layer: nn.Conv2d, padding: tuple[int, int], signal: Signal) -> Signal:
    """`nn.Conv2d` of images."""
    weight, channels = _weight(name, layer), signal.shape[0]
    geometry = (tuple(layer.stride), padding, tuple(layer.dilation))
    with torch.no_grad():
        out = tuple(_applied(name, layer, layer.weight.new_zeros(1, *signal.shape)).shape[1:])

    def behind(term: Term) -> Term:
        parts = term.shape[0]
        if layer.groups == 1:
            rows, groups, offset = weight[:, term.offset : term.offset + parts], 1, 0
        elif layer.groups == channels:
            each = len(weight) // channels
            rows, groups, offset = weight[term.offset * each : (term.offset + parts) * each], parts, term.offset * each
        else:
            term = Term(term.source, _placed(term, signal.shape), signal.shape)
            rows, groups, offset = weight, layer.groups, 0
        shape = (len(rows), *out[1:])
        return term.behind(name, Synapses("conv", rows, term.shape, shape, *geometry, groups=groups), offset)  # type: ignore[arg-type]

    return _mapped(name, signal, behind, layer)


def every_channel(name: str, layer: nn.Module, make: Callable[[Shape], Synapses], signal: Signal) -> Signal:
    """A layer that treats each channel alone and alike; make: its synapses for images of a shape (C, H, W)."""
    return _mapped(name, signal, lambda term: term.behind(name, make(term.shape), term.offset), layer)


def affine(name: str, factor: Floats, shift: Floats, signal: Signal) -> Signal:
    """The signal times `factor` plus `shift`: one number, one a channel [C], or arrays of the signal's shape."""
    if not (np.isfinite(factor).all() and np.isfinite(shift).all()):
        raise ExportError(f"{name}: what it multiplies or adds holds NaN or Inf; make it finite")

    def spread(values: Floats) -> Floats:
        values = values.reshape(-1, *[1] * (len(signal.shape) - 1)) if values.ndim == 1 else values
        return np.broadcast_to(values, signal.shape)

    every, terms = spread(factor), []
    for term in signal.terms:
        part = every[term.offset : term.offset + term.shape[0]].reshape(-1)
        terms.append(term if (part == 1).all() else replace(term, synapses=term.map().scaled(part)))
    return Signal(signal.shape, tuple(terms), signal.bias * every + spread(shift), name)


def flattened(name: str, start: int, end: int, signal: Signal) -> Signal:
    """The axes from `start` to `end` of the signal's shape joined."""
    shape = (*signal.shape[:start], prod(signal.shape[start : end + 1]), *signal.shape[end + 1 :])
    terms = []
    for term in signal.terms:
        if start:
            part = (term.shape[0], *shape[1:])
            offset = term.offset
        else:
            part = (prod(term.shape[: end + 1]), *shape[1:])
            offset = term.offset * prod(signal.shape[1 : end + 1])
        found = None if term.synapses is None else term.synapses.onto(part)
        terms.append(Term(term.source, found, part, offset))
    return Signal(shape, tuple(terms), signal.bias.reshape(shape), name)


def concatenated(name: str, axis: int, signals: Sequence[Signal]) -> Signal:
    """The signals one after the other along an axis of their shapes."""
    bias = np.concatenate([signal.bias for signal in signals], axis)
    if axis == 0:
        starts = np.cumsum([0, *(signal.shape[0] for signal in signals)]).tolist()
        moved = [
            replace(term, offset=term.offset + start)
            for signal, start in zip(signals, starts, strict=False)
            for term in signal.terms
        ]
        return Signal(bias.shape, tuple(moved), bias, name)
    terms, start = [], 0
    for signal in signals:
        index = np.full(bias.shape, -1)
        places = [slice(None)] * bias.ndim
        places[axis] = slice(start, start + signal.shape[axis])
        index[tuple(places)] = np.arange(prod(signal.shape)).reshape(signal.shape)
        move, start = gather(index, signal.shape), start + signal.shape[axis]
        terms += [Term(t.source, _placed(t, signal.shape), signal.shape).behind(name, move) for t in signal.terms]
    return Signal(bias.shape, tuple(terms), bias, name)


def added(name: str, one: Signal, other: Signal) -> Signal:
    """The sum of two signals of the same shape."""
    if one.shape != other.shape:
        raise ExportError(f"{name}: it adds shapes {one.shape} and {other.shape}, which a plan cannot; make them equal")
    return Signal(one.shape, (*one.terms, *other.terms), one.bias + other.bias, name)


def _mapped(name: str, signal: Signal, behind: Callable[[Term], Term], layer: nn.Module) -> Signal:
    # The layer itself tells what becomes of the constant, its own bias included.
    exact = deepcopy(layer).cpu().double().eval()
    with torch.no_grad():
        bias = _applied(name, exact, torch.from_numpy(signal.bias)[None])[0]
    return Signal(tuple(bias.shape), tuple(map(behind, signal.terms)), bias.numpy(), name)


def _applied(name: str, layer: nn.Module, x: Tensor) -> Tensor:
    try:
        y: Tensor = layer(x)
    except RuntimeError as error:
        raise ExportError(f"{name} cannot take the shape {tuple(x.shape[1:])}: {error}") from error
    return y


def _weight(name: str, layer: nn.Conv2d | nn.Linear) -> Floats:
    for what, value in layer.named_parameters():
        if not bool(torch.isfinite(value).all()):
            raise ExportError(f"{name}: its {what} holds NaN or Inf; was the training stable?")
    return layer.weight.detach().double().cpu().numpy()


def _placed(term: Term, shape: Shape) -> Synapses:
    """The term's synapses onto the whole of a signal of `shape`."""
    if term.shape == shape:
        return term.map().onto(shape)
    return term.map().within(shape, term.offset * prod(shape[1:]))
