from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikekit.errors import ExportError
from spikekit.export.integer import run_integers
from spikekit.export.integer_layer import IntegerLayer
from spikekit.export.synapses import INPUT, Projection, Synapses


def random_layer(rng, n_in, n_out, reset, *, source=INPUT, fires=True, exponent=2, big=False):
    def integers(low, high):
        return rng.integers(low, high, n_out)

    return IntegerLayer(
        name="random",
        inputs=(Projection(source, Synapses("dense", rng.integers(-127, 128, (n_out, n_in)) * 2, (n_in,), (n_out,))),),
        exponent=exponent,
        scale=np.ones(n_out),
        bias_mantissa=integers(-4095, 4096),
        bias_exponent=integers(0, 8),
        current_decay=None,
        decay=integers(0, 4096),
        threshold=integers(1, 2**17 if big else 3000),
        quantum=integers(-(2**23) + 1, 2**23) if big else integers(1, 2**18),
        reset=reset,
        inclusive=bool(rng.integers(2)),
        fires=fires,
    )


def by_hand(layer, spikes):
    """One sample, one neuron and one step at a time, in Python's own integers."""
    steps, n_out = len(spikes), len(layer.threshold)
    out, last = np.zeros((steps, n_out), bool), np.zeros(n_out, np.int64)
    weight = layer.inputs[0].synapses.weight
    for i in range(n_out):
        v = 0
        for t in range(steps):
            u = (int(weight[i] @ spikes[t]) << layer.exponent) << 6
            u = u - 2**24 if u > 2**23 else u
            u = u + 2**24 if u <= -(2**23) else u
            kept = abs(v) * (4096 - int(layer.decay[i])) // 4096
            v = (kept if v >= 0 else -kept) + u + (int(layer.bias_mantissa[i]) << int(layer.bias_exponent[i]))
            v = max(-(2**23) + 1, min(2**23 - 1, v))
            level = int(layer.threshold[i]) * 64
            fired = layer.fires and (v >= level if layer.inclusive else v > level)
            out[t, i] = fired
            if fired and layer.reset == "soft":
                v = max(-(2**23) + 1, min(2**23 - 1, v - int(layer.quantum[i])))
            elif fired and layer.reset == "hard":
                v = 0
        last[i] = v
    return out, last


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    reset=st.sampled_from(["soft", "hard", "none"]),
    exponent=st.integers(0, 7),
    fires=st.booleans(),
    big=st.booleans(),
)
def test_equals_integer_arithmetic_by_hand(seed, reset, exponent, fires, big):
    # Exponents up to 7 with 40 inputs of weight 254 pass 2^23: currents wrap and membranes saturate.
    rng = np.random.default_rng(seed)
    layers = [
        random_layer(rng, 40, 5, reset, exponent=exponent, big=big),
        random_layer(rng, 5, 3, reset, source=0, exponent=exponent, fires=fires, big=big),
    ]
    x = rng.random((8, 3, 40)) < 0.7
    traces = run_integers(layers, torch.from_numpy(x).float())
    for b in range(3):
        activity = x[:, b].astype(np.int64)
        for layer, trace in zip(layers, traces, strict=True):
            spikes, last = by_hand(layer, activity)
            assert np.array_equal(trace.spikes[:, b].numpy(), spikes)
            assert np.array_equal(trace.last[b].numpy(), last)
            activity = spikes.astype(np.int64)


def test_currents_wrap_and_membranes_saturate():
    layer = random_layer(np.random.default_rng(0), 40, 1, "none", exponent=7)
    wide = Synapses("dense", np.full((1, 40), 254), (40,), (1,))
    nothing = np.zeros(1, np.int64)
    layer = replace(layer, inputs=(Projection(INPUT, wide),), fires=False, bias_mantissa=nothing)
    u = 254 * 40 << 13
    one = run_integers([layer], torch.ones(1, 1, 40))[0]
    assert u > 2**24
    assert int(one.last) == min(u - 2**24, 2**23 - 1) == 2**23 - 1


def test_a_sum_that_lava_would_lose_is_refused():
    layer = random_layer(np.random.default_rng(0), 40, 1, "soft", exponent=7)
    wide = Synapses("dense", np.full((1, 40), 254), (40,), (1,))
    layer = replace(layer, inputs=(Projection(INPUT, wide),))
    with pytest.raises(ExportError, match=r"layer random: .*beyond 2\^25"):
        run_integers([layer], torch.full((1, 1, 40), 26.0))


@pytest.mark.parametrize("largest", [1.0, 1e3])
def test_graded_input_is_exact(largest):
    rng = np.random.default_rng(1)
    layer = random_layer(rng, 40, 5, "soft", exponent=0)
    x = torch.from_numpy(rng.integers(0, int(largest) + 1, (4, 1, 40))).double()
    trace = run_integers([layer], x)[0]
    spikes, last = by_hand(layer, x[:, 0].numpy().astype(np.int64).astype(object))
    assert np.array_equal(trace.spikes[:, 0].numpy(), spikes)
    assert np.array_equal(trace.last[0].numpy(), last)


@pytest.mark.parametrize("sign", [1, -1])
def test_large_counts_that_cancel_are_summed_exactly(sign):
    """The terms are beyond float32's whole numbers, their sum is not."""
    layer = random_layer(np.random.default_rng(0), 2, 1, "none", fires=False, exponent=0)
    layer = replace(
        layer,
        inputs=(Projection(INPUT, Synapses("dense", np.array([[250, -254]]), (2,), (1,))),),
        bias_mantissa=np.zeros(1, np.int64),
    )
    counts = sign * torch.tensor([[[254 * 1001 + 1, 250 * 1001]]], dtype=torch.float32)
    assert run_integers((layer,), counts)[0].membranes.item() == sign * 250 * 64


def test_the_lowest_number_of_a_dtype_is_as_large_as_it_is():
    """|-128| is no int8; taken for 1, this sum was let through."""
    layer = random_layer(np.random.default_rng(0), 40, 1, "soft", exponent=7)
    wide = Synapses("dense", np.full((1, 40), 254), (40,), (1,))
    layer = replace(layer, inputs=(Projection(INPUT, wide),))
    with pytest.raises(ExportError, match=r"layer random: .*beyond 2\^25"):
        run_integers([layer], torch.full((1, 1, 40), -128, dtype=torch.int8))
