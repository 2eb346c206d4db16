"""The LIF with recurrent weights; the equations are in `spikekit.ops.recurrent.reference`."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import ClassVar

import torch
from torch import Tensor, nn

from spikekit.errors import InputError
from spikekit.neurons.firing import FiringNeuron
from spikekit.ops.lif import state_dtype
from spikekit.ops.recurrent import recurrent
from spikekit.rectifier import MPR
from spikekit.surrogate import Surrogate


class RecurrentLIF(FiringNeuron):
    """LIF whose spikes come back one step later: u[t] = beta·v[t-1] + x[t] + W s[t-1], then spike and reset.

    Drive x [T, B, N] to spikes [T, B, N] of the same dtype, in {0, 1}; N = features. The state is {"v": [B, N],
    "s": [B, N]}, in float32 for half-precision drives.

    features: N. bias: add one to every drive. All other arguments as in `sk.LIF`; learn: names among "beta" and
    "threshold". The weights are `recurrent`, an nn.Linear(N, N), and are trained unless `requires_grad_(False)`. They
    start orthogonal (Saxe et al. 2014), so that W keeps the length of a spike vector, the bias at zero. They stay in
    float32 in a halved network, as decay and threshold do. Only the layer's weight and bias are read, it is never
    called: change them with torch.nn.utils.parametrize, not with hooks.
    Raises InputError as `sk.LIF` does, and for a drive of other axes than [T, B, N].
    """

    carries: ClassVar[tuple[str, ...]] = ("v", "s")
    recurrent: nn.Linear

    def __init__(
        self,
        features: int,
        beta: float | Tensor = 0.9,
        threshold: float | Tensor = 1.0,
        reset: str = "soft",
        *,
        bias: bool = False,
        reset_quantum: float | Tensor | None = None,
        surrogate: Surrogate | None = None,
        rectifier: MPR | None = None,
        detach_reset: bool = False,
        inclusive: bool = False,
        learn: Collection[str] = (),
        reset_mechanism: str | None = None,
    ) -> None:
        parameters = {"beta": beta, "threshold": threshold}
        super().__init__(
            parameters, reset, reset_quantum, surrogate, detach_reset, inclusive, learn, reset_mechanism, rectifier
        )
        if isinstance(features, bool) or not isinstance(features, int) or features < 1:
            raise InputError(f"RecurrentLIF: features must be a positive integer, the neurons N, got {features!r}")
        self.features = features
        self.recurrent = nn.Linear(features, features, bias=bias)
        nn.init.orthogonal_(self.recurrent.weight)
        if bias:
            nn.init.zeros_(self.recurrent.bias)

    def integrate(
        self, x: Tensor, state: dict[str, Tensor] | None, keep: Collection[str]
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """The equations over the whole sequence; the state is {"v": [B, N], "s": [B, N]}."""
        dtype = state_dtype(x.dtype)
        layer, drive = self.recurrent, x
        if layer._forward_hooks or layer._forward_pre_hooks:
            raise InputError(
                f"{self}: its layer `recurrent` has a hook, which never runs, because only its weights are read; use "
                "torch.nn.utils.parametrize instead (pruning and weight_norm have their forms there)"
            )
        if layer.bias is not None:
            drive = x.to(dtype) + layer.bias.to(dtype)
        beta, threshold, quantum = self._broadcast(x)
        weight = layer.weight.to(dtype)
        v0, s0 = (None, None) if state is None else (state["v"], state["s"])
        spikes, membranes, v = recurrent(
            drive, v0, s0, weight, beta, threshold, quantum, self.rule, keep_membranes="membrane" in keep
        )
        spikes = spikes.to(x.dtype)
        traces = {"drive": x, "spikes": spikes} | ({} if membranes is None else {"membrane": membranes})
        # A copy: a view would keep the whole sequence alive, and change with the caller's output.
        return spikes, {"v": v, "s": spikes[-1].to(dtype, copy=True)}, {what: traces[what] for what in keep}

    def _check_drive(self, x: Tensor) -> None:
        super()._check_drive(x)
        if x.ndim != 3 or x.shape[2] != self.features:
            raise InputError(
                f"{self}: the drive must be [T, B, {self.features}], one value a neuron on axis 2, got shape "
                f"{tuple(x.shape)}. Put nn.Flatten() before it, or make it RecurrentLIF({x[0, 0].numel()})."
            )

    def _check_finite(
        self,
        x: Tensor,
        old: dict[str, Tensor] | None,
        new: dict[str, Tensor],
        compute: Callable[[], Tensor] | None = None,
    ) -> None:
        try:
            super()._check_finite(x, old, new, compute)
        except InputError as error:
            for name, value in self.recurrent.named_parameters():
                if bool(torch.isfinite(x).all()) and not bool(torch.isfinite(value).all()):
                    raise InputError(f"{self}: recurrent.{name} holds values that are not finite") from error
            raise

    def extra_repr(self) -> str:
        """Neurons, bias, and the settings of an LIF."""
        bias = "" if self.recurrent.bias is None else "bias=True, "
        return f"{self.features}, {bias}{super().extra_repr()}"
