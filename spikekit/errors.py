"""The errors that spikekit raises for bad input.

Each message names the module, the axis or the file, says what was found, and ends with the fix.
"""

from __future__ import annotations

import importlib
from types import ModuleType


class SpikekitError(Exception):
    """Base of every error raised on purpose by spikekit."""


class InputError(SpikekitError, ValueError):
    """A tensor or an argument that a module cannot accept: wrong shape, dtype, range or value."""


class StateError(SpikekitError, ValueError):
    """A carried state that does not belong to this network or this batch."""


class EventError(SpikekitError, ValueError):
    """Event data that is unsorted, outside its sensor, truncated or not event data at all."""


class CheckpointError(SpikekitError, ValueError):
    """A checkpoint that is damaged, cannot be written, or belongs to another architecture."""


class ExportError(SpikekitError, ValueError):
    """A network that the target cannot represent exactly; the message gives the reason and the way out."""


class WorkerError(SpikekitError, RuntimeError):
    """The Lava worker is missing, crashed, was killed or ran out of time."""


class MissingExtraError(SpikekitError, ImportError):
    """A package of an optional extra is not installed."""


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, or raise an error that names the extra that brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{module.partition('.')[0]} is needed here and could not be imported ({error}). "
            f"Install it with: pip install 'spikekit[{extra}]'"
        ) from error
