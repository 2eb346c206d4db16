"""The parts of a report's page about chips: the proof, cores, energy, and where every figure comes from."""

from __future__ import annotations

from collections.abc import Sequence

from spikekit.export.cost.cores import Placement
from spikekit.export.cost.energy import OPERATIONS, Energy, in_words
from spikekit.export.cost.targets import KEYS, LOIHI1, Target
from spikekit.export.page.html import Cell, Html, beside, join, note, section, several, table, tag
from spikekit.export.page.pictures import meter
from spikekit.export.page.summary import Summary
from spikekit.export.verify import Proof

_BOUNDS = {
    "": "",
    "neurons": "neurons",
    "in_axons": "input axons",
    "out_axons": "output axons",
    "memory_bits": "memory",
    "thresholds": "thresholds",
    "configs": "decays",
}


def proofs(summary: Summary) -> Html:
    """Whether Lava computes the same."""
    if not summary.proofs:
        return section(
            "Proof",
            tag("p", tag("strong", "Not run.", class_="warn"), " Nothing here says that Lava fires the same spikes."),
            tag(
                "p",
                "Type ", tag("code", "spikekit lava install"), " once, then ", tag("code", "spikekit report NETWORK"),
                "; or hand the result of ", tag("code", "chip.verify(x)"), " to the report.",
            ),
        )  # fmt: skip
    return section("Proof", *(_proof(proof) for proof in summary.proofs))


def _proof(proof: Proof) -> Html:
    verdict = tag(
        "strong", "identical" if proof.identical else "different", class_="good" if proof.identical else "bad"
    )
    spikes = sum(layer.spikes for layer in proof.layers)
    wrong = sum(layer.spike_mismatches for layer in proof.layers)
    rows = [
        [
            layer.name,
            f"{layer.spikes:,}",
            f"{layer.spike_mismatches:,}",
            f"{layer.membranes:,}",
            f"{layer.membrane_mismatches:,}",
            f"{layer.largest_difference:.3g}",
        ]
        for layer in proof.layers
    ]
    return join(
        tag("p", f"{proof.backend}: ", verdict, f"; {wrong:,} of {spikes:,} spike decisions differ."),
        *([] if proof.first is None else [tag("p", f"First at {proof.first}.", class_="bad")]),
        table(["layer", "decisions", "differ", "last membranes", "differ", "largest difference"], rows),
        note(
            f"{several(proof.samples, 'sample')} of {several(proof.steps, 'step')} on Intel Lava (lava-nc "
            f"{proof.lava_version}, Python {proof.python_version}), in {proof.seconds:.1f} s."
        ),
    )


def cores(summary: Summary) -> Html:
    """Cores of every target."""
    parts: list[Cell] = []
    for target, placements in zip(summary.targets, summary.placements, strict=True):
        parts += [tag("h3", _cores_title(target, placements)), _cores(target, placements)]
        if target.name == LOIHI1.name and any(layer.reset == "soft" and layer.fires for layer in summary.layers):
            parts.append(
                note("Size only: the neuron of Loihi 1 resets to zero, and this network subtracts its threshold.")
            )
        if target.name == LOIHI1.name and any(layer.graded for layer in summary.layers):
            parts.append(note("Size only: Loihi 1 sends spikes, and this network sends numbers, as Loihi 2 can."))
    if calcium := sum(layer.calcium for layer in summary.layers):
        parts.append(
            note(
                f"Counted neither here nor below: astrocytes, of {several(calcium, 'calcium state')}. A neuron and the "
                "astrocyte over it hear each other in the same step, so both would have to be in one core."
            )
        )
    parts.append(
        note(
            "Each layer has cores of its own, filled in the order of its neurons that takes fewest: by channels, by "
            "pixels with all channels of a pixel together, or with those together that share thresholds. Bars: the "
            "fullest core, beside what a core holds. A kernel is stored once for every synapse, not shared. What the "
            "input needs is not counted."
        )
    )
    return section("Cores", *parts)


def _cores_title(target: Target, placements: Sequence[Placement]) -> str:
    missing = [placement.layer for placement in placements if not placement.fits]
    if missing:
        return f"{target.name}: does not fit, because of layer {', '.join(missing)}"
    total, chip = sum(len(placement.cores) for placement in placements), target["cores"]
    if chip is None:
        return f"{target.name}: {total:,} cores"
    return f"{target.name}: {total:,} cores of {chip:,}" if total <= chip else (
        f"{target.name}: {total:,} cores, on {-(-total // chip):,} chips of {chip:,}"
    )  # fmt: skip


def _cores(target: Target, placements: Sequence[Placement]) -> Html:
    rows: list[list[Cell]] = []
    reasons: list[Html] = []
    for placement in placements:
        if not placement.fits:
            rows.append([placement.layer, tag("span", "does not fit", class_="bad"), "", "", "", "", "", ""])
            reasons.append(
                tag(
                    "p",
                    tag("strong", f"Layer {placement.layer}: ", class_="bad"),
                    f"{placement.reason}. {placement.way_out}",
                )
            )
            continue
        rows.append(
            [
                placement.layer,
                f"{len(placement.cores):,}",
                _BOUNDS[placement.bound],
                placement.order,
                *(_fullest(placement, target, key) for key in ("neurons", "in_axons", "out_axons", "memory_bits")),
            ]
        )
    hints: dict[str, list[str]] = {}
    for placement in placements:
        if placement.fits and placement.way_out:
            hints.setdefault(placement.way_out, []).append(placement.layer)
    reasons += [note(f"Layer {', '.join(names)}: {hint}") for hint, names in hints.items()]
    names = ["layer", "cores", "bound by", "order", "neurons", "input axons", "output axons", "memory bits"]
    return join(table(names, rows, left=(0, 2, 3)), *reasons)


def _fullest(placement: Placement, target: Target, key: str) -> Html:
    most = max(getattr(core, key) for core in placement.cores)
    limit = target[key]
    return join(f"{most:,}") if limit is None else beside(meter(most / limit), f"{most:,}")


def energy(summary: Summary) -> Html:
    """Estimates, and arithmetic of 45 nm apart."""
    rows = [
        [
            tag("strong", energy.model.name),
            in_words(energy.joules),
            _parts(energy),
            energy.model.source,
            _caveat(energy),
        ]
        for energy in summary.energies
    ]
    once, spiking = summary.conventional
    products, sums = summary.costs.arithmetic.values()
    multiplied = f"{products:,.0f} products, 4.6 pJ each; " if products else ""
    arithmetic = [
        [
            "a conventional network of this shape, one pass",
            f"{summary.costs.macs:,.0f} products, 4.6 pJ each",
            in_words(once.joules),
        ],
        [
            "this network",
            f"{multiplied}{sums:,.0f} sums, 0.9 pJ each",
            in_words(spiking.joules),
        ],
    ]
    return section(
        "Energy, estimated",
        tag(
            "p",
            "Counted operations times published figures: the dynamic energy of one sample, of the cores alone.",
        ),
        table(["table", "energy", "counted", "source", "note"], rows, left=(0, 2, 3, 4)),
        note("No table of Loihi 2 has been published, so no figure of it is given."),
        tag("h3", "Arithmetic of 45 nm, as papers compare"),
        table(["", "operations", "energy"], arithmetic, left=(0,)),
        note(f"{once.model.source}. {once.model.caveat[:1].upper()}{once.model.caveat[1:]}."),
    )


def _parts(energy: Energy) -> str:
    figures = energy.model.figures
    return "; ".join(
        f"{what.replace('_', ' ')} {in_words(joules)} ({figures[what]:g} pJ each)"
        for what, joules in energy.parts.items()
    )


def _caveat(energy: Energy) -> str:
    missing = f"; not counted: {', '.join(energy.uncounted)}" if energy.uncounted else ""
    return f"{energy.model.caveat}{missing}"


def sources(summary: Summary) -> Html:
    """The table of every target."""
    parts: list[Cell] = []
    for target in summary.targets:
        rows = [
            [
                what,
                "no limit" if target[key] is None else f"{target[key]:,}",
                tag("span", "assumed", class_="warn") if target.limits[key].assumed else "published",
                target.limits[key].source,
            ]
            for key, what in KEYS.items()
        ]
        parts += [tag("h3", target.name), table(["figure", "value", "", "source"], rows, left=(0, 2, 3))]
    words = ", ".join(f"{name.replace('_', ' ')}: {what}" for name, what in OPERATIONS.items())
    return section("Figures and sources", *parts, note(f"Operations. {words}."))
