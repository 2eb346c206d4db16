"""A `LoihiNet` as one .npz file: arrays as they are, everything else as JSON, nothing pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from spikekit.errors import ExportError
from spikekit.export.astrocyte import FloatAstrocyte, IntegerAstrocyte
from spikekit.export.integer_layer import IntegerLayer
from spikekit.export.layers import FloatLayer
from spikekit.export.sound import check_sound
from spikekit.export.synapses import Projection, Synapses
from spikekit.files import replacing

FORMAT = "spikekit.LoihiNet/2"
_PROJECTIONS = {"inputs": "input", "senses": "sense"}
Layer = TypeVar("Layer", FloatLayer, IntegerLayer)
Contents = tuple[tuple[IntegerLayer, ...], tuple[FloatLayer, ...], tuple[int, ...], Mapping[str, Any]]


def save(contents: Contents, path: str | Path) -> Path:
    """Write layers, plan and input shape to `path` in one step: a reader sees the old file or the new one whole."""
    path = Path(path)
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    meta: dict[str, Any] = {"format": FORMAT, "in_shape": contents[2], "notes": dict(contents[3])}
    meta["layers"] = [_pack(layer, f"layers.{i}", arrays) for i, layer in enumerate(contents[0])]
    meta["plan"] = [_pack(layer, f"plan.{i}", arrays) for i, layer in enumerate(contents[1])]
    try:
        text = json.dumps(meta)
    except (TypeError, ValueError) as error:
        raise ExportError(f"{path}: notes must be plain JSON values ({error})") from error
    # numpy adds an ending to a name, not to a file.
    with replacing(path, ExportError) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, meta=np.array(text), **arrays)  # type: ignore[arg-type]
    return path


def load(path: str | Path) -> Contents:
    """Read what `save` wrote. Raises ExportError for files that are damaged or hold anything else."""
    path = Path(path)
    try:
        # Opened here: np.load leaves its own file open when the archive is damaged.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        meta = json.loads(str(arrays["meta"]))
        if meta["format"] != FORMAT:
            raise ExportError(f"{path}: format {meta['format']!r} is not {FORMAT!r}; export the network again")
        layers = tuple(_unpack(IntegerLayer, item, f"layers.{i}", arrays) for i, item in enumerate(meta["layers"]))
        plan = tuple(_unpack(FloatLayer, item, f"plan.{i}", arrays) for i, item in enumerate(meta["plan"]))
        in_shape, notes = tuple(meta["in_shape"]), dict(meta["notes"])
        check_sound(layers, plan, in_shape)
        return layers, plan, in_shape, notes
    except FileNotFoundError:
        raise ExportError(f"{path}: no such file; write it with `spikekit export` or LoihiNet.save") from None
    except ExportError:
        raise
    except Exception as error:
        # Damaged bytes raise whatever zipfile, zlib, numpy and json can; numpy would have them loaded by pickle.
        why = "" if "pickle" in str(error) else f" ({error})"
        raise ExportError(f"{path}: not a LoihiNet file, or a damaged one{why}; export the network again") from error


def _pack(layer: FloatLayer | IntegerLayer, key: str, arrays: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for field in fields(layer):
        value = getattr(layer, field.name)
        if what := _PROJECTIONS.get(field.name):
            plain[field.name] = [_pack_input(each, f"{key}.{what}{i}", arrays) for i, each in enumerate(value)]
        elif field.name == "astrocyte" and value is not None:
            plain["astrocyte"] = _pack_astrocyte(value, f"{key}.astrocyte", arrays)
        elif isinstance(value, np.ndarray):
            arrays[f"{key}.{field.name}"] = value
        else:
            plain[field.name] = value
    return plain


def _pack_input(projection: Projection, key: str, arrays: dict[str, Any]) -> dict[str, Any]:
    geometry = {field.name: getattr(projection.synapses, field.name) for field in fields(Synapses)}
    for name in ("weight", "ends"):
        array = geometry.pop(name)
        if array is not None:
            arrays[f"{key}.{name}"] = array
    plain = {field.name: getattr(projection, field.name) for field in fields(Projection)}
    return plain | {"synapses": geometry}


def _pack_astrocyte(astrocyte: FloatAstrocyte | IntegerAstrocyte, key: str, arrays: dict[str, Any]) -> dict[str, Any]:
    values = {field.name: getattr(astrocyte, field.name) for field in fields(astrocyte)}
    own = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    arrays |= {f"{key}.{name}": value for name, value in own.items()}
    return {name: value for name, value in values.items() if name not in own}


def _unpack(kind: type[Layer], plain: dict[str, Any], key: str, arrays: dict[str, Any]) -> Layer:
    # Files from before there were astrocytes sense nothing.
    projections: dict[str, Any] = {
        name: tuple(_unpack_input(each, f"{key}.{what}{i}", arrays) for i, each in enumerate(plain.get(name, ())))
        for name, what in _PROJECTIONS.items()
    }
    values: dict[str, Any] = {
        field.name: plain.get(field.name, arrays.get(f"{key}.{field.name}"))
        for field in fields(kind)
        if field.name not in projections
    }
    if values["astrocyte"] is not None:
        own = IntegerAstrocyte if kind is IntegerLayer else FloatAstrocyte
        stored = {field.name: arrays.get(f"{key}.astrocyte.{field.name}") for field in fields(own)}
        values["astrocyte"] = own(**stored | values["astrocyte"])
    return kind(**projections, **values)


def _unpack_input(plain: dict[str, Any], key: str, arrays: dict[str, Any]) -> Projection:
    geometry: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in plain["synapses"].items()
    }
    synapses = Synapses(weight=arrays[f"{key}.weight"], ends=arrays.get(f"{key}.ends"), **geometry)
    # Files from before there were sigma-delta layers have no grain, those from before there were maxima no dendrites.
    return Projection(plain["source"], synapses, plain["shift"], plain.get("grain"), plain.get("dendrite", 0))
