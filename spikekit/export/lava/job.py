"""A network and its input as Lava will run it, and what came back: plain numpy, saved as .npz without pickle.

The dynamics, per step and neuron, with a the sum of W s over the inputs (source: lava-nc 0.10.0,
lava.proc.lif.models and lava.proc.sparse.models, confirmed by runs).

float: v = decay v + (a + bias); fire at v > threshold, or >= if inclusive; then reset.
fixed: W s is shifted left by weight_exp; u = a << 6, minus 2^24 if above 2^23, plus 2^24 if at or below -2^23;
  v = sgn(v) (|v| (4096 - decay) >> 12) + u + bias, clipped to +-(2^23 - 1); fire at v > threshold << 6, or
  >=; then reset.
With a current_decay the current is kept from step to step, and holds the bias.
float: u = current_decay u + (a + bias); v = decay v + u.
fixed: u = sgn(u) (|u| (4095 - current_decay) >> 12) + (a << 6) + bias, then wrapped as above.
With an adapt_decay the threshold rises by b after each spike.
float: b counts spikes; it fires at v > threshold + adapt_step b; b = adapt_decay b + s.
fixed: b in membrane units; v > (threshold << 6) + b, clipped to 2^23 - 1; b = (b (4096 - adapt_decay) >> 12) +
  adapt_step s, clipped too.
In the `period` steps after a spike the membrane is held, the drive and the bias are lost, and nothing fires.
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
from statistics import mode
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from spikekit.errors import ExportError
from spikekit.export.lava import validate

Array = npt.NDArray[Any]
Mode = Literal["float", "fixed"]
Reset = Literal["soft", "hard", "none"]

_FORMAT = 2
_PLAIN = ("name", "reset", "inclusive", "fires", "weight_bits", "period")
_PER_NEURON = ("decay", "bias", "threshold", "quantum")
_OPTIONAL = ("current_decay", "adapt_decay", "adapt_step")
_ENDS = ("rows", "cols", "values")


def _array(layer: str, field: str, value: Any, kinds: str) -> Array:
    """A read-only copy as int64 or float64; ExportError if it is neither integers nor floats of `kinds`."""
    array = np.asarray(value)
    if array.dtype.kind not in kinds:
        raise validate.refuse(layer, field, f"dtype {array.dtype}", "Give int64, or float64 in float mode.")
    array = np.array(array, dtype=np.float64 if array.dtype.kind == "f" else np.int64)
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False)
class LavaInput:
    """The weights of one input of a layer, as coordinates.

    source: the number of an earlier layer, or `INPUT`, or `SELF` for the layer's own spikes of the step before
    (`spikekit.export.synapses`). rows, cols [nnz] int64, the postsynaptic and the presynaptic neuron, each pair once;
    values [nnz]; n_in: neurons of the source.
    """

    source: int
    rows: Array
    cols: Array
    values: Array
    n_in: int
    weight_exp: int = 0


@dataclass(frozen=True, eq=False)
class LavaLayer:
    """One layer: its inputs, and its neurons.

    decay, bias, threshold, quantum; current_decay, None where no current is kept; adapt_decay and adapt_step, None
    where the threshold stays: [n]. In float mode they and the weights are float64, and a decay is the fraction that
    stays. In fixed mode all are int64: weights within Lava's 8 bits (`validate.sign_mode`), a decay the removed
    fraction in 1/4096, bias and quantum in membrane units, threshold before its shift by 6 bits; Lava is told to cut
    the weights to `weight_bits`, which must not change them. period: refractory steps after a spike. A layer with
    `fires=False` is a leaky readout: it never fires and never resets. Raises ExportError naming the layer and the
    field.
    """

    name: str
    inputs: tuple[LavaInput, ...]
    decay: Array
    bias: Array
    threshold: Array
    quantum: Array
    reset: Reset
    inclusive: bool
    fires: bool
    weight_bits: int = 8
    current_decay: Array | None = None
    adapt_decay: Array | None = None
    adapt_step: Array | None = None
    period: int = 0

    @property
    def n(self) -> int:
        """Number of neurons."""
        return len(self.bias)

    @property
    def per_neuron(self) -> tuple[str, ...]:
        """The fields of one value a neuron."""
        return (*_PER_NEURON, *(field for field in _OPTIONAL if getattr(self, field) is not None))

    def __post_init__(self) -> None:
        if self.reset not in ("soft", "hard", "none"):
            raise validate.refuse(self.name, "reset", f"{self.reset!r}", "Use 'soft', 'hard' or 'none'.")
        for field in self.per_neuron:
            object.__setattr__(self, field, _array(self.name, field, getattr(self, field), "iuf"))
        shapes = {field: getattr(self, field).shape for field in self.per_neuron}
        usual = mode(shapes.values())
        for field, found in shapes.items():
            if found != usual or len(found) != 1 or not found[0]:
                n = usual[0] if len(usual) == 1 and usual[0] else "n"
                raise validate.refuse(self.name, field, f"shape {found}", f"Give one value per neuron: ({n},).")
        if (self.adapt_decay is None) != (self.adapt_step is None):
            raise validate.refuse(self.name, "adapt_step", "one of two", "Give adapt_decay and adapt_step, or neither.")
        if isinstance(self.period, bool) or not isinstance(self.period, int) or self.period < 0:
            raise validate.refuse(self.name, "period", f"{self.period!r}", "Give a whole number of steps, 0 for none.")
        if not self.inputs:
            raise validate.refuse(self.name, "inputs", "there are none", "Give at least one.")
        object.__setattr__(self, "inputs", tuple(map(self._checked, self.inputs)))

    def _checked(self, given: LavaInput) -> LavaInput:
        arrays = {
            field: _array(self.name, field, getattr(given, field), "iuf" if field == "values" else "iu")
            for field in _ENDS
        }
        rows, cols, values = arrays.values()
        if rows.ndim != 1 or not rows.shape == cols.shape == values.shape:
            found = f"shapes {rows.shape}, {cols.shape}, {values.shape}"
            raise validate.refuse(self.name, "rows, cols, values", found, "Give three vectors of one length.")
        for field, size in (("rows", self.n), ("cols", given.n_in)):
            index = arrays[field]
            if index.size and not 0 <= index.min() <= index.max() < size:
                found = f"indices from {index.min()} to {index.max()}"
                raise validate.refuse(self.name, field, found, f"The matrix has {size} of them, from 0.")
        cells = rows * given.n_in + cols
        if np.unique(cells).size != cells.size:
            raise validate.refuse(self.name, "rows, cols", "a pair occurs twice", "Add up its values first.")
        return LavaInput(given.source, rows, cols, values, int(given.n_in), given.weight_exp)


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
        kind, wanted = ("i", "int64") if self.mode == "fixed" else ("f", "float64")
        for layer in self.layers:
            arrays = {field: getattr(layer, field) for field in layer.per_neuron}
            for name, array in [*arrays.items(), *(("values", each.values) for each in layer.inputs)]:
                if array.dtype.kind != kind:
                    raise validate.refuse(layer.name, name, f"{array.dtype} in {self.mode} mode", f"Give {wanted}.")
            if self.mode == "fixed":
                validate.check_fixed(layer, largest)
            else:
                validate.check_float(layer)

    def save(self, path: str | os.PathLike[str], *, compress: bool = True) -> None:
        """Write the job to `path` (.npz), replacing it in one step."""
        layers = []
        arrays: dict[str, Array] = {"inputs": self.inputs}
        for index, layer in enumerate(self.layers):
            key, inputs = f"layer{index}", []
            for place, each in enumerate(layer.inputs):
                fixed = self.mode == "fixed"
                mode = validate.sign_mode(layer.name, each.values, layer.weight_bits) if fixed else "MIXED"
                plain = {field: getattr(each, field) for field in ("source", "n_in", "weight_exp")}
                inputs.append(plain | {"sign_mode": mode})
                arrays |= {f"{key}_input{place}_{field}": getattr(each, field) for field in _ENDS}
            plain = {field: getattr(layer, field) for field in _PLAIN}
            layers.append(plain | {"n": layer.n, "inputs": inputs, "fields": layer.per_neuron})
            arrays |= {f"{key}_{field}": getattr(layer, field) for field in layer.per_neuron}
        _write(path, {"mode": self.mode, "input_bits": self.input_bits, "layers": layers}, arrays, compress)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LavaJob:
        """Read a job that `save` wrote; raises ExportError if the file is not one."""
        with _reading(path) as (meta, file):
            layers = []
            for index, plain in enumerate(meta["layers"]):
                key = f"layer{index}"
                inputs = []
                for place, each in enumerate(plain["inputs"]):
                    rows, cols, values = (file[f"{key}_input{place}_{field}"] for field in _ENDS)
                    inputs.append(LavaInput(each["source"], rows, cols, values, each["n_in"], each["weight_exp"]))
                arrays: dict[str, Any] = {field: file[f"{key}_{field}"] for field in plain["fields"]}
                layers.append(LavaLayer(inputs=tuple(inputs), **{field: plain[field] for field in _PLAIN}, **arrays))
            return cls(meta["mode"], tuple(layers), file["inputs"], meta["input_bits"])


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
