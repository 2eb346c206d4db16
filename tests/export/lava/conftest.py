"""What the Lava tests share: the worker, layers to make, and the dynamics written out once more, in plain
numpy."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from spikekit.export.lava import LavaInput, LavaJob, LavaLayer, LavaResult, client
from spikekit.export.synapses import INPUT, MAXIMUM, SELF
from tests.export.lava.astrocytes import factors, followed
from tests.export.lava.processes import LONG, processes

Array = np.ndarray


@pytest.fixture
def make_layer() -> Callable[..., LavaLayer]:
    return _make_layer


@pytest.fixture
def chain() -> Callable[..., tuple[LavaLayer, ...]]:
    """Layers of one input each, one after another."""
    return lambda *layers: tuple(
        replace(layer, inputs=(replace(layer.inputs[0], source=number - 1),)) for number, layer in enumerate(layers)
    )


@pytest.fixture
def simulate() -> Callable[[LavaJob], tuple[list[Array], list[Array]]]:
    return _simulate


@pytest.fixture
def assert_same() -> Callable[[LavaJob, LavaResult], None]:
    return _assert_same


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """A temporary folder of our own and known tokens; checks at the end that a worker left nothing
    anywhere."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    tokens = []

    def token(size: int) -> str:
        tokens.append(os.urandom(size).hex())
        return tokens[-1]

    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(client.secrets, "token_hex", token)
    yield str(folder)
    assert processes(str(folder)) == []
    assert list(folder.iterdir()) == []
    assert [name for name in os.listdir("/dev/shm") if any(token in name for token in tokens)] == []


@pytest.fixture
def long_job(make_layer, chain):
    """A job that would take minutes."""
    rng = np.random.default_rng(0)
    layers = chain(make_layer(rng, "fixed", 4, 2, name="first"), make_layer(rng, "fixed", 3, 4, name="second"))
    return LavaJob("fixed", layers, np.ones((1, LONG, 2), bool))


def _make_layer(
    rng: np.random.Generator,
    mode: str,
    n_out: int,
    n_in: int,
    *,
    name: str = "fc",
    source: int = INPUT,
    weight_exp: int = 0,
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
        "inputs": (LavaInput(source, rows, cols, weights[rows, cols], n_in, weight_exp),),
        "reset": "soft",
        "inclusive": True,
        "fires": True,
        **numbers,
    }
    return LavaLayer(**fields | given)


def _lost(state: Array, keep: Array) -> Array:
    product = [int(x) * int(k) for x, k in zip(state, keep, strict=True)]
    return np.array([abs(x) // 4096 * (1 if x > 0 else -1) for x in product])


def _wrapped(current: Array) -> Array:
    return np.array([x - 2**24 if x > 2**23 else x + 2**24 if x <= -(2**23) else x for x in map(int, current)])


def _step(layer: LavaLayer, fixed: bool, states: dict[str, Array], a: Array) -> Array:
    """One step of one layer on its states v, u, b, wait and c, given its input a: the spikes."""
    held, u, b = states["v"], states["u"], states["b"]
    v, live = held, states["wait"] == 0
    acts_on, factor = None, None
    if layer.astrocyte is not None:
        acts_on, factor = layer.astrocyte.acts_on, factors(layer, states["c"])
    if fixed:
        if layer.current_decay is None:
            u = _wrapped(a * 2**layer.state_shift) + layer.bias
            u = _lost(u, factor) if acts_on == "gain" else u
        else:
            u = _wrapped(_lost(u, 4095 - layer.current_decay) + a * 2**layer.state_shift + layer.bias)
        v = np.clip(_lost(v, 4096 - layer.decay) + u, 1 - 2**23, 2**23 - 1)
        level = layer.threshold * 64
    else:
        drive = factor * (a + layer.bias) if acts_on == "gain" else a + layer.bias
        u = (0 if layer.current_decay is None else layer.current_decay * u) + drive
        v = layer.decay * v + u
        level = layer.threshold
    if layer.adapt_decay is not None:
        level = np.minimum(level + b, 2**23 - 1) if fixed else level + layer.adapt_step * b
    if acts_on == "threshold":
        level = np.clip(level * factor // 4096, 1, 2**23 - 1) if fixed else level * factor
    v = np.where(live, v, held)
    states |= {"v": v, "u": u}
    if not layer.fires:
        return np.zeros(v.shape, bool)
    fired = live & (v >= level if layer.inclusive else v > level)
    if layer.reset == "soft":
        v = np.where(fired, v - layer.quantum, v)
    elif layer.reset == "hard":
        v = np.where(fired, 0, v)
    if layer.adapt_decay is not None and fixed:
        b = np.minimum(_lost(b, 4096 - layer.adapt_decay) + layer.adapt_step * fired, 2**23 - 1)
    elif layer.adapt_decay is not None:
        b = layer.adapt_decay * b + fired
    wait = np.where(fired, layer.period, np.maximum(states["wait"] - 1, 0))
    states |= {"v": v, "b": b, "wait": wait}
    return fired


def _sent(layer: LavaLayer, fixed: bool, states: dict[str, Array], a: Array) -> Array:
    """One step of sigma-delta neurons, one at a time in Python's own numbers; states v (sigma), act and residue."""
    out = np.zeros(layer.n, a.dtype)
    for i in range(layer.n):
        number, top = (int, 2**23 - 1) if fixed else (float, float("inf"))
        arrived, bias, threshold = (number(values[i]) for values in (a, layer.bias, layer.threshold))
        before, residue = number(states["act"][i]), number(states["residue"][i])
        if fixed and arrived > 2**23:
            arrived -= 2**24
        elif fixed and arrived <= -(2**23):
            arrived += 2**24
        sigma = max(-top, min(top, number(states["v"][i]) + arrived))
        act = max(-top, min(top, sigma + bias))
        act = max(act, number(0)) if layer.activation == "relu" else act
        delta = max(-top, min(top, act - before + residue))
        s = number(0)
        if abs(delta) >= threshold:
            s = delta
        if fixed and s:
            unit, most = 2 ** int(layer.message_shift[i]), 2 ** (layer.message_bits - 1) - 1
            s = max(-most, min(most, (2 * delta + unit) // (2 * unit)))
            residue = delta - s * unit
        else:
            residue = delta - s
        for name, value in (("v", sigma), ("act", act), ("residue", residue)):
            states[name][i] = value
        out[i] = s
    return out


def _largest(layer: LavaLayer, fixed: bool, states: dict[str, Array], a: Array) -> Array:
    """One step of neurons that send the largest sum of their dendrites; v is what they round."""
    out = np.zeros(layer.n, a.dtype)
    for i in range(layer.n):
        v = max(a[i :: layer.n].tolist())
        if fixed:
            v = v - 2**24 if v > 2**23 else v + 2**24 if v <= -(2**23) else v
            v = max(1 - 2**23, min(2**23 - 1, v + int(layer.bias[i])))
            unit, most = 2 ** int(layer.message_shift[i]), 2 ** (layer.message_bits - 1) - 1
            out[i] = max(-most, min(most, (2 * v + unit) // (2 * unit)))
        else:
            v = out[i] = v + layer.bias[i]
        states["v"][i] = v
    return out


def _matrices(inputs: tuple[LavaInput, ...], n: int) -> list[tuple[int, Array]]:
    """Source and weights of each input."""
    matrices = []
    for each in inputs:
        weights = np.zeros((n, each.n_in), each.values.dtype)
        weights[each.rows, each.cols] = each.values
        matrices.append((each.source, weights if weights.dtype == np.float64 else weights * 2**each.weight_exp))
    return matrices


def _simulate(job: LavaJob) -> tuple[list[Array], list[Array]]:
    """Spikes [N, T, n] and final membranes [N, n] of every layer, one sample and one step at a time."""
    samples, steps, _ = job.inputs.shape
    sent = {INPUT: job.inputs.astype(np.float64 if job.mode == "float" else np.int64)}
    spikes, membranes = [], []
    for number, layer in enumerate(job.layers):
        domains = 0 if layer.astrocyte is None else len(layer.astrocyte.decay)
        matrices = _matrices(layer.inputs, layer.n * layer.dendrites)
        senses = _matrices(layer.senses, domains)
        fixed, graded = job.mode == "fixed", layer.activation is not None
        out = np.zeros((samples, steps, layer.n), (np.int64 if fixed else np.float64) if graded else bool)
        left = np.zeros((samples, layer.n), layer.bias.dtype)
        for sample in range(samples):
            states = {name: left[sample].copy() for name in ("v", "u", "b", "wait", "act", "residue")}
            if layer.astrocyte is not None:
                states["c"] = np.zeros_like(layer.astrocyte.decay)
            for step in range(steps):
                a = np.zeros(layer.n * layer.dendrites, layer.bias.dtype)
                for source, weights in matrices:
                    if source != SELF:
                        a = a + weights @ sent[source][sample, step]
                    elif step:
                        a = a + weights @ out[sample, step - 1].astype(weights.dtype)
                run = _largest if layer.activation == MAXIMUM else _sent if graded else _step
                out[sample, step] = run(layer, fixed, states, a)
                if layer.astrocyte is not None:
                    heard = sum((w @ sent[source][sample, step] for source, w in senses), np.zeros(domains))
                    states["c"] = followed(layer, states["c"], out[sample, step], heard)
            left[sample] = states["v"]
        sent[number] = out.astype(np.float64 if job.mode == "float" else np.int64)
        spikes.append(out)
        membranes.append(left)
    return spikes, membranes


def _assert_same(job: LavaJob, result: LavaResult) -> None:
    """Each layer's spikes and membranes are those of the reference, and the layers that fire did so, but not
    always."""
    spikes, membranes = _simulate(job)
    assert len(result.spikes) == len(result.membranes) == len(job.layers)
    for index, layer in enumerate(job.layers):
        sends = bool if layer.activation is None else np.int32 if job.mode == "fixed" else np.float64
        assert result.spikes[index].dtype == sends
        assert result.membranes[index].dtype == layer.bias.dtype
        np.testing.assert_array_equal(result.spikes[index], spikes[index], err_msg=layer.name)
        np.testing.assert_array_equal(result.membranes[index], membranes[index], err_msg=layer.name)
        assert result.spikes[index].any() == layer.fires
        # What sends the largest sum does so at every step.
        assert layer.activation == MAXIMUM or not result.spikes[index].all()
