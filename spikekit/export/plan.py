"""The export plan: a trained network as a chain of (synapses, neurons), batch normalisation folded in, in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikekit.errors import ExportError, InputError
from spikekit.export.chain import flat
from spikekit.export.synapses import Synapses
from spikekit.folding import folded_thresholds, normalised
from spikekit.neurons import LI, LIF, FoldedLIF
from spikekit.neurons.parameters import broadcast, read_parameter

Floats = NDArray[np.float64]

# Single weights that a convolution may become where its neurons cannot share them: 128 MiB in float64.
DENSE_MAX = 2**24


@dataclass(frozen=True, eq=False)
class FloatLayer:
    """One layer of the plan. Arrays hold one float64 a neuron [n]; `fires` is False for an LI readout.

    threshold: > 0. quantum: what soft reset subtracts; below 0 where a folded norm turned the neuron around.
    """

    name: str
    synapses: Synapses
    bias: Floats
    beta: Floats
    threshold: Floats
    quantum: Floats
    reset: str
    inclusive: bool
    fires: bool


def plan(net: nn.Module, sample: Tensor) -> tuple[FloatLayer, ...]:
    """Read a network as a chain of layers.

    net: an `sk.Sequential` (nested ones too) of Conv2d, Linear, BatchNorm, Flatten, Dropout, Identity and our LIF,
    IF, LI, in eval mode, or what `sk.fold` made of it. An LIF's norm becomes thresholds; a neuron that fires below its
    threshold gets the opposite of its weights, bias, threshold and soft reset's quantum.
    sample: any valid input [T, B, ...], for its shape. Raises ExportError with the reason and the way out
    for anything else, before anything is written.
    """
    layers: list[FloatLayer] = []
    shape = tuple(sample.shape[2:])
    source: tuple[int, ...] = shape
    pending: tuple[str, nn.Conv2d | nn.Linear] | None = None
    for name, module in flat(net):
        if isinstance(module, nn.Flatten):
            shape = _flattened(name, module, shape)
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            if pending is not None:
                raise ExportError(
                    f"layer {name} ({type(module).__name__}) follows layer {pending[0]} without a neuron between them. "
                    "Merge the two into one layer, or put an sk.LIF between them."
                )
            pending, source = (name, module), shape
            shape = _output_shape(name, module, shape)
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            pending = (pending[0], _fold(name, module, pending)) if pending else _refuse_norm(name)
        elif isinstance(module, (LIF, LI, FoldedLIF)):
            if pending is None:
                raise ExportError(
                    f"layer {name} ({type(module).__name__}) has no synapses before it. "
                    "Start the network with nn.Conv2d or nn.Linear and put one before every neuron."
                )
            if layers and not layers[-1].fires:
                raise ExportError(f"layer {layers[-1].name} (LI) does not fire, so nothing can follow it; use sk.LIF")
            layers.append(_layer(name, pending[1], module, source, shape))
            pending = None
    if pending is not None:
        raise ExportError(
            f"the network ends in layer {pending[0]} without a neuron. Append sk.LI() to read its membrane on the chip."
        )
    if not layers:
        raise ExportError("the network holds no LIF, IF or LI layer: there is nothing to export")
    return tuple(layers)


def _flattened(name: str, flatten: nn.Flatten, shape: tuple[int, ...]) -> tuple[int, ...]:
    if flatten.start_dim in (0, -1 - len(shape)):
        raise ExportError(f"layer {name} ({flatten}) joins time and batch; use nn.Flatten()")
    return tuple(flatten(torch.empty(1, *shape, device="meta")).shape[1:])


def _output_shape(name: str, module: nn.Conv2d | nn.Linear, shape: tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(module, nn.Conv2d) and module.padding_mode != "zeros":
        raise ExportError(f"layer {name}: padding_mode {module.padding_mode!r} cannot be exported; use 'zeros'")
    if len(shape) != (3 if isinstance(module, nn.Conv2d) else 1):
        raise ExportError(
            f"layer {name} ({type(module).__name__}) sees the shape {shape}; put nn.Flatten before Linear"
        )
    if isinstance(module, nn.Conv2d):
        _padding(name, module)
    with torch.no_grad():
        return tuple(module(module.weight.new_zeros(1, *shape)).shape[1:])


def _refuse_norm(name: str) -> Any:
    raise ExportError(
        f"layer {name} (BatchNorm) does not follow Conv2d or Linear directly, so it has no weights to "
        "fold into; move it there"
    )


def _fold(
    name: str, norm: nn.modules.batchnorm._BatchNorm, pending: tuple[str, nn.Conv2d | nn.Linear]
) -> nn.Conv2d | nn.Linear:
    if norm.training:
        raise ExportError(f"layer {name} ({type(norm).__name__}) is in train mode; call net.eval() before exporting")
    channels = len(pending[1].weight)
    if norm.num_features != channels:
        raise ExportError(
            f"layer {name} ({type(norm).__name__}) normalises {norm.num_features} features, layer {pending[0]} has "
            f"{channels} channels; put it before nn.Flatten, as BatchNorm2d"
        )
    if norm.running_mean is None:
        raise ExportError(f"layer {name} ({type(norm).__name__}) keeps no running statistics, so it cannot be folded")
    return cast(nn.Conv2d | nn.Linear, normalised(pending[1], norm))


def _layer(
    name: str,
    linear: nn.Conv2d | nn.Linear,
    neuron: LIF | LI | FoldedLIF,
    in_shape: tuple[int, ...],
    out_shape: tuple[int, ...],
) -> FloatLayer:
    weight = linear.weight.detach().double().cpu().numpy()
    if isinstance(linear, nn.Conv2d):
        synapses = Synapses(
            "conv",
            weight,
            in_shape,
            out_shape,
            _pair(linear.stride),
            _padding(name, linear),
            _pair(linear.dilation),
            linear.groups,
        )
    else:
        synapses = Synapses("dense", weight, in_shape, out_shape)
    bias = np.zeros(len(weight)) if linear.bias is None else linear.bias.detach().double().cpu().numpy()
    for what, values in (("weight", weight), ("bias", bias)):
        if not np.isfinite(values).all():
            raise ExportError(f"layer {name}: the {what} before it holds NaN or Inf; was the training stable?")

    def per_neuron(what: str, value: Tensor) -> Floats:
        shaped = broadcast(neuron, what, value.detach().cpu(), torch.empty(1, 1, *out_shape, device="meta"))
        return np.broadcast_to(shaped.double().numpy(), out_shape).flatten()

    beta = per_neuron("beta", read_parameter(neuron, "beta"))
    if isinstance(neuron, LI):
        ones = np.ones_like(beta)
        return FloatLayer(name, synapses, synapses.rows(bias), beta, ones, ones, "none", False, fires=False)
    level, sign, quantum = (per_neuron("threshold", value) for value in _decision(name, neuron))
    reset, biases = neuron.rule.reset, synapses.rows(bias)
    if (sign < 0).any():
        # The chip knows ">" alone: u < θ is -u > -θ, so what drives and resets these neurons changes sign.
        synapses, biases, level = _negated(name, synapses, sign), biases * sign, level * sign
        quantum = quantum * sign if reset == "soft" else quantum
    if (low := np.flatnonzero(level <= 0)).size:
        at = np.unravel_index(low[0], out_shape)
        raise ExportError(
            f"layer {name}: the threshold of channel {at[0]} is {level[low[0]]:.4g} once its norm is folded, one of "
            f"{low.size} neurons that fire from rest, and a chip's thresholds are above 0. Train with a smaller bias "
            "of the norm."
        )
    return FloatLayer(name, synapses, biases, beta, level, quantum, reset, neuron.rule.inclusive, fires=True)


def _decision(name: str, neuron: LIF | FoldedLIF) -> tuple[Tensor, Tensor, Tensor]:
    """Threshold on u, direction (-1: fires below it) and reset quantum, in float64."""
    if isinstance(neuron, FoldedLIF):
        return neuron.threshold.double(), neuron.sign.double(), neuron.quantum.double()
    try:
        level, sign = folded_thresholds(name, neuron)
    except InputError as error:
        raise ExportError(str(error)) from error
    return level, sign, neuron._tensors()["reset_quantum"].double()


def _negated(name: str, synapses: Synapses, sign: Floats) -> Synapses:
    """Synapses whose output neurons [n] with a sign of -1 get the opposite of their drive."""
    per_row = sign.reshape(len(synapses.weight), -1)
    if not (per_row == per_row[:, :1]).all():
        # The neurons of a channel share one kernel, which cannot have both signs.
        if synapses.n_out * synapses.n_in > DENSE_MAX:
            raise ExportError(
                f"layer {name}: the norm's weights have both signs inside a channel, whose neurons share one kernel, "
                f"and {synapses.n_out:,} x {synapses.n_in:,} single weights are too many. Use sk.MPBN(channels), or "
                "sk.MPBN(shape, positive=True)."
            )
        synapses, per_row = synapses.dense(), sign[:, None]
    weight = synapses.weight
    return synapses.with_weight(weight * per_row[:, 0].reshape(-1, *[1] * (weight.ndim - 1)))


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _padding(name: str, conv: nn.Conv2d) -> tuple[int, int]:
    if not isinstance(conv.padding, str):
        return _pair(conv.padding)
    if conv.padding == "valid":
        return (0, 0)
    total = [d * (k - 1) for d, k in zip(_pair(conv.dilation), _pair(conv.kernel_size), strict=True)]
    if any(t % 2 for t in total):
        raise ExportError(
            f"layer {name}: padding='same' with an even kernel pads unevenly; give the padding as numbers"
        )
    return (total[0] // 2, total[1] // 2)
