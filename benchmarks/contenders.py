"""One LIF layer in six libraries: u = 0.9·v + x, a spike over 1, soft reset, ATan(2) where the peer has it, float32.

Each peer runs in its own documented way, the fastest we know: a loop over `x.unbind(0)` where a call takes one step
(`x[t]` in the loop would make the backward pass quadratic in T), its multi-step form where it has one. `twin` is the
spikekit neuron of the same equations, against which spikes and gradients are checked before anything is timed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import spikekit as sk

# What a contender makes: a drive in its own layout to spikes; peers are untyped, so it returns Any.
Layer = Callable[[Tensor], Any]
BETA = 0.9


@dataclass(frozen=True)
class Contender:
    """A library's layer. build: makes it, and may raise ImportError. twin: our neuron with its equations.

    batch_first: it takes [B, T, N]. gain: factor on the drive that makes its membrane ours. attached: its reset is in
    the graph of the gradient, so that it is compared with our layer of that kind.
    """

    name: str
    build: Callable[[], Layer]
    twin: Callable[[], nn.Module]
    note: str
    batch_first: bool = False
    gain: float = 1.0
    attached: bool = False


class _Step(torch.autograd.Function):
    """The spike of the plain loop: a step forward, the derivative of ATan(2) backward."""

    @staticmethod
    def forward(ctx: Any, m: Tensor) -> Tensor:
        ctx.save_for_backward(m)
        return (m > 0).to(m.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (m,) = ctx.saved_tensors
        return grad / (1 + (math.pi * m).square())


def _plain() -> Layer:
    def run(x: Tensor) -> Tensor:
        v, spikes = torch.zeros_like(x[0]), []
        for drive in x.unbind(0):
            u = BETA * v + drive
            s = _Step.apply(u - 1.0)
            v = u - s.detach()
            spikes.append(s)
        return torch.stack(spikes)

    return run


def _snntorch() -> Layer:
    import snntorch
    from snntorch import surrogate

    leaky = snntorch.Leaky(beta=BETA, spike_grad=surrogate.atan(alpha=2.0))

    def run(x: Tensor) -> Tensor:
        membrane, spikes = torch.zeros_like(x[0]), []
        for drive in x.unbind(0):
            spike, membrane = leaky(drive, membrane)
            spikes.append(spike)
        return torch.stack(spikes)

    return run


def _spikingjelly() -> Layer:
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


def _norse() -> Layer:
    from norse.torch import LIFBoxCell, LIFBoxParameters
    from norse.torch.functional.reset import reset_subtract

    parameters = LIFBoxParameters(tau_mem_inv=torch.tensor(1e3 * (1 - BETA)), reset_method=reset_subtract)
    cell = LIFBoxCell(parameters, dt=1e-3)

    def run(x: Tensor) -> Tensor:
        state, spikes = None, []
        for drive in x.unbind(0):
            spike, state = cell(drive, state)
            spikes.append(spike)
        return torch.stack(spikes)

    return run


def _sinabs() -> Layer:
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


OURS = Contender(
    "spikekit",
    lambda: sk.LIF(BETA, detach_reset=True),
    lambda: sk.LIF(BETA, detach_reset=True),
    "sk.LIF(0.9, detach_reset=True)",
)
OURS_ATTACHED = Contender(
    "spikekit, reset in the graph",
    lambda: sk.LIF(BETA),
    lambda: sk.LIF(BETA),
    "sk.LIF(0.9), the default",
    attached=True,
)
PEERS = (
    Contender("plain PyTorch loop", _plain, lambda: sk.LIF(BETA, detach_reset=True), "hand-written, x.unbind(0)"),
    Contender(
        "snntorch",
        _snntorch,
        lambda: sk.LIF(BETA, reset_quantum=1 / BETA, detach_reset=True),
        "Leaky in a loop over x.unbind(0); its reset comes a step late, so it subtracts 1, not 0.9, one step on",
    ),
    Contender(
        "spikingjelly",
        _spikingjelly,
        lambda: sk.LIF(BETA, inclusive=True, detach_reset=True),
        "LIFNode, multi-step mode, decay_input=False, v_reset=None; computes v - v/10",
    ),
    Contender(
        "norse",
        _norse,
        lambda: sk.LIF(BETA, surrogate=sk.surrogate.FastSigmoid(1.0)),
        "LIFBoxCell in a loop over x.unbind(0); SuperSpike surrogate, reset in the graph, drive scaled by 10",
        gain=1 / (1 - BETA),
        attached=True,
    ),
    Contender(
        "sinabs",
        _sinabs,
        lambda: sk.LIF(BETA, inclusive=True),
        "LIF on [B, T, N], SingleSpike, tau frozen, our ATan as its surrogate, reset in the graph",
        batch_first=True,
        attached=True,
    ),
)
