"""The metrics of NeuroBench for any network of ours: footprint, sparsities, synaptic operations.

After Yik et al., "The neurobench framework for benchmarking neuromorphic computing algorithms and systems", Nature
Communications 16, 2025 (arXiv 2304.04640), and the code of neurobench 2.3. NeuroBench itself is not needed. The numbers
are its numbers, but where it counts what its paper does not mean:

- Whether a layer's input is spikes (accumulates) or values (multiply-accumulates) is decided by all of the data; there,
  by each call, so that the batch size moves operations from one kind to the other.
- Sums are exact; there, in float32, which rounds beyond 2^24 operations a call.
- Activation sparsity is that of all activations; there, a mean over batches.
- Layers have their whole path; there, the last part of it, so that layers of two blocks with one name become one.
- Recurrent weights of an `sk.RecurrentLIF` are counted; NeuroBench would hook a layer that is never called.
- Parametrized layers have the weights that they compute; there, none.
- A network that is one bare layer is measured; there, it has no layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from spikekit.errors import InputError
from spikekit.measure.operations import COUNTED, InputCounter, operations
from spikekit.neurons import Neuron, RecurrentLIF

# Beside spiking neurons: what NeuroBench takes for an activation.
_ACTIVATIONS = (nn.ReLU, nn.Sigmoid)


@dataclass(frozen=True)
class LayerOperations:
    """Synaptic operations of one layer, per sample.

    dense: had it no zeros, neither weights nor inputs; padding is no operation. effective: those of non-zero inputs at
    non-zero weights. spiking: all its inputs were -1, 0 or 1, so the effective ones are accumulates. Biases are none.
    rate: the part of its inputs that was not zero, over all steps and samples.
    """

    name: str
    kind: str
    dense: float
    effective: float
    spiking: bool
    rate: float = 0.0


@dataclass(frozen=True)
class NeuroBench:
    """What `neurobench` measured.

    footprint: bytes of parameters and buffers. parameters: their number. connection_sparsity: the part of weights of
    Linear and Conv layers that is zero, in kernels as they are stored, not rounded. activation_sparsity: the part of
    the outputs of spiking neurons, ReLU and Sigmoid that is zero. effective_macs, effective_acs, dense: synaptic
    operations per sample, over all time steps. uncounted: layers with weights that are in none of these.
    """

    samples: int
    footprint: int
    parameters: int
    connection_sparsity: float
    activation_sparsity: float
    effective_macs: float
    effective_acs: float
    dense: float
    layers: tuple[LayerOperations, ...]
    uncounted: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The results under the names that NeuroBench's own benchmark gives them."""
        return {
            "Footprint": self.footprint,
            "ParameterCount": self.parameters,
            "ConnectionSparsity": self.connection_sparsity,
            "ActivationSparsity": self.activation_sparsity,
            "SynapticOperations": {
                "Effective_MACs": self.effective_macs,
                "Effective_ACs": self.effective_acs,
                "Dense": self.dense,
            },
        }


@torch.no_grad()
def neurobench(net: nn.Module, data: Tensor | Iterable[Any]) -> NeuroBench:
    """Measure `net` on data: x [T, B, ...], or an iterable of such x or of (x, labels), as a loader gives.

    The network runs in eval mode and is left in the mode it was in. Forward hooks see every layer, wherever it lies,
    residual branches included; a layer that is used twice counts twice. Raises InputError for data without samples.
    """
    if not isinstance(net, nn.Module):
        raise InputError(f"neurobench: net must be a torch.nn.Module, got {type(net).__name__}")
    layers = {name: m for name, m in net.named_modules() if isinstance(m, (*COUNTED, RecurrentLIF)) and _own(net, name)}
    counters = {name: InputCounter() for name in layers}
    activations = _Activations()
    modes = [(module, module.training) for module in net.modules()]
    hooks = [layer.register_forward_hook(_input_hook(counters[name])) for name, layer in layers.items()]
    hooks += [m.register_forward_hook(activations) for m in net.modules() if _activates(m)]
    samples = 0
    try:
        net.eval()
        for x in _batches(data):
            net(x)
            samples += x.shape[1]
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes:
            module.training = mode
    if not samples:
        raise InputError("neurobench: the data held no samples; a generator that was used before is empty")
    rows = tuple(_row(name, layer, counters[name], samples) for name, layer in layers.items())
    parameters = list(net.parameters())
    return NeuroBench(
        samples=samples,
        footprint=sum(t.numel() * t.element_size() for t in (*parameters, *net.buffers())),
        parameters=sum(parameter.numel() for parameter in parameters),
        connection_sparsity=_connection_sparsity(list(layers.values())),
        activation_sparsity=activations.sparsity,
        effective_macs=sum(row.effective for row in rows if not row.spiking),
        effective_acs=sum(row.effective for row in rows if row.spiking),
        dense=sum(row.dense for row in rows),
        layers=rows,
        uncounted=tuple(_uncounted(net)),
    )


def _own(net: nn.Module, name: str) -> bool:
    """Whether the layer is called itself: the weights inside an `sk.RecurrentLIF` are only read."""
    return not isinstance(net.get_submodule(name.rpartition(".")[0]), RecurrentLIF) or not name


def _activates(module: nn.Module) -> bool:
    return isinstance(module, _ACTIVATIONS) or (isinstance(module, Neuron) and module.spiking)


def _batches(data: Tensor | Iterable[Any]) -> Iterator[Tensor]:
    if not isinstance(data, Iterable):
        raise InputError(f"neurobench: data must be x [T, B, ...] or give batches of it, got {type(data).__name__}")
    for batch in (data,) if isinstance(data, Tensor) else data:
        x = batch[0] if isinstance(batch, Sequence) and batch else batch
        if not isinstance(x, Tensor) or x.ndim < 3:
            found = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise InputError(f"neurobench: a batch must be x [T, B, ...] or (x, labels), got {found}")
        yield x


def _input_hook(counter: InputCounter) -> Callable[[nn.Module, Any, Tensor], None]:
    def look(module: nn.Module, inputs: Any, output: Tensor) -> None:
        # What comes back to the neurons of a RecurrentLIF are their spikes of the step before; the first step has none.
        if isinstance(module, RecurrentLIF):
            counter.add(torch.cat([torch.zeros_like(output[:1]), output[:-1]]), 1)
        else:
            counter.add(inputs[0], cast(Tensor, module.weight).ndim - 1)

    return look


class _Activations:
    """A forward hook that counts outputs and zeros."""

    def __init__(self) -> None:
        self.all = 0
        self.fired = 0

    def __call__(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.all += output.numel()
        self.fired += int(output.count_nonzero())

    @property
    def sparsity(self) -> float:
        """0 where nothing was counted, as in NeuroBench."""
        return (self.all - self.fired) / self.all if self.all else 0.0


def _row(name: str, layer: nn.Module, counter: InputCounter, samples: int) -> LayerOperations:
    path = f"{name}.recurrent".lstrip(".") if isinstance(layer, RecurrentLIF) else name
    dense, effective = operations(_weighted(layer), counter)
    return LayerOperations(
        path, type(layer).__name__, dense / samples, effective / samples, counter.spiking, counter.rate
    )


def _weighted(layer: nn.Module) -> nn.Module:
    return layer.recurrent if isinstance(layer, RecurrentLIF) else layer


def _connection_sparsity(layers: Sequence[nn.Module]) -> float:
    weights = [cast(Tensor, _weighted(layer).weight) for layer in layers]
    total = sum(weight.numel() for weight in weights)
    return sum(int((weight == 0).sum()) for weight in weights) / total if total else 0.0


def _uncounted(net: nn.Module) -> Iterator[str]:
    """Modules with matrices of their own that are not counted: norms have vectors, neurons too."""
    for name, module in net.named_modules():
        matrices = any(p.ndim > 1 for p in module.parameters(recurse=False))
        within = "parametrizations" in name.split(".")
        if matrices and not within and not isinstance(module, (*COUNTED, Neuron)) and _own(net, name):
            yield f"{name} ({type(module).__name__})".lstrip()
