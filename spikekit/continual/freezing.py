"""What may still change of a network from its second task on: weight matrices, and nothing that has no subspace.

A bias, a threshold, a decay or a normalisation acts on inputs of every task alike: a step that changes one of them
changes what the network answers to old inputs, whatever the weights do.
"""

from __future__ import annotations

from collections.abc import Collection

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from spikekit.errors import InputError
from spikekit.norm import MPBN


def normalisations(net: nn.Module) -> dict[str, nn.Module]:
    """Path -> module of what keeps statistics of its inputs."""
    return {name: module for name, module in net.named_modules() if isinstance(module, (_NormBase, MPBN))}


def freeze(net: nn.Module, learning: Collection[str]) -> list[str]:
    """Stop gradients of all parameters but `learning`, put normalisation in eval mode; names of what was stopped."""
    stopped = []
    for name, parameter in net.named_parameters():
        if name not in learning and parameter.requires_grad:
            parameter.requires_grad_(False)
            stopped.append(name)
    hold(net)
    return stopped


def hold(net: nn.Module) -> None:
    """Normalise by the statistics at hand, and leave them alone."""
    for module in normalisations(net).values():
        module.eval()


def check_held(net: nn.Module, who: str) -> None:
    """Refuse a network whose normalisation would follow the new task."""
    moving = [name for name, module in normalisations(net).items() if module.training]
    if moving:
        raise InputError(
            f"{who}: {moving} normalise by the batch and follow it, in train mode; from the second task on that "
            "changes what the network answers to old inputs, whatever is projected: by 129 % in a test, by 1e-15 in "
            "eval mode. net.train() undid that: call method.train() instead, or .eval() on these modules"
        )
