"""What all rules share: how they are called, what they give, and the refusal of what no rule can use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikekit.errors import InputError
from spikekit.learning.synapse import Listener
from spikekit.rematerialise import CheckpointTime

Loss = Callable[[Tensor], Tensor]
"""Output [T', B, ...] -> a scalar; T' is the number of steps that the rule gives at a time."""


@dataclass(frozen=True)
class Result:
    """What a pass of a rule gave: its loss, a scalar, and the output of the network; both detached."""

    loss: Tensor
    output: Tensor


class Rule:
    """Base of the rules: `rule(net, x, loss)` adds to the gradients of `net`, and changes nothing else of it.

    net: any spiking network of spikekit, [T, B, ...] to [T, B, ...]. x: [T, B, ...]. loss: see `Loss`. listen: told of
    presynaptic signals; update: called when a step of the optimiser is due; the contract is in `spikekit.learning`.
    Raises InputError for what no gradient can be had of: an input without the axes [T, B, ...] or with NaN in it, a
    loss that is not a finite scalar or does not depend on what it was given, and networks that the rule does not know.
    """

    def __call__(
        self,
        net: nn.Module,
        x: Tensor,
        loss: Loss,
        *,
        listen: Listener | None = None,
        update: Callable[[], object] | None = None,
    ) -> Result:
        """Run `net` on x and leave the gradients of `loss` in its parameters."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__")

    def _check(self, net: nn.Module, x: Tensor) -> None:
        who = type(self).__name__
        if not isinstance(net, nn.Module):
            raise InputError(f"{who}: net must be an nn.Module, got {type(net).__name__}")
        if not torch.is_grad_enabled():
            raise InputError(f"{who}: gradients are switched off; call it outside torch.no_grad()")
        if not isinstance(x, Tensor):
            raise InputError(f"{who}: the input must be a tensor, got {type(x).__name__}; use torch.as_tensor(x)")
        if x.ndim < 3 or x.shape[0] == 0 or x.shape[1] == 0:
            raise InputError(
                f"{who}: the input must have the axes [T, B, ...], each of one entry at least, got {tuple(x.shape)}"
            )

    def _check_output(self, output: object, x: Tensor) -> Tensor:
        if not isinstance(output, Tensor) or output.shape[:2] != x.shape[:2]:
            found = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise InputError(
                f"{type(self).__name__}: the network must return [T, B, ...] = {list(x.shape[:2])} and more axes, got "
                f"{found}; leave means over time to the loss"
            )
        return output

    def _loss(self, loss: Loss, output: Tensor, where: str = "") -> Tensor:
        """The loss of an output, which can be differentiated."""
        who = type(self).__name__
        if not callable(loss):
            raise InputError(f"{who}: the loss{where} must be a function of the output, got {type(loss).__name__}")
        value = loss(output)
        if not isinstance(value, Tensor) or value.numel() != 1:
            found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise InputError(f"{who}: the loss{where} must be a scalar tensor, got {found}; use .mean() or .sum()")
        if not value.requires_grad:
            raise InputError(
                f"{who}: the loss{where} has no gradient. It must be computed from the output that it is given, and "
                "a parameter of the network must be trainable"
            )
        if not bool(torch.isfinite(value)):
            raise InputError(
                f"{who}: the loss{where} is {value.item()}. Look at the input, the weights of the last layer, and the "
                "learning rate"
            )
        return value.reshape(())


def check_plain(net: nn.Module, who: str) -> None:
    """Refuse wrappers around forward passes that a rule must see itself."""
    for name, module in net.named_modules():
        if isinstance(module, CheckpointTime):
            raise InputError(
                f"{who}: {name or 'the network'!r} is a checkpoint_time, which computes steps again; the rule keeps "
                "less without it: give the network inside, .module"
            )
