"""A network and its input as Lava will run it, and what came back: plain numpy, saved as .npz without pickle."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from spikekit.errors import ExportError
from spikekit.export.astrocyte import FloatAstrocyte, IntegerAstrocyte
from spikekit.export.lava import validate
from spikekit.export.lava.layer import ENDS, PLAIN, LavaInput, LavaLayer
from spikekit.export.synapses import INPUT, SELF

Array = npt.NDArray[Any]
Mode = Literal["float", "fixed"]

_FORMAT = 2


@dataclass(frozen=True, eq=False)
class LavaJob:
    """Layers in order of the data, and the samples to run through them.

    inputs [N, T, n_in], bool or integers (floats in float mode with graded input); input_bits: 0 for binary
    spikes, else the message bits b of a graded input, of magnitude below 2^b. Samples are independent of each
    other. Raises ExportError for anything that Lava would compute differently than written here.
    """

    mode: Mode
    layers: tuple[LavaLayer, ...]
    inputs: Array
    input_bits: int = 0

    def __post_init__(self) -> None:
        if self.mode not in ("float", "fixed"):
            raise ExportError(f"mode: {self.mode!r} is not known. Use 'float' or 'fixed'.")
        object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "inputs", np.asarray(self.inputs))
        largest = validate.check_inputs(self)
        narrow = np.uint8 if not self.input_bits else np.float64 if self.inputs.dtype.kind == "f" else np.int32
        object.__setattr__(self, "inputs", self.inputs.astype(narrow))
        self.inputs.setflags(write=False)
        validate.check_graph(self)
        sizes = {INPUT: largest, SELF: 1, **{number: layer.largest for number, layer in enumerate(self.layers)}}
        kind, wanted = ("i", "int64") if self.mode == "fixed" else ("f", "float64")
        for layer in self.layers:
            arrays = {field: getattr(layer, field) for field in layer.per_neuron}
            weights = [("values", each.values) for each in (*layer.inputs, *layer.senses)]
            for name, array in [*arrays.items(), *weights]:
                if array.dtype.kind != kind:
                    raise validate.refuse(layer.name, name, f"{array.dtype} in {self.mode} mode", f"Give {wanted}.")
            if self.mode == "fixed":
                validate.check_fixed(layer, sizes)
            else:
                validate.check_float(layer)

    def save(self, path: str | os.PathLike[str], *, compress: bool = True) -> None:
        """Write the job to `path` (.npz), replacing it in one step."""
        layers = []
        arrays: dict[str, Array] = {"inputs": self.inputs}
        for index, layer in enumerate(self.layers):
            key = f"layer{index}"
            plain = {field: getattr(layer, field) for field in PLAIN}
            plain |= {"n": layer.n, "fields": layer.per_neuron, "astrocyte": None}
            for what, part, bits in (("inputs", "input", layer.weight_bits), ("senses", "sense", 8)):
                plain[what] = []
                for place, each in enumerate(getattr(layer, what)):
                    fixed = self.mode == "fixed"
                    mode = validate.sign_mode(layer.name, each.values, bits) if fixed else "MIXED"
                    facts = {field: getattr(each, field) for field in ("source", "n_in", "weight_exp")}
                    plain[what].append(facts | {"sign_mode": mode})
                    arrays |= {f"{key}_{part}{place}_{field}": getattr(each, field) for field in ENDS}
            if layer.astrocyte is not None:
                values = vars(layer.astrocyte)
                own = [name for name, value in values.items() if isinstance(value, np.ndarray)]
                arrays |= {f"{key}_astrocyte_{name}": values[name] for name in own}
                plain["astrocyte"] = {name: values[name] for name in values if name not in own} | {"fields": own}
            layers.append(plain)
            arrays |= {f"{key}_{field}": getattr(layer, field) for field in layer.per_neuron}
        _write(path, {"mode": self.mode, "input_bits": self.input_bits, "layers": layers}, arrays, compress)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LavaJob:
        """Read a job that `save` wrote; raises ExportError if the file is not one."""
        with _reading(path) as (meta, file):
            layers = []
            for index, plain in enumerate(meta["layers"]):
                key = f"layer{index}"
                synapses: dict[str, Any] = {"inputs": [], "senses": []}
                for what, part in (("inputs", "input"), ("senses", "sense")):
                    # Files from before there were astrocytes sense nothing.
                    for place, each in enumerate(plain.get(what, ())):
                        rows, cols, values = (file[f"{key}_{part}{place}_{field}"] for field in ENDS)
                        found = LavaInput(each["source"], rows, cols, values, each["n_in"], each["weight_exp"])
                        synapses[what].append(found)
                arrays: dict[str, Any] = {field: file[f"{key}_{field}"] for field in plain["fields"]}
                # Files from before there were sigma-delta layers do not say that a layer is none.
                facts = {field: plain[field] for field in PLAIN if field in plain}
                if own := plain.get("astrocyte"):
                    # Only integers have a share.
                    kind = IntegerAstrocyte if "share" in own else FloatAstrocyte
                    parts: dict[str, Any] = {name: file[f"{key}_astrocyte_{name}"] for name in own.pop("fields")}
                    facts["astrocyte"] = kind(**own, **parts)
                layers.append(LavaLayer(**synapses, **facts, **arrays))
            return cls(meta["mode"], tuple(layers), file["inputs"], meta["input_bits"])


@dataclass(frozen=True, eq=False)
class LavaResult:
    """What Lava computed: per layer, spikes [N, T, n] bool and membranes [N, n] after the last step's reset.

    Of sigma-delta neurons messages in place of spikes, int32 or float64, and sigma in that of membranes. Membranes are
    float64 or int64; `seconds` is the time Lava took to step, without its start.
    """

    spikes: tuple[Array, ...]
    membranes: tuple[Array, ...]
    lava_version: str
    python_version: str
    seconds: float

    def save(self, path: str | os.PathLike[str], *, compress: bool = True) -> None:
        """Write the result to `path` (.npz), replacing it in one step."""
        arrays = {f"spikes{i}": array for i, array in enumerate(self.spikes)}
        arrays |= {f"membranes{i}": array for i, array in enumerate(self.membranes)}
        versions = {"lava": self.lava_version, "python": self.python_version}
        _write(
            path,
            {"layers": len(self.spikes), "versions": versions, "seconds": self.seconds},
            arrays,
            compress,
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LavaResult:
        """Read a result that `save` or the worker wrote; raises ExportError if the file is not one."""
        with _reading(path) as (meta, file):
            return cls(
                spikes=tuple(file[f"spikes{i}"] for i in range(meta["layers"])),
                membranes=tuple(file[f"membranes{i}"] for i in range(meta["layers"])),
                lava_version=meta["versions"]["lava"],
                python_version=meta["versions"]["python"],
                seconds=meta["seconds"],
            )


def _write(path: str | os.PathLike[str], meta: dict[str, Any], arrays: Mapping[str, Array], compress: bool) -> None:
    target = Path(path)
    part = target.with_name(target.name + ".part")
    with part.open("wb") as file:
        write = np.savez_compressed if compress else np.savez
        write(file, **arrays, meta=np.array(json.dumps(meta | {"format": _FORMAT})))  # type: ignore[arg-type]
    os.replace(part, target)


@contextmanager
def _reading(path: str | os.PathLike[str]) -> Iterator[tuple[dict[str, Any], Mapping[str, Array]]]:
    """The plain facts and the arrays of a file; whatever is wrong with it becomes an ExportError."""
    try:
        with Path(path).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            meta = json.loads(str(file["meta"]))
            if meta["format"] != _FORMAT:
                raise ExportError(f"{path}: format {meta['format']} is not {_FORMAT}. Use the spikekit that wrote it.")
            yield meta, file
    except ExportError:
        raise
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ExportError(f"{path}: not a whole Lava job or result ({error}). Write it again with save().") from error
