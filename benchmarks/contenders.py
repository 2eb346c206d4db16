"""The LIF neuron in six libraries: u = 0.9·v + x, a spike over 1, soft reset, ATan(2) where the peer has it, float32.

Each peer runs in its own documented way, the fastest we know: one call a step where a call takes one step, its
multi-step form where it has one. `twin` is the spikekit neuron of the same equations, against which spikes and
gradients are checked before anything is timed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import spikekit as sk

BETA = 0.9

# Peers are untyped, so what they return is Any.
Layer = Callable[[Tensor], Any]
Step = Callable[[Tensor, Any], tuple[Any, Any]]


@dataclass(frozen=True)
class Contender:
    """A library's neuron. Exactly one of step and sequence is given; with neither, the contender is its own twin.

    twin: our neuron with its equations. step: makes a function (drive [B, ...], state or None) -> (spikes, state).
    sequence: makes a function on whole sequences. Both may raise ImportError. batch_first: it takes [B, T, ...].
    gain: factor on the drive that makes its membrane ours. attached: its reset is in the graph of the gradient, so
    that it is compared with our neuron of that kind. pieces: for inference alone, so many steps at a time.
    """

    name: str
    twin: Callable[[], sk.LIF]
    note: str
    step: Callable[[], Step] | None = None
    sequence: Callable[[], Layer] | None = None
    batch_first: bool = False
    gain: float = 1.0
    attached: bool = False
    pieces: int | None = None

    @property
    def against(self) -> str:
        """The name of the spikekit contender that it is compared with."""
        return (OURS_ATTACHED if self.attached else OURS).name

    def layer(self) -> Layer:
        """One layer of this neuron, drive to spikes in its own layout. Raises ImportError."""
        if self.step is not None:
            return unroll(self.step())
        return self.sequence() if self.sequence is not None else self.twin()


def unroll(step: Step) -> Layer:
    """A step as a layer; `x[t]` instead of unbind would make the backward pass quadratic in T."""

    def run(x: Tensor) -> Tensor:
        state, spikes = None, []
        for drive in x.unbind(0):
            spike, state = step(drive, state)
            spikes.append(spike)
        return torch.stack(spikes)

    return run


@contextmanager
def _deprecated_jit() -> Iterator[None]:
    """Importing norse and snntorch runs torch.jit.script, which torch deprecates; nothing else is silenced."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script", DeprecationWarning)
        yield


class _Fire(torch.autograd.Function):
    """The spike of the plain loop: a step forward, the derivative of ATan(2) backward."""

    @staticmethod
    def forward(ctx: Any, m: Tensor) -> Tensor:
        ctx.save_for_backward(m)
        return (m > 0).to(m.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (m,) = ctx.saved_tensors
        return grad / (1 + (math.pi * m).square())


def _plain() -> Step:
    def step(drive: Tensor, v: Any) -> tuple[Tensor, Tensor]:
        u = BETA * (torch.zeros_like(drive) if v is None else v) + drive
        s = _Fire.apply(u - 1.0)
        return s, u - s.detach()

    return step


def _snntorch() -> Step:
    with _deprecated_jit():
        import snntorch
        from snntorch import surrogate

    leaky = snntorch.Leaky(beta=BETA, spike_grad=surrogate.atan(alpha=2.0))
    return lambda drive, membrane: leaky(drive, torch.zeros_like(drive) if membrane is None else membrane)


def _spikingjelly() -> Layer:
    with _deprecated_jit():
        from spikingjelly.activation_based import functional, neuron, surrogate

    node = neuron.LIFNode(
        tau=1 / (1 - BETA),
        decay_input=False,
        v_reset=None,
        surrogate_function=surrogate.ATan(2.0),
        detach_reset=True,
        step_mode="m",
    )

    def run(x: Tensor) -> Any:
        functional.reset_net(node)
        return node(x)

    return run


def _norse() -> Step:
    with _deprecated_jit():
        from norse.torch import LIFBoxCell, LIFBoxParameters
        from norse.torch.functional.reset import reset_subtract

    parameters = LIFBoxParameters(tau_mem_inv=torch.tensor(1e3 * (1 - BETA)), reset_method=reset_subtract)
    cell: Step = LIFBoxCell(parameters, dt=1e-3)
    return cell


def _sinabs() -> Layer:
    with _deprecated_jit():
        from sinabs.activation import MembraneSubtract, SingleSpike
        from sinabs.layers import LIF

    atan = sk.surrogate.ATan(2.0)
    layer = LIF(
        tau_mem=-1 / math.log(BETA),
        spike_fn=SingleSpike,
        reset_fn=MembraneSubtract(),
        surrogate_grad_fn=lambda v, threshold: atan.derivative(v - threshold),
        norm_input=False,
        train_alphas=True,
    )
    layer.alpha_mem.requires_grad_(False).fill_(BETA)

    def run(x: Tensor) -> Any:
        layer.reset_states()
        return layer(x)

    return run


def _detached() -> sk.LIF:
    return sk.LIF(BETA, detach_reset=True)


OURS = Contender("spikekit", _detached, "sk.LIF(0.9, detach_reset=True)")
OURS_ATTACHED = Contender(
    "spikekit, reset in the graph", lambda: sk.LIF(BETA), "sk.LIF(0.9), the default", attached=True
)
OURS_PIECES = Contender("spikekit, 8 steps at a time", _detached, "sk.run, inference alone", pieces=8)
PLAIN = Contender("plain PyTorch loop", _detached, "hand-written, x.unbind(0)", step=_plain)
PLAIN_LAYERS = Contender(
    "plain PyTorch, layer by layer",
    _detached,
    "the same, the weights of a layer applied to all steps at once",
    sequence=lambda: unroll(_plain()),
)
SNNTORCH = Contender(
    "snntorch",
    lambda: sk.LIF(BETA, reset_quantum=1 / BETA, detach_reset=True),
    "Leaky, one call a step; its reset comes a step late, so it subtracts 1, not 0.9, one step on",
    step=_snntorch,
)
SPIKINGJELLY = Contender(
    "spikingjelly",
    lambda: sk.LIF(BETA, inclusive=True, detach_reset=True),
    "LIFNode, multi-step mode, decay_input=False, v_reset=None; computes v - v/10",
    sequence=_spikingjelly,
)
NORSE = Contender(
    "norse",
    lambda: sk.LIF(BETA, surrogate=sk.surrogate.FastSigmoid(1.0)),
    "LIFBoxCell, one call a step; SuperSpike surrogate, reset in the graph, drive scaled by 10",
    step=_norse,
    gain=1 / (1 - BETA),
    attached=True,
)
SINABS = Contender(
    "sinabs",
    lambda: sk.LIF(BETA, inclusive=True),
    "LIF on [B, T, ...], SingleSpike, tau frozen, our ATan as its surrogate, reset in the graph",
    sequence=_sinabs,
    batch_first=True,
    attached=True,
)

LAYERS = (OURS, OURS_ATTACHED, PLAIN, SNNTORCH, SPIKINGJELLY, NORSE, SINABS)
NETWORKS = (OURS, OURS_ATTACHED, OURS_PIECES, PLAIN, PLAIN_LAYERS, SNNTORCH, SPIKINGJELLY, NORSE, SINABS)
