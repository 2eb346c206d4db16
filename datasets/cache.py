"""Arrays kept on disk between runs, so that nothing slow is done twice and nothing wrong is read back.

A file is named by the hash of a key (everything that the arrays depend on) and holds that key. Whatever is wrong with
a file that is read (cut short, a flipped bit, not ours), it is rebuilt and the log says so.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spikekit.datasets.home import cache_home
from spikekit.errors import InputError
from spikekit.files import replacing

Arrays = dict[str, npt.NDArray[Any]]
_log = logging.getLogger(__name__)


def load_or_build(
    name: str,
    key: Mapping[str, object],
    build: Callable[[], Arrays],
    cache: bool | str | os.PathLike[str] = True,
) -> Arrays:
    """Return the arrays of `key` from the cache, or from `build()` and then keep them.

    cache=True uses `cache_home()`: where that cannot be written, a warning is logged and the work goes on.
    cache=folder was asked for by name: if it cannot be written, InputError. cache=False builds every time.
    `key` must be JSON, and hold all that the arrays depend on.
    """
    if cache is False:
        return build()
    folder = cache_home() if cache is True else Path(cache).expanduser().absolute()
    text = json.dumps(key, sort_keys=True)
    path = folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:24]}.npz"
    arrays = _read(path, text)
    if arrays is not None:
        return arrays
    if cache is not True:
        _make_folder(folder)  # a bad folder should not cost the user the whole build first
    arrays = build()
    try:
        _write(path, text, arrays)
    except InputError as error:
        if cache is not True:
            raise
        _log.warning(
            "cannot keep %s (%s): it will be rebuilt each time. Set SPIKEKIT_CACHE to a folder that can be written, "
            "or pass cache=False.",
            name,
            error,
        )
    return arrays


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cache: cannot make {folder} ({error}). Give a folder that can be written.") from error


def _read(path: Path, key: str) -> Arrays | None:
    """Return the arrays of a sound file, None where there is none to use."""
    try:
        with zipfile.ZipFile(path) as archive:
            # numpy may stop before the end of a member, where the checksum is looked at: do it first.
            if (damaged := archive.testzip()) is not None:
                raise ValueError(f"wrong checksum in {damaged}")
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        if str(arrays.pop("key", "")) != key:
            raise ValueError("made from something else")
        return arrays
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:
        # A damaged file may fail anywhere inside zipfile or numpy, and the cure is the same.
        _log.warning("the cache file %s is damaged (%s: %s): rebuilding it.", path, type(error).__name__, error)
        return None


def _write(path: Path, key: str, arrays: Arrays) -> None:
    stored: dict[str, Any] = {**arrays, "key": np.asarray(key)}
    # savez would add its own ending to the name of a file.
    with replacing(path, InputError) as temporary, temporary.open("wb") as file:
        np.savez(file, **stored)
