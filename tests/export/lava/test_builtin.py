"""Where Lava's own LIF can do the same, ours gives the same: the arithmetic is Lava's, not our reading of
it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from spikekit.export.lava import LavaInput, LavaJob, LavaLayer, run_job
from spikekit.export.lava.client import WORKER

CASES = {
    "ordinary": {"weight_exp": 0, "dv": 410, "vth": 300, "bias_mant": 40, "bias_exp": 3, "scale": 1},
    "wrapping": {"weight_exp": 7, "dv": 100, "vth": 100_000, "bias_mant": -3, "bias_exp": 7, "scale": 1},
    "saturating": {"weight_exp": 6, "dv": 0, "vth": 131_071, "bias_mant": 4000, "bias_exp": 7, "scale": 2},
    "a kept current": {"weight_exp": 0, "du": 700, "dv": 410, "vth": 900, "bias_mant": 0, "bias_exp": 0, "scale": 1},
    "a kept current that wraps": {
        **{"weight_exp": 7, "du": 0, "dv": 0, "vth": 131_071, "bias_mant": 0, "bias_exp": 0, "scale": 2}
    },
}


@pytest.mark.parametrize("name", CASES)
def test_hard_reset_and_strict_comparison_equal_lavas_lif(name, worker, tmp_path):
    case = {"du": 4095, **CASES[name]}
    rng = np.random.default_rng(list(CASES).index(name))
    weights = rng.integers(-60, 64, (20, 12)) * 2 * case.pop("scale")
    inputs = rng.random((40, 12)) < 0.5
    np.savez(tmp_path / "case.npz", inputs=inputs.astype(int), weights=weights, **case)
    script = Path(__file__).with_name("builtin_lif.py")
    command = [worker, script, WORKER.parent, tmp_path / "case.npz", tmp_path / "out.npz"]
    subprocess.run(command, check=True, timeout=60, cwd=tmp_path)
    rows, cols = np.indices(weights.shape).reshape(2, -1)
    every = np.ones(20, np.int64)
    layer = LavaLayer(
        name=name,
        inputs=(LavaInput(-1, rows, cols, weights.ravel(), weights.shape[1], int(case["weight_exp"])),),
        decay=every * case["dv"],
        bias=every * (case["bias_mant"] << case["bias_exp"]),
        threshold=every * case["vth"],
        quantum=every * 0,
        current_decay=every * case["du"] if case["du"] < 4095 else None,
        reset="hard",
        inclusive=False,
        fires=True,
    )
    ours = run_job(LavaJob("fixed", (layer,), inputs[None]), python=worker)
    with np.load(tmp_path / "out.npz") as theirs:
        np.testing.assert_array_equal(ours.spikes[0][0], theirs["spikes"])
        np.testing.assert_array_equal(ours.membranes[0][0], theirs["v"])
    assert 0.02 < ours.spikes[0].mean() < 0.9
