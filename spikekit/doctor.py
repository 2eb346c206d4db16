"""`spikekit doctor`: what is installed, which path runs, where data is found, whether Lava works, and what to type."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

import spikekit
from spikekit.native import memory
from spikekit.ops.lif import gpu
from spikekit.ops.paths import ENVIRONMENT_VARIABLE, forced_path

# The modules that hold the KERNELS of an operation. A new operation with kernels is added here.
KERNEL_MODULES = tuple(
    f"spikekit.ops.{name}.cpu"
    for name in (
        *("lif", "li", "recurrent", "alif", "refractory", "sigma_delta", "mpbn", "astrocyte"),
        *("linear", "linear_lif", "conv", "conv_lif", "pool", "integer"),
    )
)

EXTRAS = {
    "events": ("tonic", "scikit-learn"),
    "train": ("lightning-fabric", "rich", "tensorboard", "pyyaml"),
    "images": ("pillow",),
    "detect": ("faster-coco-eval", "pillow", "scikit-learn"),
    "viz": ("matplotlib",),
    "text": ("tokenizers",),
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
    yield from _kernels()
    yield _gpu()
    for extra, packages in EXTRAS.items():
        found = {package: _version(package) for package in packages}
        missing = [package for package, version in found.items() if version is None]
        text = ", ".join(f"{package} {version or 'missing'}" for package, version in found.items())
        yield Finding(f"extra {extra}", text, not missing, f"pip install 'spikekit[{extra}]'" if missing else "")
    yield from _data()
    if lava:
        yield _lava()


def _kernels() -> Iterator[Finding]:
    """Which path an operation takes on the CPU, and why. Compiles and tests what was not used yet (seconds)."""
    path = forced_path()
    if path != "auto":
        yield Finding("neuron path", f"{path}, because ${ENVIRONMENT_VARIABLE} or set_path says so")
        return
    yield Finding("neuron path", "C kernels where they serve, else whole-sequence PyTorch; torch.func: reference loops")
    origin = ""
    told: set[str] = set()
    for name in KERNEL_MODULES:
        kernels = importlib.import_module(name).KERNELS
        operation = kernels.source.stem
        for dtype in (torch.float32, torch.float64):
            topic = f"{operation} {str(dtype).removeprefix('torch.')}"
            refusal = kernels.refusal(dtype)
            made = kernels.compiled(dtype)
            if refusal or made is None:
                # The same for every operation where there is no compiler or no cache: said once.
                remedy = _remedy(refusal)
                yield Finding(
                    topic, f"whole-sequence PyTorch, slower: {refusal}", False, "" if remedy in told else remedy
                )
                told.add(remedy)
            else:
                yield Finding(topic, f"C kernels, self-test passed, compiled in {made.seconds:.1f} s")
                origin = f"{made.compiler} {made.flags}, kept in {made.path.parent}"
    if origin:
        yield Finding("compiler", origin)
    limit = memory.store.limit
    kept = f"up to {limit >> 20} MiB of freed memory kept for the kernels" if limit else "none kept for the kernels"
    yield Finding("memory", f"{kept} (${memory.ENVIRONMENT_VARIABLE})")


def _remedy(refusal: str) -> str:
    if "SPIKEKIT_CACHE" in refusal:
        return "set SPIKEKIT_CACHE to a folder of your own"
    if "self-test" in refusal:
        return "try another compiler, such as CC=clang, and report this line"
    return "install a C compiler (apt install gcc, xcode-select --install), or name one in CC"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _gpu() -> Finding:
    refusal = gpu.KERNELS.refusal(torch.float32)
    version = _version("triton")
    text = f"Triton {version or 'missing'}, " + (f"not used: {refusal}" if refusal else "in use")
    # Without a GPU nothing is missing.
    missing = bool(refusal) and torch.cuda.is_available()
    return Finding("GPU kernels", text, not missing, "" if version or not missing else "pip install 'spikekit[gpu]'")


def _data() -> Iterator[Finding]:
    from spikekit import datasets
    from spikekit.datasets import NMNIST, cache_home, data_home
    from spikekit.task import IMAGES

    there = NMNIST.available()
    yield Finding(
        "N-MNIST",
        f"found in {data_home()}" if there else f"not in {data_home()}; Saccade-Digits (synthetic) serves instead",
        there,
        "" if there else "set SPIKEKIT_DATA to the folder that holds NMNIST/Train and NMNIST/Test",
    )
    kinds = [getattr(datasets, kind) for kind in IMAGES.values()]
    found = [kind.title for kind in kinds if kind.available()]
    yield Finding(
        "image sets",
        f"{', '.join(found) or 'none'} in {data_home()}",
        bool(found),
        "" if found else f"set SPIKEKIT_DATA to the folder that holds {' or '.join(k.folder for k in kinds)}",
    )
    writable = _writable(cache_home())
    yield Finding(
        "cache", f"{cache_home()}, {'writable' if writable else 'not writable'}", writable,
        "" if writable else "set SPIKEKIT_CACHE to a folder that can be written",
    )  # fmt: skip


def _writable(folder: Path) -> bool:
    """Whether a file can be made there: tried, since permissions do not tell it for root."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _lava() -> Finding:
    from spikekit.export.lava import worker_python
    from spikekit.export.lava.check import check

    python = worker_python()
    install = "spikekit lava install"
    if python is None:
        return Finding("Lava", "worker not installed", False, install)
    report = check(python)
    return Finding("Lava", str(report), report.ok, "" if report.ok else f"{install} --force")
