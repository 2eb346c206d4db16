"""Where Lava's own neurons can do the same, ours give the same: the arithmetic is Lava's, not our reading of it."""

from __future__ import annotations

import subprocess
from itertools import pairwise
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


def run(script, worker, folder):
    command = [worker, Path(__file__).with_name(script), WORKER.parent, folder / "case.npz", folder / "out.npz"]
    subprocess.run(command, check=True, timeout=60, cwd=folder)


@pytest.mark.parametrize("name", CASES)
def test_hard_reset_and_strict_comparison_equal_lavas_lif(name, worker, tmp_path):
    case = {"du": 4095, **CASES[name]}
    rng = np.random.default_rng(list(CASES).index(name))
    weights = rng.integers(-60, 64, (20, 12)) * 2 * case.pop("scale")
    inputs = rng.random((40, 12)) < 0.5
    np.savez(tmp_path / "case.npz", inputs=inputs.astype(int), weights=weights, **case)
    run("builtin_lif.py", worker, tmp_path)
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


def sigma_delta_layers(weights, vth, activation, cut):
    layers = []
    for number, matrix in enumerate(weights):
        rows, cols = np.indices(matrix.shape).reshape(2, -1)
        every = np.ones(len(matrix), np.int64)
        layer = LavaLayer(
            name=f"layer {number}",
            inputs=(LavaInput(number - 1, rows, cols, matrix.ravel(), matrix.shape[1]),),
            decay=every * 0,
            bias=every * 0,
            threshold=every * vth,
            quantum=every * 0,
            reset="none",
            inclusive=True,
            fires=True,
            activation=activation,
            message_shift=every * cut,
            message_bits=20,
        )
        layers.append(layer)
    return tuple(layers)


def sigma_delta_case(worker, folder, act_mode, cut, sizes):
    """What Lava's own neurons send and hold, and what ours do."""
    rng = np.random.default_rng(act_mode)
    weights = [rng.integers(-5, 6, (n_out, n_in)) * (2 if n_in == sizes[0] else 16) for n_in, n_out in pairwise(sizes)]
    inputs, vth = rng.integers(-3, 4, (40, sizes[0])), 64
    named = {f"weights{i}": each for i, each in enumerate(weights)}
    np.savez(folder / "case.npz", inputs=inputs, vth=vth, act_mode=act_mode, state_exp=cut, **named)
    run("builtin_sigma_delta.py", worker, folder)
    layers = sigma_delta_layers(weights, vth, ("none", "relu")[act_mode], cut)
    ours = run_job(LavaJob("fixed", layers, inputs[None], input_bits=2), python=worker)
    with np.load(folder / "out.npz") as file:
        return {name: file[name] for name in file.files}, ours


@pytest.mark.parametrize("act_mode", [0, 1])
def test_nothing_cut_off_equals_lavas_sigma_delta(act_mode, worker, tmp_path):
    theirs, ours = sigma_delta_case(worker, tmp_path, act_mode, 0, (12, 20, 8))
    for number in (0, 1):
        np.testing.assert_array_equal(ours.spikes[number][0], theirs[f"messages{number}"])
        np.testing.assert_array_equal(ours.membranes[number][0], theirs[f"sigma{number}"])
        assert 0.02 < (ours.spikes[number] != 0).mean() < 0.98


def test_lavas_sigma_delta_forgets_what_it_cuts_off(worker, tmp_path):
    """The reason for a process of our own: its messages fall behind its activity, step by step; ours do not."""
    theirs, ours = sigma_delta_case(worker, tmp_path, 0, 5, (12, 20))
    behind = [
        np.abs(sigma - (sent.astype(np.int64).sum(0) << 5))
        for sent, sigma in ((theirs["messages0"], theirs["sigma0"]), (ours.spikes[0][0], ours.membranes[0][0]))
    ]
    np.testing.assert_array_equal(ours.membranes[0][0], theirs["sigma0"])
    # The threshold is 64.
    assert behind[1].max() < 64
    assert behind[0].mean() > 64
