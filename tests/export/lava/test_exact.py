"""Lava computes exactly what spikekit says it does: every spike of every layer, and every final membrane."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spikekit.export.lava import LavaJob, run_job

MODES = ["float", "fixed"]


def spikes(rng, samples, steps, n, rate=0.4):
    return rng.random((samples, steps, n)) < rate


@pytest.mark.parametrize("mode", MODES)
def test_four_layers_with_soft_and_hard_resets_and_a_readout(mode, worker, make_layer, chain, assert_same):
    rng = np.random.default_rng(1)
    job = LavaJob(
        mode,
        chain(
            make_layer(rng, mode, 24, 16, name="a", reset="soft", inclusive=True),
            make_layer(rng, mode, 20, 24, name="b", reset="hard", inclusive=False),
            make_layer(rng, mode, 18, 20, name="c", reset="soft", inclusive=False),
            make_layer(rng, mode, 5, 18, name="out", fires=False),
        ),
        spikes(rng, 6, 9, 16),
    )
    result = run_job(job, python=worker)
    assert_same(job, result)
    assert result.lava_version == "0.10.0"
    assert result.seconds > 0


@pytest.mark.parametrize("mode", MODES)
def test_no_reset_and_both_comparisons(mode, worker, make_layer, chain, assert_same, simulate):
    rng = np.random.default_rng(5)
    layers = chain(
        make_layer(rng, mode, 40, 16, name="a", reset="hard", inclusive=True),
        make_layer(rng, mode, 40, 40, name="b", reset="none", inclusive=False),
        make_layer(rng, mode, 40, 40, name="c", reset="none", inclusive=True),
    )
    job = LavaJob(mode, layers, spikes(rng, 4, 8, 16))
    # The other comparison gives other spikes in each layer: membranes do land on thresholds here.
    for index, layer in enumerate(layers):
        other = (*layers[:index], replace(layer, inclusive=not layer.inclusive), *layers[index + 1 :])
        assert (simulate(replace(job, layers=other))[0][index] != simulate(job)[0][index]).any()
    assert_same(job, run_job(job, python=worker))


def test_fixed_current_wraps_and_membrane_saturates_as_on_loihi(worker, make_layer, chain, assert_same):
    rng = np.random.default_rng(3)
    # 8 * 128 << 7 is 2^17, which the shift by 6 takes to 2^23 exactly: kept when positive, wrapped when
    # negative.
    weights = np.vstack([np.full((4, 8), 128), np.full((4, 8), -128), rng.integers(-128, 128, (24, 8)) * 2])
    wrapping = make_layer(
        rng,
        "fixed",
        32,
        8,
        name="wrap",
        weights=weights,
        weight_exp=7,
        threshold=np.full(32, 131071),
        reset="none",
    )
    full = make_layer(rng, "fixed", 16, 32, name="full", weight_exp=7, decay=np.zeros(16, int), reset="hard")
    job = LavaJob("fixed", chain(wrapping, full), np.concatenate([np.ones((1, 12, 8)), spikes(rng, 3, 12, 8, 0.9)]) > 0)
    result = run_job(job, python=worker)
    current = (job.inputs.astype(np.int64) @ weights.T) << 13
    assert (current > 2**23).any()
    assert (current == 2**23).any()
    assert (current == -(2**23)).any()
    assert (result.membranes[0] == 2**23 - 1).any()
    assert_same(job, result)


@pytest.mark.parametrize(("mode", "kind"), [("float", float), ("float", int), ("fixed", int)])
def test_graded_input(mode, kind, worker, make_layer, chain, assert_same):
    rng = np.random.default_rng(4)
    inputs = rng.integers(-3, 8, (3, 6, 10)) / (4 if kind is float else 1)
    layers = chain(make_layer(rng, mode, 12, 10, name="a"), make_layer(rng, mode, 6, 12, name="b"))
    job = LavaJob(mode, layers, inputs.astype(kind), input_bits=3)
    assert_same(job, run_job(job, python=worker))


def convolution(rng, mode, c_in, size, c_out, kernel):
    """The dense matrix of a convolution, most of it zero."""
    out = size - kernel + 1
    matrix = np.zeros((c_out, out, out, c_in, size, size))
    filters = rng.integers(-10, 12, (c_out, c_in, kernel, kernel))
    for y in range(out):
        for x in range(out):
            matrix[:, y, x, :, y : y + kernel, x : x + kernel] = filters
    matrix = matrix.reshape(c_out * out * out, c_in * size * size)
    return (matrix * 16).astype(int) if mode == "fixed" else matrix / 32


@pytest.mark.parametrize("mode", MODES)
def test_convolution_as_a_sparse_matrix(mode, worker, make_layer, chain, assert_same):
    rng = np.random.default_rng(31)
    first = convolution(rng, mode, 2, 12, 6, 3)
    second = convolution(rng, mode, 6, 10, 4, 3)
    layers = chain(
        make_layer(rng, mode, *first.shape, name="c1", weights=first),
        make_layer(rng, mode, *second.shape, name="c2", weights=second),
        make_layer(rng, mode, 10, 256, name="fc"),
    )
    job = LavaJob(mode, layers, spikes(rng, 2, 5, 288, 0.2))
    assert_same(job, run_job(job, python=worker))


def test_the_weights_lava_uses_are_the_ones_given(worker, make_layer):
    rng = np.random.default_rng(6)
    # A readout without decay over one input at a time shows each weight; odd ones only live in matrices of
    # one sign.
    positive, negative, mixed = [0, 1, 3, 255], [0, -1, -3, -255], [-256, -2, 2, 254]
    for values, filled in ((positive, 1.0), (negative, 1.0), (positive, 0.05), (mixed, 0.05)):
        shape = (8, 6) if filled == 1 else (300, 200)
        n = shape[0]
        weights = rng.choice(values, shape) * (rng.random(shape) < filled)
        layer = make_layer(
            rng, "fixed", *shape, weights=weights, weight_exp=2, fires=False,
            decay=np.full(n, 4096), bias=np.zeros(n, int),
        )  # fmt: skip
        job = LavaJob("fixed", (layer,), np.eye(shape[1], dtype=bool)[:, None])
        seen = run_job(job, python=worker).membranes[0].T
        np.testing.assert_array_equal(seen, weights << 8, err_msg=f"{values} {filled}")


def test_one_step_one_sample_and_no_weights_at_all(worker, make_layer, simulate):
    rng = np.random.default_rng(7)
    layer = make_layer(rng, "fixed", 3, 2, weights=np.zeros((3, 2), int), bias=np.array([700, 0, -700]))
    job = LavaJob("fixed", (layer,), np.ones((1, 1, 2), bool))
    result = run_job(job, python=worker)
    np.testing.assert_array_equal(result.membranes[0], simulate(job)[1][0])
    assert result.spikes[0].shape == (1, 1, 3)
