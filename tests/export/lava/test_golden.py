"""The recorded cases are whole, are what Lava computes today, and are what the reference of these tests says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spikekit.export.lava import LavaJob, LavaResult, run_job

FOLDER = Path(__file__).parents[2] / "golden"
NAMES = sorted(path.name.removesuffix(".job.npz") for path in FOLDER.glob("*.job.npz"))


def load(name):
    return LavaJob.load(FOLDER / f"{name}.job.npz"), LavaResult.load(FOLDER / f"{name}.result.npz")


def test_there_are_cases_of_both_kinds():
    assert {name.partition("_")[0] for name in NAMES} == {"fixed", "float"}


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_case_is_what_the_dynamics_say(name, assert_same):
    job, result = load(name)
    assert result.lava_version == "0.10.0"
    assert_same(job, result)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_case_is_what_lava_computes(name, worker):
    job, recorded = load(name)
    result = run_job(job, python=worker)
    for index in range(len(job.layers)):
        np.testing.assert_array_equal(result.spikes[index], recorded.spikes[index])
        np.testing.assert_array_equal(result.membranes[index], recorded.membranes[index])
