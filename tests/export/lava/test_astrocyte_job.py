"""A job refuses astrocytes that do not fit their neurons, and brings the others back from its file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spikekit.errors import ExportError
from spikekit.export.astrocyte import FloatAstrocyte, IntegerAstrocyte
from spikekit.export.lava import LavaInput, LavaJob, run_job
from spikekit.export.synapses import INPUT, SELF

RNG = np.random.default_rng(0)


def own(mode, **changes):
    """Over four neurons, with two domains that hear one of two presynaptic neurons each."""
    shape = (2, 3)
    if mode == "float":
        numbers = {"own": 0.5, "heard": 1, "decay": np.full(shape, 0.5), "weight": RNG.normal(size=shape)}
        fields = {"acts_on": "gain", **numbers, "bias": np.ones(2), "strength": np.full(2, -0.5)}
        return FloatAstrocyte(**fields | changes)
    numbers = {"share": 2**20, "heard_share": 2**21, "decay": np.full(shape, 400), "weight": np.full(shape, -9)}
    fields = {"acts_on": "threshold", **numbers, "offset": np.full(2, 99), "table": RNG.integers(0, 8193, (2, 257))}
    return IntegerAstrocyte(**fields | changes)


def heard(mode, source=INPUT, rows=(0, 1), value=1):
    return LavaInput(source, np.array(rows), np.arange(2), np.full(2, value, int if mode == "fixed" else float), 2)


@pytest.fixture
def job(make_layer):
    def made(mode, astrocyte, **changes):
        layer = make_layer(np.random.default_rng(1), mode, 4, 2, name="hidden", filled=1.0)
        changes = {"senses": (heard(mode),), "astrocyte": astrocyte} | changes
        return LavaJob(mode, (replace(layer, **changes),), np.ones((2, 9, 2), bool))

    return made


@pytest.mark.parametrize("mode", ["fixed", "float"])
def test_it_comes_back_from_its_file_and_runs(mode, job, worker, tmp_path, assert_same):
    made = job(mode, own(mode))
    made.save(tmp_path / "job.npz")
    back = LavaJob.load(tmp_path / "job.npz")
    (before,), (after,) = made.layers, back.layers
    assert type(after.astrocyte) is type(before.astrocyte)
    for one, other in zip(
        (before.astrocyte, *before.senses, *before.inputs), (after.astrocyte, *after.senses, *after.inputs), strict=True
    ):
        for field, value in vars(one).items():
            np.testing.assert_array_equal(getattr(other, field), value, err_msg=field)
    assert_same(back, run_job(back, python=worker))


BAD = {
    "floats in fixed mode": ("fixed", own("float"), {}, "floats in fixed mode"),
    "integers in float mode": ("float", own("fixed"), {}, "integers in float mode"),
    "neurons with a current": ("fixed", own("fixed"), {"current_decay": np.zeros(4, int)}, "states of their own"),
    "neurons that wait": ("fixed", own("fixed"), {"period": 1}, "states of their own"),
    "a readout": ("float", own("float"), {"fires": False}, "states of their own"),
    "another way to act": ("fixed", own("fixed", acts_on="plasticity"), {}, "acts_on 'plasticity'"),
    "three domains": ("fixed", own("fixed", decay=np.full((3, 3), 1)), {}, "domains that divide 4 neurons"),
    "a short table": ("fixed", own("fixed", table=np.zeros((2, 256), int)), {}, r"table is .* not int64 of \(2, 257\)"),
    "a decay above one": ("float", own("float", decay=np.full((2, 3), 1.5)), {}, "decay is not between 0 and 1"),
    "no number": ("float", own("float", weight=np.full((2, 3), np.nan)), {}, "weight is not between"),
    "nothing to hear": ("fixed", own("fixed"), {"senses": ()}, "with no presynaptic spikes"),
    "what is not heard": ("float", own("float", own=1.0, heard=0), {}, "with some presynaptic spikes"),
    "nothing to hear it": ("fixed", None, {}, "senses: there is no astrocyte"),
    "the layer itself": ("fixed", own("fixed"), {"senses": (heard("fixed", SELF),)}, "senses: the layer itself"),
    "a domain too many": ("fixed", own("fixed"), {"senses": (heard("fixed", rows=(0, 2)),)}, "indices from 0 to 2"),
    "a weight too large": ("fixed", own("fixed"), {"senses": (heard("fixed", value=300),)}, "300"),
    "weights of another type": ("fixed", own("fixed"), {"senses": (heard("float"),)}, "float64 in fixed mode"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_refused(case, job):
    mode, astrocyte, changes, message = BAD[case]
    with pytest.raises(ExportError, match=f"layer 'hidden': .*{message}"):
        job(mode, astrocyte, **changes)
