"""A live norse network as one of ours (norse 1.1.0): one Euler step of dt, decay = 1 - dt·tau_inv."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spikekit.errors import ExportError
from spikekit.interop.assemble import Chain
from spikekit.interop.peers import copied, flatten, peer, unhooked
from spikekit.sequential import Sequential
from spikekit.surrogate import Surrogate

_CELLS = ("LIFCell", "LIFBoxCell", "LICell", "LIBoxCell", "IAFCell")
_OVER_TIME = {"LIF": "LIFCell", "LI": "LICell", "IAF": "IAFCell"}


def from_norse(net: nn.Module | Sequence[nn.Module], *, surrogate: Surrogate | None = None) -> Sequential:
    """The same network of ours, with the same spikes: an `sk.Sequential` on [T, B, ...].

    net: a `SequentialState` or `nn.Sequential`, or the layers in the order of the forward pass: torch's layers, `Lift`,
    and `LIF`, `LI`, `IAF` and their cells, `LIFBoxCell`, `LIBoxCell`. Weights are copied, those in front of a neuron
    times dt·tau_mem_inv, by which norse scales its drive. surrogate: for training on.
    Raises ExportError with the layer and the reason where the equations differ, InputError without norse.
    """
    norse = peer("norse.torch")
    layers: list[Any] = _layers(norse, net)
    over_time = any(type(layer).__name__ in (*_OVER_TIME, "Lift") for layer in layers)
    chain = Chain(surrogate)
    for number, layer in enumerate(layers):
        kind, where = type(layer).__name__, f"layer {number} ({type(layer).__name__})"
        ours = type(layer).__module__.startswith("norse.")
        if ours and _OVER_TIME.get(kind, kind) in _CELLS:
            _neuron(where, _OVER_TIME.get(kind, kind), layer, chain)
        elif ours and kind == "Lift":
            chain.add(copied(where, layer.lifted_module))
        elif isinstance(layer, nn.Flatten) and over_time:
            if 0 <= layer.start_dim < 2:
                raise ExportError(f"{where} joins time and batch; use nn.Flatten(2)")
            chain.add(nn.Flatten(layer.start_dim - (layer.start_dim > 0), layer.end_dim - (layer.end_dim > 0)))
        else:
            chain.add(copied(where, layer))
    return chain.sequential(any(layer.training for layer in layers))


def _layers(norse: Any, net: Any) -> list[nn.Module]:
    """The layers of a chain; a SequentialState is one with a forward of its own."""
    if isinstance(net, norse.SequentialState):
        unhooked(type(net).__name__, net)
        net = list(net)
    if isinstance(net, Sequence) and not isinstance(net, str):
        return [layer for child in net for layer in _layers(norse, child)]
    found = [layer for _, layer in flatten(net)]
    return found if found == [net] else [layer for child in found for layer in _layers(norse, child)]


def _neuron(where: str, kind: str, layer: Any, chain: Chain) -> None:
    p = layer.p
    unhooked(where, layer)
    if kind == "IAFCell":
        # It starts at v_reset, so that this is its rest.
        chain.fire(where, beta=torch.ones(()), threshold=_value(p.v_th) - _value(p.v_reset), reset="hard")
        return
    rate, leak = layer.dt * _value(p.tau_mem_inv), _value(p.v_leak)
    alpha = None if "Box" in kind else _decay(where, "tau_syn_inv", layer.dt * _value(p.tau_syn_inv))
    beta = _decay(where, "tau_mem_inv", rate)
    chain.drive(where, rate)
    if kind in ("LICell", "LIBoxCell"):
        if bool((leak != 0).any()):
            raise ExportError(f"{where} leaks to v_leak = {leak}; our LI leaks to 0")
        if alpha is not None:
            chain.integrate(where, alpha)
        chain.integrate(where, beta)
        return
    resets = peer("norse.torch.functional.reset")
    method = getattr(p, "reset_method", resets.reset_value)
    if method not in (resets.reset_value, resets.reset_subtract):
        raise ExportError(f"{where} resets by {method}; we read norse's own reset_value and reset_subtract")
    soft = method is resets.reset_subtract
    if not soft and bool((_value(p.v_reset) != leak).any()):
        raise ExportError(f"{where} resets to {p.v_reset} and rests at {p.v_leak}; ours resets to its rest")
    # It subtracts v_th, wherever its rest is.
    quantum = _value(p.v_th) if soft else None
    threshold = _value(p.v_th) - leak
    chain.fire(where, beta=beta, threshold=threshold, reset="soft" if soft else "hard", quantum=quantum, alpha=alpha)


def _value(value: Any) -> Tensor:
    return torch.as_tensor(value).detach().clone()


def _decay(where: str, what: str, rate: Tensor) -> Tensor:
    if not bool(((rate >= 0) & (rate <= 1)).all()):
        raise ExportError(f"{where}: dt·{what} = {rate.max():.4g} must lie between 0 and 1; use a smaller dt")
    return 1 - rate
