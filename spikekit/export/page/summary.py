"""All that a report says of an exported network on one batch of data, as data: for the page, and as plain JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikekit.errors import InputError
from spikekit.export.cost.cores import Placement, place_and_listen
from spikekit.export.cost.costs import Costs, costs, messages
from spikekit.export.cost.energy import CHIPS, CMOS_45NM, Energy, EnergyModel, estimate
from spikekit.export.cost.facts import LayerFacts, facts, wirings
from spikekit.export.cost.targets import LOIHI1, LOIHI2, Target
from spikekit.export.loss import QuantisationLoss, quantisation_loss
from spikekit.export.network import LoihiNet
from spikekit.export.verify import Proof


@dataclass(frozen=True, eq=False)
class Summary:
    """What `summarise` found.

    float_rates: spikes per neuron and step of each layer in the float plan. placements: one a layer, for each target.
    energies: of the tables of chips. conventional: 45 nm arithmetic of a conventional network of the same shape, of one
    pass, and of this one. raster, rates: spikes of the first sample [T, n] and spikes per step of each neuron [n], by
    layer; a message of a sigma-delta neuron is one.
    """

    title: str
    data: str
    layers: tuple[LayerFacts, ...]
    costs: Costs
    float_rates: tuple[float, ...]
    loss: QuantisationLoss
    targets: tuple[Target, ...]
    placements: tuple[tuple[Placement, ...], ...]
    energies: tuple[Energy, ...]
    conventional: tuple[Energy, Energy]
    proofs: tuple[Proof, ...]
    accuracies: Mapping[str, float] = field(default_factory=dict)
    raster: tuple[NDArray[np.bool_], ...] = ()
    rates: tuple[NDArray[np.float64], ...] = ()

    @property
    def neurons(self) -> int:
        """Of all layers."""
        return sum(layer.neurons for layer in self.layers)

    @property
    def synapses(self) -> int:
        """Not zero, of all layers."""
        return sum(layer.synapses for layer in self.layers)


@torch.no_grad()
def summarise(
    chip: LoihiNet,
    x: Tensor,
    *,
    proof: Proof | Sequence[Proof] | None = None,
    targets: Sequence[Target] = (LOIHI1, LOIHI2),
    models: Sequence[EnergyModel] = CHIPS,
    accuracies: Mapping[str, float] | None = None,
    title: str = "",
    data: str = "",
) -> Summary:
    """Run x [T, B, ...] through the integer network and the float plan, and count, place and estimate.

    proof: what `chip.verify` returned, if it was run. targets: chips whose cores are counted. models: tables of energy.
    accuracies: name -> part of the samples that were right, shown as they are. title, data: names for the head.
    """
    if not isinstance(chip, LoihiNet):
        raise InputError(f"report: give what to_loihi made, got {type(chip).__name__}")
    if isinstance(targets, Target) or isinstance(models, EnergyModel):
        raise InputError("report: targets and models are sequences; put the one into a tuple, (LOIHI1,)")
    proofs = () if proof is None else tuple(proof) if isinstance(proof, Sequence) else (proof,)
    _check(chip, proofs, accuracies or {})
    names = [target.name for target in targets]
    if len(set(names)) < len(names):
        raise InputError(f"report: two targets have one name, {names}; give one to Target.edited(changes, name)")
    traces, exact = chip.trace(x), chip.trace_float(x)
    layers = facts(chip)
    cost = costs(layers, x, [trace.spikes for trace in traces])
    spikes = [trace.spikes.bool() for trace in traces]
    wired = wirings(layers, x[0, 0].numel())
    rates = tuple(activity.double().mean((0, 1)).cpu().numpy() for activity in spikes)
    placements, measured = [], dict(cost.counts)
    for target in targets:
        placed, listeners = place_and_listen(wired, target)
        placements.append(placed)
        # The tables are of Loihi 1, so the messages are those between its cores.
        if target is LOIHI1 and all(placement.fits for placement in placed):
            measured["messages"] = messages(rates, listeners, cost.steps)
    return Summary(
        title=title or "An exported network",
        data=data,
        layers=layers,
        costs=cost,
        float_rates=tuple(float(trace.spikes.bool().double().mean()) for trace in exact),
        loss=quantisation_loss(chip, x),
        targets=tuple(targets),
        placements=tuple(placements),
        energies=tuple(estimate(measured, model) for model in models),
        conventional=(
            estimate({"macs": cost.macs}, CMOS_45NM),
            estimate(cost.arithmetic, CMOS_45NM),
        ),
        proofs=proofs,
        accuracies=dict(accuracies or {}),
        raster=tuple(activity[:, 0].cpu().numpy() for activity in spikes),
        rates=rates,
    )


def _check(chip: LoihiNet, proofs: Sequence[Proof], accuracies: Mapping[str, float]) -> None:
    """Raise InputError for what is not of this network, or is no number."""
    names = [layer.name for layer in chip.layers]
    for proof in proofs:
        if not isinstance(proof, Proof):
            raise InputError(f"report: proof must be what chip.verify(x) returned, got {type(proof).__name__}")
        if (found := [layer.name for layer in proof.layers]) != names:
            raise InputError(f"report: the proof is of layers {found}, this network has {names}; verify this one")
    for name, part in accuracies.items():
        if not isinstance(part, (int, float)) or not 0 <= part <= 1:
            raise InputError(f"report: accuracy {name!r} must be a part of the samples, 0 to 1, got {part!r}")


def as_json(summary: Summary) -> dict[str, Any]:
    """Plain values for json.dumps, under the names of the fields that they come from; no pictures."""
    loss = summary.loss
    return {
        "title": summary.title,
        "data": summary.data,
        "samples": summary.costs.samples,
        "steps": summary.costs.steps,
        "accuracy": dict(summary.accuracies),
        "layers": [_layer(*row) for row in zip(summary.layers, summary.costs.layers, summary.float_rates, strict=True)],
        "totals": {"neurons": summary.neurons, "synapses": summary.synapses, **summary.costs.counts},
        "quantisation": asdict(loss) | {"worst": loss.worst.name if loss.worst else None},
        "cores": {
            target.name: {
                "table": {key: asdict(limit) for key, limit in target.limits.items()},
                "total": sum(len(p.cores) for p in placed) if all(p.fits for p in placed) else None,
                "layers": [asdict(p) for p in placed],
            }
            for target, placed in zip(summary.targets, summary.placements, strict=True)
        },
        "energy": [asdict(energy) for energy in summary.energies],
        "arithmetic_45nm": {
            "conventional_one_pass": asdict(summary.conventional[0]),
            "this_network": asdict(summary.conventional[1]),
        },
        "proofs": [asdict(proof) | {"identical": proof.identical} for proof in summary.proofs],
    }


def _layer(facts: LayerFacts, cost: Any, float_rate: float) -> dict[str, Any]:
    return {
        "name": facts.name,
        "kind": facts.kind,
        "shape": list(facts.shape),
        "sources": [arriving.source for arriving in facts.inputs],
        "neurons": facts.neurons,
        "synapses": facts.synapses,
        "weight_bits": facts.weight_bits,
        "exponent": facts.exponent,
        "scale": [float(facts.scale.min()), float(facts.scale.max())],
        "thresholds": len(np.unique(facts.thresholds)) if facts.fires else 0,
        "threshold": [int(facts.thresholds.min()), int(facts.thresholds.max())] if facts.fires else None,
        "reset": facts.reset,
        "fires": facts.fires,
        "graded": facts.graded,
        "calcium": facts.calcium,
        "float_rate": float_rate,
        **asdict(cost),
    }
