"""Quantisation-aware training: the network that is trained computes in the integers that will be exported.

`qat` reads a trained network as `to_loihi` does, batch normalisation folded in, and chooses scales, exponents and
thresholds once. What is trained are the weights and biases in float32; every forward pass rounds them anew by the
exporter's own code and runs the integer simulator. So `to_loihi` of the result has nothing left to change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from spikekit import state as sessions
from spikekit.errors import ExportError, InputError, StateError
from spikekit.export.faithful import check_output
from spikekit.export.float_run import run_plan
from spikekit.export.inputs import check_network, check_whole, checked_calibration
from spikekit.export.integer import arriving
from spikekit.export.integer_layer import IntegerLayer
from spikekit.export.layers import FloatLayer
from spikekit.export.plan import plan
from spikekit.export.quantise import quantise
from spikekit.export.rounding import filled
from spikekit.export.straight import fire_straight, straight
from spikekit.export.synapses import INPUT, SELF
from spikekit.neurons import LIF, FoldedLIF, Neuron
from spikekit.surrogate import ATan, Surrogate

_FLOATS = ("beta", "threshold", "quantum")
_INTEGERS = ("scale", "decay", "threshold", "quantum")


class QATLayer(Neuron):
    """Synapses and neurons of one layer in the chip's integers, with straight-through gradients to float weights.

    Activities [T, B, ...] of whole numbers, one an input, to spikes [T, B, *shape], or to a readout's membranes in
    units of 1.0, in float32. Parameters: weights, one tensor an input, in the shape that `Synapses` gives it, and bias,
    one a row or one a neuron. Scales, exponents, decay and thresholds are buffers and stay as they are.
    """

    def __init__(
        self, exact: FloatLayer, chip: IntegerLayer, surrogate: Surrogate, detach_reset: bool, thresholds: str
    ) -> None:
        super().__init__()
        # Public, so that a checkpoint of other settings is refused.
        self.settings = f"{chip.weight_bits} bits, a threshold a {thresholds}"
        self.spiking = chip.fires  # type: ignore[misc]
        self.records = ("membrane", "spikes") if chip.fires else ("membrane",)  # type: ignore[misc]
        self._exact, self._chip, self._surrogate, self._detach_reset = exact, chip, surrogate, detach_reset
        self.weights = nn.ParameterList(torch.from_numpy(each.synapses.weight).float() for each in exact.inputs)
        per_row = torch.from_numpy(exact.bias).reshape(exact.rows, -1)
        same = bool((per_row == per_row[:, :1]).all())
        self.bias = nn.Parameter((per_row[:, 0] if same else per_row.flatten()).float())
        for name in _FLOATS:
            self.register_buffer(f"float_{name}", torch.from_numpy(getattr(exact, name).copy()))
        for name in _INTEGERS:
            self.register_buffer(f"integer_{name}", torch.from_numpy(getattr(chip, name).copy()))
        self.register_buffer("exponent", torch.tensor(chip.exponent))
        self.register_buffer("shifts", torch.tensor([each.shift for each in chip.inputs]))
        self.register_buffer("weight_bits", torch.tensor(chip.weight_bits))

    @property
    def name(self) -> str:
        """The path of the neuron in the network it came from."""
        return self._exact.name

    @torch.no_grad()
    def layers(self) -> tuple[FloatLayer, IntegerLayer]:
        """The layer with its present weights, in float64 and in integers. Raises InputError for NaN and Inf."""
        weights = [weight.detach().cpu().double().numpy() for weight in self.weights]
        bias = self._bias().detach().cpu().double().numpy()
        for what, parameter in (*(("weight", weight) for weight in self.weights), ("bias", self.bias)):
            if not bool(torch.isfinite(parameter).all()):
                raise InputError(f"QATLayer {self.name}: its {what} holds NaN or Inf; was the training stable?")

        def buffers(kind: str, names: Sequence[str]) -> dict[str, Any]:
            found = {name: cast(Tensor, self._buffers[f"{kind}_{name}"]).cpu() for name in names}
            return {n: (t.double() if t.is_floating_point() else t).numpy() for n, t in found.items()}

        inputs = tuple(
            replace(each, synapses=each.synapses.with_weight(weight))
            for each, weight in zip(self._exact.inputs, weights, strict=True)
        )
        exact = replace(self._exact, inputs=inputs, bias=bias, **buffers("float", _FLOATS))
        exponent, bits = (int(cast(Tensor, self._buffers[name])) for name in ("exponent", "weight_bits"))
        shifts = cast(Tensor, self._buffers["shifts"]).tolist()
        inputs = tuple(replace(each, shift=shift) for each, shift in zip(self._chip.inputs, shifts, strict=True))
        whole = buffers("integer", _INTEGERS)
        frame = replace(self._chip, inputs=inputs, exponent=exponent, weight_bits=bits, **whole)
        return exact, filled(frame, weights, bias)

    @property
    def sources(self) -> tuple[int, ...]:
        """Where each input comes from: the number of a layer, or `INPUT`."""
        return tuple(each.source for each in self._exact.inputs)

    def forward(self, *activities: Tensor) -> Tensor:
        """Activities [T, B, ...] of the inputs, in their order, to what the chip's layer would send, from rest."""
        session = sessions.active()
        slot = None if session is None else session.slot(self)
        if session is not None and slot is not None and session.take(slot) is not None:
            raise StateError(f"QATLayer {self.name}: it starts at rest; give whole sequences, with state=None")
        _, chip = self.layers()
        device = self.bias.device
        # Half precision would round the sums of whole numbers.
        with torch.autocast(device.type, enabled=False):
            weights = []
            for own, each in zip(self.weights, chip.inputs, strict=True):
                arrays = (each.synapses.weight, each.synapses.per_weight(chip.row_scale(each)))
                weights.append(straight(own, *(torch.from_numpy(array).to(device, torch.float32) for array in arrays)))
            sums = arriving(chip, dict(zip(self.sources, activities, strict=True)), weights)
            units = (torch.from_numpy(values).to(device, torch.float32) for values in (chip.bias, chip.unit))
            bias = straight(self._bias(), *units).reshape(sums.shape[2:])
            output, membranes = fire_straight(chip, sums, bias, self._surrogate, self._detach_reset)
        if session is not None and slot is not None:
            session.give(slot, {"ended": torch.ones(output.shape[1], dtype=torch.bool)})
            for what in session.wants(self):
                session.put(slot, what, output if what == "spikes" else membranes)
        return output.to(torch.float32)

    def _bias(self) -> Tensor:
        """One value a neuron [n]."""
        return self.bias.repeat_interleave(len(self._exact.bias) // len(self.bias))

    def extra_repr(self) -> str:
        """Where it came from, its geometry and its bits."""
        every = (each.synapses for each in self._exact.inputs)
        inputs = " + ".join(f"{synapses.kind} {synapses.in_shape}" for synapses in every)
        return f"{self.name}: {inputs} -> {self._exact.shape}, {int(cast(Tensor, self.weight_bits))} bits"


class QATNetwork(nn.Module):
    """A network in the chip's integers that learns; made by `qat`, exported by `to_loihi`.

    x [T, B, *in_shape] of whole numbers to the output [T, B, ...] of the network it came from: what the exported
    network's `simulate` gives, bit for bit. Raises InputError for other input.
    """

    temporal = True

    def __init__(self, layers: Sequence[QATLayer], in_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.in_shape = in_shape

    def forward(self, x: Tensor) -> Tensor:
        """X [T, B, ...] -> [T, B, ...], float32."""
        check_whole(x, self.in_shape, "QATNetwork")
        sent = {INPUT: x}
        for number, layer in enumerate(self.layers):
            sent[number] = layer(*(sent[source] for source in layer.sources))  # type: ignore[union-attr]
        return sent[len(self.layers) - 1]

    def quantised(self) -> tuple[tuple[FloatLayer, ...], tuple[IntegerLayer, ...]]:
        """The present network as float plan and as integer layers."""
        pairs = [layer.layers() for layer in self.layers]  # type: ignore[operator]
        return tuple(exact for exact, _ in pairs), tuple(chip for _, chip in pairs)


def qat(
    net: nn.Module,
    calibration: Tensor,
    *,
    weight_bits: int = 4,
    thresholds: str = "neuron",
    headroom: float = 2.0,
    surrogate: Surrogate | None = None,
) -> QATNetwork:
    """A copy of a trained network that goes on learning in the integers of its export.

    ```python
    learner = sk.export.qat(net.eval(), calibration, weight_bits=4)
    sk.Trainer(learner, lr=1e-3).fit(train_loader, test_loader, epochs=5)
    chip = sk.export.to_loihi(learner, calibration)
    ```
    net, calibration, weight_bits, thresholds, headroom: as in `to_loihi`. Batch normalisation is folded with its
    running statistics and gone, dropout too; beta and thresholds no longer learn. Scales stay as calibration set
    them, and weights that grow beyond them clip. What was several layers between two neurons, such as a pooling and a
    convolution, learns as the synapses that it has become. surrogate: None keeps each neuron's own. Raises what
    `to_loihi` raises, and ExportError for what it does not train: recurrent weights, synaptic currents, neurons that
    adapt, are refractory, send numbers or are modulated by astrocytes.
    """
    check_network(net, "qat")
    if isinstance(net, QATNetwork):
        raise InputError("qat: this network computes in integers already; train it on, or give the one it came from")
    calibration = checked_calibration(calibration, headroom, "qat")
    in_shape = tuple(calibration.shape[2:])
    found = plan(net, calibration)
    exact = found.layers
    for layer in exact:
        more = layer.alpha is not None or layer.rho is not None or layer.period > 0 or layer.graded
        if more or layer.astrocyte is not None or any(each.source == SELF for each in layer.inputs):
            raise ExportError(
                f"qat: layer {layer.name} keeps a current, adapts, is refractory, sends numbers, has an astrocyte or "
                "receives its own spikes, which qat does not train; export it as it is with to_loihi(net, "
                "calibration, weight_bits=...)"
            )
    traces = run_plan(exact, calibration)
    check_output(net, exact, traces, calibration)
    chips = quantise(exact, traces, headroom=headroom, weight_bits=weight_bits, thresholds=thresholds)
    layers = []
    for layer, chip in zip(exact, chips, strict=True):
        neuron = found.neurons.get(layer.name)
        rule = neuron.rule if isinstance(neuron, (LIF, FoldedLIF)) else None
        own = ATan() if rule is None else rule.surrogate
        detached = rule is not None and rule.detach_reset
        learner = QATLayer(layer, chip, surrogate or own, detached, thresholds)
        # Max pooling has nothing to learn.
        layers.append(learner.requires_grad_(neuron is not None))
    device = next((parameter.device for parameter in net.parameters()), calibration.device)
    return QATNetwork(layers, in_shape).to(device)
