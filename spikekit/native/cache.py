"""The folder that compiled libraries are kept in: private, locked while it changes, every library beside its hash.

A library that is not what was compiled (a damaged disk, an interrupted copy of a home folder) could crash the process
while it is loaded, so it counts as absent. All functions raise OSError where the folder does not serve.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

# Of one operation and type: a home folder may serve several machines, compilers and versions.
_KEEP = 8
# A scratch folder so old belongs to a process that was killed.
_ABANDONED = 3600.0


def folder() -> Path:
    """$SPIKEKIT_CACHE/native or ~/.cache/spikekit/native, made if need be.

    What is loaded from it runs as this user: a folder where others can write is refused.
    """
    given = os.environ.get("SPIKEKIT_CACHE")
    try:
        home = Path(given).expanduser() if given else Path.home() / ".cache" / "spikekit"
    except RuntimeError as error:
        raise FileNotFoundError(str(error)) from error
    path = home.absolute() / "native"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.stat()
    if hasattr(os, "getuid") and (
        # What root put there, in a container's image, is as good as this user's own.
        status.st_uid not in (0, os.getuid()) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    ):
        raise PermissionError(f"{path} can be written by other users (chmod 700 it)")
    return path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time, where the system knows file locks; elsewhere all may compile and the last rename stays."""
    with (path / "lock").open("w") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        except (ImportError, OSError):
            yield
            return
        try:
            yield
        finally:
            # Closing would not do: a process that was forked meanwhile has the file open too.
            fcntl.flock(file, fcntl.LOCK_UN)


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """A folder in `path`, gone afterwards; what killed processes left behind goes with it."""
    for old in path.glob("scratch-*"):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > _ABANDONED:
                shutil.rmtree(old)
    with tempfile.TemporaryDirectory(prefix="scratch-", dir=path) as name:
        yield Path(name)


def note(library: Path) -> dict[str, Any] | None:
    """What `put` was told about the library; None unless it is there, byte for byte as it was put."""
    try:
        found = json.loads(_note_path(library).read_text())
        return found if found["sha256"] == _sha256(library) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def put(output: Path, library: Path, about: Mapping[str, Any]) -> None:
    """Move a new library, written to a `scratch` folder, to its place, and drop the oldest of its name's first part."""
    paper = output.with_suffix(".json")
    paper.write_text(json.dumps({**about, "sha256": _sha256(output)}))
    os.replace(output, library)
    os.replace(paper, _note_path(library))
    family = sorted(library.parent.glob(f"{library.stem.rpartition('-')[0]}-*.so"), key=_age)
    for old in family[_KEEP:]:
        for path in (old, _note_path(old)):
            with suppress(OSError):
                path.unlink()


def _note_path(library: Path) -> Path:
    return library.with_suffix(".json")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _age(path: Path) -> float:
    try:
        return -path.stat().st_mtime
    except OSError:
        return 0.0
