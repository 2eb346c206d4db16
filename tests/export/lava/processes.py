"""What workers leave behind: processes, found by a word of their command line."""

from __future__ import annotations

import time
from pathlib import Path

LONG = 300_000
"""Steps that take minutes."""


def processes(marker: str) -> list[int]:
    """Living processes whose command line holds `marker`: a worker's holds its temporary folder, as do its
    children's."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if marker.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return sorted(found)


def wait_until(condition, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
