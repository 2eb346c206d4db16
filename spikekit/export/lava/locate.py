"""Where the worker interpreter is: the one Python that has lava-nc."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from pathlib import Path

LAVA_VERSION = "0.10.0"
MARKER = "spikekit-worker.json"


def environment() -> Path:
    """The folder of the installed worker: `lava-0.10.0` in `$SPIKEKIT_CACHE` or `~/.cache/spikekit`."""
    cache = os.environ.get("SPIKEKIT_CACHE")
    base = Path(cache).expanduser() if cache else Path.home() / ".cache" / "spikekit"
    return base / f"lava-{LAVA_VERSION}"


def python_of(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / "bin" / "python"


def is_complete(folder: Path) -> bool:
    """Whether an installation there came to its end; half of one never counts."""
    return (folder / MARKER).is_file() and python_of(folder).exists()


def worker_python() -> Path | None:
    """The interpreter to run Lava with, or None if there is none.

    In this order: `$SPIKEKIT_LAVA_PYTHON`, the installed environment, and the running interpreter if lava-nc
    is installed in it (`pip install 'spikekit[lava]'` on Python 3.10).
    """
    chosen = os.environ.get("SPIKEKIT_LAVA_PYTHON")
    if chosen:
        return Path(chosen).expanduser()
    if is_complete(environment()):
        return python_of(environment())
    try:
        found = importlib.metadata.version("lava-nc")
    except importlib.metadata.PackageNotFoundError:
        return None
    return Path(sys.executable) if found == LAVA_VERSION else None
