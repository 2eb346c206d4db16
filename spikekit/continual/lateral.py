"""Lateral units that learn the subspace of a layer's inputs while the network runs.

Xiao, Meng, Zhang, Wang, Lin 2024, ICLR, arXiv 2402.11984. Lateral units y with weights H, used as H one way and as -Hᵀ
back:

    y = H·x        x̂ = Hᵀ·y        ΔH = η·mean[y·(x - x̂)ᵀ] = η·mean[y·xᵀ - y·yᵀ·H]

Hebbian and anti-Hebbian in one: Oja's subspace rule, whose rows end orthonormal and span the principal inputs. x̂ is of
all units; those of earlier tasks no longer learn, so that new ones learn what is left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikekit.continual.numbers import whole
from spikekit.continual.subspace import Subspace, orthonormal
from spikekit.errors import InputError
from spikekit.ops.linear import linear, weight_gradient


@dataclass(frozen=True)
class Spiking:
    """Lateral units that answer in spikes: y -> round(clip(y, ±scale)/scale·steps)/steps·scale.

    That is the count of signed spikes of a unit in `steps` steps. scale, steps: > 0; the authors' are 20 and 40.
    """

    scale: float = 20.0
    steps: int = 40

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise InputError(f"Spiking: scale must be a number greater than 0, got {self.scale!r}")
        whole("Spiking", "steps", self.steps)

    def __call__(self, y: Tensor) -> Tensor:
        step = self.scale / self.steps
        return (y.clamp(-self.scale, self.scale) / step).round() * step


@dataclass(frozen=True)
class Hebbian:
    """How lateral units learn.

    lr: η, > 0; relative: η is lr divided by the mean squared norm of the inputs of a batch, so that one number suits
    layers of any width and rate; up to 1 is stable. A direction with the part p of the power is learned in some
    1/(lr·p) changes: with few batches and many weak directions a larger lr pays, while it is stable.
    momentum: in [0, 1); the change is the mean over past ones with weights (1 - momentum)·momentumⁱ. clamp: bound of
    each entry of ΔH, > 0. iterations: changes of H a batch. spiking: `Spiking`, or None for real-valued units. All but
    lr and relative are the authors' numbers.
    """

    lr: float = 1.0
    relative: bool = True
    momentum: float = 0.9
    clamp: float = 10.0
    iterations: int = 5
    spiking: Spiking | None = None

    def __post_init__(self) -> None:
        for name in ("lr", "clamp"):
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
                raise InputError(f"Hebbian: {name} must be a number greater than 0, got {value!r}")
        if not (isinstance(self.momentum, (int, float)) and 0 <= self.momentum < 1):
            raise InputError(f"Hebbian: momentum must be in [0, 1), got {self.momentum!r}")
        whole("Hebbian", "iterations", self.iterations)


class Lateral(Subspace):
    """The lateral units of one layer: a `Subspace` whose rows that are not kept learn from what passes."""

    def __init__(self, name: str, layer: nn.Module, rule: Hebbian, generator: torch.Generator) -> None:
        super().__init__(name, layer)
        self.rule, self.generator = rule, generator
        self.velocity = torch.zeros_like(self.rows)
        # What part of the inputs' power the units explain, lately; NaN before the first batch.
        self.explained = math.nan

    def to_layer(self) -> None:
        super().to_layer()
        self.velocity = self.velocity.to(self.rows)

    def grow(self, count: int) -> None:
        """Add `count` units, orthonormal, and orthogonal to those that are there."""
        drawn = torch.randn(count, self.width, generator=self.generator, dtype=torch.float64)
        fresh = orthonormal(drawn.to(self.rows), _basis(self.rows))
        self.rows = torch.cat([self.rows, fresh])
        self.velocity = torch.cat([self.velocity, torch.zeros_like(fresh)])

    def forget(self) -> None:
        """Have no rows but those that are kept: nothing was learned by the others."""
        self.rows, self.velocity = self.old.clone(), self.velocity[:0]

    def keep(self) -> None:
        super().keep()
        self.velocity = self.velocity[:0]

    def respond(self, x: Tensor, rows: Tensor) -> Tensor:
        """What units with these rows answer to inputs x [N, n]: [N, k]."""
        y = linear(x, rows)
        return y if self.rule.spiking is None else self.rule.spiking(y)

    def residual(self, x: Tensor) -> Tensor:
        """What is left of inputs x [N, n] when the kept units have answered; spikes answer in steps."""
        if self.rule.spiking is None:
            return super().residual(x)
        return torch.addmm(x, self.respond(x, self.old), self.old, alpha=-1)

    def learn(self, x: Tensor, left: Tensor | None = None) -> None:
        """Change the rows that are not kept by inputs x [N, n]; left: their residual, where it is known.

        Raises InputError when the rows grow without bound.
        """
        rule, left = self.rule, self._left(x) if left is None else left
        fresh, power = self.rows[self.kept :], float(x.square().sum()) / len(x)
        if power == 0:
            return
        if not math.isfinite(power):
            raise InputError(
                f"HLOP: the inputs of layer {self.name!r} are not finite, or too large for {x.dtype}; look at the "
                "data, and at the learning rate of the network"
            )
        rate = rule.lr / power if rule.relative else rule.lr
        for iteration in range(rule.iterations if len(fresh) else 0):
            change, answered = _change(left, self.respond(x, fresh), fresh)
            if iteration == 0:
                self._measure(left, answered, power)
            self.velocity.lerp_(change.clamp_(-rule.clamp, rule.clamp), 1 - rule.momentum)
            fresh.add_(self.velocity, alpha=rate)
        if not len(fresh):
            self._measure(left, 0.0, power)

    def _left(self, x: Tensor) -> Tensor:
        # Of few inputs the rows themselves take less than the whole I - HᵀH.
        return self.outside(x) if self.rule.spiking is None and 3 * self.kept < self.width else self.residual(x)

    def _measure(self, left: Tensor, answered: Tensor | float, power: float) -> None:
        explained = 1 - float((left.square().sum() - answered) / len(left)) / power
        # Far below 0 the rows make more of the input than it is.
        if not explained > -1e3:
            raise InputError(
                f"HLOP: the lateral units of {self.name!r} grow without bound (they explain {explained:.3g} of their "
                f"input's power, where 1 is all). The mean squared norm of the inputs is {power:.4g}, and lr = "
                f"{self.rule.lr:g}; leave lr out, or a rate of {0.5 / power:.1g} is safe: lr={{{self.name!r}: ...}}"
            )
        past = explained if math.isnan(self.explained) else self.explained
        self.explained = past + 0.05 * (explained - past)


def _change(left: Tensor, y: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """yᵀ·(left - y·H)/N for residuals [N, n], answers [N, k] and rows H [k, n], and |left|² - |left - y·H|²."""
    count = len(y)
    if count < len(rows):
        error = torch.addmm(left, y, rows, alpha=-1)
        return y.T @ error / count, left.square().sum() - error.square().sum()
    # Without the error, which is large: spikes are summed one by one, and what is squared are the few units.
    hebbian = weight_gradient(left, y)
    change = torch.addmm(hebbian, y.T @ y, rows, beta=1 / count, alpha=-1 / count)
    # With G = yᵀ·left - yᵀ·y·H, |left - y·H|² = |left|² - <yᵀ·left, H> - <G, H>.
    return change, (hebbian + change * count).flatten() @ rows.flatten()


def _basis(rows: Tensor) -> Tensor:
    """Orthonormal rows with the span of `rows`, which learning left a little off."""
    return torch.linalg.qr(rows.double().T).Q.T
