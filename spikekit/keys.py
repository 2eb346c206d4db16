"""Settings by name, as a file or a checkpoint holds them: a wrong name is answered with the nearest right one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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


def _hint(value: Any, known: Collection[str]) -> str:
    near = get_close_matches(str(value), known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"choose one of {sorted(known)}"
