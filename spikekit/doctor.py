"""`spikekit doctor`: what is installed, which path runs, where data is found, whether Lava works, and what to type."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

import spikekit
from spikekit.ops.conv import cpu as conv
from spikekit.ops.linear import cpu as linear
from spikekit.ops.paths import ENVIRONMENT_VARIABLE, forced_path

EXTRAS = {
    "events": ("tonic", "scikit-learn"),
    "train": ("lightning-fabric", "rich", "tensorboard"),
    "viz": ("matplotlib",),
    "nir": ("nir", "nirtorch", "h5py"),
}


@dataclass(frozen=True)
class Finding:
    """One line of the report; `fix` is what to type when something is missing."""

    topic: str
    text: str
    ok: bool = True
    fix: str = ""


def examine(*, lava: bool = True) -> Iterator[Finding]:
    """Every finding, cheap ones first. lava: also run a small network in the Lava worker (seconds)."""
    yield Finding("spikekit", f"{spikekit.__version__} in {Path(spikekit.__file__).parent}")
    yield Finding("python", f"{platform.python_version()} on {platform.machine()}, {os.cpu_count()} cores")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    yield Finding("torch", f"{torch.__version__}, {torch.get_num_threads()} threads, {device}")
    path = forced_path()
    yield Finding(
        "neuron path",
        "whole-sequence PyTorch operators (reference loop inside torch.func transforms)"
        if path == "auto"
        else f"{path}, because ${ENVIRONMENT_VARIABLE} or set_path says so",
    )
    refused = linear.KERNELS.refusal(torch.float32) or conv.KERNELS.refusal(torch.float32)
    yield Finding("event kernels", refused or "linear and convolution sum only what is not zero, where that is faster")
    for extra, packages in EXTRAS.items():
        found = {package: _version(package) for package in packages}
        missing = [package for package, version in found.items() if version is None]
        text = ", ".join(f"{package} {version or 'missing'}" for package, version in found.items())
        yield Finding(f"extra {extra}", text, not missing, f"pip install 'spikekit[{extra}]'" if missing else "")
    yield from _data()
    if lava:
        yield _lava()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _data() -> Iterator[Finding]:
    from spikekit.datasets import NMNIST, cache_home, data_home

    there = NMNIST.available()
    yield Finding(
        "N-MNIST",
        f"found in {data_home()}" if there else f"not in {data_home()}; Saccade-Digits (synthetic) serves instead",
        there,
        "" if there else "set SPIKEKIT_DATA to the folder that holds NMNIST/Train and NMNIST/Test",
    )
    folder = next(p for p in (cache_home(), *cache_home().parents) if p.exists())
    writable = folder.is_dir() and os.access(folder, os.W_OK)
    yield Finding(
        "cache", f"{cache_home()}, {'writable' if writable else 'not writable'}", writable,
        "" if writable else "set SPIKEKIT_CACHE to a folder that can be written",
    )  # fmt: skip


def _lava() -> Finding:
    from spikekit.export.lava import worker_python
    from spikekit.export.lava.check import check

    python = worker_python()
    install = "spikekit lava install"
    if python is None:
        return Finding("Lava", "worker not installed", False, install)
    report = check(python)
    return Finding("Lava", str(report), report.ok, "" if report.ok else f"{install} --force")
