"""Our simulators against traces recorded from Lava: what CI proves without Lava."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from spikekit.export.float_run import run_plan
from spikekit.export.integer import run_integers
from spikekit.export.integer_layer import IntegerLayer
from spikekit.export.lava import LavaJob, LavaResult
from spikekit.export.layers import FloatLayer
from spikekit.export.synapses import Projection, Synapses
from spikekit.export.verify import compare

GOLDEN = Path(__file__).parents[1] / "golden"


def inputs(layer, job):
    return projections(layer.inputs, layer.n, job, layer.dendrites)


def senses(layer, job):
    return projections(layer.senses, 0 if layer.astrocyte is None else len(layer.astrocyte.decay), job)


def projections(given, n, job, dendrites=1):
    """The same synapses, as matrices."""
    found = []
    for each in given:
        matrix = np.zeros((n * dendrites, each.n_in), each.values.dtype)
        matrix[each.rows, each.cols] = each.values
        shift = each.weight_exp - min(e.weight_exp for e in given)
        numbers = each.source >= 0 and job.layers[each.source].activation is not None
        for dendrite, part in enumerate(np.split(matrix, dendrites)):
            synapses = Synapses("dense", part, (each.n_in,), (n,))
            found.append(Projection(each.source, synapses, shift, 0 if numbers else None, dendrite))
    return tuple(found)


def integer_layer(layer, job):
    return IntegerLayer(
        name=layer.name,
        inputs=inputs(layer, job),
        exponent=min(each.weight_exp for each in layer.inputs),
        scale=np.ones(layer.n),
        bias_mantissa=layer.bias.copy(),
        bias_exponent=np.zeros_like(layer.bias),
        current_decay=copied(layer.current_decay),
        decay=layer.decay.copy(),
        threshold=layer.threshold.copy(),
        quantum=layer.quantum.copy(),
        reset=layer.reset,
        inclusive=layer.inclusive,
        fires=layer.fires,
        adapt_decay=copied(layer.adapt_decay),
        adapt_step=copied(layer.adapt_step),
        period=layer.period,
        activation=layer.activation,
        message_shift=copied(layer.message_shift),
        message_bits=layer.message_bits or None,
        astrocyte=layer.astrocyte,
        senses=senses(layer, job),
    )


def copied(values):
    # torch takes no read-only arrays.
    return None if values is None else values.copy()


def float_layer(layer, job):
    return FloatLayer(
        layer.name, inputs(layer, job), layer.bias.copy(), copied(layer.current_decay), layer.decay.copy(),
        layer.threshold.copy(), layer.quantum.copy(), layer.reset, layer.inclusive, layer.fires,
        copied(layer.adapt_decay), copied(layer.adapt_step), layer.period, layer.activation,
        layer.astrocyte, senses(layer, job),
    )  # fmt: skip


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.job.npz")), ids=lambda path: path.name.split(".")[0])
def test_our_simulator_repeats_lava(path):
    job = LavaJob.load(path)
    result = LavaResult.load(path.with_name(path.name.replace(".job.", ".result.")))
    x = torch.from_numpy(job.inputs.copy()).double().transpose(0, 1)
    fixed = job.mode == "fixed"
    if fixed:
        traces = run_integers([integer_layer(layer, job) for layer in job.layers], x)
    else:
        traces = run_plan([float_layer(layer, job) for layer in job.layers], x)
    proof = compare([layer.name for layer in job.layers], traces, result, f"lava-{job.mode}")
    assert proof.identical, str(proof)
    assert any(spikes.any() for spikes in result.spikes)


def test_there_are_recordings_of_both_kinds():
    names = {path.name for path in GOLDEN.glob("*.job.npz")}
    assert {name.split("_")[0] for name in names} == {"fixed", "float"}
