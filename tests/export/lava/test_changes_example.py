"""The example of sigma-delta networks, from real images to Lava, in little."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from spikekit.datasets import MNIST

EXAMPLE = Path(__file__).parents[3] / "examples" / "05_changes_to_chip.py"


@pytest.mark.slow
def test_images_to_chip(worker, tmp_path):
    if not MNIST.available():
        pytest.skip("MNIST is not there")
    command = [sys.executable, EXAMPLE, "--images", "2000", "--epochs", "4", "--lava-samples", "2", "--out", tmp_path]
    done = subprocess.run(
        command, env=os.environ | {"SPIKEKIT_LAVA_PYTHON": str(worker)}, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    accuracy = {
        name: float(value) for name, value in re.findall(r"^(float|\d-bit integers) +([\d.]+)%", done.stdout, re.M)
    }
    assert accuracy["float"] > 65
    assert abs(accuracy["8-bit integers"] - accuracy["float"]) < 1.5
    assert abs(accuracy["4-bit integers"] - accuracy["float"]) < 5
    assert len(re.findall(r"^lava-\w+, 2 sequences +0 of [\d,]+ numbers differ$", done.stdout, re.M)) == 2
    part = re.search(r"computes every frame +([\d.]+)%", done.stdout)
    assert part is not None
    assert float(part[1]) < 20
    assert (tmp_path / "net.npz").is_file()
