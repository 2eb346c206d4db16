"""The membrane potential rectifier (MPR): the neuron learns as if its membrane had been pulled towards 0 and 1.

Guo et al. 2022, ECCV, arXiv 2307.04356 (InfLoR-SNN). phi squeezes a membrane towards the two values that a spike can
have, so that less is lost when it becomes one:

    phi(u) = 1 - (1 - u)^(1/3)                              u < 0
    phi(u) = 1/2 + tanh(k·(u - 1/2)) / (2·tanh(k/2))        0 <= u <= 1
    phi(u) = u^(1/3)                                        u > 1

phi is increasing with phi(1/2) = 1/2, and what is reset is u itself. So a decision on phi(u) is the decision on u, and
the rectifier is a change of gradient and of nothing else: this file makes it a surrogate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikekit.errors import InputError
from spikekit.surrogate import SechBump, Surrogate, decode


@dataclass(frozen=True)
class MPR:
    """Membrane potential rectifier, a part of `sk.LIF(rectifier=sk.MPR())`. It changes no forward spike.

    The neuron decides on M(u) = 2θ·phi(u / 2θ), θ its threshold, which has M(θ) = θ. Without a surrogate the spike's
    gradient is that of the straight-through estimator of clamp(phi, 0, 1), as in the authors' code: the same as
    `SechBump(sharpness, 2θ)`. With one it is surrogate'(M(u) - θ)·M'(u). Where the neuron has `norm=sk.MPBN(...)`, u is
    the normalised membrane, which is what is compared. The threshold is one fixed number.

    sharpness: k > 0; 3 is the paper's.
    """

    sharpness: float = 3.0

    def __post_init__(self) -> None:
        if not _positive(self.sharpness):
            raise InputError(f"MPR: sharpness must be a positive number, got {self.sharpness!r}")

    def __call__(self, u: Tensor, threshold: float = 0.5) -> Tensor:
        """M(u), elementwise: same shape and dtype, differentiable and finite wherever u is."""
        scale = self._scale(threshold)
        z = u / scale
        # Each branch sees its own part of the line only: a cube root has no gradient at 0, and none at all below.
        low, middle, high = z.clamp(max=0), z.clamp(0, 1), z.clamp(min=1)
        inside = 0.5 + torch.tanh(self.sharpness * (middle - 0.5)) / (2 * math.tanh(self.sharpness / 2))
        rectified = torch.where(z < 0, 1 - (1 - low).pow(1 / 3), torch.where(z > 1, high.pow(1 / 3), inside))
        return rectified * scale

    def slope(self, u: Tensor, threshold: float = 0.5) -> Tensor:
        """M'(u), elementwise. At the two corners it is the slope inside."""
        z = u / self._scale(threshold)
        steepest = self.sharpness / (2 * math.tanh(self.sharpness / 2))
        # 1 - tanh² instead of 1/cosh²: cosh overflows far from the threshold.
        inside = (1 - torch.tanh(self.sharpness * (z - 0.5)).pow(2)) * steepest
        outside = torch.where(z < 0, 1 - z, z).clamp(min=1).pow(-2 / 3) / 3
        return torch.where((z < 0) | (z > 1), outside, inside)

    def surrogate(self, threshold: float, base: Surrogate | None = None) -> Surrogate:
        """What a neuron of this threshold uses in its backward pass; base: the surrogate it was given."""
        if base is None:
            return SechBump(self.sharpness, self._scale(threshold))
        return Rectified(base, self.sharpness, float(threshold))

    @staticmethod
    def _scale(threshold: float) -> float:
        if not _positive(threshold):
            raise InputError(f"MPR: the threshold must be one positive number, got {threshold!r}")
        return 2 * float(threshold)


@dataclass(frozen=True)
class Rectified(Surrogate):
    """A surrogate behind a rectifier: s' = base'(M(u) - θ)·M'(u), u = m + θ. No kernel knows it: it runs in torch."""

    base: Surrogate
    sharpness: float
    threshold: float

    def __post_init__(self) -> None:
        # The fields were checked where they came from.
        if not isinstance(self.base, Surrogate):
            raise InputError(f"Rectified: base must be one of spikekit.surrogate, got {self.base!r}")

    def encode(self) -> tuple[str, list[float]]:
        name, numbers = self.base.encode()
        return f"{self._key}|{name}", [self.sharpness, self.threshold, *numbers]

    @classmethod
    def _decode(cls, inner: str, numbers: list[float]) -> Rectified:
        sharpness, threshold, *rest = numbers
        return cls(decode(inner, rest), sharpness, threshold)

    def derivative(self, m: Tensor) -> Tensor:
        u, mpr = m + self.threshold, MPR(self.sharpness)
        return self.base.derivative(mpr(u, self.threshold) - self.threshold) * mpr.slope(u, self.threshold)

    def antiderivative(self, m: Tensor) -> Tensor:
        return self.base.antiderivative(MPR(self.sharpness)(m + self.threshold, self.threshold) - self.threshold)


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(float(value)) and value > 0
