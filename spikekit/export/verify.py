"""The proof: the same input through our simulator and through Lava, every spike and every last membrane compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spikekit.errors import InputError
from spikekit.export.float_run import LayerTrace
from spikekit.export.inputs import largest
from spikekit.export.integer_layer import IntegerLayer
from spikekit.export.lava import LavaInput, LavaJob, LavaLayer, LavaResult, run_job
from spikekit.export.lava.layer import ENDS
from spikekit.export.layers import FloatLayer
from spikekit.export.synapses import Projection
from spikekit.ops.integer import STATE_SHIFT

if TYPE_CHECKING:
    from spikekit.export.network import LoihiNet

BACKENDS = ("lava-fixed", "lava-float")

# Lava sums float64 products in another order than torch: last membranes may differ by rounding, and so may the numbers
# that sigma-delta neurons send; spikes may not.
FLOAT_TOLERANCE = 1e-9


@dataclass(frozen=True)
class LayerProof:
    """One layer: how many spikes and last membranes were compared, and how many differ."""

    name: str
    spikes: int
    spike_mismatches: int
    membranes: int
    membrane_mismatches: int
    largest_difference: float
    """Largest difference of a last membrane: units when fixed, relative to the layer's largest membrane when float."""
    graded: bool = False
    """Whether it is messages that were compared, and the sums that neurons make them of."""


@dataclass(frozen=True)
class Divergence:
    """Where two runs first differ, in the order of layers, then steps."""

    layer: str
    sample: int
    step: int | None
    neuron: int
    expected: float
    found: float

    def __str__(self) -> str:
        what = "last membrane" if self.step is None else f"step {self.step}"
        return (
            f"layer {self.layer}, sample {self.sample}, {what}, neuron {self.neuron}: "
            f"expected {self.expected:g}, found {self.found:g}"
        )


@dataclass(frozen=True)
class Proof:
    """The result of `LoihiNet.verify`."""

    backend: str
    samples: int
    steps: int
    layers: tuple[LayerProof, ...]
    first: Divergence | None
    lava_version: str
    python_version: str
    seconds: float

    @property
    def identical(self) -> bool:
        """True when every spike and every last membrane of every layer agrees."""
        return self.first is None

    @property
    def mismatches(self) -> dict[str, int]:
        """Differing spikes and membranes per layer."""
        return {layer.name: layer.spike_mismatches + layer.membrane_mismatches for layer in self.layers}

    def __str__(self) -> str:
        head = (
            f"{self.backend} (lava-nc {self.lava_version}, Python {self.python_version}): "
            f"{self.samples} samples of {self.steps} steps in {self.seconds:.1f} s"
        )
        rows = [
            f"  layer {layer.name}: {layer.spike_mismatches} of {layer.spikes:,} "
            f"{'messages' if layer.graded else 'spike decisions'} and "
            f"{layer.membrane_mismatches} of {layer.membranes:,} last {'sums' if layer.graded else 'membranes'} differ"
            for layer in self.layers
        ]
        tail = "identical" if self.first is None else f"DIFFERENT, first at {self.first}"
        return "\n".join([head, *rows, tail])


def verify(
    chip: LoihiNet,
    x: Tensor,
    backend: str,
    *,
    python: str | Path | None = None,
    timeout: float = 600.0,
    progress: Callable[[int, int], None] | None = None,
) -> Proof:
    """Compare `chip` with Lava on x [T, B, ...]; see `LoihiNet.verify`."""
    if backend not in BACKENDS:
        raise InputError(f"verify: unknown backend {backend!r}; choose one of {BACKENDS}")
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < float("inf"):
        raise InputError(f"verify: timeout must be a finite number of seconds above 0, got {timeout!r}")
    fixed = backend == "lava-fixed"
    traces = chip.trace(x) if fixed else chip.trace_float(x)
    # Counts above one travel as graded spikes, whose messages need enough bits.
    most = largest(x)
    inputs = x.flatten(2).transpose(0, 1).cpu().numpy().astype(np.int64)
    job = LavaJob(
        "fixed" if fixed else "float",
        tuple(map(fixed_layer, chip.layers)) if fixed else tuple(map(_float_layer, chip.plan)),
        inputs,
        0 if most <= 1 and int(x.min()) >= 0 else most.bit_length(),
    )
    result = run_job(job, python=python, timeout=timeout, progress=progress)
    return compare([layer.name for layer in chip.plan], traces, result, backend)


def compare(names: Sequence[str], traces: Sequence[LayerTrace], result: LavaResult, backend: str) -> Proof:
    """Hold the traces of our simulator against what Lava returned."""
    layers, first = [], None
    exact = backend == "lava-fixed"
    tolerance = 0.0 if exact else FLOAT_TOLERANCE
    for name, trace, found_spikes, found_last in zip(names, traces, result.spikes, result.membranes, strict=True):
        graded = found_spikes.dtype != bool
        sent = trace.spikes.transpose(0, 1).cpu().numpy()
        spikes, last = sent if graded else sent.astype(bool), trace.last.cpu().numpy()
        wrong_spikes = ~(_difference(spikes, found_spikes, exact) <= tolerance) if graded else spikes != found_spikes
        difference = _difference(last, found_last, exact)
        wrong_last = ~(difference <= tolerance)
        layers.append(
            LayerProof(
                name,
                wrong_spikes.size,
                int(wrong_spikes.sum()),
                wrong_last.size,
                int(wrong_last.sum()),
                float(difference.max()),
                graded,
            )
        )
        if first is None and wrong_spikes.any():
            step, sample, neuron = np.argwhere(wrong_spikes.transpose(1, 0, 2))[0]
            at = (sample, step, neuron)
            first = Divergence(name, int(sample), int(step), int(neuron), float(spikes[at]), float(found_spikes[at]))
        elif first is None and wrong_last.any():
            sample, neuron = np.argwhere(wrong_last)[0]
            first = Divergence(
                name,
                int(sample),
                None,
                int(neuron),
                float(last[sample, neuron]),
                float(found_last[sample, neuron]),
            )
    samples, steps = result.spikes[0].shape[:2]
    return Proof(
        backend,
        samples,
        steps,
        tuple(layers),
        first,
        result.lava_version,
        result.python_version,
        result.seconds,
    )


def _difference(expected: NDArray[Any], found: NDArray[Any], exact: bool) -> NDArray[np.float64]:
    """Of every number, relative to the largest one unless they are to be the same."""
    difference: NDArray[np.float64] = np.abs(found.astype(np.float64) - expected)
    return difference if exact else difference / max(float(np.abs(expected).max()), 1.0)


def fixed_layer(layer: IntegerLayer) -> LavaLayer:
    """The layer for Lava's fixed-point processes."""
    exponents = [layer.exponent + projection.shift for projection in layer.inputs]
    inputs = _inputs(layer.inputs, exponents, np.int64)
    extra = {
        "current_decay": layer.current_decay,
        "adapt_decay": layer.adapt_decay,
        "adapt_step": layer.adapt_step,
        "message_shift": layer.message_shift,
    }
    shift = STATE_SHIFT if layer.graded else layer.state_shift
    senses = _inputs(layer.senses, [0] * len(layer.senses), np.int64)
    return _lava_layer(layer, inputs, senses, layer.decay, extra, layer.weight_bits, layer.message_bits or 0, shift)


def _float_layer(layer: FloatLayer) -> LavaLayer:
    inputs = _inputs(layer.inputs, [0] * len(layer.inputs), np.float64)
    extra = {"current_decay": layer.alpha, "adapt_decay": layer.rho, "adapt_step": layer.step}
    senses = _inputs(layer.senses, [0] * len(layer.senses), np.float64)
    return _lava_layer(layer, inputs, senses, layer.beta, extra, 8)


def _inputs(projections: Sequence[Projection], exponents: Sequence[int], dtype: type) -> tuple[LavaInput, ...]:
    inputs: dict[tuple[int, ...], LavaInput] = {}
    seen = Counter[tuple[int, int]]()
    for projection, exponent in zip(projections, exponents, strict=True):
        source, dendrite, synapses = projection.source, projection.dendrite, projection.synapses
        rows, cols, values = synapses.connections
        found = LavaInput(source, rows + dendrite * synapses.n_out, cols, values.astype(dtype), synapses.n_in, exponent)
        # What a source sends to all dendrites of a neuron is one matrix: each is a process of Lava.
        place = (source, exponent, seen[source, dendrite])
        seen[source, dendrite] += 1
        if place in inputs:
            rows, cols, values = (np.concatenate([getattr(e, end) for e in (inputs[place], found)]) for end in ENDS)
            found = replace(found, rows=rows, cols=cols, values=values)
        inputs[place] = found
    return tuple(inputs.values())


def _lava_layer(
    layer: IntegerLayer | FloatLayer,
    inputs: tuple[LavaInput, ...],
    senses: tuple[LavaInput, ...],
    decay: NDArray[Any],
    extra: dict[str, NDArray[Any] | None],
    weight_bits: int,
    message_bits: int = 0,
    state_shift: int = STATE_SHIFT,
) -> LavaLayer:
    return LavaLayer(
        name=layer.name,
        inputs=inputs,
        senses=senses,
        decay=decay,
        bias=layer.bias,
        threshold=layer.threshold,
        quantum=layer.quantum,
        reset=layer.reset,  # type: ignore[arg-type]
        inclusive=layer.inclusive,
        fires=layer.fires,
        weight_bits=weight_bits,
        period=layer.period,
        activation=layer.activation,
        astrocyte=layer.astrocyte,
        message_bits=message_bits,
        state_shift=state_shift,
        dendrites=1 + max(each.dendrite for each in layer.inputs),
        **extra,
    )
