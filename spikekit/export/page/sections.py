"""The parts of a report's page about the network itself: its size, its layers, what they do and what they lose."""

from __future__ import annotations

import numpy as np

from spikekit.export.cost.energy import in_words
from spikekit.export.cost.facts import LayerFacts
from spikekit.export.page.html import Cell, Html, beside, join, note, section, several, table, tag, tile
from spikekit.export.page.pictures import histogram, meter, raster
from spikekit.export.page.summary import Summary
from spikekit.export.synapses import MAXIMUM


def head(summary: Summary) -> Html:
    """Title, what was measured on, and the numbers that matter most."""
    cost, worst = summary.costs, summary.loss.worst
    counts = cost.counts
    on = f"{several(cost.samples, 'sample')} of {several(cost.steps, 'step')}"
    tiles = [
        tile("neurons", f"{summary.neurons:,}", f"in {several(len(summary.layers), 'layer')}"),
        tile("synapses", f"{summary.synapses:,}", "not zero"),
        *(
            tile(f"{kind} accuracy", f"{part:.2%}", f"of {several(cost.samples, 'sample')}")
            for kind, part in summary.accuracies.items()
        ),
        tile(
            "synaptic operations",
            _short(counts["synaptic_operations"]),
            f"a sample; {_part_of_dense(summary):.1%} of dense",
        ),
        tile(
            "error of the output", f"{summary.loss.output_error:.2%}", f"layer {worst.name} hurts most" if worst else ""
        ),
        _proof_tile(summary),
        *(_energy_tile(summary)),
    ]
    return join(
        tag("h1", summary.title),
        note(f"{summary.data}: {on}" if summary.data else on),
        tag("div", *tiles, class_="tiles"),
    )


def _part_of_dense(summary: Summary) -> float:
    dense = sum(layer.dense_operations for layer in summary.costs.layers)
    return summary.costs.counts["synaptic_operations"] / dense if dense else 0.0


def _proof_tile(summary: Summary) -> Html:
    if not summary.proofs:
        return tile("equal to Lava", "not run", "see Proof", "warn")
    same = all(proof.identical for proof in summary.proofs)
    decisions = sum(layer.spikes for proof in summary.proofs for layer in proof.layers)
    return tile(
        "equal to Lava", "identical" if same else "different", f"{decisions:,} decisions", "good" if same else "bad"
    )


def _energy_tile(summary: Summary) -> list[Html]:
    if not summary.energies:
        return []
    found = sorted(energy.joules for energy in summary.energies)
    return [tile("Loihi 1, estimate", in_words(found[0]), f"to {in_words(found[-1])} a sample, by table")]


def layers(summary: Summary) -> Html:
    """What each layer is."""
    rows: list[list[Cell]] = [
        [
            layer.name,
            layer.kind,
            _sources(layer, summary),
            "×".join(map(str, layer.shape)),
            f"{layer.neurons:,}",
            f"{layer.synapses:,}",
            layer.weight_bits,
            ", ".join(f"2^{shift}" for shift in sorted({layer.exponent + arriving.shift for arriving in layer.inputs})),
            _range(layer.scale, "{:,.1f}"),
            _thresholds(layer),
            _neuron(layer),
        ]
        for layer in summary.layers
    ]
    total: list[Cell] = ["total", "", "", "", f"{summary.neurons:,}", f"{summary.synapses:,}", "", "", "", "", ""]
    names = ["layer", "kind", "from", "shape", "neurons", "synapses", "bits", "shift", "scale", "thresholds", "reset"]
    return section(
        "Layers",
        table(names, [*rows, total], left=(0, 1, 2), foot=True),
        note(
            "A float number f is f · scale · shift · 64 units of a neuron's membrane. Each row of weights (a neuron, "
            "or a channel) has a scale, which its threshold shares; thresholds are given before their shift by 6 bits. "
            "Neurons that send numbers have no such shift, neither of states nor of thresholds; of those of a maximum, "
            "each sends the largest of several sums."
        ),
    )


def activity(summary: Summary) -> Html:
    """What each layer does on the data."""
    rows: list[list[Cell]] = []
    for layer, cost, rate in zip(summary.layers, summary.costs.layers, summary.float_rates, strict=True):
        part = cost.synaptic_operations / cost.dense_operations if cost.dense_operations else 0.0
        rows.append(
            [
                layer.name,
                f"{rate:.4f}" if layer.fires else "",
                f"{cost.firing_rate:.4f}" if layer.fires else "",
                f"{cost.silent:,}" if layer.fires else "",
                f"{cost.spikes:,.1f}" if layer.fires else "",
                f"{cost.synaptic_operations:,.0f}",
                f"{cost.dense_operations:,}",
                beside(meter(part), f"{part:.1%}"),
            ]
        )
    counts, dense = summary.costs.counts, sum(cost.dense_operations for cost in summary.costs.layers)
    whole = _part_of_dense(summary)
    total: list[Cell] = [
        "total", "", "", f"{sum(cost.silent for cost in summary.costs.layers):,}", f"{counts['spikes']:,.1f}",
        f"{counts['synaptic_operations']:,.0f}", f"{dense:,}", beside(meter(whole), f"{whole:.1%}"),
    ]  # fmt: skip
    names = ["layer", "rate, float", "rate, integer", "silent", "spikes", "synaptic operations", "dense", "of dense"]
    return section(
        "Activity",
        table(names, [*rows, total], foot=True),
        note(
            f"Counts are per sample, over {several(summary.costs.steps, 'step')}. Rates: spikes per neuron and step; "
            f"the input's is {summary.costs.input_rate:.4f}. Silent: neurons that fired in no sample. A synaptic "
            "operation is a spike that arrives at a non-zero synapse; dense is their number had neither spikes nor "
            "weights a zero. A number that is sent counts as one spike."
        ),
    )


def pictures(summary: Summary) -> Html:
    """Every layer's spikes, weights and rates."""
    parts: list[Cell] = []
    for layer, spikes, rates in zip(summary.layers, summary.raster, summary.rates, strict=True):
        figures = [_raster(spikes)] if layer.fires else [tag("figure", note("A readout: it sends no spikes."))]
        figures.append(_weights(layer))
        if layer.fires:
            figures.append(_rates(rates))
        parts += [tag("h3", f"Layer {layer.name}"), tag("div", *figures, class_="pictures")]
    return section("Pictures", note("Spikes are those of the first sample; rates are of all samples."), *parts)


def _raster(spikes: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Html:
    steps, neurons = spikes.shape
    ends = tag(
        "span",
        tag("span", "step 0"),
        tag("span", f"{neurons:,} neurons upwards"),
        tag("span", f"step {steps - 1}"),
        class_="ends",
    )
    return tag("figure", raster(spikes), tag("figcaption", ends))


def _weights(layer: LayerFacts) -> Html:
    weights = np.concatenate([arriving.weights for arriving in layer.inputs])
    zeros = float((weights == 0).mean()) if weights.size else 0.0
    ends = tag("span", tag("span", "-256"), tag("span", "weights"), tag("span", "256"), class_="ends")
    # As many values of a weight in every bar: it is a multiple of 2^(9 - bits).
    bar = max(2 ** (9 - layer.weight_bits), 16)
    low = -256 - bar / 2
    values = weights[weights != 0].astype(np.float64)
    picture = histogram(values, low, -low, f"weights of layer {layer.name}", bars=512 // bar + 1)
    return tag("figure", picture, tag("figcaption", ends, f"{weights.size:,} stored; {zeros:.1%} are zero, not shown"))


def _rates(rates: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Html:
    most = float(rates.max(initial=0.0))
    ends = tag("span", tag("span", "0"), tag("span", "spikes a step"), tag("span", f"{most:.2g}"), class_="ends")
    return tag(
        "figure", histogram(rates, 0, most, "firing rates of neurons"), tag("figcaption", ends, "neurons by rate")
    )


def losses(summary: Summary) -> Html:
    """What integers lose."""
    loss = summary.loss
    rows = [
        [
            tag("strong", row.name, class_="warn") if loss.worst is row else row.name,
            row.weight_bits,
            f"{row.weight_error:.2%}",
            f"{row.clipped_weights:,}",
            f"{row.lost_rows:,}",
            f"{row.threshold_error:.2%}" if row.thresholds else "",
            f"{row.spike_count_error:.3f}" if row.thresholds else "",
            "none" if row.first_difference is None else row.first_difference,
            f"{row.wrapped:,}",
            f"{row.saturated:,}",
            f"{row.alone_count_error:.3f}" if row.thresholds else "",
            f"{row.alone_output_error:.2%}",
        ]
        for row in loss.layers
    ]
    names = [
        "layer", "bits", "weight error", "clipped", "lost rows", "threshold error", "count error", "first step",
        "wrapped", "saturated", "count error, alone", "output error, alone",
    ]  # fmt: skip
    return section(
        "Quantisation loss",
        tag("p", f"{str(loss)[:1].upper()}{str(loss)[1:]}."),
        table(names, rows),
        note(
            "The integer network beside its float64 plan. Count error: mean difference of a neuron's spikes in a "
            "sample, or of the sum of its messages; first step: where any spike differs. Alone: with this layer in "
            "integers and all others in float. Wrapped, saturated: neuron-steps whose current left 24 bits, and whose "
            "membrane, or message, stood at its limit."
        ),
    )


def _neuron(layer: LayerFacts) -> str:
    if layer.graded:
        return "maximum" if layer.activation == MAXIMUM else "sigma-delta"
    return layer.reset if layer.fires else "readout"


def _sources(layer: LayerFacts, summary: Summary) -> str:
    named = (
        "input" if a.source < 0 else "itself" if summary.layers[a.source] is layer else summary.layers[a.source].name
        for a in layer.inputs
    )
    # The dendrites of a maximum hear the same.
    return ", ".join(dict.fromkeys(named) if layer.activation == MAXIMUM else named)


def _thresholds(layer: LayerFacts) -> str:
    if not layer.fires:
        return ""
    found = len(np.unique(layer.thresholds))
    return f"{found:,}: {_range(layer.thresholds, '{:,}')}" if found > 1 else f"{int(layer.thresholds[0]):,}"


def _range(values: np.ndarray[tuple[int], np.dtype[np.generic]], shape: str) -> str:
    low, high = (shape.format(end) for end in (values.min(), values.max()))
    return low if low == high else f"{low} – {high}"


def _short(number: float) -> str:
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return f"{number:.3g}"
