"""Record small networks and what real Lava computed for them, for tests that have no Lava.

`python tests/golden/make.py` writes NAME.job.npz and NAME.result.npz beside this file; read them with
`LavaJob.load` and `LavaResult.load`, which also tells the versions. Float weights are multiples of 1/8, so
that sums are exact in any order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from spikekit.export.lava import LavaJob, LavaLayer, run_job

HERE = Path(__file__).parent


def layer(mode: str, name: str, weights: np.ndarray, rng: np.random.Generator, **given: Any) -> LavaLayer:
    """A layer with these weights and other numbers for each neuron; `given` replaces fields."""
    n = len(weights)
    fields: dict[str, Any] = {"weight_exp": 0, "reset": "soft", "inclusive": True, "fires": True}
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
    rows, cols = np.nonzero(weights)
    fields |= {"name": name, "rows": rows, "cols": cols, "values": weights[rows, cols], "shape": weights.shape}
    return LavaLayer(**fields | given)


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


def jobs() -> dict[str, LavaJob]:
    """Each case by its name."""
    made = {}
    for mode in ("fixed", "float"):
        rng = np.random.default_rng(20)
        made[f"{mode}_deep"] = LavaJob(
            mode,
            (
                layer(mode, "soft_inclusive", dense(mode, rng, 16, 10), rng),
                layer(mode, "soft_strict", dense(mode, rng, 14, 16), rng, inclusive=False),
                layer(mode, "hard_strict", dense(mode, rng, 12, 14), rng, reset="hard", inclusive=False),
                layer(mode, "readout", dense(mode, rng, 4, 12), rng, fires=False, reset="none"),
            ),
            rng.random((4, 12, 10)) < 0.4,
        )
        made[f"{mode}_graded"] = LavaJob(
            mode,
            (
                layer(mode, "hard_inclusive", dense(mode, rng, 12, 8), rng, reset="hard"),
                layer(mode, "none_inclusive", dense(mode, rng, 6, 12), rng, reset="none"),
            ),
            rng.integers(-2, 4, (3, 10, 8)),
            input_bits=4,
        )
    rng = np.random.default_rng(21)
    made["fixed_conv"] = LavaJob(
        "fixed",
        (
            layer("fixed", "conv", convolution(rng, 2, 8, 4, 3, 1), rng, weight_exp=1),
            layer("fixed", "conv_stride", convolution(rng, 4, 6, 4, 3, 2), rng),
            layer("fixed", "fc", dense("fixed", rng, 5, 16), rng),
        ),
        rng.random((2, 8, 128)) < 0.2,
    )
    edges = np.vstack([np.full((2, 8), 128), np.full((2, 8), -128), rng.integers(-128, 128, (12, 8)) * 2])
    limit = {"threshold": np.full(16, 131071), "reset": "none"}
    made["fixed_limits"] = LavaJob(
        "fixed",
        (
            layer("fixed", "wrap", edges, rng, weight_exp=7, **limit),
            layer("fixed", "after", dense("fixed", rng, 8, 16), rng, weight_exp=7, decay=np.zeros(8, np.int64)),
        ),
        np.concatenate([np.ones((1, 12, 8)), rng.random((2, 12, 8)) < 0.9]) > 0,
    )
    made["fixed_one_sign"] = LavaJob(
        "fixed",
        (
            layer("fixed", "positive", rng.integers(0, 256, (12, 8)), rng, bias=rng.integers(-9000, 0, 12)),
            layer("fixed", "negative", -rng.integers(0, 256, (8, 12)), rng, bias=rng.integers(30000, 90000, 8)),
        ),
        rng.random((3, 10, 8)) < 0.3,
    )
    return made


def main() -> None:
    """Run every case in Lava and write it."""
    for name, job in jobs().items():
        result = run_job(job)
        job.save(HERE / f"{name}.job.npz")
        result.save(HERE / f"{name}.result.npz")
        rates = ", ".join(
            f"{part.name} {spikes.mean():.2f}" for part, spikes in zip(job.layers, result.spikes, strict=True)
        )
        print(f"{name}: Lava {result.lava_version} on Python {result.python_version}; spikes a step: {rates}")


if __name__ == "__main__":
    main()
