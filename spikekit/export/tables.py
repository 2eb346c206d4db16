"""Reports as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from spikekit.export.loss import QuantisationLoss
from spikekit.export.report import LayerReport


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their longest cell, the first aligned left, the others right."""
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    return "\n".join([text[0], "  ".join("-" * w for w in widths), *text[1:]])


def layer_table(rows: Sequence[LayerReport]) -> str:
    """One line a layer, and the totals."""
    cells = [
        [
            row.name,
            row.kind,
            "×".join(map(str, row.shape)),
            f"{row.neurons:,}",
            f"{row.synapses:,}",
            f"{row.float_rate:.4f}",
            f"{row.firing_rate:.4f}",
            f"{row.spike_count_error:.3f}",
            str(row.saturated),
            f"{row.synaptic_operations:,.0f}",
        ]
        for row in rows
    ]
    total = [
        "total", "", "", f"{sum(row.neurons for row in rows):,}", f"{sum(row.synapses for row in rows):,}",
        "", "", "", "", f"{sum(row.synaptic_operations for row in rows):,.0f}",
    ]  # fmt: skip
    head = [
        "layer", "kind", "shape", "neurons", "synapses", "rate float", "rate int",
        "count error", "saturated", "synops/sample",
    ]  # fmt: skip
    return table(head, [*cells, total])


def loss_table(loss: QuantisationLoss) -> str:
    """One line a layer, and which one hurts most."""
    cells = [
        [
            row.name,
            str(row.weight_bits),
            f"{row.weight_error:.2%}",
            str(row.clipped_weights),
            str(row.lost_rows),
            str(row.thresholds) if row.thresholds else "",
            f"{row.threshold_error:.2%}" if row.thresholds else "",
            f"{row.spike_count_error:.3f}",
            "" if row.first_difference is None else str(row.first_difference),
            str(row.wrapped),
            str(row.saturated),
            f"{row.alone_count_error:.3f}",
            f"{row.alone_output_error:.2%}",
        ]
        for row in loss.layers
    ]
    head = [
        "layer", "bits", "weight error", "clipped", "lost rows", "thresholds", "worst off by", "count error",
        "first step", "wrapped", "saturated", "count error alone", "output error alone",
    ]  # fmt: skip
    return f"{table(head, cells)}\n{loss}"
