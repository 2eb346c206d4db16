"""Neuron parameters: fixed or learnable, one for all neurons, one a channel, or one a neuron.

A learnable parameter is stored unconstrained and read through a map that cannot leave the legal range, so that no
optimiser step needs clamping: a decay (alpha, beta, rho) is sigmoid(beta_raw) in (0, 1), what is positive (threshold,
step, timescales) is exp(threshold_raw) > 0, a strength is tanh(strength_raw) in (-1, 1), and what has no range (bias,
weight) is bias_raw itself. Time scales and strengths are also held where float32 can tell them from their limits.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from spikekit.errors import InputError

DECAYS = ("alpha", "beta", "rho")
_POSITIVE = ("threshold", "reset_quantum")
_FREE = ("bias", "weight")
_TIMES = (0.1, 1e6)
# tanh(8) is the largest that float32 tells from 1, but for 2.
_STRONGEST = 8.0
RANGES = {
    **dict.fromkeys(DECAYS, "between 0 and 1"),
    **dict.fromkeys(_POSITIVE, "greater than 0"),
    "step": "0 or greater",
    **dict.fromkeys(_FREE, "finite"),
    "timescales": "between 0.1 and 1e6 steps",
    "strength": "between -1 and 1, both excluded",
}


def _legal(name: str, value: Tensor) -> bool:
    if not bool(torch.isfinite(value).all()):
        return False
    if name in DECAYS:
        return bool(((value >= 0) & (value <= 1)).all())
    if name == "timescales":
        return bool(((value >= _TIMES[0]) & (value <= _TIMES[1])).all())
    if name == "strength":
        return bool((value.abs() < 1).all())
    return name in _FREE or bool((value >= 0 if name == "step" else value > 0).all())


def add_parameter(module: nn.Module, name: str, value: float | Tensor, learn: bool) -> None:
    """Register `name` on `module`: a buffer, or when `learn` the unconstrained parameter `<name>_raw`."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Tensor)):
        raise InputError(f"{type(module).__name__}: {name} must be a number or a tensor, got {value!r}")
    tensor = torch.as_tensor(value).detach().clone()
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise InputError(f"{type(module).__name__}: {name} must hold real numbers, got a tensor of {tensor.dtype}")
    if not tensor.is_floating_point():
        tensor = tensor.to(torch.get_default_dtype())
    if not _legal(name, tensor):
        shown = value if not isinstance(value, Tensor) else f"values from {tensor.min():g} to {tensor.max():g}"
        raise InputError(f"{type(module).__name__}: {name} must be {RANGES[name]}, got {shown}")
    if not learn:
        module.register_buffer(name, tensor)
        return
    if name in DECAYS and not bool(((tensor > 0) & (tensor < 1)).all()):
        raise InputError(
            f"{type(module).__name__}: a learnable {name} must start strictly between 0 and 1, got {value}; "
            "at 0 or 1 the sigmoid that keeps it legal has no gradient"
        )
    if name == "step" and not bool((tensor > 0).all()):
        raise InputError(
            f"{type(module).__name__}: a learnable step must start above 0, got {value}; the exponential that keeps it "
            "legal never reaches 0"
        )
    module.register_parameter(f"{name}_raw", nn.Parameter(_raw(name, tensor)))


def _raw(name: str, value: Tensor) -> Tensor:
    if name in _FREE:
        return value
    if name == "strength":
        return torch.atanh(value)
    return torch.logit(value) if name in DECAYS else torch.log(value)


def read_parameter(module: nn.Module, name: str) -> Tensor:
    """The value of `name`, differentiable when it is learnable."""
    # Not getattr: asking a module for what it lacks costs microseconds, at every call of every neuron.
    raw = module._parameters.get(f"{name}_raw")
    if raw is None:
        return cast(Tensor, module._buffers[name])
    if name in _FREE:
        return raw
    if name == "strength":
        return torch.tanh(raw.clamp(-_STRONGEST, _STRONGEST))
    if name == "timescales":
        return torch.exp(raw.clamp(*map(math.log, _TIMES)))
    return torch.sigmoid(raw) if name in DECAYS else torch.exp(raw)


def broadcast(module: nn.Module, name: str, value: Tensor, x: Tensor) -> Tensor:
    """Shape `value` to broadcast with a state [B, ...] of drive x [T, B, ...]; one axis means one value a channel."""
    if value.ndim == 0:
        return value
    given = tuple(value.shape)
    if value.ndim == 1 and x.ndim > 3:
        value = value.reshape(-1, *([1] * (x.ndim - 3)))
    neurons = tuple(x.shape[2:])
    fits = value.ndim == len(neurons) and all(a in (1, b) for a, b in zip(value.shape, neurons, strict=True))
    if not fits:
        raise InputError(
            f"{type(module).__name__}: {name} has the shape {given}, which does not fit the drive "
            f"{tuple(x.shape)}: give one number, one a channel (axis 2: {x.shape[2] if x.ndim > 2 else 'absent'}), or "
            f"one a neuron {neurons}"
        )
    return value


def describe(value: Tensor) -> str:
    """A short text for repr: the number, or the shape of a tensor."""
    return f"{value.item():.4g}" if value.ndim == 0 else f"tensor{list(value.shape)}"
