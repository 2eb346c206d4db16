"""The LIF of a folded network: thresholds of either sign, compared in either direction. Made by `sk.fold`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from spikekit.errors import InputError
from spikekit.neurons.parameters import broadcast, describe
from spikekit.neurons.together import RunsTogether
from spikekit.ops.lif import LIFRule, lif, state_dtype


class FoldedLIF(RunsTogether):
    """LIF with u = beta·v + x that fires where u > threshold, or where u < threshold if its sign is -1.

    Drive x [T, B, ...] to spikes [T, B, ...]; the state is {"v": [B, ...]} and means what it means in the `sk.LIF`
    that was folded. u < threshold is decided as -u > -threshold, which is exact in floating point, so that the kernels
    of `sk.LIF` serve. It is for inference: its gradients lack the slope of the norm that was folded away.

    beta, threshold, quantum, sign, row_scale: tensors, one number, one a channel [C] or one a neuron. quantum: what
    soft reset subtracts, of any sign. sign: 1 or -1. row_scale: what the weights and bias in front of the neuron were
    multiplied by, and with them u; 1 where they were not. rule: the reset and the comparison.
    Raises InputError for what is not finite, and for a drive that does not fit.
    """

    beta: Tensor
    threshold: Tensor
    quantum: Tensor
    sign: Tensor
    row_scale: Tensor

    def __init__(
        self, beta: Tensor, threshold: Tensor, quantum: Tensor, sign: Tensor, row_scale: Tensor, rule: LIFRule
    ) -> None:
        super().__init__()
        self.rule = rule
        values = {"beta": beta, "threshold": threshold, "quantum": quantum, "sign": sign, "row_scale": row_scale}
        for name, value in values.items():
            if not bool(torch.isfinite(value).all()):
                raise InputError(f"FoldedLIF: {name} holds values that are not finite")
            self.register_buffer(name, value.detach().clone())
        self._look()

    def _look(self) -> None:
        """Remember whether any channel is flipped: to ask the tensor in every call would wait for a GPU."""
        self.flips = bool((self.sign < 0).any())

    def _load_from_state_dict(self, *args: Any, **settings: Any) -> None:
        super()._load_from_state_dict(*args, **settings)
        self._look()

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "sign":
            self._look()

    @property
    def reset(self) -> str:
        """The kind of reset: "soft", "hard" or "none"."""
        return self.rule.reset

    def integrate(
        self, x: Tensor, state: dict[str, Tensor] | None, keep: Collection[str]
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """The LIF equations over the whole sequence, on -u where the sign is -1."""
        v0 = None if state is None else state["v"]
        beta, threshold, quantum = self._broadcast(x)
        drive = x
        if self.flips:
            sign = self._shaped("sign", x)
            drive, v0 = x * sign.to(x.dtype), None if v0 is None else v0 * sign
            threshold, quantum = threshold * sign, quantum * sign
        wanted = "membrane" in keep
        spikes, membranes, v = lif(drive, v0, beta, threshold, quantum, self.rule, keep_membranes=wanted)
        if self.flips:
            v = v * sign
            membranes = None if membranes is None else membranes * sign
        traces = {"drive": x, "spikes": spikes} | ({} if membranes is None else {"membrane": membranes})
        return spikes, {"v": v}, {what: traces[what] for what in keep}

    def fuses(self) -> bool:
        """Whether it may run with the layer in front: not where channels are flipped, or recorded."""
        return not self.flips and super().fuses()

    def _broadcast(self, x: Tensor) -> list[Tensor]:
        return [self._shaped(name, x) for name in ("beta", "threshold", "quantum")]

    def _shaped(self, name: str, x: Tensor) -> Tensor:
        return broadcast(self, name, getattr(self, name), x).to(state_dtype(x.dtype))

    def extra_repr(self) -> str:
        """Beta, the range of the thresholds, the channels or neurons that are flipped, and the reset."""
        low, high = float(self.threshold.min()), float(self.threshold.max())
        shown = {
            "beta": describe(self.beta),
            "threshold": f"{low:.4g}" if low == high else f"{low:.4g}..{high:.4g}",
            "reset": repr(self.rule.reset),
        }
        if self.rule.reset == "soft":
            shown["quantum"] = describe(self.quantum)
        if self.flips:
            shown["flipped"] = f"{int((self.sign < 0).sum())} of {self.sign.numel()}"
        if self.rule.inclusive:
            shown["inclusive"] = "True"
        return ", ".join(f"{name}={text}" for name, text in shown.items())
