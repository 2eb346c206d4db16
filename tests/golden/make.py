"""Record small networks and what real Lava computed for them, for tests that have no Lava.

`python tests/golden/make.py [NAME...]` writes NAME.job.npz and NAME.result.npz beside this file, of all or of the named
cases; read them with `LavaJob.load` and `LavaResult.load`, which also tells the versions. Float weights are
multiples of 1/8, so that sums are exact in any order.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from spikekit.export.astrocyte import FloatAstrocyte, IntegerAstrocyte
from spikekit.export.lava import LavaInput, LavaJob, LavaLayer, run_job

HERE = Path(__file__).parent


def into(source: int, weights: np.ndarray, weight_exp: int = 0) -> LavaInput:
    """The non-zero weights from a source."""
    rows, cols = np.nonzero(weights)
    return LavaInput(source, rows, cols, weights[rows, cols], weights.shape[1], weight_exp)


def layer(
    mode: str, name: str, inputs: tuple[LavaInput, ...], n: int, rng: np.random.Generator, **given: Any
) -> LavaLayer:
    """A layer of n neurons with other numbers for each; `given` replaces fields."""
    fields: dict[str, Any] = {"name": name, "inputs": inputs, "reset": "soft", "inclusive": True, "fires": True}
    if mode == "fixed":
        fields |= {
            "decay": rng.choice([0, 205, 410, 2048, 4096], n),
            "bias": rng.integers(-900, 1000, n),
            "threshold": rng.integers(40, 240, n),
            "quantum": rng.integers(2500, 16000, n),
        }
    else:
        fields |= {
            "decay": rng.choice([0.0, 0.5, 0.9, 1.0], n),
            "bias": rng.integers(-2, 3, n) / 8,
            "threshold": rng.integers(1, 6, n) / 4,
            "quantum": rng.integers(1, 6, n) / 4,
        }
    return LavaLayer(**fields | given)


def chain(mode: str, rng: np.random.Generator, *parts: tuple[str, np.ndarray, dict[str, Any]]) -> tuple[LavaLayer, ...]:
    """One layer after another: name, weights and other fields of each."""
    layers = []
    for number, (name, weights, given) in enumerate(parts):
        exponent = given.pop("weight_exp", 0)
        layers.append(layer(mode, name, (into(number - 1, weights, exponent),), len(weights), rng, **given))
    return tuple(layers)


def dense(mode: str, rng: np.random.Generator, n_out: int, n_in: int) -> np.ndarray:
    """Random weights, some of them zero."""
    weights = rng.integers(-40, 60, (n_out, n_in)) * 2 if mode == "fixed" else rng.integers(-4, 6, (n_out, n_in)) / 8
    return weights * (rng.random((n_out, n_in)) < 0.8)


def convolution(rng: np.random.Generator, c_in: int, size: int, c_out: int, kernel: int, stride: int) -> np.ndarray:
    """The matrix of a convolution [c_out h w, c_in size size]."""
    out = (size - kernel) // stride + 1
    filters = rng.integers(-40, 50, (c_out, c_in, kernel, kernel)) * 2
    matrix = np.zeros((c_out, out, out, c_in, size, size), np.int64)
    for y in range(out):
        for x in range(out):
            matrix[:, y, x, :, y * stride : y * stride + kernel, x * stride : x * stride + kernel] = filters
    return matrix.reshape(c_out * out * out, c_in * size * size)


def branching(mode: str, rng: np.random.Generator) -> LavaJob:
    """A shortcut across two layers, an input used twice, a layer that hears itself, kept currents, a readout."""
    adapts = {"adapt_decay": rng.integers(0, 4096, 8), "adapt_step": rng.integers(0, 9000, 8)}
    if mode == "float":
        adapts = {"adapt_decay": rng.choice([0.0, 0.5, 0.75], 8), "adapt_step": rng.integers(0, 4, 8) / 4}
    own = {"current_decay": rng.integers(0, 4096, 10) if mode == "fixed" else rng.choice([0.0, 0.25, 0.5, 1.0], 10)}
    straight, shift = (np.eye(12, dtype=int) * 20, 2) if mode == "fixed" else (np.eye(12) / 4, 0)
    parts = (
        layer(mode, "first", (into(-1, dense(mode, rng, 12, 10)),), 12, rng),
        layer(mode, "current", (into(0, dense(mode, rng, 10, 12)),), 10, rng, reset="hard", **own),
        layer(
            mode, "joined", (into(1, dense(mode, rng, 12, 10)), into(0, straight, shift)), 12, rng,
        ),
        layer(mode, "heard", (into(2, dense(mode, rng, 8, 12)), into(-2, dense(mode, rng, 8, 8))), 8, rng),
        layer(mode, "adapts", (into(3, dense(mode, rng, 8, 8)), into(1, dense(mode, rng, 8, 10))), 8, rng, **adapts),
        layer(mode, "refractory", (into(4, dense(mode, rng, 8, 8)),), 8, rng, period=2),
        layer(
            mode, "readout", (into(5, dense(mode, rng, 3, 8)), into(-1, dense(mode, rng, 3, 10))), 3, rng,
            fires=False, reset="none",
        ),
    )  # fmt: skip
    return LavaJob(mode, parts, rng.random((4, 12, 10)) < 0.4)


def astrocytes(mode: str, rng: np.random.Generator) -> LavaJob:
    """Every form of an astrocyte, over neurons in domains; two of them hear what arrives, one from two sources."""

    def over(n: int, domains: int, scales: int, acts_on: str, own: float, heard: int) -> dict[str, Any]:
        shape = (domains, scales)
        if mode == "float":
            # Calcium is a sum of many roundings: the order of its sums is part of what is recorded.
            numbers = {"decay": rng.choice([0.5, 0.9, 0.99], shape), "weight": rng.integers(-9, 10, shape) / 2}
            numbers |= {"bias": rng.integers(-3, 4, domains) / 4, "strength": rng.integers(-7, 8, domains) / 8}
            return {"astrocyte": FloatAstrocyte(acts_on, own, heard, **numbers)}
        shares = (round(own * 2**22 * domains / n), round((1 - own) * 2**22 / max(heard, 1)))
        decay, weight = rng.choice([40, 400, 2000, 4096], shape), rng.integers(-4096, 4097, shape)
        places = (rng.integers(0, 2**24, domains), rng.integers(0, 8193, (domains, 257)))
        return {"astrocyte": IntegerAstrocyte(acts_on, *shares, decay, weight, *places)}

    def ones(source: int, n_in: int, first: int, heard: int, domains: int) -> LavaInput:
        pre = np.arange(n_in)
        return LavaInput(source, (pre + first) // heard, pre, np.ones(n_in, int if mode == "fixed" else float), n_in)

    parts = (
        layer(mode, "gain", (into(-1, dense(mode, rng, 12, 10)),), 12, rng, **over(12, 3, 2, "gain", 1.0, 0)),
        layer(
            mode, "threshold", (into(0, dense(mode, rng, 10, 12)),), 10, rng,
            reset="hard", inclusive=False, **over(10, 2, 3, "threshold", 1.0, 0),
        ),
        layer(
            mode, "hears", (into(1, dense(mode, rng, 12, 10)),), 12, rng,
            senses=(ones(1, 10, 0, 5, 2),), **over(12, 2, 1, "threshold", 0.0, 5),
        ),
        layer(
            mode, "both", (into(2, dense(mode, rng, 8, 12)), into(0, dense(mode, rng, 8, 12))), 8, rng,
            senses=(ones(2, 12, 0, 6, 4), ones(0, 12, 12, 6, 4)), **over(8, 4, 2, "gain", 0.5, 6),
        ),
        layer(mode, "readout", (into(3, dense(mode, rng, 3, 8)),), 3, rng, fires=False, reset="none"),
    )  # fmt: skip
    return LavaJob(mode, parts, rng.random((4, 40, 10)) < 0.4)


def sigma_delta(mode: str, rng: np.random.Generator) -> LavaJob:
    """Numbers into sigma-delta neurons, spiking ones and a readout, across a layer and beside spikes; changes go in."""

    def graded(name: str, inputs: tuple[LavaInput, ...], n: int, activation: str, bits: int) -> LavaLayer:
        own = {"activation": activation, "message_shift": rng.integers(0, 7, n), "message_bits": bits}
        own |= {"threshold": rng.integers(1, 900, n), "bias": rng.integers(-2000, 3000, n)}
        if mode == "float":
            own = {"activation": activation, "threshold": rng.integers(1, 9, n) / 8, "bias": rng.integers(-9, 9, n) / 8}
        return layer(mode, name, inputs, n, rng, **own)

    shift = 2 if mode == "fixed" else 0
    parts = (
        graded("relu", (into(-1, dense(mode, rng, 12, 10), 0),), 12, "relu", 16),
        graded("few_bits", (into(0, dense(mode, rng, 10, 12)),), 10, "none", 5),
        layer(mode, "fires", (into(0, dense(mode, rng, 8, 12)),), 8, rng),
        graded("joined", (into(1, dense(mode, rng, 9, 10)), into(2, dense(mode, rng, 9, 8), shift)), 9, "relu", 12),
        layer(
            mode, "readout", (into(3, dense(mode, rng, 3, 9)), into(0, dense(mode, rng, 3, 12))), 3, rng,
            fires=False, reset="none", state_shift=0,
        ),
    )  # fmt: skip
    return LavaJob(mode, parts, rng.integers(-3, 4, (4, 12, 10)), input_bits=3)


def sigma_delta_limits(rng: np.random.Generator) -> LavaJob:
    """Sums that wrap, states at both ends of 24 bits, messages that are the largest for many steps."""
    edges = np.vstack([np.full((2, 8), 128), np.full((2, 8), -128), rng.integers(-128, 128, (8, 8)) * 2])
    own = {"activation": "none", "message_shift": np.full(12, 3), "message_bits": 20, "bias": np.zeros(12, np.int64)}
    after = {"activation": "relu", "message_shift": rng.integers(0, 20, 6), "message_bits": 4}
    parts = (
        layer("fixed", "wrap", (into(-1, edges, 7),), 12, rng, threshold=rng.integers(1, 2**22, 12), **own),
        layer("fixed", "after", (into(0, rng.integers(-3, 4, (6, 12)) * 2),), 6, rng, **after),
    )
    frames = np.concatenate([np.full((1, 12, 8), 63), rng.integers(-63, 64, (3, 12, 8))])
    return LavaJob("fixed", parts, frames, input_bits=6)


def maximum(mode: str, rng: np.random.Generator) -> LavaJob:
    """The largest sums of numbers, spikes and both; into spiking neurons, further maxima and a readout."""

    def pooled(name: str, inputs: tuple[LavaInput, ...], n: int, dendrites: int, bits: int) -> LavaLayer:
        own = {"activation": "maximum", "dendrites": dendrites}
        if mode == "fixed":
            own |= {"message_shift": rng.integers(0, 6, n), "message_bits": bits}
        return layer(mode, name, inputs, n, rng, **own)

    shift = 2 if mode == "fixed" else 0
    parts = (
        pooled("numbers", (into(-1, dense(mode, rng, 4 * 9, 10)),), 9, 4, 12),
        layer(mode, "fires", (into(0, dense(mode, rng, 8, 9)),), 8, rng),
        pooled("both", (into(0, dense(mode, rng, 2 * 7, 9)), into(1, dense(mode, rng, 2 * 7, 8), shift)), 7, 2, 16),
        layer(
            mode, "joined", (into(2, dense(mode, rng, 6, 7)), into(0, dense(mode, rng, 6, 9))), 6, rng, reset="hard",
        ),
        pooled("few_bits", (into(3, dense(mode, rng, 5, 6)), into(-1, dense(mode, rng, 5, 10))), 5, 1, 3),
        layer(
            mode, "readout", (into(4, dense(mode, rng, 3, 5)),), 3, rng, fires=False, reset="none", state_shift=0,
        ),
    )  # fmt: skip
    return LavaJob(mode, parts, rng.integers(-3, 4, (4, 12, 10)), input_bits=3)


def maximum_limits(rng: np.random.Generator) -> LavaJob:
    """Largest sums that wrap, sums at both ends of 24 bits, messages that are the largest there are."""
    edges = np.vstack([np.full((6, 8), 128), np.full((6, 8), -128), rng.integers(-128, 128, (12, 8)) * 2])
    bias = np.where(np.arange(12) % 2, 2**23 - 1, 1 - 2**23)
    own = {"activation": "maximum", "dendrites": 2, "message_shift": np.full(12, 3), "message_bits": 20, "bias": bias}
    after = {"activation": "maximum", "dendrites": 3, "message_shift": rng.integers(0, 20, 6), "message_bits": 4}
    parts = (
        layer("fixed", "wrap", (into(-1, edges, 7),), 12, rng, **own),
        layer("fixed", "after", (into(0, rng.integers(-3, 4, (18, 12)) * 2),), 6, rng, **after),
    )
    frames = np.concatenate([np.full((1, 12, 8), 63), rng.integers(-63, 64, (3, 12, 8))])
    return LavaJob("fixed", parts, frames, input_bits=6)


def jobs() -> dict[str, LavaJob]:
    """Each case by its name."""
    made = {}
    for mode in ("fixed", "float"):
        rng = np.random.default_rng(20)
        deep = chain(
            mode,
            rng,
            ("soft_inclusive", dense(mode, rng, 16, 10), {}),
            ("soft_strict", dense(mode, rng, 14, 16), {"inclusive": False}),
            ("hard_strict", dense(mode, rng, 12, 14), {"reset": "hard", "inclusive": False}),
            ("readout", dense(mode, rng, 4, 12), {"fires": False, "reset": "none"}),
        )
        made[f"{mode}_deep"] = LavaJob(mode, deep, rng.random((4, 12, 10)) < 0.4)
        graded = chain(
            mode,
            rng,
            ("hard_inclusive", dense(mode, rng, 12, 8), {"reset": "hard"}),
            ("none_inclusive", dense(mode, rng, 6, 12), {"reset": "none"}),
        )
        made[f"{mode}_graded"] = LavaJob(mode, graded, rng.integers(-2, 4, (3, 10, 8)), input_bits=4)
        made[f"{mode}_branching"] = branching(mode, rng)
        made[f"{mode}_astrocytes"] = astrocytes(mode, np.random.default_rng(24))
        made[f"{mode}_sigma_delta"] = sigma_delta(mode, np.random.default_rng(22))
        made[f"{mode}_maximum"] = maximum(mode, np.random.default_rng(24))
    made["fixed_sigma_delta_limits"] = sigma_delta_limits(np.random.default_rng(23))
    made["fixed_maximum_limits"] = maximum_limits(np.random.default_rng(25))
    rng = np.random.default_rng(21)
    convolutions = chain(
        "fixed",
        rng,
        ("conv", convolution(rng, 2, 8, 4, 3, 1), {"weight_exp": 1}),
        ("conv_stride", convolution(rng, 4, 6, 4, 3, 2), {}),
        ("fc", dense("fixed", rng, 5, 16), {}),
    )
    made["fixed_conv"] = LavaJob("fixed", convolutions, rng.random((2, 8, 128)) < 0.2)
    edges = np.vstack([np.full((2, 8), 128), np.full((2, 8), -128), rng.integers(-128, 128, (12, 8)) * 2])
    limit = {"threshold": np.full(16, 131071), "reset": "none"}
    limits = chain(
        "fixed",
        rng,
        ("wrap", edges, {"weight_exp": 7, **limit}),
        ("after", dense("fixed", rng, 8, 16), {"weight_exp": 7, "decay": np.zeros(8, np.int64)}),
    )
    frames = np.concatenate([np.ones((1, 12, 8)), rng.random((2, 12, 8)) < 0.9]) > 0
    made["fixed_limits"] = LavaJob("fixed", limits, frames)
    one_sign = chain(
        "fixed",
        rng,
        ("positive", rng.integers(0, 256, (12, 8)), {"bias": rng.integers(-9000, 0, 12)}),
        ("negative", -rng.integers(0, 256, (8, 12)), {"bias": rng.integers(30000, 90000, 8)}),
    )
    made["fixed_one_sign"] = LavaJob("fixed", one_sign, rng.random((3, 10, 8)) < 0.3)
    return made


def main() -> None:
    """Run the cases in Lava and write them."""
    made = jobs()
    for name in sys.argv[1:] or made:
        job = made[name]
        result = run_job(job)
        job.save(HERE / f"{name}.job.npz")
        result.save(HERE / f"{name}.result.npz")
        rates = ", ".join(
            f"{part.name} {(spikes != 0).mean():.2f}" for part, spikes in zip(job.layers, result.spikes, strict=True)
        )
        print(f"{name}: Lava {result.lava_version} on Python {result.python_version}; spikes a step: {rates}")


if __name__ == "__main__":
    main()
