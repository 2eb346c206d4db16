"""What the Lava tests share: the worker, layers to make, and the dynamics written out once more, in plain
numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from spikekit.export.lava import LavaJob, LavaLayer, LavaResult

Array = np.ndarray


@pytest.fixture
def make_layer() -> Callable[..., LavaLayer]:
    return _make_layer


@pytest.fixture
def simulate() -> Callable[[LavaJob], tuple[list[Array], list[Array]]]:
    return _simulate


@pytest.fixture
def assert_same() -> Callable[[LavaJob, LavaResult], None]:
    return _assert_same


def _make_layer(
    rng: np.random.Generator,
    mode: str,
    n_out: int,
    n_in: int,
    *,
    name: str = "fc",
    filled: float = 0.7,
    **given: Any,
) -> LavaLayer:
    """A random layer with other numbers for each neuron; `given` replaces fields, and `weights` is a dense
    matrix.

    Float weights are multiples of 1/8, so that every sum is exact in any order; thresholds and weights are
    coarse, so that membranes land exactly on a threshold now and then.
    """
    fixed = mode == "fixed"
    if fixed:
        weights = rng.integers(-4, 6, (n_out, n_in)) * 32
        numbers = {
            "decay": rng.choice([0, 410, 2048, 4096], n_out),
            "bias": rng.integers(-2, 3, n_out) * 512,
            "threshold": rng.integers(1, 6, n_out) * 32,
            "quantum": rng.integers(1, 6, n_out) * 2048,
        }
    else:
        weights = rng.integers(-4, 6, (n_out, n_in)) / 8
        numbers = {
            "decay": rng.choice([0.0, 0.5, 0.9, 1.0], n_out),
            "bias": rng.integers(-2, 3, n_out) / 8,
            "threshold": rng.integers(1, 6, n_out) / 4,
            "quantum": rng.integers(1, 6, n_out) / 4,
        }
    weights = given.pop("weights", weights * (rng.random((n_out, n_in)) < filled))
    rows, cols = np.nonzero(weights)
    fields: dict[str, Any] = {
        "name": name,
        "rows": rows,
        "cols": cols,
        "values": weights[rows, cols],
        "shape": weights.shape,
        "weight_exp": 0,
        "reset": "soft",
        "inclusive": True,
        "fires": True,
        **numbers,
    }
    return LavaLayer(**fields | given)


def _step(layer: LavaLayer, fixed: bool, v: Array, a: Array) -> tuple[Array, Array]:
    """One step of one layer on membranes v, given its input a = W s: (spikes, membranes)."""
    if fixed:
        u = []
        for value in (int(x) << layer.weight_exp << 6 for x in a):
            if value > 2**23:
                value -= 2**24
            elif value <= -(2**23):
                value += 2**24
            u.append(value)
        decayed = [int(x) * (4096 - int(d)) for x, d in zip(v, layer.decay, strict=True)]
        decayed = [abs(x) // 4096 * (1 if x > 0 else -1) for x in decayed]
        v = np.clip(np.array(decayed) + np.array(u) + layer.bias, 1 - 2**23, 2**23 - 1)
        level = layer.threshold * 64
    else:
        v = layer.decay * v + (a + layer.bias)
        level = layer.threshold
    if not layer.fires:
        return np.zeros(v.shape, bool), v
    fired = v >= level if layer.inclusive else v > level
    if layer.reset == "soft":
        v = np.where(fired, v - layer.quantum, v)
    elif layer.reset == "hard":
        v = np.where(fired, 0, v)
    return fired, v


def _simulate(job: LavaJob) -> tuple[list[Array], list[Array]]:
    """Spikes [N, T, n] and final membranes [N, n] of every layer, one sample and one step at a time."""
    samples, steps, _ = job.inputs.shape
    signal = job.inputs.astype(np.float64 if job.mode == "float" else np.int64)
    spikes, membranes = [], []
    for layer in job.layers:
        weights = np.zeros(layer.shape, layer.values.dtype)
        weights[layer.rows, layer.cols] = layer.values
        out = np.zeros((samples, steps, layer.shape[0]), bool)
        left = np.zeros((samples, layer.shape[0]), layer.bias.dtype)
        for sample in range(samples):
            v = left[sample]
            for step in range(steps):
                out[sample, step], v = _step(layer, job.mode == "fixed", v, weights @ signal[sample, step])
            left[sample] = v
        spikes.append(out)
        membranes.append(left)
        signal = out.astype(weights.dtype)
    return spikes, membranes


def _assert_same(job: LavaJob, result: LavaResult) -> None:
    """Each layer's spikes and membranes are those of the reference, and the layers that fire did so, but not
    always."""
    spikes, membranes = _simulate(job)
    assert len(result.spikes) == len(result.membranes) == len(job.layers)
    for index, layer in enumerate(job.layers):
        assert result.spikes[index].dtype == bool
        assert result.membranes[index].dtype == layer.bias.dtype
        np.testing.assert_array_equal(result.spikes[index], spikes[index], err_msg=layer.name)
        np.testing.assert_array_equal(result.membranes[index], membranes[index], err_msg=layer.name)
        assert result.spikes[index].any() == layer.fires
        assert not result.spikes[index].all()
