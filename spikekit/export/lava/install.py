"""Make the worker environment: a virtual environment with numpy, scipy and lava-nc 0.10.0, and nothing else.

lava-nc declares Python 3.10 only. On 3.10 pip installs it as it is. On 3.11 and newer pip refuses, and with
`--ignore-requires-python` it would ignore that field for every dependency too: so the dependencies come
first, and lava-nc alone after them, which then runs with `worker/shim.py`. The package index is whatever pip
is configured to use.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spikekit.errors import WorkerError
from spikekit.export.lava.locate import LAVA_VERSION, MARKER, environment, is_complete, python_of

PIP_TIMEOUT = 900.0
PROBE_TIMEOUT = 20.0
_LAVA = f"lava-nc=={LAVA_VERSION}"
# Sets that were run: every result equal on each. numpy 1.26 has no wheel for Python 3.13.
_PINS = ("numpy==1.26.4", "scipy==1.15.3", "networkx==2.8.7")
_NEWER = ("numpy>=2.1,<3", "scipy>=1.14,<2", "networkx>=3,<4", "asteval>=1,<2")
_STEPS = {
    (3, 10): [[*_PINS, _LAVA]],
    (3, 11): [[*_PINS, "asteval==0.9.33"], ["--no-deps", "--ignore-requires-python", _LAVA]],
    (3, 12): [[*_PINS, "asteval==0.9.33"], ["--no-deps", "--ignore-requires-python", _LAVA]],
    (3, 13): [[*_NEWER], ["--no-deps", "--ignore-requires-python", _LAVA]],
}


def _version(python: str) -> tuple[int, int] | None:
    """The version of an interpreter that really runs; a launcher without a Python behind it gives None."""
    try:
        done = subprocess.run(
            [python, "-c", "import sys; print(*sys.version_info[:2])"],
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT,
        )
        major, minor = done.stdout.split()
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return int(major), int(minor)


def _candidates(python: str | os.PathLike[str] | None) -> list[tuple[str, tuple[int, int]]]:
    """Interpreters to build on, best first, each with its version."""
    if python is not None:
        wanted = shutil.which(os.fspath(python))
        version = _version(wanted) if wanted else None
        if wanted is None or version is None:
            raise WorkerError(f"{python}: not a Python that runs. Give the path of one, 3.10 if there is a choice.")
        if version not in _STEPS:
            raise WorkerError(f"{python}: Python {version[0]}.{version[1]} cannot run Lava. Give 3.10 to 3.13.")
        return [(wanted, version)]
    found = []
    running = (sys.version_info[0], sys.version_info[1])
    python310 = shutil.which("python3.10")
    if running != (3, 10) and python310 and _version(python310) == (3, 10):
        found.append((python310, (3, 10)))
    if running in _STEPS:
        found.append((sys.executable, running))
    if not found:
        raise WorkerError(
            f"Python {running[0]}.{running[1]} cannot run Lava, and there is no python3.10 on PATH. "
            "Name one of 3.10 to 3.13: spikekit lava install --python PATH"
        )
    return found


def _run(command: list[str], what: str) -> None:
    """Run one step of the installation; WorkerError with its last lines if it fails."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=PIP_TIMEOUT,
            env=kept,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WorkerError(f"{what} failed: {error}. Run `spikekit lava install` again.") from error
    if done.returncode:
        last = "".join(f"\n  {line}" for line in done.stdout.strip().splitlines()[-8:])
        raise WorkerError(
            f"{what} failed with code {done.returncode}. Check the network and pip's index settings, then "
            f"run `spikekit lava install` again. It ended with:{last}"
        )


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Let one installation at a time work on `folder`; the others wait."""
    # Not on Windows, where this module is still imported by the command line.
    import fcntl

    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(folder.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(base: str, version: tuple[int, int], folder: Path) -> None:
    """Create the environment in `folder` and mark it complete."""
    python = str(python_of(folder))
    for arguments in _STEPS[version]:
        _run(
            [python, "-m", "pip", "install", "--no-input", "--no-user", "--only-binary", ":all:", *arguments],
            f"installing {' '.join(arguments)}",
        )
    _run([python, "-c", "import numpy, scipy"], "importing numpy and scipy")
    facts = {"lava": LAVA_VERSION, "python": f"{version[0]}.{version[1]}", "base": base}
    (folder / MARKER).write_text(json.dumps(facts))


def install(python: str | os.PathLike[str] | None = None, force: bool = False) -> Path:
    """Install the worker environment, if it is not there, and return its interpreter.

    `python` is the interpreter to build on; by default a python3.10 on PATH, else the running one (3.11 to
    3.13). `force` builds it anew; the old one stays in place until the new one is complete. Needs pip's index
    once. Raises WorkerError with pip's last lines; a part of an installation is never taken for one.
    """
    folder = environment()
    with _only_one(folder):
        if is_complete(folder) and not force:
            return python_of(folder)
        candidates = _candidates(python)
        new = folder.with_name(folder.name + ".new")
        try:
            for index, (base, version) in enumerate(candidates):
                shutil.rmtree(new, ignore_errors=True)
                try:
                    _run([base, "-m", "venv", str(new)], f"creating a virtual environment with {base}")
                except WorkerError:
                    # A Python may come without venv or ensurepip, as Debian's does: the next one may have
                    # them.
                    if index == len(candidates) - 1:
                        raise
                    continue
                _build(base, version, new)
                break
            shutil.rmtree(folder, ignore_errors=True)
            new.rename(folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return python_of(folder)
