"""What the two packages cost at import."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("package", ["spikekit.events", "spikekit.datasets"])
def test_import_needs_no_extra(package):
    code = (
        f"import sys, {package}; "
        "found = {'tonic', 'sklearn', 'scipy', 'matplotlib', 'lightning_fabric'} & set(sys.modules); "
        "sys.exit(f'imported {found}' if found else 0)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
