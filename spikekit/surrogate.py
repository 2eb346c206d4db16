"""Surrogate gradients: what replaces the derivative of the spike decision in the backward pass.

A spike is s = H(m) with m = u - threshold, whose true derivative is zero almost everywhere. A surrogate keeps
the forward step and puts `derivative(m)` in its place (Neftci, Mostafa and Zenke 2019, IEEE SPM 36(6)).
Each class states one curve twice, as `derivative` and as its `antiderivative`, the smooth step it belongs to;
the tests hold one against the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor

from spikekit.errors import InputError


@dataclass(frozen=True)
class Surrogate:
    """Base of all surrogates: a frozen dataclass of positive floats. Subclass it to bring your own curve."""

    # Kernels receive a surrogate as (class name, numbers): the only forms that an operator schema can carry.
    _classes: ClassVar[dict[str, type[Surrogate]]] = {}
    _key: ClassVar[str]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        name = f"{cls.__module__}.{cls.__qualname__}"
        # A class that is defined again, as notebooks do, gets a key of its own: older objects keep their curve.
        cls._key = f"{name}#{len(cls._classes)}" if name in cls._classes else name
        cls._classes[cls._key] = cls

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
                raise InputError(
                    f"surrogate.{type(self).__name__}: {field.name} must be a positive number, got {value!r}"
                )

    def encode(self) -> tuple[str, list[float]]:
        """Name and numbers of this surrogate, the inverse of `decode`."""
        # Not astuple, which copies deeply: every call of every neuron comes here.
        return self._key, [float(getattr(self, field.name)) for field in fields(self)]

    @classmethod
    def _decode(cls, inner: str, numbers: list[float]) -> Surrogate:
        """The surrogate of these numbers; inner: the name of another that it is made of, or ""."""
        return cls(*numbers)

    def derivative(self, m: Tensor) -> Tensor:
        """ds/dm at `m` = membrane - threshold, elementwise: a new tensor of the same shape and dtype."""
        raise NotImplementedError(f"{type(self).__name__} must define derivative(m)")

    def antiderivative(self, m: Tensor) -> Tensor:
        """The smooth step whose slope is `derivative`, elementwise; same shape and dtype."""
        raise NotImplementedError(f"{type(self).__name__} must define antiderivative(m)")


def decode(name: str, numbers: list[float]) -> Surrogate:
    """The surrogate that `encode` described."""
    outer, _, inner = name.partition("|")
    return Surrogate._classes[outer]._decode(inner, numbers)


@dataclass(frozen=True)
class ATan(Surrogate):
    """Arctangent: s' = (α/2) / (1 + (πα·m/2)²), s = ½ + atan(πα·m/2)/π. Fang et al. 2021, ICCV."""

    alpha: float = 2.0

    def derivative(self, m: Tensor) -> Tensor:
        return (m * (math.pi / 2 * self.alpha)).pow_(2).add_(1).reciprocal_().mul_(self.alpha / 2)

    def antiderivative(self, m: Tensor) -> Tensor:
        return torch.atan(math.pi / 2 * self.alpha * m) / math.pi + 0.5


@dataclass(frozen=True)
class Sigmoid(Surrogate):
    """Logistic: s = σ(α·m), s' = α·σ·(1 - σ)."""

    alpha: float = 4.0

    def derivative(self, m: Tensor) -> Tensor:
        step = torch.sigmoid(self.alpha * m)
        return self.alpha * step * (1 - step)

    def antiderivative(self, m: Tensor) -> Tensor:
        return torch.sigmoid(self.alpha * m)


@dataclass(frozen=True)
class FastSigmoid(Surrogate):
    """Fast sigmoid: s = m / (1 + k|m|), s' = 1 / (1 + k|m|)². Zenke and Ganguli 2018 (SuperSpike)."""

    slope: float = 25.0

    def derivative(self, m: Tensor) -> Tensor:
        return (m.abs() * self.slope).add_(1).pow_(-2)

    def antiderivative(self, m: Tensor) -> Tensor:
        return m / (1 + self.slope * m.abs())


@dataclass(frozen=True)
class Triangle(Surrogate):
    """Triangle of area 1: s' = max(0, 1 - |m|/w)/w. Esser et al. 2016, Bellec et al. 2018."""

    width: float = 1.0

    def derivative(self, m: Tensor) -> Tensor:
        return (1 - m.abs() / self.width).clamp(min=0).div_(self.width)

    def antiderivative(self, m: Tensor) -> Tensor:
        z = (m / self.width).clamp(-1, 1)
        return 0.5 + z - z * z.abs() / 2


@dataclass(frozen=True)
class Rectangle(Surrogate):
    """Rectangle of area 1: s' = 1/w where |m| < w/2, else 0. Wu et al. 2018 (STBP); EMS-YOLO uses w = 1."""

    width: float = 1.0

    def derivative(self, m: Tensor) -> Tensor:
        return (m.abs() < self.width / 2).to(m.dtype) / self.width

    def antiderivative(self, m: Tensor) -> Tensor:
        return (m / self.width + 0.5).clamp(0, 1)


@dataclass(frozen=True)
class StraightThrough(Surrogate):
    """Straight-through estimator: s' = 1 everywhere, s = m. Bengio et al. 2013."""

    def derivative(self, m: Tensor) -> Tensor:
        return torch.ones_like(m)

    def antiderivative(self, m: Tensor) -> Tensor:
        # A copy, so that a caller's in-place change of the result never reaches its input.
        return m.clone()


@dataclass(frozen=True)
class SechBump(Surrogate):
    """The sech² bump cut at ±w/2, of area 1: s' = k·sech²(k·m/w) / (2w·tanh(k/2)).

    With k = 3 and w = 1 it is the gradient of the membrane potential rectifier around threshold ½:
    1.5·sech²(3(u - ½))/tanh(1.5) on (0, 1). Guo et al. 2022, ECCV (InfLoR-SNN).
    """

    sharpness: float = 3.0
    width: float = 1.0

    def derivative(self, m: Tensor) -> Tensor:
        k, w = self.sharpness, self.width
        height = k / (2 * w * math.tanh(k / 2))
        inside = (m.abs() < w / 2).to(m.dtype)
        # 1 - tanh² instead of 1/cosh²: cosh overflows far from the threshold.
        return (1 - torch.tanh(k / w * m).pow_(2)) * height * inside

    def antiderivative(self, m: Tensor) -> Tensor:
        z = (m / self.width).clamp(-0.5, 0.5)
        return 0.5 + torch.tanh(self.sharpness * z) / (2 * math.tanh(self.sharpness / 2))


@dataclass(frozen=True)
class Exponential(Surrogate):
    """Two-sided exponential of area 1: s' = (α/2)·exp(-α|m|). Shrestha and Orchard 2018 (SLAYER)."""

    alpha: float = 2.0

    def derivative(self, m: Tensor) -> Tensor:
        return (m.abs() * -self.alpha).exp_().mul_(self.alpha / 2)

    def antiderivative(self, m: Tensor) -> Tensor:
        tail = torch.exp(-self.alpha * m.abs()) / 2
        return torch.where(m < 0, tail, 1 - tail)
