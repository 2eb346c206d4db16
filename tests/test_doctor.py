"""What `spikekit doctor` says of the kernels: which path runs, why, and what to type when it is the slow one."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from spikekit import doctor
from spikekit.native import Kernels, memory
from spikekit.ops import paths

SOURCE = Path(doctor.__file__).parent


def findings():
    return {finding.topic: finding for finding in doctor.examine(lava=False)}


@pytest.fixture
def kernels(monkeypatch):
    """Put kernels in the place of the LIF's, as a process finds them at its first call."""

    def put(self_test=lambda dtype: None):
        module = importlib.import_module("spikekit.ops.lif.cpu")
        fresh = Kernels(module.KERNELS.source, self_test)
        monkeypatch.setattr(module, "KERNELS", fresh)
        return fresh

    return put


def test_the_kernels_that_run():
    found = findings()
    for topic in ("lif float32", "lif float64"):
        assert found[topic].ok
        assert "C kernels, self-test passed, compiled in" in found[topic].text
    assert "-ffp-contract=off" in found["compiler"].text
    assert str(Path("native")) in found["compiler"].text
    assert f"up to {memory.store.limit >> 20} MiB" in found["memory"].text


def test_every_operation_with_kernels_is_listed():
    modules = {
        "spikekit." + ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        for path in SOURCE.rglob("cpu.py")
        if "\nKERNELS = " in path.read_text(encoding="utf-8")
    }
    assert modules == set(doctor.KERNEL_MODULES)


def test_every_extra_that_a_user_asks_for_is_listed():
    tomllib = pytest.importorskip("tomllib", reason="in the standard library from Python 3.11 on")
    extras = tomllib.loads((SOURCE.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    # Lava and the GPU have findings of their own; the others are for work on spikekit itself.
    wanted = {name: packages for name, packages in extras.items() if name not in ("lava", "gpu", "dev", "docs")}
    assert {
        name: tuple(package.split(">")[0] for package in packages) for name, packages in wanted.items()
    } == doctor.EXTRAS


def test_no_compiler(kernels, monkeypatch, tmp_path):
    monkeypatch.setenv("SPIKEKIT_CACHE", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "")
    # The other operations were compiled before, in this process.
    monkeypatch.setattr(doctor, "KERNEL_MODULES", ("spikekit.ops.lif.cpu",))
    kernels()
    found = findings()
    finding = found["lif float32"]
    assert not finding.ok
    assert finding.text == "whole-sequence PyTorch, slower: no C compiler (cc, gcc or clang) on PATH"
    assert "install a C compiler" in finding.fix
    # What every operation says, it is enough to say once.
    assert found["lif float64"].text == finding.text
    assert found["lif float64"].fix == ""
    assert "compiler" not in found


def test_no_cache(kernels, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SPIKEKIT_CACHE", str(tmp_path / "file"))
    kernels()
    finding = findings()["lif float32"]
    assert "no cache for compiled kernels" in finding.text
    assert finding.fix == "set SPIKEKIT_CACHE to a folder of your own"


def test_a_failed_self_test(kernels):
    def differ(dtype):
        raise ArithmeticError("other spikes than the reference")

    kernels(differ)
    finding = findings()["lif float32"]
    assert "slower: self-test failed: ArithmeticError: other spikes" in finding.text
    assert "CC=clang" in finding.fix


def test_a_forced_path(monkeypatch):
    monkeypatch.setattr(paths, "_choice", "torch")
    found = findings()
    assert found["neuron path"].text == "torch, because $SPIKEKIT_PATH or set_path says so"
    assert "lif float32" not in found


def test_no_kept_memory(monkeypatch):
    monkeypatch.setattr(memory.store, "limit", 0)
    assert "none kept for the kernels ($SPIKEKIT_KEEP_MB)" in findings()["memory"].text


def test_import_says_nothing():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import torch, spikekit as sk; sk.LIF()(torch.ones(3, 2, 4))"],
        env={"PATH": "", "HOME": "/nowhere", "CC": "nonsense"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_a_gpu_nothing_of_it_is_missing(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("spikekit.ops.lif.gpu.KERNELS.refusal", lambda dtype: "no GPU")
    assert doctor._gpu().ok
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert not doctor._gpu().ok
