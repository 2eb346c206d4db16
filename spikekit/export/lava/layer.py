"""One layer as Lava will run it, in plain numpy.

The dynamics, per step and neuron, with a the sum of W s over the inputs (source: lava-nc 0.10.0,
lava.proc.lif.models and lava.proc.sparse.models, confirmed by runs).

float: v = decay v + (a + bias); fire at v > threshold, or >= if inclusive; then reset.
fixed: W s is shifted left by weight_exp; u = a << state_shift, minus 2^24 if above 2^23, plus 2^24 if at or below
  -2^23; v = sgn(v) (|v| (4096 - decay) >> 12) + u + bias, clipped to +-(2^23 - 1); fire at v > threshold << 6, or
  >=; then reset.
With a current_decay the current is kept from step to step, and holds the bias.
float: u = current_decay u + (a + bias); v = decay v + u.
fixed: u = sgn(u) (|u| (4095 - current_decay) >> 12) + (a << state_shift) + bias, then wrapped as above.
With an adapt_decay the threshold rises by b after each spike.
float: b counts spikes; it fires at v > threshold + adapt_step b; b = adapt_decay b + s.
fixed: b in membrane units; v > (threshold << 6) + b, clipped to 2^23 - 1; b = (b (4096 - adapt_decay) >> 12) +
  adapt_step s, clipped too.
In the `period` steps after a spike the membrane is held, the drive and the bias are lost, and nothing fires.
reset: soft v -= quantum, hard v = 0, none. Every state is zero at the start of each sample.

With an astrocyte, f of each domain is told from its calcium c, which the spikes of the domain move after the step.
float: as `spikekit.ops.astrocyte.reference`; f = g multiplies a + bias, or f = 2 - g the threshold.
fixed: as `spikekit.ops.astrocyte.integer`; u becomes sgn(u) (|u| f >> 12), or the threshold (threshold << 6) f >> 12,
  clipped to 1..2^23 - 1.

With an activation the neurons are sigma-delta ones, which send numbers.
float: sigma += a; act = sigma + bias, and not below 0 for "relu"; delta = act - last act + residue; s = delta where
  |delta| >= threshold, else 0; residue = delta - s.
fixed: as `spikekit.ops.sigma_delta.integer`, with s in units of 2^message_shift, of message_bits with its sign.

With the activation "maximum" they have several dendrites, of which each sums up its own a, and no state.
float: s = max(a) + bias. fixed: as `spikekit.export.maximum`.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mode
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from spikekit.export.astrocyte import FloatAstrocyte, IntegerAstrocyte
from spikekit.export.lava import validate
from spikekit.export.synapses import MAXIMUM

Array = npt.NDArray[Any]
Reset = Literal["soft", "hard", "none"]

PLAIN = (
    "name", "reset", "inclusive", "fires", "weight_bits", "period", "activation", "message_bits", "state_shift",
    "dendrites",
)  # fmt: skip
ENDS = ("rows", "cols", "values")
_PER_NEURON = ("decay", "bias", "threshold", "quantum")
_OPTIONAL = ("current_decay", "adapt_decay", "adapt_step", "message_shift")


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
    values [nnz]; n_in: neurons of the source. Of a layer of n neurons with several dendrites, row d n + i is dendrite d
    of neuron i.
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
    `fires=False` is a leaky readout: it never fires and never resets, and may have a state_shift of 0. activation:
    "relu" or "none" of sigma-delta neurons, with threshold and bias in units of sigma, message_shift [n] and
    message_bits of what they send in fixed mode; decay, quantum, reset and comparison are not looked at then.
    "maximum": of neurons with so many dendrites, whose threshold is not looked at either. astrocyte: what modulates
    neurons that keep no current, do not adapt and are not refractory; senses: how presynaptic spikes reach its domains.
    Raises ExportError naming the layer and the field.
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
    activation: str | None = None
    message_shift: Array | None = None
    message_bits: int = 0
    state_shift: int = 6
    dendrites: int = 1
    astrocyte: FloatAstrocyte | IntegerAstrocyte | None = None
    senses: tuple[LavaInput, ...] = ()

    @property
    def largest(self) -> int:
        """The largest number that a neuron sends, in fixed mode."""
        return 2 ** (self.message_bits - 1) - 1 if self.message_bits else 1

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
        if self.activation not in (None, "relu", "none", MAXIMUM):
            fix = "Use 'relu', 'none', 'maximum' or None."
            raise validate.refuse(self.name, "activation", f"{self.activation!r}", fix)
        if self.dendrites < 1 or (self.dendrites > 1 and self.activation != MAXIMUM):
            fix = "Neurons of the activation 'maximum' have 1 or more, others 1."
            raise validate.refuse(self.name, "dendrites", f"{self.dendrites}", fix)
        if self.state_shift != 6 and (self.state_shift != 0 or self.fires):
            raise validate.refuse(self.name, "state_shift", f"{self.state_shift!r}", "Give 6, or 0 for a readout.")
        if self.activation is None and (self.message_shift is not None or self.message_bits):
            raise validate.refuse(self.name, "message_bits", "given", "Only neurons with an activation send numbers.")
        validate.check_astrocyte(self)
        if not self.inputs:
            raise validate.refuse(self.name, "inputs", "there are none", "Give at least one.")
        object.__setattr__(self, "inputs", tuple(self._checked(each, self.n * self.dendrites) for each in self.inputs))
        domains = 0 if self.astrocyte is None else len(self.astrocyte.decay)
        object.__setattr__(self, "senses", tuple(self._checked(each, domains) for each in self.senses))

    def _checked(self, given: LavaInput, n: int) -> LavaInput:
        arrays = {
            field: _array(self.name, field, getattr(given, field), "iuf" if field == "values" else "iu")
            for field in ENDS
        }
        rows, cols, values = arrays.values()
        if rows.ndim != 1 or not rows.shape == cols.shape == values.shape:
            found = f"shapes {rows.shape}, {cols.shape}, {values.shape}"
            raise validate.refuse(self.name, "rows, cols, values", found, "Give three vectors of one length.")
        for field, size in (("rows", n), ("cols", given.n_in)):
            index = arrays[field]
            if index.size and not 0 <= index.min() <= index.max() < size:
                found = f"indices from {index.min()} to {index.max()}"
                raise validate.refuse(self.name, field, found, f"The matrix has {size} of them, from 0.")
        cells = rows * given.n_in + cols
        if np.unique(cells).size != cells.size:
            raise validate.refuse(self.name, "rows, cols", "a pair occurs twice", "Add up its values first.")
        return LavaInput(given.source, rows, cols, values, int(given.n_in), given.weight_exp)
