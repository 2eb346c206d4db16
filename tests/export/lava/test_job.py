"""A job refuses what Lava would quietly compute differently, and comes back from its file as it was."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from spikekit.errors import ExportError
from spikekit.export.lava import LavaInput, LavaJob, LavaResult
from spikekit.export.lava.validate import sign_mode
from spikekit.export.synapses import INPUT, SELF

RNG = np.random.default_rng(0)


@pytest.fixture
def layer(make_layer):
    return make_layer(RNG, "fixed", 4, 3, name="hidden")


def changed(layer, **changes):
    """The layer with other fields, of its only input too."""
    own = {name: changes.pop(name) for name in list(changes) if name in {f.name for f in fields(LavaInput)}}
    return replace(layer, inputs=(replace(layer.inputs[0], **own),), **changes)


@pytest.fixture
def inputs():
    return np.ones((2, 5, 3), bool)


BAD_LAYERS = {
    "an odd weight among both signs": (
        {"values": [3, -2]},
        r"'hidden': values.*-2 to 3, 1 of them odd.*even",
    ),
    "a weight above 8 bits": ({"values": [256, 2]}, r"'hidden': values.*256"),
    "-256 that Lava would clip": ({"values": [-256, -1]}, r"'hidden': values.*-256"),
    "float weights": ({"values": [2.0, 4.0]}, r"'hidden': values.*float64 in fixed mode"),
    "a complex weight": ({"values": [2j, 4j]}, r"'hidden': values.*complex"),
    "an index outside": ({"cols": [0, 3]}, r"'hidden': cols.*0 to 3"),
    "a negative index": ({"rows": [-1, 3]}, r"'hidden': rows.*-1"),
    "one index too few": ({"rows": [1]}, r"'hidden': rows, cols, values.*\(1,\)"),
    "a pair twice": ({"rows": [1, 1], "cols": [2, 2]}, r"'hidden'.*a pair occurs twice"),
    "a short bias": ({"bias": [1, 2, 3]}, r"'hidden': bias.*\(3,\).*\(4,\)"),
    "a bias beyond 24 bits": ({"bias": [0, 0, 2**23, 0]}, r"'hidden': bias: 8388608 of neuron 2"),
    "a decay above one": ({"decay": [0, 4097, 0, 0]}, r"'hidden': decay: 4097 of neuron 1"),
    "a threshold above 17 bits": (
        {"threshold": [1, 1, 1, 131072]},
        r"'hidden': threshold: 131072 of neuron 3",
    ),
    "a quantum beyond 24 bits": ({"quantum": [-(2**23), 1, 1, 1]}, r"'hidden': quantum: -8388608 of neuron 0"),
    "a negative exponent": ({"weight_exp": -1}, r"'hidden': weight_exp: -1"),
    "an unknown reset": ({"reset": "subtract"}, r"'hidden': reset: 'subtract'.*'soft'"),
    "no neurons": ({"bias": []}, r"'hidden': bias: shape \(0,\)"),
    "a kept current without a decay of its own": (
        {"current_decay": [0, 0, 0, 4096]},
        r"'hidden': current_decay: 4096 of neuron 3",
    ),
}


@pytest.mark.parametrize("case", BAD_LAYERS)
def test_bad_layers_are_refused_by_name(case, layer, inputs):
    changes, message = BAD_LAYERS[case]
    good = changed(layer, rows=[0, 1], cols=[0, 1], values=[2, 4])
    LavaJob("fixed", (good,), inputs)
    with pytest.raises(ExportError, match=message):
        LavaJob("fixed", (changed(good, **changes),), inputs)


BAD_FLOATS = {
    "an exponent": ({"weight_exp": 1}, "weight_exp: 1 has no meaning"),
    "not a number": ({"threshold": [1.0, np.nan, 1.0, 1.0]}, "threshold: entry 1 is not finite"),
    "a beta above one": ({"decay": [0.5, 0.5, 1.5, 0.5]}, "decay: 1.5 of neuron 2"),
    "integers": ({"bias": [1, 2, 3, 4]}, "bias: int64 in float mode"),
}


@pytest.mark.parametrize("case", BAD_FLOATS)
def test_bad_float_layers_are_refused_by_name(case, make_layer, inputs):
    changes, message = BAD_FLOATS[case]
    good = make_layer(RNG, "float", 4, 3, name="hidden")
    LavaJob("float", (good,), inputs)
    with pytest.raises(ExportError, match=f"'hidden': {message}"):
        LavaJob("float", (changed(good, **changes),), inputs)


BAD_INPUTS = {
    "two axes": (np.ones((5, 3), bool), 0, r"inputs: shape \(5, 3\)"),
    "no steps": (np.ones((2, 0, 3), bool), 0, r"inputs: shape"),
    "counts without bits": (np.full((2, 5, 3), 2), 0, "2 to 2 are not binary"),
    "too few bits": (np.full((2, 5, 3), 8), 3, "below 8, the magnitude of 3 bits"),
    "too many bits": (np.ones((2, 5, 3), int), 25, "input_bits: 25"),
    "floats in fixed mode": (np.ones((2, 5, 3)), 4, "float64 frames"),
    "text": (np.full((2, 5, 3), "1"), 0, "is not a number"),
    "another width": (np.ones((2, 5, 4), bool), 0, "'hidden': n_in: 3 input columns, but inputs has 4"),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_bad_inputs_are_refused(case, layer):
    frames, bits, message = BAD_INPUTS[case]
    with pytest.raises(ExportError, match=message):
        LavaJob("fixed", (layer,), frames, bits)


def test_inputs_must_come_from_earlier_layers(layer, make_layer, inputs):
    after = make_layer(RNG, "fixed", 2, 4, name="out", source=0)
    LavaJob("fixed", (layer, after), inputs)
    with pytest.raises(ExportError, match=r"'out': inputs: source 0 is no earlier layer"):
        LavaJob("fixed", (after, layer), inputs)
    with pytest.raises(ExportError, match=r"'out': n_in: 4 input columns, but inputs has 3"):
        LavaJob("fixed", (layer, changed(after, source=INPUT)), inputs)
    with pytest.raises(ExportError, match=r"'out': n_in: 4 input columns, but layer 'out' has 2"):
        LavaJob("fixed", (layer, replace(after, inputs=(*after.inputs, replace(after.inputs[0], source=SELF)))), inputs)
    with pytest.raises(ExportError, match=r"'hidden': inputs: the layer's own spikes alone"):
        LavaJob("fixed", (changed(layer, source=SELF),), inputs)
    with pytest.raises(ExportError, match=r"'hidden': inputs: there are none"):
        replace(layer, inputs=())
    with pytest.raises(ExportError, match=r"'hidden': name: is taken"):
        LavaJob("fixed", (layer, replace(after, name="hidden")), inputs)
    with pytest.raises(ExportError, match=r"'out': inputs: layer 'hidden' does not fire"):
        LavaJob("fixed", (replace(layer, fires=False), after), inputs)
    with pytest.raises(ExportError, match=r"layers: there are none"):
        LavaJob("fixed", (), inputs)
    with pytest.raises(ExportError, match=r"mode: 'int'"):
        LavaJob("int", (layer,), inputs)


def test_sums_beyond_32_bits_are_refused(make_layer):
    wide = make_layer(RNG, "fixed", 1, 3, name="wide", weights=np.full((1, 3), 254), weight_exp=7)
    graded = np.ones((1, 1, 3), int)
    LavaJob("fixed", (wide,), graded, 14)
    with pytest.raises(ExportError, match=r"'wide': values: neuron 0 could receive 3195.* sums in 32 bits"):
        LavaJob("fixed", (wide,), graded, 15)


@pytest.mark.parametrize(
    ("values", "mode"),
    [
        ([], "MIXED"),
        ([-256, 254], "MIXED"),
        ([2, 4], "MIXED"),
        ([1, 255], "EXCITATORY"),
        ([-1, -255], "INHIBITORY"),
        ([-256, -2], "MIXED"),
    ],
)
def test_the_sign_mode_keeps_the_weights(values, mode):
    assert sign_mode("layer", np.array(values, np.int64)) == mode


def test_arrays_are_copies_that_nobody_can_change(layer, inputs):
    weights = np.array([2, 4])
    made = changed(layer, rows=[0, 1], cols=[0, 1], values=weights)
    weights[0] = 6
    (only,) = made.inputs
    assert only.values[0] == 2
    with pytest.raises(ValueError, match=r"read-only"):
        only.values[0] = 8
    job = LavaJob("fixed", (made,), inputs)
    inputs[:] = False
    assert job.inputs.all()


@pytest.mark.parametrize(("mode", "bits"), [("fixed", 0), ("float", 4)])
def test_jobs_and_results_survive_their_file(mode, bits, make_layer, tmp_path):
    layers = (
        make_layer(RNG, mode, 4, 3, name="a"),
        make_layer(RNG, mode, 2, 4, name="b", source=0, fires=False, reset="none"),
    )
    kept = layers[0].decay // 2 if mode == "fixed" else layers[0].decay
    layers = (replace(layers[0], current_decay=kept), layers[1])
    frames = RNG.random((2, 5, 3)) if mode == "float" else RNG.random((2, 5, 3)) < 0.5
    job = LavaJob(mode, layers, frames, bits)
    job.save(tmp_path / "job.npz")
    back = LavaJob.load(tmp_path / "job.npz")
    assert (back.mode, back.input_bits) == (mode, bits)
    np.testing.assert_array_equal(back.inputs, job.inputs)
    for before, after in zip(job.layers, back.layers, strict=True):
        parts = [(before, after), *zip(before.inputs, after.inputs, strict=True)]
        for old, new in parts:
            for field, value in vars(old).items():
                if field != "inputs":
                    np.testing.assert_array_equal(getattr(new, field), value, err_msg=field)
    result = LavaResult((np.ones((1, 2, 3), bool),), (np.arange(3)[None],), "0.10.0", "3.10.1", 0.5)
    result.save(tmp_path / "result.npz")
    again = LavaResult.load(tmp_path / "result.npz")
    np.testing.assert_array_equal(again.spikes[0], result.spikes[0])
    np.testing.assert_array_equal(again.membranes[0], result.membranes[0])
    assert (again.lava_version, again.python_version, again.seconds) == ("0.10.0", "3.10.1", 0.5)


def test_damaged_files_are_named(layer, inputs, tmp_path):
    path = tmp_path / "job.npz"
    LavaJob("fixed", (layer,), inputs).save(path)
    whole = path.read_bytes()
    for damaged in (
        b"",
        b"not an archive",
        whole[: len(whole) // 2],
        whole.replace(b"input0_rows", b"input0_cows"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ExportError, match=r"job.npz: not a whole"):
            LavaJob.load(path)
    with pytest.raises(ExportError, match=r"missing.npz: not a whole"):
        LavaJob.load(tmp_path / "missing.npz")
    LavaResult((), (), "0.10.0", "3.10.1", 0.5).save(path)
    with pytest.raises(ExportError, match=r"job.npz: not a whole"):
        LavaJob.load(path)


@pytest.fixture
def graded(layer):
    own = {"activation": "relu", "message_shift": [0, 1, 2, 23], "message_bits": 8}
    return changed(layer, rows=[0, 1], cols=[0, 1], values=[2, 4], threshold=[1, 2, 3, 2**23 - 1], **own)


BAD_GRADED = {
    "another activation": ({"activation": "tanh"}, "activation: 'tanh'"),
    "messages of spiking neurons": (
        {"activation": None},
        "message_bits: given. Only neurons with an activation send",
    ),
    "no bits": ({"message_bits": 0}, r"message_bits: 0\. .* 2 to 24 bits"),
    "too many bits": ({"message_bits": 25}, "message_bits: 25"),
    "no shift": ({"message_shift": None}, "message_shift: is not there"),
    "a shift beyond the state": ({"message_shift": [0, 0, 24, 0]}, "message_shift: 24 of neuron 2"),
    "a threshold of zero": ({"threshold": [1, 0, 1, 1]}, "threshold: 0 of neuron 1 is not in 1"),
    "a threshold beyond the state": ({"threshold": [1, 2**23, 1, 1]}, "threshold: 8388608 of neuron 1"),
    "states without the shift by 6": ({"state_shift": 0}, "state_shift: 0. Give 6, or 0 for a readout"),
}


@pytest.mark.parametrize("case", BAD_GRADED)
def test_bad_sigma_delta_layers_are_refused_by_name(case, graded, inputs):
    changes, message = BAD_GRADED[case]
    LavaJob("fixed", (graded,), inputs)
    with pytest.raises(ExportError, match=f"'hidden': {message}"):
        LavaJob("fixed", (changed(graded, **changes),), inputs)


BAD_MAXIMA = {
    "no dendrites": ({"dendrites": 0}, "dendrites: 0. Neurons of the activation 'maximum' have 1 or more"),
    "dendrites of others": ({"activation": "relu"}, "dendrites: 3. Neurons .* others 1"),
    "a row behind the last dendrite": ({"rows": [0, 12]}, "rows: indices from 0 to 12. The matrix has 12"),
    "no bits": ({"message_bits": 0}, r"message_bits: 0\. .* 2 to 24 bits"),
    "no shift": ({"message_shift": None}, "message_shift: is not there"),
    "sums beyond 32 bits": (
        {"values": [2, 254], "weight_exp": 7}, "values: neuron 3 could receive .* in 32 bits"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_MAXIMA)
def test_bad_layers_of_maxima_are_refused_by_name(case, graded):
    changes, message = BAD_MAXIMA[case]
    good = changed(graded, activation="maximum", dendrites=3, rows=[0, 11], values=[2, 4], threshold=[0] * 4)
    frames = np.zeros((1, 1, 3), int)
    frames[..., 1] = 2**17
    LavaJob("fixed", (good,), frames, 18)
    with pytest.raises(ExportError, match=f"'hidden': {message}"):
        LavaJob("fixed", (changed(good, **changes),), frames, 18)


def test_messages_may_be_large_but_not_their_sums(graded, make_layer, inputs):
    weights = np.full((2, 4), 254)
    after = make_layer(RNG, "fixed", 2, 4, name="after", source=0, weights=weights)
    LavaJob("fixed", (changed(graded, message_bits=21), after), inputs)
    with pytest.raises(ExportError, match=r"'after': values: neuron 0 could receive 4261410832.* 32 bits"):
        LavaJob("fixed", (changed(graded, message_bits=22), changed(after, weight_exp=1)), inputs)


def test_sigma_delta_layers_come_back_from_their_file(graded, inputs, tmp_path):
    job = LavaJob("fixed", (graded,), inputs)
    job.save(tmp_path / "job.npz")
    (found,) = LavaJob.load(tmp_path / "job.npz").layers
    assert (found.activation, found.message_bits, found.state_shift, found.largest) == ("relu", 8, 6, 127)
    assert found.message_shift.tolist() == [0, 1, 2, 23]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"message_bits": 8}, "messages of float mode have none"),
        ({"message_shift": np.zeros(4)}, "messages of float mode have none"),
        ({"threshold": np.array([1.0, 0, 1, 1])}, "threshold: 0.0. A sigma-delta neuron's is above 0"),
    ],
)
def test_bad_float_sigma_delta_layers_are_refused(changes, message, make_layer, inputs):
    layer = make_layer(RNG, "float", 4, 3, name="hidden", activation="none")
    LavaJob("float", (layer,), inputs)
    with pytest.raises(ExportError, match=message):
        LavaJob("float", (replace(layer, **changes),), inputs)
