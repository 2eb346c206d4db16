"""The benchmark of the GPU: it says so where there is none, and its dry run goes through."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from benchmarks import gpu


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu():
    with pytest.raises(SystemExit, match="needs a GPU"):
        gpu.main([])


@pytest.mark.slow
def test_dry_run(tmp_path):
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "benchmarks.gpu", "--dry-run", "--results", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=250)
    report = json.loads((tmp_path / "gpu-dry-run.json").read_text(encoding="utf-8"))
    assert "mean nothing" in report["device"]
    assert all(isinstance(row["seconds"]["spikekit"], float) for row in report["rows"])
    assert {row["case"].split()[0] for row in report["rows"]} == {"training", "inference", "mlp", "conv"}
