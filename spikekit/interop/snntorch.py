"""A live snnTorch network as one of ours (snnTorch 1.0.0), with its late reset.

Theirs: mem[t] = beta·mem[t-1] + x[t] - threshold·s[t-1]. Ours subtracts before the decay: quantum = threshold / beta.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spikekit.errors import ExportError
from spikekit.interop.assemble import Chain
from spikekit.interop.peers import copied, flatten, peer, unhooked
from spikekit.neurons import RecurrentLIF
from spikekit.sequential import Sequential
from spikekit.surrogate import Surrogate

_RESETS = {"subtract": "soft", "zero": "hard", "none": "none"}
_FUNCTIONS = {"_base_sub": "subtract", "_base_zero": "zero", "_base_int": "none"}


def from_snntorch(net: nn.Module | Sequence[nn.Module], *, surrogate: Surrogate | None = None) -> Sequential:
    """The same network of ours, with the same spikes: an `sk.Sequential` on [T, B, ...].

    net: an `nn.Sequential`, or the layers of a network with a forward of its own in their order, such as
    [net.fc1, net.lif1]: torch's layers, `Leaky`, `Synaptic`, `RLeaky`. Weights are copied. Learned decays and
    thresholds come as fixed values. surrogate: for training on; theirs are functions that nothing can be read from.
    Raises ExportError with the layer and the reason where the equations differ, InputError without snntorch.
    """
    snn = peer("snntorch")
    chain, layers = Chain(surrogate), flatten(net)
    for name, layer in layers:
        where = f"layer {name} ({type(layer).__name__})"
        if isinstance(layer, snn.SpikingNeuron):
            _neuron(snn, where, layer, chain, surrogate)
        else:
            chain.add(copied(where, layer))
    return chain.sequential(any(layer.training for _, layer in layers))


def _neuron(snn: Any, where: str, layer: Any, chain: Chain, surrogate: Surrogate | None) -> None:
    if type(layer) not in (snn.Leaky, snn.Synaptic, snn.RLeaky):
        raise ExportError(f"{where} is not read; we read Leaky, Synaptic and RLeaky")
    graded = getattr(layer, "graded_spikes_factor", torch.ones(()))
    for what, used in (
        ("inhibition", layer.inhibition),
        ("state_quant", bool(layer.state_quant)),
        ("graded_spikes_factor", not bool((graded == 1).all())),
    ):
        if used:
            raise ExportError(f"{where} uses {what}, which our neurons do not have; train without it")
    unhooked(where, layer)
    reset, inclusive = _reset(where, layer), _inclusive(where, layer)
    beta, threshold = layer.beta.detach().clamp(0, 1), layer.threshold.detach()
    if reset == "hard" and layer.reset_delay and type(layer) is not snn.Leaky:
        raise ExportError(
            f"{where} with reset_mechanism='zero' drops the input of the step after each spike, which no neuron of "
            "ours does; build it with reset_delay=False, which resets to zero and no more"
        )
    if reset == "soft" and not layer.reset_delay:
        raise ExportError(
            f"{where} with reset_delay=False compares with twice its threshold while one subtraction leaves it above; "
            "where that never happens, it is sk.LIF(beta, threshold). Build it with reset_delay=True to import it"
        )
    if reset == "soft" and not bool((beta > 0).all()):
        raise ExportError(f"{where} has beta = 0 and a reset that comes a step late; ours comes before the decay")
    quantum = None
    if reset == "soft":
        try:
            beta, threshold = torch.broadcast_tensors(beta, threshold)
        except RuntimeError as error:
            raise ExportError(f"{where}: its beta and its threshold do not fit together ({error})") from error
        quantum = threshold / beta
    if type(layer) is snn.RLeaky:
        chain.add(_recurrent(where, layer, chain, beta, threshold, reset, inclusive, quantum, surrogate))
        return
    alpha = layer.alpha.detach().clamp(0, 1) if type(layer) is snn.Synaptic else None
    chain.fire(where, beta=beta, threshold=threshold, reset=reset, quantum=quantum, inclusive=inclusive, alpha=alpha)


def _reset(where: str, layer: Any) -> str:
    """The reset that it does: its function is chosen when it is made, whatever `reset_mechanism` is set to later."""
    does = _FUNCTIONS.get(getattr(layer.state_function, "__name__", ""))
    says = tuple(_RESETS)[int(layer.reset_mechanism_val)]
    # With reset_delay the number is looked at by nothing.
    if does is None or (does != says and not layer.reset_delay) or does != layer.reset_mechanism:
        raise ExportError(
            f"{where} was made with reset_mechanism={does!r} and says {layer.reset_mechanism!r} ({says!r}) now; "
            "snnTorch does what it was made with. Make it anew with the reset that you mean"
        )
    return _RESETS[does]


def _inclusive(where: str, layer: Any) -> bool:
    """Whether it fires at its threshold too, asked of its spike function, which may be anybody's."""
    margins = torch.tensor([-1.0, -1e-3, 0.0, 1e-3, 1.0]).to(layer.threshold)
    try:
        fired = [float(value) for value in layer.spike_grad(margins)]
    except Exception as error:
        raise ExportError(f"{where}: its spike_grad could not be asked when it fires ({error})") from error
    if fired not in ([0, 0, 0, 1, 1], [0, 0, 1, 1, 1]):
        raise ExportError(
            f"{where}: its spike_grad gives {fired} at {margins.tolist()} above the threshold; our spikes are 0 or 1, "
            "and 1 above it"
        )
    return fired[2] == 1


def _recurrent(
    where: str,
    layer: Any,
    chain: Chain,
    beta: Tensor,
    threshold: Tensor,
    reset: str,
    inclusive: bool,
    quantum: Tensor | None,
    surrogate: Surrogate | None,
) -> RecurrentLIF:
    linear = layer.recurrent
    unhooked(f"{where}: recurrent", linear)
    if isinstance(linear, nn.Linear):
        weight, bias = linear.weight.detach(), linear.bias
    elif not layer.all_to_all and layer.V.ndim == 1 and layer.V.numel() > 1:
        weight, bias = torch.diag(layer.V.detach()), None
    else:
        raise ExportError(f"{where}: we read all_to_all with linear_features, or V with one value a neuron")
    neuron = RecurrentLIF(
        len(weight),
        chain.place(where, "decay", beta),
        chain.place(where, "threshold", threshold),
        reset,
        bias=bias is not None,
        reset_quantum=None if quantum is None else chain.place(where, "reset", quantum),
        inclusive=inclusive,
        surrogate=surrogate,
        detach_reset=True,
    ).to(weight)
    with torch.no_grad():
        neuron.recurrent.weight.copy_(weight)
        if bias is not None:
            neuron.recurrent.bias.copy_(bias)
    return neuron
