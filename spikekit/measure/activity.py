"""How much each spiking layer fires: spikes, firing rates, neurons and layers that never fire.

Forward hooks add one reduction a layer and nothing else; the counts stay on the device until they are asked
for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from spikekit.errors import InputError
from spikekit.neurons import Neuron
from spikekit.state import active


@dataclass(frozen=True)
class LayerActivity:
    """What one spiking layer did while it was measured.

    name: its path in the network. kind: its class. spikes: their number; a graded one counts once, whatever it
    carries. neuron_steps: neurons x time steps x samples. neurons: neurons of one sample, and dead_neurons: how many
    of them never fired; both None when the layer did not run, or ran on inputs of several sizes, where a neuron has
    no identity.
    """

    name: str
    kind: str
    spikes: int
    neuron_steps: int
    neurons: int | None = None
    dead_neurons: int | None = None

    @property
    def rate(self) -> float:
        """Spikes per neuron per time step, 0 for a layer that never ran."""
        return self.spikes / self.neuron_steps if self.neuron_steps else 0.0

    @property
    def dead(self) -> bool:
        """It ran, and not one of its neurons fired."""
        return self.neuron_steps > 0 and self.spikes == 0


class _Counter:
    """The running counts of one layer: for each neuron while its shape stays the same, else in total."""

    def __init__(self) -> None:
        self.neuron_steps = 0
        self.per_neuron: Tensor | None = None
        self.total: Tensor | None = None

    def add(self, spikes: Tensor) -> None:
        # Of 0 and 1: a float32 sum is exact up to 2^24 steps x samples in one call.
        counts = spikes.sum(dim=(0, 1), dtype=torch.float32)
        self.neuron_steps += spikes.numel()
        if self.total is None and self.per_neuron is None:
            # Long runs pass 2^24 spikes a neuron; MPS has no float64.
            self.per_neuron = counts.to(torch.float32 if counts.device.type == "mps" else torch.float64)
        elif self.per_neuron is not None and self.per_neuron.shape == counts.shape:
            self.per_neuron += counts
        else:
            total = self.forget_neurons(counts)
            total += counts.sum()

    def forget_neurons(self, like: Tensor) -> Tensor:
        """Keep the total only; neurons of different input sizes are not the same neurons."""
        if self.per_neuron is not None:
            self.total, self.per_neuron = self.per_neuron.sum(), None
        elif self.total is None:
            self.total = like.new_zeros((), dtype=torch.float64 if like.device.type != "mps" else torch.float32)
        return self.total


class ActivityMeter:
    """Counts spikes of every spiking layer of `net` while it is open.

    ```python
    with sk.measure.ActivityMeter(net) as meter:
        net(x)
    for row in meter.summary():
        print(row.name, row.rate, row.dead_neurons)
    ```
    Counting costs one sum over the spikes a layer and call, and no synchronisation; `summary` waits for the
    device. Calls add up until `reset`. A network compiled with torch.compile must be opened before its first
    call. Raises InputError for a network without spiking layers unless `allow_none`.
    """

    def __init__(self, net: nn.Module, *, allow_none: bool = False) -> None:
        if not isinstance(net, nn.Module):
            raise InputError(f"ActivityMeter: net must be a torch.nn.Module, got {type(net).__name__}")
        found = [(name, m) for name, m in net.named_modules() if isinstance(m, Neuron) and m.spiking]
        if not found and not allow_none:
            raise InputError(f"ActivityMeter: {type(net).__name__} has no spiking layer (sk.LIF, sk.IF, ...)")
        self._layers: dict[str, Neuron] = dict(found)
        self._counters = {name: _Counter() for name in self._layers}
        self._handles: list[Any] = []

    def __enter__(self) -> ActivityMeter:
        if self._handles:
            raise InputError("ActivityMeter: already open; a meter is entered once at a time")
        for name, layer in self._layers.items():
            self._handles.append(layer.register_forward_hook(self._hook(name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _hook(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        graded = self._layers[name].graded

        def count(module: nn.Module, inputs: Any, spikes: Tensor) -> None:
            session = active()
            # sk.checkpoint_time runs the network twice, and its spikes are those of the first time.
            if session is None or not session.again:
                spikes = spikes.detach()
                # A graded spike is one message, whatever it carries.
                self._counters[name].add(spikes != 0 if graded else spikes)

        # A graph break: traced, the counters would be constants, and every call would compile anew.
        disabled: Callable[[nn.Module, Any, Tensor], None] = torch.compiler.disable(count)
        return disabled

    def reset(self) -> None:
        """Start counting from zero."""
        self._counters = {name: _Counter() for name in self._layers}

    def summary(self) -> list[LayerActivity]:
        """One row a spiking layer, in the order of the network."""
        return [self._row(name, counter) for name, counter in self._counters.items()]

    def _row(self, name: str, counter: _Counter) -> LayerActivity:
        kind, steps, counts = type(self._layers[name]).__name__, counter.neuron_steps, counter.per_neuron
        if counts is None:
            return LayerActivity(name, kind, 0 if counter.total is None else round(counter.total.item()), steps)
        silent, spikes = torch.stack([(counts == 0).sum().to(counts.dtype), counts.sum()]).tolist()
        return LayerActivity(name, kind, round(spikes), steps, counts.numel(), round(silent))

    def state_dict(self) -> dict[str, Tensor]:
        """The counts as tensors: "steps.<layer>", and "neurons.<layer>" or "total.<layer>"."""
        state: dict[str, Tensor] = {}
        for name, counter in self._counters.items():
            state[f"steps.{name}"] = torch.tensor(counter.neuron_steps)
            if counter.per_neuron is not None:
                state[f"neurons.{name}"] = counter.per_neuron.clone()
            if counter.total is not None:
                state[f"total.{name}"] = counter.total.clone()
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from the counts of `state_dict`."""
        self.reset()
        for name, counter in self._counters.items():
            counter.neuron_steps = int(state[f"steps.{name}"])
            per_neuron, total = state.get(f"neurons.{name}"), state.get(f"total.{name}")
            counter.per_neuron = None if per_neuron is None else per_neuron.clone()
            counter.total = None if total is None else total.clone()

    def merge(self, reduce: Callable[[Tensor, str], Tensor], device: torch.device) -> None:
        """Add up the counts of all processes; reduce(tensor, "sum" | "min" | "max") is an all-reduce."""
        counters = list(self._counters.values())
        like = torch.zeros((), device=device)
        sizes = [-1 if c.per_neuron is None else c.per_neuron.numel() for c in counters]
        shared = torch.tensor(sizes, device=device)
        lowest, highest = (reduce(shared.clone(), how).tolist() for how in ("min", "max"))
        steps = reduce(torch.tensor([c.neuron_steps for c in counters], device=device), "sum").tolist()
        for counter, low, high, total_steps in zip(counters, lowest, highest, steps, strict=True):
            counter.neuron_steps = int(total_steps)
            if low == high and counter.per_neuron is not None:
                counter.per_neuron = reduce(counter.per_neuron, "sum")
            else:
                counter.total = reduce(counter.forget_neurons(like), "sum")
