"""A network and its input as Lava will run it, and what came back: plain numpy, saved as .npz without pickle.

The dynamics, per step and neuron, with a = W s from the layer before (source: lava-nc 0.10.0,
lava.proc.lif.models and lava.proc.sparse.models, confirmed by runs).

float: v = decay v + (a + bias); fire at v > threshold, or >= if inclusive; then reset.
fixed: a is shifted left by weight_exp; u = a << 6, minus 2^24 if above 2^23, plus 2^24 if at or below -2^23;
  v = sgn(v) (|v| (4096 - decay) >> 12) + u + bias, clipped to +-(2^23 - 1); fire at v > threshold << 6, or
  >=; then reset.
reset: soft v -= quantum, hard v = 0, none. The membrane is zero at the start of each sample.
"""

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
from spikekit.export.lava import validate

Array = npt.NDArray[Any]
Mode = Literal["float", "fixed"]
Reset = Literal["soft", "hard", "none"]

_FORMAT = 1
_PLAIN = ("name", "shape", "weight_exp", "reset", "inclusive", "fires", "weight_bits")
_ARRAYS = ("rows", "cols", "values", "decay", "bias", "threshold", "quantum")
_PER_NEURON = ("decay", "bias", "threshold", "quantum")


def _array(layer: str, field: str, value: Any, kinds: str) -> Array:
    """A read-only copy as int64 or float64; ExportError if it is neither integers nor floats of `kinds`."""
    array = np.asarray(value)
    if array.dtype.kind not in kinds:
        raise validate.refuse(layer, field, f"dtype {array.dtype}", "Give int64, or float64 in float mode.")
    array = np.array(array, dtype=np.float64 if array.dtype.kind == "f" else np.int64)
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False)
class LavaLayer:
    """One layer: the weights into it, as coordinates, and its neurons.

    rows, cols [nnz] int64, each pair once; values [nnz]; decay, bias, threshold, quantum [n_out]. In float
    mode all are float64 and decay is beta itself. In fixed mode all are int64: values within Lava's 8 bits
    (`validate.sign_mode`), decay the removed fraction in 1/4096, bias and quantum in membrane units,
    threshold before its shift by 6 bits; Lava is told to cut the values to `weight_bits`, which must not change
    them. A layer with `fires=False` is a leaky readout: it never fires and never resets. Raises ExportError naming
    the layer and the field.
    """

    name: str
    rows: Array
    cols: Array
    values: Array
    shape: tuple[int, int]
    weight_exp: int
    decay: Array
    bias: Array
    threshold: Array
    quantum: Array
    reset: Reset
    inclusive: bool
    fires: bool
    weight_bits: int = 8

    def __post_init__(self) -> None:
        n_out, n_in = self.shape
        object.__setattr__(self, "shape", (int(n_out), int(n_in)))
        if n_out < 1 or n_in < 1:
            raise validate.refuse(self.name, "shape", f"{self.shape} is empty", "Give (n_out, n_in).")
        if self.reset not in ("soft", "hard", "none"):
            raise validate.refuse(self.name, "reset", f"{self.reset!r}", "Use 'soft', 'hard' or 'none'.")
        for field in _ARRAYS:
            kinds = "iu" if field in ("rows", "cols") else "iuf"
            object.__setattr__(self, field, _array(self.name, field, getattr(self, field), kinds))
        for field in _PER_NEURON:
            found = getattr(self, field).shape
            if found != (n_out,):
                raise validate.refuse(self.name, field, f"shape {found}", f"Give one value per neuron: ({n_out},).")
        if self.rows.ndim != 1 or not self.rows.shape == self.cols.shape == self.values.shape:
            found = f"shapes {self.rows.shape}, {self.cols.shape}, {self.values.shape}"
            raise validate.refuse(self.name, "rows, cols, values", found, "Give three vectors of one length.")
        for field, size in (("rows", n_out), ("cols", n_in)):
            index = getattr(self, field)
            if index.size and not 0 <= index.min() <= index.max() < size:
                found = f"indices from {index.min()} to {index.max()}"
                raise validate.refuse(self.name, field, found, f"The matrix has {size} of them, from 0.")
        cells = self.rows * n_in + self.cols
        if np.unique(cells).size != cells.size:
            raise validate.refuse(self.name, "rows, cols", "a pair occurs twice", "Add up its values first.")


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
        validate.check_chain(self)
        kind, wanted = ("i", "int64") if self.mode == "fixed" else ("f", "float64")
        for index, layer in enumerate(self.layers):
            for field in ("values", *_PER_NEURON):
                dtype = getattr(layer, field).dtype
                if dtype.kind != kind:
                    raise validate.refuse(layer.name, field, f"{dtype} in {self.mode} mode", f"Give {wanted}.")
            if self.mode == "fixed":
                validate.check_fixed(layer, largest if index == 0 else 1)
            else:
                validate.check_float(layer)

    def save(self, path: str | os.PathLike[str], *, compress: bool = True) -> None:
        """Write the job to `path` (.npz), replacing it in one step."""
        layers = []
        arrays: dict[str, Array] = {"inputs": self.inputs}
        for index, layer in enumerate(self.layers):
            plain = {field: getattr(layer, field) for field in _PLAIN}
            mode = validate.sign_mode(layer.name, layer.values, layer.weight_bits) if self.mode == "fixed" else "MIXED"
            layers.append(plain | {"sign_mode": mode})
            arrays |= {f"layer{index}_{field}": getattr(layer, field) for field in _ARRAYS}
        _write(path, {"mode": self.mode, "input_bits": self.input_bits, "layers": layers}, arrays, compress)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LavaJob:
        """Read a job that `save` wrote; raises ExportError if the file is not one."""
        with _reading(path) as (meta, file):
            layers = tuple(
                LavaLayer(
                    **{field: plain[field] for field in _PLAIN if field in plain},
                    **{field: file[f"layer{index}_{field}"] for field in _ARRAYS},  # type: ignore[arg-type]
                )
                for index, plain in enumerate(meta["layers"])
            )
            return cls(meta["mode"], layers, file["inputs"], meta["input_bits"])


@dataclass(frozen=True, eq=False)
class LavaResult:
    """What Lava computed: per layer, spikes [N, T, n] bool and membranes [N, n] after the last step's reset.

    Membranes are float64 or int64; `seconds` is the time Lava took to step, without its start.
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
