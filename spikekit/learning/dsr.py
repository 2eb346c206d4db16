"""Differentiation on spike representation: gradients of the map between firing rates, in place of those of spikes.

Meng, Xiao, Yan, Wang, Lin, Luo 2022, CVPR, arXiv 2205.00459. Spikes s[1..T] are represented by their weighted rate

    s̄ = Σ_t w[t]·s[t],    w[t] = β^(T-t) / Σ_k β^(T-k)

Soft reset conserves charge: with drive x and quantum q, q·s̄ = x̄ - v[T] / Σ_k β^(T-k), so that s̄ is close to
clamp(x̄ / q, 0, 1), the closer the larger T is and the nearer β is to 1. Linear layers map x̄ = W·s̄ + b exactly. The
gradient is that of these maps, at the rates of the true spikes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spikekit.errors import InputError
from spikekit.layers import Operation
from spikekit.learning.decays import neurons, one_number
from spikekit.learning.rule import Loss, Result, Rule, check_plain
from spikekit.learning.synapse import Credit, Listener, Pass, Synapse, passing
from spikekit.neurons import LI, LIF, Neuron
from spikekit.neurons.parameters import broadcast
from spikekit.ops.lif import state_dtype


@dataclass(frozen=True)
class DSR(Rule):
    """Differentiation on spike representation; arguments and errors of a call as in `Rule`.

    loss: called once, with the weighted rate of the network's output, [1, B, ...]. The forward pass, its spikes and its
    statistics are those of the network. Gradients of weight layers and neurons are computed on rates, once and not T
    times, as the equations say; a learned threshold learns where it is the quantum. Other layers (batch normalisation,
    pooling, dropout) keep their own gradient step by step, added up. The authors' code differs in one thing: backward,
    its hidden layers weigh all steps alike, not by w.

    The network: LIF and IF with soft reset, all of one beta, close to 1 (HLOP: T = 20, beta = exp(-0.05)). With a
    threshold of half the quantum (threshold=0.5, reset_quantum=1; the authors' LIF has 0.3) rates are rounded to the
    nearest instead of down. LI of any beta; its map is its gain for a constant drive. Refused: other neurons and
    resets, MPBN, a learned beta, layers that are not given the whole sequence at once, `sk.checkpoint_time`, compiled
    networks.
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
        check_plain(net, "DSR")
        found = neurons(net, "DSR")
        rates = Rates(x, _common_beta(found), listen)
        with passing(net, rates, "DSR"), rates.represented(found):
            output = self._check_output(net(x), x)
        value = self._loss(loss, rates.rate(output).unsqueeze(0))
        value.backward()
        if update is not None:
            update()
        return Result(value.detach(), output.detach())


class Rates(Pass):
    """One pass in which layers and neurons give what they always give, with the gradients of their rates."""

    def __init__(self, x: Tensor, beta: float, listen: Listener | None) -> None:
        super().__init__(listen)
        self.shape = x.shape[:2]
        powers = beta ** torch.arange(len(x) - 1, -1, -1, dtype=torch.float64)
        self.weights = powers / powers.sum()

    def rate(self, x: Tensor) -> Tensor:
        """The weighted rate [B, ...] of x [T, B, ...]."""
        dtype = state_dtype(x.dtype)
        weights = self.weights.to(x.device, dtype)
        return torch.tensordot(weights, x.to(dtype), 1).to(x.dtype)

    def transmit(self, synapse: Synapse, operation: Operation, x: Tensor) -> Tensor:
        """The layer's output for x [T·B, ...] or [T, B, ...], with the gradient of its rate."""
        steps, batch = self.shape
        if x.shape[0] != steps * batch and x.shape[:2] != self.shape:
            raise InputError(
                f"DSR: layer {self.names[id(synapse.layer)]!r} was given {list(x.shape)}, not all "
                f"T·B = {steps}·{batch} samples at once; a loop over time has no weighted rates: use OTTT or BPTT"
            )
        if not torch.is_grad_enabled():
            return operation(x, synapse.layer.weight, synapse.layer.bias)
        rate = self.rate(x.unflatten(0, self.shape) if x.shape[0] == steps * batch else x)
        rows = self.report(synapse, rate)
        credit = None if rows is None else Credit(rate.detach(), 1.0, None, rows)
        # With gradients on, as without the rule: kernels are chosen by that, and kernels differ in their rounding.
        y = operation(x.detach().requires_grad_(x.requires_grad), synapse.layer.weight, synapse.layer.bias).detach()
        return Attach.apply(y, synapse.transmit(operation, rate, credit), steps)  # type: ignore[no-any-return]

    @contextmanager
    def represented(self, found: dict[str, Neuron]) -> Iterator[None]:
        """Have these neurons pass gradients by their rates."""
        try:
            for name, neuron in found.items():
                neuron.integrate = Represented(self, name, neuron)  # type: ignore[method-assign]
            yield
        finally:
            for neuron in found.values():
                del neuron.integrate


class Represented:
    """Stands as `integrate` in a neuron for one pass."""

    def __init__(self, rates: Rates, name: str, neuron: Neuron) -> None:
        self.rates, self.name, self.neuron = rates, name, neuron

    def __call__(
        self, x: Tensor, state: dict[str, Tensor] | None, keep: Collection[str]
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        if x.shape[:2] != self.rates.shape or state is not None:
            raise InputError(
                f"DSR: {self.name!r} was given {list(x.shape)}, not all of [T, B] = {list(self.rates.shape)} at once; "
                "a loop over time has no weighted rates: use OTTT or BPTT"
            )
        with torch.no_grad():
            y, new, traces = type(self.neuron).integrate(self.neuron, x, state, keep)
        rate = self.rates.rate(x)
        return Attach.apply(y, self._map(rate, x).to(y.dtype), len(x)), new, traces

    def _map(self, rate: Tensor, x: Tensor) -> Tensor:
        neuron = self.neuron
        if not isinstance(neuron, LIF):
            return rate * self._gain(one_number(self.name, neuron, "beta", "DSR"))
        quantum = neuron.threshold if neuron.reset_quantum is None else neuron.reset_quantum
        level = rate / broadcast(neuron, "threshold", quantum, x).to(rate.dtype)
        # Where it is clamped, and at the edges, nothing passes.
        return torch.where((level > 0) & (level < 1), level, level.detach().clamp(0, 1))

    def _gain(self, beta: float) -> float:
        """The weighted rate of a leaky integrator's output for a constant drive of 1."""
        total, v = 0.0, 0.0
        for weight in self.rates.weights.tolist():
            v = beta * v + 1
            total += weight * v
        return total


class Attach(torch.autograd.Function):
    """A sequence [T·B, ...] or [T, B, ...] whose gradient, summed over time, is that of its representation [B, ...]."""

    @staticmethod
    def forward(ctx: Any, sequence: Tensor, representation: Tensor, steps: int) -> Tensor:
        ctx.shape = (steps, *representation.shape)
        return sequence.view_as(sequence)

    @staticmethod
    def backward(ctx: Any, error: Tensor) -> tuple[None, Tensor, None]:
        return None, error.reshape(ctx.shape).sum(0), None


def _common_beta(found: dict[str, Neuron]) -> float:
    betas = {}
    for name, neuron in found.items():
        shown = f"{name or 'the network'!r}"
        if isinstance(neuron, LI):
            continue
        if not isinstance(neuron, LIF) or neuron.reset != "soft" or neuron.norm is not None:
            raise InputError(
                f"DSR: {shown} is {neuron}; rates are known of LIF and IF with reset='soft' and without a norm, "
                "and of LI"
            )
        betas[name] = one_number(name, neuron, "beta", "DSR")
    if len(set(betas.values())) != 1:
        raise InputError(f"DSR: all LIF must have one beta, which weighs the steps; found {betas or 'no LIF'}")
    for name, neuron in found.items():
        if "beta_raw" in neuron._parameters:
            raise InputError(
                f"DSR: {name!r} learns its beta, which weighs the steps here; build it without learn='beta'"
            )
    return next(iter(betas.values()))
