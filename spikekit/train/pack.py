"""State dictionaries of optimizers and schedulers as JSON beside named tensors, and back, exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from spikekit.errors import CheckpointError


def pack(value: Any, tensors: dict[str, Tensor], where: str) -> Any:
    """`value` as JSON; its tensors go into `tensors` under names that start with `where`.

    Numbers, text, None, lists, tuples, dictionaries and tensors are kept as they are; anything else raises
    CheckpointError, because restoring it would need code from the file.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Tensor):
        tensors[where] = value
        return {"tensor": where}
    if isinstance(value, (list, tuple)):
        items = [pack(item, tensors, f"{where}.{i}") for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, Mapping):
        pairs = [[_key(key, where), pack(item, tensors, f"{where}.{key}")] for key, item in value.items()]
        return {"dict": pairs}
    raise CheckpointError(
        f"{where} is a {type(value).__name__}; a checkpoint holds tensors and JSON alone. "
        "Give the object a state_dict() of numbers, text, lists, dictionaries and tensors"
    )


def unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The value that `pack` was given."""
    if isinstance(value, list):
        return [unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    kind, content = next(iter(value.items()))
    if kind == "tensor":
        return tensors[content]
    if kind == "tuple":
        return tuple(unpack(item, tensors) for item in content)
    return {key: unpack(item, tensors) for key, item in content}


def _key(key: Any, where: str) -> Any:
    if type(key) in (int, str):
        return key
    raise CheckpointError(f"{where} has the key {key!r}; a checkpoint holds keys that are text or integers")
