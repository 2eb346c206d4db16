"""Energy of a float network's arithmetic, each layer by what really came in; and of the ANN of equal shape.

A layer all of whose inputs were spikes (0, 1 or -1) adds a weight where one arrives, and does nothing elsewhere; a
layer that saw a single other number multiplies, at every step, whatever it is called. One that saw nothing but zeros
costs nothing and says nothing: it is listed as silent, since behind a dead layer every network is cheap.

    E = Σ spiking layers: effective operations · E_accumulate  +  Σ real layers: dense operations · E_MAC

Both counts are of all time steps of one sample, from recorded inputs (`spikekit.measure.neurobench`): the first is
rate · T · connections when all inputs fire alike. The conventional network multiplies everything once:
connections · E_MAC. Neither counts the neurons themselves, memory, or normalisation, which folds into the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from spikekit.errors import InputError
from spikekit.export.cost.energy import CMOS_45NM, Energy, EnergyModel, estimate, in_words
from spikekit.measure import LayerOperations, neurobench


@dataclass(frozen=True)
class Account:
    """Energy of one sample. layers: what was counted. energy: of the network. ann: of the ANN of equal shape.

    ann_sparse: the same ANN, were products with a zero input free; what separates it from `ann` is not owed to spikes.
    ann and ann_sparse are None where no ANN was given.
    """

    layers: tuple[LayerOperations, ...]
    steps: int
    energy: Energy
    ann: Energy | None
    ann_sparse: Energy | None

    @property
    def ratio(self) -> float | None:
        """How many times less than the ANN of equal shape it takes."""
        return None if self.ann is None or not self.energy.joules else self.ann.joules / self.energy.joules

    @property
    def real(self) -> tuple[str, ...]:
        """The layers that saw real numbers, and so multiply."""
        return tuple(row.name for row in self.layers if not row.spiking)

    @property
    def silent(self) -> tuple[str, ...]:
        """The layers that nothing but zeros came to: the figures say nothing of them."""
        return tuple(row.name for row in self.layers if not row.rate)

    def __str__(self) -> str:
        model = self.energy.model
        width = max(len(row.name) for row in self.layers)
        lines = [
            f"{model.name}: {model.figures['accumulates']} pJ an accumulate, {model.figures['macs']} pJ a "
            f"multiply-accumulate ({model.source}); {model.caveat}. T = {self.steps}, one sample",
            f"{'layer':<{width}}  input   rate    dense      counted    energy",
        ]
        for row in self.layers:
            counts = _counts(row)
            kind, number = next(iter(counts.items()))
            lines.append(
                f"{row.name:<{width}}  {_input(row):<6}  {row.rate:.4f}  {row.dense:.3e}  "
                f"{number:.3e}  {in_words(estimate(counts, model).joules)} ({kind})"
            )
        lines.append(f"sum: {in_words(self.energy.joules)}")
        if self.ann is not None and self.ann_sparse is not None:
            lines.append(
                f"ANN of equal shape: {in_words(self.ann.joules)}, {self.ratio:.2f} times as much; "
                f"{in_words(self.ann_sparse.joules)} were its products with zeros free"
            )
        if silent := self.silent:
            lines.append(
                f"silent: {', '.join(silent)} had no input but zeros, so a part of the network is dead; "
                "train it, or run it in train mode first for the statistics of its norms"
            )
        return "\n".join(lines)


def account(net: nn.Module, x: Tensor, ann: nn.Module | None = None, model: EnergyModel = CMOS_45NM) -> Account:
    """The energy of `net` on x [T, B, ...], a sample, and of `ann`, which gets the mean of x over time as its one step.

    ann: the same layers, with ReLU for neurons. model: a table with "macs" and "accumulates". Raises InputError for
    another table, for a network without layers that can be counted, and for an ann with other layers.
    """
    if missing := {"macs", "accumulates"} - set(model.figures):
        raise InputError(f"account: the table {model.name!r} has no figure for {sorted(missing)}; use CMOS_45NM")
    rows = neurobench(net, x).layers
    if not rows:
        raise InputError(f"account: {type(net).__name__} has no Linear or Conv layer to count")
    energy = estimate(_total(rows), model)
    if ann is None:
        return Account(rows, x.shape[0], energy, None, None)
    twin = neurobench(ann, x.mean(0, keepdim=True)).layers
    steps = x.shape[0]
    if [row.name for row in twin] != [row.name for row in rows] or any(
        abs(a.dense - b.dense * steps) > 1e-6 * a.dense for a, b in zip(rows, twin, strict=True)
    ):
        raise InputError("account: ann has not the layers of net, so the comparison would be of two networks")
    dense, sparse = (sum(getattr(row, what) for row in twin) for what in ("dense", "effective"))
    return Account(rows, steps, energy, estimate({"macs": dense}, model), estimate({"macs": sparse}, model))


def _input(row: LayerOperations) -> str:
    return "silent" if not row.rate else "spikes" if row.spiking else "real"


def _counts(row: LayerOperations) -> dict[str, float]:
    return {"accumulates": row.effective} if row.spiking else {"macs": row.dense}


def _total(rows: tuple[LayerOperations, ...]) -> dict[str, float]:
    total = {"macs": 0.0, "accumulates": 0.0}
    for row in rows:
        for kind, number in _counts(row).items():
            total[kind] += number
    return total
