"""Reports as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

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
