"""The leaky integrator: a readout that never fires."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

from torch import Tensor

from spikekit.errors import InputError
from spikekit.neurons.base import Neuron
from spikekit.neurons.parameters import add_parameter, broadcast, describe, read_parameter
from spikekit.ops.li import li
from spikekit.ops.lif import state_dtype


class LI(Neuron):
    """Leaky integrator: v[t] = beta·v[t-1] + x[t]; its membrane is its output.

    Drive x [T, B, ...] to membranes [T, B, ...] in x's dtype, or float32 for a half-precision drive.
    beta: decay in [0, 1], a number, one a channel [C], or one a neuron. learn: ("beta",) to train it.
    """

    spiking: ClassVar[bool] = False
    records: ClassVar[tuple[str, ...]] = ("drive", "membrane")

    def __init__(self, beta: float | Tensor = 0.9, *, learn: Collection[str] = ()) -> None:
        super().__init__()
        learn = (learn,) if isinstance(learn, str) else tuple(learn)
        if unknown := set(learn) - {"beta"}:
            raise InputError(f"LI: cannot learn {sorted(unknown)}; choose 'beta'")
        add_parameter(self, "beta", beta, "beta" in learn)

    def __getattr__(self, name: str) -> Tensor:
        # A learnable beta is stored as beta_raw: reading li.beta gives its value either way.
        if name == "beta" and "beta_raw" in self.__dict__.get("_parameters", {}):
            return read_parameter(self, name)
        return super().__getattr__(name)  # type: ignore[return-value]

    def integrate(
        self, x: Tensor, state: dict[str, Tensor] | None, keep: Collection[str]
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """The equation over the whole sequence; the state is {"v": [B, ...]}."""
        beta = broadcast(self, "beta", read_parameter(self, "beta"), x).to(state_dtype(x.dtype))
        membranes = li(x, None if state is None else state["v"], beta)
        traces = {"drive": x, "membrane": membranes}
        # A copy: a view would keep the whole sequence alive, and change with the caller's output.
        return membranes, {"v": membranes[-1].clone()}, {what: traces[what] for what in keep}

    def extra_repr(self) -> str:
        """Beta, and whether it is learned."""
        text = f"beta={describe(read_parameter(self, 'beta').detach())}"
        return text + (", learn=('beta',)" if "beta_raw" in self._parameters else "")
