"""Weights of fewer bits and shared thresholds, in Lava: told to cut weights to their bits, it finds nothing to cut."""

from __future__ import annotations

import numpy as np
import pytest

from spikekit.errors import ExportError
from spikekit.export import qat, to_loihi
from spikekit.export.lava import LavaJob, run_job
from spikekit.export.verify import fixed_layer
from tests.export.nets import conv_net, frames


@pytest.mark.parametrize("bits", [4, 5, 8])
def test_lava_keeps_every_weight_of_so_many_bits(bits, worker, make_layer):
    mixed, positive = 2 ** (9 - bits), 2 ** (8 - bits)
    # All weights that there are; an odd multiple of the finest step lives in a matrix of one sign only.
    values = (np.arange(-256, 256, mixed), np.arange(0, 256, positive), -np.arange(0, 256, positive))
    for weights in (np.stack([column, np.roll(column, 1)]).T for column in values):
        n = len(weights)
        layer = make_layer(
            np.random.default_rng(0), "fixed", n, 2, weights=weights, weight_bits=bits, fires=False,
            decay=np.full(n, 4096), bias=np.zeros(n, int),
        )  # fmt: skip
        seen = run_job(LavaJob("fixed", (layer,), np.eye(2, dtype=bool)[:, None]), python=worker).membranes[0]
        np.testing.assert_array_equal(seen.T, weights << 6)


@pytest.mark.parametrize(("bits", "value"), [(4, 16), (4, 8), (5, 8), (7, 2), (9, 2), (0, 2)])
def test_weights_that_need_more_bits_are_refused(bits, value, make_layer):
    weights = np.array([[value, -value]])
    layer = make_layer(np.random.default_rng(0), "fixed", 1, 2, weights=weights, weight_bits=bits)
    with pytest.raises(ExportError, match=r"values|weight_bits"):
        LavaJob("fixed", (layer,), np.ones((1, 1, 2), bool))


def test_a_job_keeps_its_bits_in_its_file(tmp_path, make_layer):
    layer = make_layer(np.random.default_rng(0), "fixed", 2, 2, weights=np.full((2, 2), 64), weight_bits=4)
    LavaJob("fixed", (layer,), np.ones((1, 1, 2), bool)).save(tmp_path / "job.npz")
    assert LavaJob.load(tmp_path / "job.npz").layers[0].weight_bits == 4


def test_the_proof_tells_lava_the_bits():
    for layer in to_loihi(conv_net(), frames(), weight_bits=4).layers:
        assert fixed_layer(layer).weight_bits == 4


def test_four_bits_and_a_threshold_a_layer_are_equal_in_lava(worker):
    proof = to_loihi(conv_net(), frames(), weight_bits=4, thresholds="layer").verify(frames(seed=4), python=worker)
    assert proof.identical, str(proof)


@pytest.mark.slow
@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
@pytest.mark.parametrize("thresholds", ["neuron", "group", "layer"])
@pytest.mark.parametrize("bits", range(4, 9))
def test_every_setting_is_equal_in_lava_before_and_after_training(bits, thresholds, reset, worker):
    x = frames(seed=bits)
    learner = qat(conv_net(bits, reset), x, weight_bits=bits, thresholds=thresholds, headroom=1.0)
    learner(x).sum().backward()
    for parameter in learner.parameters():
        parameter.data -= 0.05 * parameter.grad.sign()
    for chip in (to_loihi(conv_net(bits, reset), x, weight_bits=bits, thresholds=thresholds), to_loihi(learner, x)):
        for data in (frames(seed=4, batch=3), frames(seed=4, batch=3, density=1.0)):
            proof = chip.verify(data, python=worker)
            assert proof.identical, str(proof)
