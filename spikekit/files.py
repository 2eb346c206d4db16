"""Files replaced in one step: a reader finds the old one or the new one whole, and a failure leaves the old one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spikekit.errors import SpikekitError

TEMPORARY = ".tmp"
"""How files end that a killed writer left behind."""


@contextmanager
def replacing(path: Path, error: type[SpikekitError], *failures: type[Exception]) -> Iterator[Path]:
    """A new file beside `path` to write to, which takes its place when the block ends well, and is gone when not.

    It has the permissions of any new file. Raises `error`, naming `path`, where that cannot be written: for an OSError,
    and for what else is among `failures`. Folders that are not there are made.
    """
    if path.is_dir():
        raise error(f"{path}: is a folder; give the name of a file in it")
    kinds: tuple[type[Exception], ...] = (OSError, *failures)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
        yield temporary
        os.replace(temporary, path)
    except kinds as cause:
        raise error(f"{path}: cannot be written ({cause}). Free space, or choose another folder") from cause
    finally:
        # Where the folder is none, this fails as well, and would hide the first error.
        if temporary.parent.is_dir():
            temporary.unlink(missing_ok=True)
