"""`sk.verify_fold`: a network and its fold on the same data, every decision of every spiking layer compared."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikekit.errors import InputError
from spikekit.folding.fold import fold
from spikekit.folding.thresholds import folded_thresholds
from spikekit.neurons import LIF, Neuron
from spikekit.neurons.folded import FoldedLIF
from spikekit.neurons.parameters import broadcast
from spikekit.ops.astrocyte.reference import spread
from spikekit.ops.mpbn import normalise
from spikekit.state import record


@dataclass(frozen=True)
class FoldedLayer:
    """One spiking layer.

    mismatches: spikes that differ when the folded layer gets the drive of the unfolded one. away: those of them before
    which the neuron, in this sample, was never within `tie` of its threshold. ties: decisions within it. margin: of the
    closest decision. end_to_end: spikes that differ when the folded network runs on its own.
    """

    name: str
    decisions: int
    spikes: int
    mismatches: int
    away: int
    ties: int
    margin: float
    end_to_end: int


@dataclass(frozen=True)
class FoldProof:
    """The result of `verify_fold`; print it for a table."""

    layers: tuple[FoldedLayer, ...]
    tie: float
    dtype: torch.dtype

    @property
    def decisions(self) -> int:
        """Spike decisions compared, in all layers."""
        return sum(layer.decisions for layer in self.layers)

    @property
    def mismatches(self) -> int:
        """Spikes that differ, layer by layer on the same drive."""
        return sum(layer.mismatches for layer in self.layers)

    @property
    def away(self) -> int:
        """Those of them that no tie explains; 0 if the fold is exact."""
        return sum(layer.away for layer in self.layers)

    @property
    def ties(self) -> int:
        """Decisions within `tie` of the threshold."""
        return sum(layer.ties for layer in self.layers)

    @property
    def end_to_end(self) -> int:
        """Spikes that differ when the folded network runs on its own."""
        return sum(layer.end_to_end for layer in self.layers)

    @property
    def margin(self) -> float:
        """How far the closest decision of all was from its threshold."""
        return min(layer.margin for layer in self.layers)

    @property
    def exact(self) -> bool:
        """No decision away from ties differs on the same drive."""
        return self.away == 0

    def __str__(self) -> str:
        rows = [
            f"  {layer.name or 'the neuron'}: {layer.decisions:,} decisions, {layer.spikes:,} spikes; on the same "
            f"drive {layer.mismatches} differ, {layer.away} away from ties ({layer.ties} ties, closest "
            f"{layer.margin:.2g}); end to end {layer.end_to_end} differ"
            for layer in self.layers
        ]
        return "\n".join(
            [
                f"{self.decisions:,} decisions in {str(self.dtype).removeprefix('torch.')}: {self.away} differ away "
                f"from ties, {self.mismatches} in all, {self.end_to_end} end to end; ties: |margin| < {self.tie:g}",
                *rows,
            ]
        )


@torch.no_grad()
def verify_fold(net: nn.Module, x: Tensor, folded: nn.Module | None = None, *, tie: float = 1e-6) -> FoldProof:
    """Compare a network in eval mode with its fold on x [T, B, ...], from rest.

    folded: what `sk.fold(net, ...)` gave; None folds with the default options.

    Layer by layer: each folded neuron gets the very drive that its unfolded one got (times the factor that its rows
    were given, if any) and the presynaptic spikes that its astrocyte senses, and every spike is compared. Until a
    neuron's first tie its membranes are the same numbers, so each comparison is of one decision. The margin of a
    decision is the smaller of |m - threshold|, what the network compares, and |u - θ̃|, what its fold compares, in
    float64; an astrocyte with acts_on="threshold" moves the threshold to threshold·(2 - g). Below `tie` rounding
    decides, and that neuron's later spikes in that sample count as explained. End to end: the folded network runs on
    its own. There weights that hold batch normalisation round otherwise, and one early tie may move many later spikes;
    in float64 such ties are rare.

    Raises InputError in train mode, and if the networks do not have the same spiking layers, or none.
    """
    if not (isinstance(tie, int | float) and 0 <= tie < 1):
        raise InputError(f"verify_fold: tie must be a number from 0 to below 1, got {tie!r}")
    if any(isinstance(module, FoldedLIF) for module in net.modules()):
        raise InputError("verify_fold: the first network is folded already; give the network first, then its fold")
    for each in (net, *([] if folded is None else [folded])):
        if any(module.training for module in each.modules()):
            raise InputError(f"verify_fold: {type(each).__name__} is in train mode, all or in part; call .eval()")
    folded = fold(net) if folded is None else folded
    wanted = [
        f"{name}.{what}".lstrip(".")
        for name, module in net.named_modules()
        # A graded spike is decided by no membrane, and a fold leaves the neuron as it is.
        if isinstance(module, Neuron) and module.spiking and not module.graded
        for what in ("drive", "membrane", "spikes", *_besides(module))
    ]
    if not wanted:
        raise InputError("verify_fold: the network holds no spiking neuron")
    spiking = [name.removesuffix(".spikes") for name in wanted if name.split(".")[-1] == "spikes"]
    modules = dict(folded.named_modules())
    for name in spiking:
        if not isinstance(modules.get("" if name == "spikes" else name), Neuron):
            raise InputError(f"verify_fold: the folded network has no neuron {name!r}, as the network has")
    _, seen = record(net, x, wanted)
    _, alone = record(folded, x, [name for name in wanted if name.endswith("spikes")])
    slots = [name.removesuffix("spikes").removesuffix(".") for name in seen if name.split(".")[-1] == "spikes"]
    layers = []
    for slot in slots:
        drive, u, spikes = (seen.pop(f"{slot}.{what}".lstrip(".")) for what in ("drive", "membrane", "spikes"))
        own = alone.pop(f"{slot}.spikes".lstrip("."), None)
        if own is None or own.shape != spikes.shape:
            raise InputError(f"verify_fold: layer {slot!r} of the folded network was not called as that of the network")
        path = slot.split("#")[0]
        old, new = net.get_submodule(path), folded.get_submodule(path)
        besides = {what: seen.pop(f"{slot}.{what}".lstrip(".")) for what in _besides(old)}
        if "presynaptic" in besides and "presynaptic" not in _besides(new):
            raise InputError(
                f"verify_fold: layer {slot!r} of the network senses presynaptic spikes, that of the folded one does "
                "not; give what sk.fold made of this network"
            )
        layers.append(_compare(slot, old, new, drive, u, spikes, own, tie, besides))
    return FoldProof(tuple(layers), tie, spikes.dtype)


def _besides(neuron: nn.Module) -> tuple[str, ...]:
    """What else is to be recorded of a neuron: what its astrocyte senses, and how it moves the threshold."""
    astrocyte = getattr(neuron, "astrocyte", None)
    if astrocyte is None:
        return ()
    moves = ("modulation",) if astrocyte.acts_on == "threshold" else ()
    return moves if astrocyte.senses == "post" else (*moves, "presynaptic")


def _compare(
    name: str,
    old: nn.Module,
    new: nn.Module,
    drive: Tensor,
    u: Tensor,
    spikes: Tensor,
    own: Tensor,
    tie: float,
    besides: dict[str, Tensor],
) -> FoldedLayer:
    if isinstance(new, FoldedLIF):
        drive = drive * broadcast(new, "row_scale", new.row_scale, drive).to(drive.dtype)
    heard = {what: besides[what] for what in ("presynaptic",) if what in besides}
    differs = new(drive, **heard) != spikes
    margin = _margins(name, old, u, besides.get("modulation"))
    tied = margin < tie
    explained = tied.cumsum(0) > 0
    return FoldedLayer(
        name,
        spikes.numel(),
        int(spikes.count_nonzero()),
        int(differs.sum()),
        int((differs & ~explained).sum()),
        int(tied.sum()),
        float(margin.min()),
        int((own != spikes).sum()),
    )


def _margins(name: str, neuron: nn.Module, u: Tensor, g: Tensor | None) -> Tensor:
    """How far each decision on membranes u [T, B, ...] was from going the other way, in float64.

    g [T, B, domains]: the modulation of an astrocyte that moves the threshold.
    """
    threshold = getattr(neuron, "threshold", None)
    if threshold is None:
        return torch.full_like(u, torch.inf, dtype=torch.float64)
    u = u.double()
    level = folded_thresholds(name, neuron).threshold if isinstance(neuron, LIF) else threshold.double()
    level = broadcast(neuron, "threshold", level, u)
    if g is not None:
        moved = spread(2 - g.double().flatten(0, 1), u.flatten(0, 1)).view_as(u)
        level = level * moved
    margin = (u - level).abs()
    norm = getattr(neuron, "norm", None)
    if norm is None:
        return margin
    weight, bias = norm._affine(torch.float64)
    m = normalise(u.flatten(0, 1), weight, bias, norm.running_mean.double(), norm.running_var.double(), norm.eps)
    return torch.minimum(margin, (m.view_as(u) - broadcast(neuron, "threshold", threshold.double(), u)).abs())
