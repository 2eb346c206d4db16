"""A running average of a network's weights, by `torch.optim.swa_utils`: what is judged where a Trainer has `ema`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from spikekit.errors import InputError

Tensors = tuple[Tensor, ...] | list[Tensor]


class Average:
    """The exponential moving average of the parameters and buffers of `net`, updated once an optimizer step.

    decay: of the average, in (0, 1). The n-th update uses min(decay, (1 + n) / (10 + n)), so that the first weights,
    which know nothing, are forgotten early (Abadi et al. 2016, TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise InputError(f"Trainer: ema must be between 0 and 1, or None, got {decay}")
        self.decay, self.updates = decay, 0
        self._model = AveragedModel(net, multi_avg_fn=self._mix, use_buffers=True)

    @property
    def net(self) -> nn.Module:
        """The network with the averaged weights."""
        return self._model.module

    def update(self, net: nn.Module) -> None:
        """Take the weights of `net` into the average."""
        self.updates += 1
        self._model.update_parameters(net)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights, and how many updates made them."""
        return {**self.net.state_dict(), "updates": torch.tensor(self.updates)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from `state_dict`."""
        weights = dict(state)
        self.updates = int(weights.pop("updates"))
        self.net.load_state_dict(weights)
        self._model.n_averaged.fill_(self.updates)

    @torch.no_grad()
    def _mix(self, averaged: Tensors, new: Tensors, _: object) -> None:
        if not averaged[0].is_floating_point():
            for mine, theirs in zip(averaged, new, strict=True):
                mine.copy_(theirs)
            return
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(averaged), list(new), weight)
