"""Where data is found and where derived files are kept.

Two settings, because data often sits on a read-only disk while a cache has to be written.
"""

from __future__ import annotations

import os
from pathlib import Path


def data_home() -> Path:
    """Return the folder of the datasets, maybe read-only: `SPIKEKIT_DATA`, or ~/.cache/spikekit/data."""
    return _folder("SPIKEKIT_DATA", "~/.cache/spikekit/data")


def cache_home() -> Path:
    """Return the folder for files that can be rebuilt: `SPIKEKIT_CACHE`, or ~/.cache/spikekit."""
    return _folder("SPIKEKIT_CACHE", "~/.cache/spikekit")


def _folder(variable: str, default: str) -> Path:
    # Read at each call, so that a test or a notebook may set the variable after the import.
    return Path(os.environ.get(variable) or default).expanduser().absolute()
