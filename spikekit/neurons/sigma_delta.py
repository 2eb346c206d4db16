"""The sigma-delta neuron; the equations are in `spikekit.ops.sigma_delta.reference`."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

from torch import Tensor

from spikekit.errors import InputError
from spikekit.neurons.base import Neuron
from spikekit.neurons.parameters import add_parameter, broadcast, describe, read_parameter
from spikekit.ops.lif import state_dtype
from spikekit.ops.sigma_delta import sigma_delta

ACTIVATIONS = ("relu", "none")


class SigmaDelta(Neuron):
    """Sums up the changes that arrive, applies a ReLU, and sends the change of the result once it is large enough.

    sigma = sigma + x, act = relu(sigma + bias), delta = act - last act + residue; it sends s = delta where
    |delta| >= threshold, else 0; residue = delta - s. Drive x [T, B, ...] to graded spikes [T, B, ...] of the same
    dtype: numbers of either sign, mostly zero where the input changes slowly. The sum of the spikes so far follows act,
    less than the threshold away. Half-precision drives are summed in float32, and what a spike loses in rounding stays
    in the residue. The state is {"sigma", "act", "residue"}, each [B, ...]; `sk.record` offers "activation".

    A network of them is fed with changes, torch.diff(x, dim=0, prepend=torch.zeros_like(x[:1])), and read out by
    `sk.LI(beta=1.0)`, which sums them up. The layer in front has no bias of its own (bias=False): it would be added to
    sigma in every step anew.

    threshold: > 0. bias: any number. Each a number, a tensor [C] for one value a channel (axis 2 of the drive), or a
    tensor of the shape of one sample's neurons. activation: "relu" or "none". learn: ("bias",) to train it.
    The backward pass goes straight through the encoder, ds/ddelta = 1: the gradient of the network of ReLUs that the
    neurons follow. Raises InputError for values outside these ranges and for drives that are not finite.

    Source: lava-nc 0.10.0, lava.proc.sdn, SigmaDelta with cum_error=False; RELU is "relu" and UNIT "none" here.
    """

    graded: ClassVar[bool] = True
    records: ClassVar[tuple[str, ...]] = ("drive", "activation", "spikes")
    carries: ClassVar[tuple[str, ...]] = ("sigma", "act", "residue")

    def __init__(
        self,
        threshold: float | Tensor,
        *,
        bias: float | Tensor = 0.0,
        activation: str = "relu",
        learn: Collection[str] = (),
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise InputError(f"SigmaDelta: unknown activation {activation!r}; choose 'relu' or 'none'")
        learn = (learn,) if isinstance(learn, str) else tuple(learn)
        if unknown := set(learn) - {"bias"}:
            raise InputError(f"SigmaDelta: cannot learn {sorted(unknown)}; choose 'bias'")
        self.activation = activation
        add_parameter(self, "threshold", threshold, learn=False)
        add_parameter(self, "bias", bias, "bias" in learn)

    def __getattr__(self, name: str) -> Tensor:
        # A learnable bias is stored as bias_raw: reading neuron.bias gives its value either way.
        if name == "bias" and "bias_raw" in self.__dict__.get("_parameters", {}):
            return read_parameter(self, name)
        return super().__getattr__(name)  # type: ignore[return-value]

    def integrate(
        self, x: Tensor, state: dict[str, Tensor] | None, keep: Collection[str]
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """The equations over the whole sequence; the state is {"sigma", "act", "residue"}, each [B, ...]."""
        sigma, act, residue = (None if state is None else state[name] for name in self.carries)
        dtype = state_dtype(x.dtype)
        threshold, bias = (
            broadcast(self, name, read_parameter(self, name), x).to(dtype) for name in ("threshold", "bias")
        )
        spikes, activations, *last = sigma_delta(
            x, sigma, act, residue, threshold, bias, self.activation, keep_activations="activation" in keep
        )
        traces = {"drive": x, "spikes": spikes} | ({} if activations is None else {"activation": activations})
        return spikes, dict(zip(self.carries, last, strict=True)), {what: traces[what] for what in keep}

    def extra_repr(self) -> str:
        """Threshold, bias, activation, and whether the bias is learned."""
        shown = {name: describe(read_parameter(self, name).detach()) for name in ("threshold", "bias")}
        text = ", ".join(f"{name}={value}" for name, value in shown.items()) + f", activation={self.activation!r}"
        return text + (", learn=('bias',)" if "bias_raw" in self._parameters else "")
