"""Whether layers that were read from a file fit together, so that a damaged file is refused when it is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from math import prod
from typing import Any

import numpy as np

from spikekit.export.astrocyte import misfit
from spikekit.export.integer_layer import EXPONENT_MAX, WEIGHT_BITS, IntegerLayer
from spikekit.export.layers import FloatLayer
from spikekit.export.messages import MESSAGE_BITS_MAX, MESSAGE_SHIFT_MAX
from spikekit.export.synapses import INPUT, MAXIMUM, SELF, Projection, Synapses

_ARRAYS = {"Floats": np.float64, "Integers": np.int64}
_PLAIN = {"str": str, "bool": bool, "int": int}
_RESETS = ("soft", "hard", "none")
_ACTIVATIONS = (None, "relu", "none", MAXIMUM)


def check_sound(layers: tuple[IntegerLayer, ...], plan: tuple[FloatLayer, ...], in_shape: tuple[int, ...]) -> None:
    """Raise ValueError where a field has another type or shape than its class says, or inputs have no such source."""
    _need(_sizes(in_shape), "in_shape")
    _need(bool(layers) and len(layers) == len(plan), "the number of layers")
    _chain(layers, in_shape, np.int32)
    _chain(plan, in_shape, np.float64)
    for layer in layers:
        exponents = (layer.exponent, *(each.shift for each in layer.inputs))
        _need(all(value in range(EXPONENT_MAX + 1) for value in exponents), "an exponent")
        _need(layer.weight_bits in WEIGHT_BITS, "weight_bits")


def _chain(layers: Sequence[IntegerLayer | FloatLayer], in_shape: tuple[int, ...], weights: type) -> None:
    sizes = {INPUT: prod(in_shape)}
    grains: dict[int, int | None] = {INPUT: None, SELF: None}
    for number, layer in enumerate(layers):
        _need(any(each.source != SELF for each in layer.inputs), "inputs")
        sizes[SELF] = sizes[number] = prod(layer.shape)
        for each in layer.inputs:
            _need(each.source in sizes and each.source != number, "the source of an input")
            _input(each, sizes[each.source], layer.shape, weights)
            _need(each.grain == grains[each.source], "the grain of an input")
            _need(type(each.dendrite) is int and each.dendrite >= 0, "a dendrite")
            _need(layer.activation == MAXIMUM or not each.dendrite, "a dendrite")
        _fields(layer, sizes[SELF])
        _need(layer.reset in _RESETS and layer.period >= 0, "reset or period")
        _need(layer.activation in _ACTIVATIONS, "activation")
        if layer.astrocyte is not None:
            _need(misfit(layer.astrocyte, sizes[SELF], bool(layer.senses)) is None, "the astrocyte")
            for each in layer.senses:
                known = each.source in sizes and each.source not in (number, SELF)
                _need(known and grains[each.source] is None and each.synapses.kind == "sparse", "what is sensed")
                _input(each, sizes[each.source], layer.astrocyte.decay.shape[:1], weights)
        _need(layer.astrocyte is not None or not layer.senses, "what is sensed")
        grains[number] = _grain(layer) if isinstance(layer, IntegerLayer) else None


def _fields(layer: IntegerLayer | FloatLayer, n: int) -> None:
    for field in fields(layer):
        value, (kind, _, optional) = getattr(layer, field.name), str(field.type).partition(" | ")
        if optional and value is None:
            continue
        if kind in _ARRAYS:
            _array(field.name, value, _ARRAYS[kind], (n,))
        elif kind in _PLAIN:
            _need(type(value) is _PLAIN[kind], field.name)


def _grain(layer: IntegerLayer) -> int | None:
    """What a message of the layer counts, once it is sure that all its neurons agree."""
    shift, bits = layer.message_shift, layer.message_bits
    _need(len({value is None for value in (layer.activation, shift, bits)}) == 1, "activation or messages")
    if shift is None or bits is None:
        return None
    _need(bits in range(2, MESSAGE_BITS_MAX + 1), "message_bits")
    _need(bool(((shift >= 0) & (shift <= MESSAGE_SHIFT_MAX)).all()), "message_shift")
    _need(bool((layer.unit == 2.0 ** ((layer.grain or 0) + shift)).all()), "message_shift or scale")
    return layer.grain


def _input(projection: Projection, n_in: int, shape: tuple[int, ...], weights: type) -> None:
    synapses = projection.synapses
    _need(_sizes(synapses.in_shape) and _sizes(synapses.out_shape), "the shape of an input")
    _need(synapses.n_in == n_in and synapses.out_shape == shape, "the shape of an input")
    _need(type(projection.shift) is int, "shift")
    if synapses.kind == "dense":
        _array("weight", synapses.weight, weights, (synapses.n_out, n_in))
    elif synapses.kind == "sparse":
        _ends(synapses, weights)
    else:
        _need(synapses.kind == "conv" and projection.source != SELF, "the kind of an input")
        _geometry(synapses, weights)


def _ends(synapses: Synapses, weights: type) -> None:
    _need(isinstance(synapses.ends, np.ndarray), "ends")
    ends: Any = synapses.ends
    _array("ends", ends, np.int64, (2, ends.shape[-1]))
    _array("weight", synapses.weight, weights, (ends.shape[1],))
    limits = np.array([[synapses.n_out], [synapses.n_in]])
    order = ends[0] * synapses.n_in + ends[1]
    _need(bool(((ends >= 0) & (ends < limits)).all() and (np.diff(order) > 0).all()), "ends")


def _geometry(synapses: Synapses, weights: type) -> None:
    for name, least in (("stride", 1), ("padding", 0), ("dilation", 1)):
        pair = getattr(synapses, name)
        _need(_sizes(pair, least) and len(pair) == 2, name)
    groups, rows = synapses.groups, len(synapses.weight)
    _need(_sizes((groups,)) and len(synapses.in_shape) == 3 and rows % groups == 0, "groups")
    kernel = synapses.weight.shape[2:]
    _array("weight", synapses.weight, weights, (rows, synapses.in_shape[0] // groups, *kernel))
    _need(len(kernel) == 2 and rows * prod(synapses.image) == synapses.n_out, "the shape of a convolution")


def _sizes(values: Any, least: int = 1) -> bool:
    return isinstance(values, tuple) and all(type(value) is int and value >= least for value in values)


def _array(name: str, value: Any, dtype: type, shape: tuple[int, ...]) -> None:
    _need(isinstance(value, np.ndarray) and value.dtype == dtype and value.shape == shape, name)


def _need(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"{what} is missing or does not fit")
