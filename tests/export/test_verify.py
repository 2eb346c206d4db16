from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from spikekit.errors import InputError
from spikekit.export import to_loihi
from spikekit.export.lava import LavaResult
from spikekit.export.verify import compare
from tests.export.nets import conv_net, frames


@pytest.mark.parametrize("backend", ["lava-fixed", "lava-float"])
@pytest.mark.parametrize(
    ("reset", "settings"),
    [("soft", {}), ("soft", {"reset_quantum": 0.4, "inclusive": True}), ("hard", {}), ("none", {})],
)
def test_lava_fires_the_same_spikes(backend, reset, settings, worker):
    chip = to_loihi(conv_net(reset=reset, **settings), frames())
    proof = chip.verify(frames(batch=3, seed=7), backend, python=worker)
    assert proof.identical, str(proof)
    assert proof.mismatches == {"2": 0, "6": 0, "8": 0}
    assert [layer.spikes for layer in proof.layers] == [9 * 3 * n for n in (64, 12, 3)]
    assert "identical" in str(proof)


def test_event_counts_travel_as_graded_spikes(worker):
    chip = to_loihi(conv_net(), frames())
    x = frames(batch=2) * 5
    assert chip.verify(x, "lava-fixed", python=worker).identical


def result_of(traces):
    return LavaResult(
        tuple(trace.spikes.transpose(0, 1).numpy().copy() for trace in traces),
        tuple(trace.last.numpy().copy() for trace in traces),
        "0.10.0",
        "3.11",
        0.1,
    )


@pytest.fixture
def traces():
    return to_loihi(conv_net(), frames()).trace(frames())


NAMES = ["2", "6", "8"]


def test_one_flipped_spike_is_found_and_named(traces):
    result = result_of(traces)
    result.spikes[1][4, 3, 7] ^= True
    proof = compare(NAMES, traces, result, "lava-fixed")
    assert not proof.identical
    assert proof.mismatches == {"2": 0, "6": 1, "8": 0}
    first = proof.first
    assert (first.layer, first.sample, first.step, first.neuron) == ("6", 4, 3, 7)
    assert "layer 6, sample 4, step 3, neuron 7" in str(proof)


def test_the_earliest_step_comes_first(traces):
    result = result_of(traces)
    result.spikes[0][0, 5, 1] ^= True
    result.spikes[0][5, 2, 9] ^= True
    first = compare(NAMES, traces, result, "lava-fixed").first
    assert (first.sample, first.step, first.neuron) == (5, 2, 9)


def test_one_unit_of_one_last_membrane_is_found(traces):
    result = result_of(traces)
    result.membranes[2][1, 2] += 1
    proof = compare(NAMES, traces, result, "lava-fixed")
    assert proof.mismatches == {"2": 0, "6": 0, "8": 1}
    assert proof.first.step is None
    assert "last membrane, neuron 2" in str(proof)


def test_float_membranes_may_round_but_not_drift(traces):
    traces = [replace(trace, last=trace.last.double()) for trace in traces]
    result = result_of(traces)
    result.membranes[0][:] *= 1 + 1e-13
    assert compare(NAMES, traces, result, "lava-float").identical
    result.membranes[0][:] *= 1 + 1e-7
    assert not compare(NAMES, traces, result, "lava-float").identical
    result.membranes[0][:] = np.nan
    assert not compare(NAMES, traces, result, "lava-float").identical


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int8])
def test_inputs_of_every_dtype_go_to_lava(dtype, worker):
    chip = to_loihi(conv_net(), frames())
    assert chip.verify(frames(batch=1).to(dtype), python=worker).identical


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan"), float("inf"), "60", True], ids=repr)
def test_a_timeout_is_a_number_of_seconds(timeout):
    chip = to_loihi(conv_net(), frames())
    with pytest.raises(InputError, match="timeout must be a finite number of seconds above 0"):
        chip.verify(frames(), timeout=timeout)
