"""The Triton kernels through Triton's real compiler, which needs no GPU and refuses more than the interpreter does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=[80, 90], ids=["Ampere", "Hopper"])
def compiled(request, tmp_path_factory):
    pytest.importorskip("triton")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("triton_compile.py")), str(request.param)],
        env=environment | {"TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton"))},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_single_precision_fuses_no_multiply_add(compiled):
    """A fused one rounds once, not twice, and moves spikes."""
    assert [kernel["name"] for kernel in compiled if kernel["fused"] and "64" not in kernel["dtype"]] == []


def test_registers_suffice(compiled):
    assert [kernel["name"] for kernel in compiled if kernel["spilled"] and "64" not in kernel["dtype"]] == []


def test_large_layers_move_whole_words(compiled):
    """Two numbers at a time, or one word where two halves make one."""
    large = [kernel for kernel in compiled if kernel["neurons"] == 1 << 16]
    assert len(large) == 3 * 5
    narrow = [kernel for kernel in large if "v2.b32" not in kernel["widths"] or "b16" in kernel["widths"]]
    assert [kernel["name"] for kernel in narrow] == []
