"""Threshold-dependent batch normalisation: drives come out on the scale of the threshold they are compared with.

Zheng, Wu, Deng, Hu, Li 2021, AAAI, "Going deeper with directly-trained larger spiking neural networks",
arXiv 2011.05280: y = weight·alpha·threshold·(x - mean)/sqrt(var + eps) + bias. Here the bias is multiplied
too, so that the module is alpha·threshold times `nn.BatchNorm`: the same functions, with another unit of the bias.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from spikekit.errors import InputError


class _ThresholdDependent(_BatchNorm):
    """`nn.BatchNorm` whose output is multiplied by alpha·threshold."""

    def __init__(
        self,
        num_features: int,
        threshold: float = 0.5,
        alpha: float = 1.0,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        for name, value in (("threshold", threshold), ("alpha", alpha)):
            if not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
                raise InputError(f"{type(self).__name__}: {name} must be a number greater than 0, got {value!r}")
        super().__init__(num_features, eps, momentum, affine, track_running_stats)
        self.scale = float(alpha * threshold)

    def forward(self, input: Tensor) -> Tensor:
        """X [T·B, C, ...], time folded into the batch as `sk.Sequential` does it, to the same shape and dtype."""
        self._check_input_dim(input)
        average = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                average = 1.0 / float(self.num_batches_tracked)
        known = self.running_mean is not None and self.running_var is not None
        # The factor goes into C numbers, not into T·B images.
        y = functional.batch_norm(
            input,
            self.running_mean if not self.training or self.track_running_stats else None,
            self.running_var if not self.training or self.track_running_stats else None,
            None if self.weight is None else self.weight * self.scale,
            None if self.bias is None else self.bias * self.scale,
            self.training or not known,
            average,
            self.eps,
        )
        return y if self.affine else y * self.scale

    def extra_repr(self) -> str:
        """What `nn.BatchNorm` shows, and the factor."""
        return f"{super().extra_repr()}, scale={self.scale}"


class TDBN1d(_ThresholdDependent, nn.BatchNorm1d):
    """Threshold-dependent batch normalisation of [T·B, C] or [T·B, C, L]; see `TDBN2d`."""


class TDBN2d(_ThresholdDependent, nn.BatchNorm2d):
    """Threshold-dependent batch normalisation of images [T·B, C, H, W]: alpha·threshold·BN(x).

    Inside `sk.Sequential`, which folds time into the batch, mean and variance are over time, batch and space.
    num_features: C. threshold: of the neurons behind it, > 0. alpha: > 0; 1/√2 where two branches are summed.
    eps, momentum, affine, track_running_stats: as in `nn.BatchNorm2d`, and so are the names of its state.
    `sk.export` folds it exactly. Raises InputError for a threshold or alpha that is not a positive number.
    """


def scale_of(norm: nn.Module) -> float:
    """The factor behind a batch normalisation: alpha·threshold of a TDBN, 1 of torch's own."""
    return norm.scale if isinstance(norm, _ThresholdDependent) else 1.0
