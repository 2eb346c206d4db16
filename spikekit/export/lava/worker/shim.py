"""Let `import lava` (lava-nc 0.10.0) succeed on Python 3.11 and newer, without touching its files.

Two things stand in the way. `lava.magma.compiler.var_model` uses dataclass instances as defaults, which
Python 3.11 refuses because they are not hashable: here those classes keep the hash of `object` while that one
module loads. And `lava.magma.runtime.message_infrastructure.multiprocessing` sets the start method to "fork"
at import, which raises when a context exists already: here it passes if that context is "fork".
"""

from __future__ import annotations

import dataclasses
import importlib
import multiprocessing
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_VAR_MODEL = "lava.magma.compiler.var_model"
_MESSAGES = "lava.magma.runtime.message_infrastructure.multiprocessing"


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute for the length of a block."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _hashable_dataclass(original: Callable[..., Any]) -> Callable[..., Any]:
    """`dataclasses.dataclass`, keeping the identity hash for classes of Lava's var_model."""

    def decorate(cls: Any) -> Any:
        made = original(cls)
        if made.__module__ == _VAR_MODEL and made.__hash__ is None:
            made.__hash__ = object.__hash__
        return made

    def dataclass(cls: Any = None, /, **options: Any) -> Any:
        if cls is None:
            return original(**options)
        return decorate(cls)

    return dataclass


def _lenient_start_method(original: Callable[..., None]) -> Callable[..., None]:
    """`multiprocessing.set_start_method` that accepts the method already in force."""

    def set_start_method(method: str | None, force: bool = False) -> None:
        if force or multiprocessing.get_start_method(allow_none=True) != method:
            original(method, force)

    return set_start_method


def prepare() -> None:
    """Import the two modules of Lava that need help; after that any `import lava...` works.

    Raises ImportError when lava-nc is not installed in this interpreter.
    """
    if sys.version_info >= (3, 11) and _VAR_MODEL not in sys.modules:
        with _replaced(dataclasses, "dataclass", _hashable_dataclass(dataclasses.dataclass)):
            importlib.import_module(_VAR_MODEL)
    with _replaced(multiprocessing, "set_start_method", _lenient_start_method(multiprocessing.set_start_method)):
        importlib.import_module(_MESSAGES)
