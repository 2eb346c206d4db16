"""End a process group, politely first, and make sure of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

GRACE = 2.0
# What is killed ends, but a hundred processes on a busy machine take their time to give their memory back.
KILLED = 60.0


def members(group: int) -> list[int]:
    """Ids of the living processes of a group; zombies, which someone else must collect, are not counted."""
    proc = Path("/proc")
    if not proc.is_dir():
        try:
            os.killpg(group, 0)
        except OSError:
            return []
        return [group]
    found = []
    for entry in proc.iterdir():
        if entry.name.isdigit():
            # A process may end between the listing and the reading.
            with contextlib.suppress(OSError):
                # The name in parentheses may hold anything; the state, the parent and the group follow it.
                state, _, of_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                if int(of_group) == group and state not in "ZX":
                    found.append(int(entry.name))
    return found


def _wait_until_empty(group: int, process: subprocess.Popen[bytes], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while process.poll() is None or members(group):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def end_group(process: subprocess.Popen[bytes], token: str) -> str:
    """End `process` and its whole group; returns what is left of it in words, normally nothing.

    SIGTERM first; SIGCONT because a stopped process would not notice; SIGKILL for what is still there after a
    grace.
    """
    for signals, seconds in (((signal.SIGTERM, signal.SIGCONT), GRACE), ((signal.SIGKILL,), KILLED)):
        for number in signals:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        if _wait_until_empty(process.pid, process, seconds):
            break
    # Not before: a worker whose stdin closes takes its caller for dead, and removes the temporary folder.
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
    # See worker/memory.py: a semaphore keeps its name only if the process died while making it.
    for name in Path("/dev/shm").glob(f"sem.mp-{token}-*"):
        name.unlink(missing_ok=True)
    return ", ".join(f"process {pid}" for pid in members(process.pid))
