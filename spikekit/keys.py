"""Settings by name, as a file or a checkpoint holds them: a wrong name is answered with the nearest right one."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from spikekit.errors import InputError


def check_keys(given: Any, known: Collection[str], where: str) -> Mapping[str, Any]:
    """Return `given`, or raise InputError, naming `where`, for what is no mapping and for a key that is not known."""
    if not isinstance(given, Mapping):
        raise InputError(f"{where}: expected settings by name, got {given!r}")
    for key in given:
        if key not in known:
            raise InputError(f"{where}: unknown key {key!r}; {_hint(key, known)}")
    return given


def choose(value: Any, known: Collection[str], where: str) -> str:
    """Return `value`, or raise InputError, naming `where`, when it is none of the names that are known."""
    if not isinstance(value, str) or value not in known:
        raise InputError(f"{where}: unknown value {value!r}; {_hint(value, known)}")
    return value


@contextmanager
def naming(key: str) -> Iterator[None]:
    """What cannot be made of the values of `key` becomes an error that names it."""
    try:
        yield
    except (InputError, TypeError, ValueError, RuntimeError) as error:
        text = str(error)
        raise InputError(text if text.startswith(f"{key}:") else f"{key}: {text}") from error


def number(value: Any, key: str) -> float:
    """A finite number; YAML takes 1e-4 for a text, which is read all the same."""
    try:
        if not isinstance(value, bool) and math.isfinite(read := float(value)):
            return read
    except (TypeError, ValueError):
        pass
    raise InputError(f"{key} must be a number, got {value!r}")


def flag(value: Any, key: str) -> bool:
    """Return `value`, or raise InputError, naming `key`, when it is neither true nor false."""
    if not isinstance(value, bool):
        raise InputError(f"{key} must be true or false, got {value!r}")
    return value


def _hint(value: Any, known: Collection[str]) -> str:
    near = get_close_matches(str(value), known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"choose one of {sorted(known)}"
