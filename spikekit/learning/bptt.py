"""Backpropagation through time: the gradient of the whole sequence, as autograd and the surrogates give it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from spikekit.errors import InputError
from spikekit.learning.rule import Loss, Result, Rule
from spikekit.learning.synapse import Listener, Pass, passing


@dataclass(frozen=True)
class BPTT(Rule):
    """Backpropagation through time; arguments and errors of a call as in `Rule`.

    What `loss(net(x)).backward()` does, with the signals told. Memory grows with T; `sk.checkpoint_time` goes with it.
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
        self._check(net, x)
        if listen is None:
            output = net(x)
        else:
            with passing(net, Pass(listen), "BPTT"):
                output = net(x)
        output = self._check_output(output, x)
        value = self._loss(loss, output)
        value.backward()
        if update is not None:
            update()
        return Result(value.detach(), output.detach())


@contextmanager
def presynaptic(net: nn.Module, listen: Listener) -> Iterator[None]:
    """Report the inputs of all weight layers of `net` while it is run, with or without gradients.

    listen(name, layer, signal) as in `spikekit.learning`, signal [T·B, ...]. With gradients on, layers whose weight
    does not learn are left out. Raises InputError for layers with a forward of their own.
    """
    if not isinstance(net, nn.Module) or not callable(listen):
        raise InputError(
            f"presynaptic: give a network and a function, got {type(net).__name__} and {type(listen).__name__}"
        )
    with passing(net, Pass(listen), "presynaptic"):
        yield
