"""Membrane potential batch normalisation: the neuron decides on a normalised membrane.

Guo et al. 2023, ICCV, arXiv 2308.08359. The equations are in `spikekit.ops.mpbn.reference`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import prod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikekit import state as sessions
from spikekit.errors import InputError
from spikekit.ops.lif.reference import LIFRule, state_dtype
from spikekit.ops.mpbn import moments, mpbn, normalise
from spikekit.ops.mpbn.sync import processes


class MPBN(nn.Module):
    """Membrane potential batch normalisation, a part of `sk.LIF(..., norm=sk.MPBN(128))`.

    A spike where BN(u[t]) > threshold; the reset acts on u itself, and BN(u) is not kept. In train mode step t is
    normalised by its own mean and biased variance, and the running statistics move once a step, in order, as those of
    `nn.BatchNorm1d` called once a step; in eval mode the running statistics normalise. Sums are taken in float64.

    shape: C, one mean and variance a channel (axis 2 of the drive), over batch and space; or the shape of one sample's
    neurons, such as (64, 8, 8), one a neuron, over the batch. eps: > 0. momentum: of the running statistics, in [0, 1].
    affine: learn weight and bias, both of `shape`. positive: weight = softplus(weight_raw), which keeps it above zero.
    The state has the names of `nn.BatchNorm1d`: weight, bias, running_mean, running_var, num_batches_tracked.

    sync: in train mode take the statistics of a step over the batches of all processes, as `nn.SyncBatchNorm` does.
    Each sample counts once, however unevenly they are shared out; the steps stay apart. With False, and without a
    process group of torch.distributed, each process takes those of its own part. It costs a collective a step and
    direction, in plain torch: all processes must run the layer equally often, on as many steps. An attribute: it may be
    set later.

    `sk.record` offers "<layer>.norm.decision", BN(u) [T, B, ...]. Raises InputError for arguments outside these ranges,
    for a drive that does not fit `shape`, and in train mode where a mean would be over one value.
    """

    records: ClassVar[tuple[str, ...]] = ("decision",)

    num_batches_tracked: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        shape: int | Sequence[int],
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        positive: bool = False,
        sync: bool = False,
    ) -> None:
        super().__init__()
        sizes = (shape,) if isinstance(shape, int) else shape
        if isinstance(sizes, str) or not isinstance(sizes, Sequence) or not sizes or not all(map(_count, sizes)):
            raise InputError(f"MPBN: give a number of channels or the shape of the neurons, ints > 0, got {shape!r}")
        if not (_number(eps) and eps > 0):
            raise InputError(f"MPBN: eps must be a number greater than 0, got {eps!r}")
        if not (_number(momentum) and 0 <= momentum <= 1):
            raise InputError(f"MPBN: momentum must be a number between 0 and 1, got {momentum!r}")
        if positive and not affine:
            raise InputError("MPBN: positive=True is about the weight, which affine=False leaves out")
        self.shape = tuple(sizes)
        self.eps, self.momentum, self.affine, self.positive = float(eps), float(momentum), affine, positive
        self.sync = sync
        if positive:
            # softplus of it is 1.
            self.weight_raw = nn.Parameter(torch.full(self.shape, math.log(math.e - 1)))
        else:
            self.register_parameter("weight", nn.Parameter(torch.ones(self.shape)) if affine else None)
        self.register_parameter("bias", nn.Parameter(torch.zeros(self.shape)) if affine else None)
        self.register_buffer("running_mean", torch.zeros(self.shape))
        self.register_buffer("running_var", torch.ones(self.shape))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def __getattr__(self, name: str) -> Any:
        # Reading norm.weight gives its value either way.
        if name == "weight" and "weight_raw" in self.__dict__.get("_parameters", {}):
            return functional.softplus(self.weight_raw)
        return super().__getattr__(name)

    def lif(
        self,
        x: Tensor,
        v0: Tensor | None,
        beta: Tensor,
        threshold: Tensor,
        quantum: Tensor,
        rule: LIFRule,
        *,
        keep_membranes: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`spikekit.ops.lif.lif` with the decision on a normalised membrane; updates the statistics in train mode."""
        sync = self.training and self.sync and processes() > 1
        self._check_drive(x, sync)
        session = sessions.active()
        slot = None if session is None else session.slot(self)
        traced = session is not None and "decision" in session.wants(self)
        dtype = state_dtype(x.dtype)
        weight, bias = self._affine(dtype)
        # Copies: a later step in train mode moves the running ones, and a backward pass may still need these.
        mean, var = self.running_mean.to(dtype, copy=True), self.running_var.to(dtype, copy=True)
        found = mpbn(
            x,
            v0,
            beta,
            threshold,
            quantum,
            weight,
            bias,
            mean,
            var,
            self.training,
            self.momentum,
            self.eps,
            rule,
            keep_membranes=keep_membranes or traced,
            sync=sync,
        )
        if traced and session is not None and slot is not None:
            decisions = []
            for u in found.membranes:
                statistics = moments(u, weight, sync) if self.training else (mean, var)
                decisions.append(normalise(u, weight, bias, *statistics, self.eps))
            session.put(slot, "decision", torch.stack(decisions))
        if self.training:
            with torch.no_grad():
                self.running_mean.copy_(found.mean)
                self.running_var.copy_(found.var)
                self.num_batches_tracked.add_(len(x))
        return found.spikes, found.membranes, found.v

    def forward(self, x: Tensor) -> Tensor:
        """Not a layer: raises InputError."""
        raise InputError(f"{self} is a part of a neuron, not a layer: use sk.LIF(..., norm=sk.MPBN(...))")

    def _affine(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        if not self.affine:
            return torch.ones_like(self.running_mean, dtype=dtype), torch.zeros_like(self.running_mean, dtype=dtype)
        return self.weight.to(dtype), self.bias.to(dtype)

    def _check_drive(self, x: Tensor, sync: bool) -> None:
        channels = len(self.shape) == 1
        neurons = tuple(x.shape[2:])
        fits = neurons[:1] == self.shape if channels else neurons == self.shape
        if not fits:
            wanted = f"{self.shape[0]} channels (axis 2)" if channels else f"the neurons {self.shape} (axes 2 and on)"
            raise InputError(f"{self}: it normalises {wanted}, the drive [T, B, ...] has the shape {tuple(x.shape)}")
        if self.training and not sync and x[0].numel() == prod(self.shape):
            raise InputError(
                f"{self}: in train mode statistics need more than one value each, and the drive {tuple(x.shape)} has "
                "B = 1 (axis 1) and no space to go with it. Use a larger batch, or .eval()"
            )

    def extra_repr(self) -> str:
        """The shape, and the settings that differ from the defaults."""
        shown = [str(self.shape[0] if len(self.shape) == 1 else self.shape)]
        defaults = {"eps": 1e-5, "momentum": 0.1, "affine": True, "positive": False, "sync": False}
        shown += [f"{name}={getattr(self, name)}" for name, value in defaults.items() if getattr(self, name) != value]
        return ", ".join(shown)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
