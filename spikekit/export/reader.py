"""A network read module by module: every layer's part in what flows between neurons; what is not known is refused.

Chains (`sk.Sequential`, `nn.Sequential`, `fold_time`) are walked. The forward of any other module that holds layers is
traced by `torch.fx` and walked too, so that residual and branching networks need no description of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from spikekit.errors import ExportError
from spikekit.export import pooling
from spikekit.export.functions import METHODS, call_function, trace
from spikekit.export.signal import Signal, affine, convolution, every_channel, flattened, linear
from spikekit.export.time_axes import refold
from spikekit.folding import affine_of
from spikekit.neurons import ALIF, CUBALIF, IF, LI, LIF, FoldedLIF, Neuron, RecurrentLIF, RefractoryLIF, SigmaDelta
from spikekit.neurons.astrocyte import Astrocyte
from spikekit.norm import TDBN1d, TDBN2d
from spikekit.sequential import FoldTime, Sequential, is_temporal
from spikekit.tripartite import TripartiteSynapse

# Ours before those they are derived from.
_NORMS = (TDBN1d, TDBN2d, nn.BatchNorm1d, nn.BatchNorm2d)
_POOLS: dict[type[nn.Module], Callable[[Any, tuple[int, ...]], Any]] = {
    nn.AvgPool2d: pooling.average_pool,
    nn.AdaptiveAvgPool2d: pooling.adaptive_pool,
    nn.Upsample: pooling.upsampled,
    nn.UpsamplingNearest2d: pooling.upsampled,
}
_IDLE = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)
_NEURONS = (IF, LIF, LI, FoldedLIF, CUBALIF, RecurrentLIF, ALIF, RefractoryLIF, SigmaDelta)
_CHAINS = (Sequential, nn.Sequential)
_LAYERS = (nn.Conv2d, nn.Linear, *_NORMS, *_POOLS, nn.MaxPool2d, nn.Flatten, *_IDLE, *_NEURONS)
# What a subclass may not redefine: the arithmetic that the plan takes from the base class.
_CHANGED = ("forward", "_conv_forward", "integrate", "__call__")
_WAYS_OUT = {
    "Astrocyte": "it is a part of a neuron; use sk.LIF(..., astrocyte=sk.Astrocyte(...))",
    "OptimizedModule": "export the network that torch.compile was given",
    "ReLU": "remove it: spikes are the non-linearity",
    "LayerNorm": "use BatchNorm, which folds into the weights",
    "GroupNorm": "use BatchNorm, which folds into the weights",
    "MultiheadAttention": "its products of activities are no sums of synapses",
}


class Neurons(Protocol):
    """What takes the signals that arrive at neurons, and gives what these send."""

    def fire(self, name: str, neuron: Neuron, signal: Signal, presynaptic: Signal | None = None) -> Signal:
        """A layer of `neuron` driven by `signal`; presynaptic: what it is given to sense."""

    def maximum(self, name: str, pool: nn.MaxPool2d, signal: Signal) -> Signal:
        """The maximum of spikes."""


def read(net: nn.Module, signal: Signal, neurons: Neurons) -> Signal:
    """Pass `signal` through `net`, in eval mode; every neuron is given to `neurons`, in the order of the forward pass.

    Raises ExportError, naming the layer and the way out, for layers that are no linear map, for subclasses that change
    the arithmetic, hooks and parametrizations, and for a forward that cannot be traced.
    """
    return _Reader(neurons).module(net, "", signal, lead=2)


class _Reader:
    """lead: the axes in front of a signal's own: 2 for [T, B, ...], 1 where time is folded into the batch."""

    def __init__(self, neurons: Neurons) -> None:
        self.neurons = neurons
        self.inside: list[nn.Module] = []

    def module(
        self, module: nn.Module, path: str, signal: Signal, lead: int, presynaptic: Signal | None = None
    ) -> Signal:
        # presynaptic: what a neuron is given besides its drive.
        name = f"layer {path} ({type(module).__name__})" if path else type(module).__name__
        if isinstance(module, FoldTime):
            _check_plain(name, module, FoldTime)
            return self.module(module.module, path, signal, 1)
        if chain := _kind(module, _CHAINS):
            _check_plain(name, module, chain)
            # Not named_children: it leaves out a layer that is used a second time.
            for key, child in module._modules.items():
                place = f"{path}.{key}".lstrip(".")
                if child is None:
                    raise ExportError(f"layer {place} is None; take it out of the chain, or put nn.Identity() there")
                folds = chain is Sequential and not is_temporal(child)
                signal = self.module(child, place, signal, 1 if folds else lead)
            return signal
        if isinstance(module, TripartiteSynapse):
            _check_plain(name, module, TripartiteSynapse)
            drive = self.module(module.layer, f"{path}.layer".lstrip("."), signal, 1)
            return self.module(module.neuron, f"{path}.neuron".lstrip("."), drive, lead, presynaptic=signal)
        if layer := _kind(module, _LAYERS):
            _check_plain(name, module, layer)
            return self._layer(path or "0", module, signal, lead, presynaptic)
        if way := _way_out(module):
            raise ExportError(f"{name} cannot be exported: {way}.")
        return self._own_forward(name, module, path, signal, lead)

    def _layer(self, path: str, module: nn.Module, signal: Signal, lead: int, presynaptic: Signal | None) -> Signal:
        name = f"layer {path} ({type(module).__name__})"
        if isinstance(module, Neuron):
            for part in module.children():
                if isinstance(part, Astrocyte):
                    _check_plain(f"{name}: its {type(part).__name__}", part, Astrocyte)
            return self.neurons.fire(path, module, signal, presynaptic)
        if isinstance(module, _IDLE):
            if module.training and not isinstance(module, nn.Identity):
                raise ExportError(f"{name} is in train mode; call net.eval() before exporting")
            return signal
        if isinstance(module, nn.Flatten):
            return _flatten(name, signal, module.start_dim, module.end_dim, lead)
        if isinstance(module, nn.Linear):
            if len(signal.shape) != 1:
                raise ExportError(f"{name} sees the shape {signal.shape}; put nn.Flatten before Linear")
            if signal.shape[0] != module.in_features:
                raise ExportError(f"{name} takes {module.in_features} features and sees the shape {signal.shape}")
            return linear(name, module, signal)
        if isinstance(module, _NORMS) and lead == 1:
            return affine(name, *_folded(name, module, signal.shape), signal)
        if len(signal.shape) != 3 or lead != 1:
            found = f"the shape {signal.shape}" if lead == 1 else "the axes of time and batch both"
            raise ExportError(f"{name} sees {found}; it takes images (C, H, W), by sk.fold_time in your own forward")
        if isinstance(module, nn.MaxPool2d):
            return self.neurons.maximum(path, module, signal)
        if isinstance(module, nn.Conv2d):
            if module.padding_mode != "zeros":
                raise ExportError(f"{name}: padding_mode {module.padding_mode!r} cannot be exported; use 'zeros'")
            if signal.shape[0] != module.in_channels:
                raise ExportError(f"{name} takes {module.in_channels} channels and sees the shape {signal.shape}")
            return convolution(name, module, _padding(name, module), signal)
        if isinstance(module, nn.Upsample) and module.mode not in ("nearest", "nearest-exact"):
            raise ExportError(f"{name}: mode {module.mode!r} cannot be exported; use 'nearest', which repeats")
        make = next(make for kind, make in _POOLS.items() if isinstance(module, kind))
        return every_channel(name, module, lambda shape: make(module, shape), signal)

    def _own_forward(self, name: str, module: nn.Module, path: str, signal: Signal, lead: int) -> Signal:
        if module in self.inside:
            raise ExportError(f"{name} calls itself; unroll it")
        _check_plain(name, module, type(module))
        graph, extra = trace(name, module)
        values: dict[Any, Any] = {}
        leads: dict[Any, int] = {}
        self.inside.append(module)

        def known(argument: Any) -> Any:
            if isinstance(argument, (list, tuple)):
                return type(argument)(map(known, argument))
            return values[argument] if hasattr(argument, "op") else argument

        for node in graph.nodes:
            given, named = [known(a) for a in node.args], {key: known(a) for key, a in node.kwargs.items()}
            where = f"{name}: {node.name}"
            inputs = {leads[each] for each in node.all_input_nodes if isinstance(values[each], Signal)}
            if len(inputs) > 1:
                raise ExportError(f"{where}: it joins values with time folded into the batch and others without")
            leads[node] = now = inputs.pop() if inputs else lead
            if node.op == "placeholder":
                if values:
                    raise ExportError(f"{name}: its forward takes more than one input; give each block one tensor")
                values[node] = signal
            elif node.op == "call_module":
                child, key = extra.get(node.target) or (module.get_submodule(node.target), node.target)
                if len(given) != 1 or named or not isinstance(given[0], Signal):
                    raise ExportError(f"{name}: it calls layer {key} with more than the one tensor it can be read with")
                values[node] = self.module(child, f"{path}.{key}".lstrip("."), given[0], now)
            elif node.op == "output":
                result = given[0]
            elif node.op == "get_attr":
                raise ExportError(f"{where}: it uses a tensor of its own directly; make it the weight of a layer")
            else:
                function = (METHODS.get(node.target) if node.op == "call_method" else None) or node.target
                if folded := refold(where, function, given, named, now):
                    values[node], leads[node] = folded
                else:
                    values[node] = call_function(where, function, given, named, now)
        self.inside.pop()
        if now != lead:
            raise ExportError(f"{name}: its forward gives other axes of time and batch than it takes")
        if not isinstance(result, Signal):
            raise ExportError(f"{name}: its forward gives {type(result).__name__}, not one tensor")
        return result


def _flatten(name: str, signal: Signal, start: int, end: int, lead: int) -> Signal:
    axes = lead + len(signal.shape)
    first, last = (at if at >= 0 else axes + at for at in (start, end))
    if first < lead:
        raise ExportError(f"{name}: flattening from axis {start} on joins time and batch; use nn.Flatten()")
    return flattened(name, first - lead, last - lead, signal)


def _folded(name: str, norm: nn.modules.batchnorm._BatchNorm, shape: tuple[int, ...]) -> tuple[Any, Any]:
    if norm.training:
        raise ExportError(f"{name} is in train mode; call net.eval() before exporting")
    if norm.running_mean is None:
        raise ExportError(f"{name} keeps no running statistics, so it cannot be folded")
    if norm.num_features != shape[0]:
        raise ExportError(f"{name} normalises {norm.num_features} features and sees the shape {shape}")
    factor, shift = (values.cpu().numpy() for values in affine_of(norm))
    # An infinite variance would make a factor of 0: a silent channel.
    finite = norm.running_var is None or bool(norm.running_var.isfinite().all())
    if not (finite and np.isfinite(factor).all() and np.isfinite(shift).all()):
        raise ExportError(f"{name}: its weights or statistics hold NaN or Inf; was the training stable?")
    return factor, shift


def _padding(name: str, conv: nn.Conv2d) -> tuple[int, int]:
    if not isinstance(conv.padding, str):
        return pooling.pair(conv.padding)
    if conv.padding == "valid":
        return (0, 0)
    total = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    if any(t % 2 for t in total):
        raise ExportError(f"{name}: padding='same' with an even kernel pads unevenly; give the padding as numbers")
    return (total[0] // 2, total[1] // 2)


def _way_out(module: nn.Module) -> str | None:
    """What to do about a layer that is known and not exported, or is derived from one."""
    kinds = [kind.__name__ for kind in type(module).__mro__]
    for kind in kinds:
        if kind in _WAYS_OUT:
            return _WAYS_OUT[kind]
    if isinstance(module, Neuron):
        return f"replace it by one of {', '.join(kind.__name__ for kind in _NEURONS)}"
    if type(module).__module__.startswith("torch.nn"):
        return "it is no linear map that synapses can carry; docs/export.md lists what can be exported"
    return None


def _kind(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> type[nn.Module] | None:
    return next((kind for kind in kinds if isinstance(module, kind)), None)


def _check_plain(name: str, module: nn.Module, kind: type[nn.Module]) -> None:
    for method in _CHANGED:
        own = method in module.__dict__ or getattr(type(module), method, None) is not getattr(kind, method, None)
        if own:
            raise ExportError(
                f"{name} defines {method} itself, which its weights cannot tell; use {kind.__name__} itself"
            )
    if is_parametrized(module):
        raise ExportError(
            f"{name} is parametrized; make its weights plain first with torch.nn.utils.parametrize."
            "remove_parametrizations(module, name)"
        )
    parts = module.modules() if isinstance(module, Neuron) else (module,)
    if any(part._forward_hooks or part._forward_pre_hooks for part in parts):
        raise ExportError(
            f"{name} has a forward hook, which may change what passes through it; remove the hook (of weight_norm or "
            "spectral_norm: with torch.nn.utils.remove_weight_norm or remove_spectral_norm)"
        )
