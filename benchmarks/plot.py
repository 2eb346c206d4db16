"""Pictures of the reports; a contender has the same colour and mark in all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.table import value

# Okabe and Ito's colours, which most colour-blind readers tell apart.
STYLES: dict[str, tuple[str, str]] = {
    "spikekit": ("#0072B2", "o"),
    "spikekit, reset in the graph": ("#56B4E9", "o"),
    "spikekit, 8 steps at a time": ("#0072B2", "P"),
    "plain PyTorch loop": ("#777777", "s"),
    "plain PyTorch, layer by layer": ("#AAAAAA", "s"),
    "snntorch": ("#D55E00", "v"),
    "spikingjelly": ("#009E73", "^"),
    "norse": ("#CC79A7", "D"),
    "sinabs": ("#E69F00", "X"),
    "spikekit, dense weights": ("#D55E00", "v"),
    "spikekit, plain PyTorch": ("#777777", "s"),
}
BASE = ("black", "_")


def style(name: str) -> tuple[str, str]:
    """Colour and mark."""
    return STYLES.get(name, BASE)


def plain_numbers(axis: Any) -> None:
    """Label a logarithmic axis with 0.5, 20, 3000 instead of powers of ten, three a decade or more if it is short."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 10 * low else (1, 1.5, 2, 3, 4, 5, 7)))
    axis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:g}"))
    axis.set_minor_formatter(NullFormatter())


def title(figure: Figure, report: dict[str, Any], what: str) -> None:
    """The title: what is shown, and the conditions it was measured in."""
    machine = report["machine"]
    versions = ", ".join(f"{name} {machine['versions'][name]}" for name in ("torch", "spikekit"))
    quick = "  QUICK RUN, sizes too small to mean anything" if report["quick"] else ""
    text = f"{what}\n{machine['cpu']}, {machine['threads']} thread(s), {versions}{quick}"
    figure.suptitle(text, fontsize=10)


def names(report: dict[str, Any]) -> list[str]:
    """The contenders with a number, in the order of the report, after the base."""
    have = {name for cell in report["cells"] for name, result in cell["results"].items() if not isinstance(result, str)}
    base = [report["base"]] if report.get("base") else []
    return [name for name in [*base, *(c["name"] for c in report["contenders"])] if name in have]


def modes(report: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The cells of each mode."""
    found: dict[str, list[dict[str, Any]]] = {}
    for cell in report["cells"]:
        found.setdefault(cell["mode"], []).append(cell)
    return found


def dots(report: dict[str, Any], file: Path) -> None:
    """Times the bound, a mark for each contender and size."""
    panels = modes(report)
    figure = Figure(figsize=(11, 3.6 * len(panels)), layout="constrained")
    for ax, (mode, cells) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels.items(), strict=True):
        bounds = [value(cell["results"].get(report["base"]), report["clock"]) for cell in cells]
        for name in names(report)[1:]:
            times = [value(cell["results"].get(name), report["clock"]) for cell in cells]
            points = [(i, t / b) for i, (t, b) in enumerate(zip(times, bounds, strict=True)) if t and b]
            colour, mark = style(name)
            ax.plot(*zip(*points, strict=True), mark, color=colour, label=name, markersize=7, alpha=0.85)
        ax.axhline(1, color="black", lw=1, ls="--", label=report["base"])
        ax.set(yscale="log", ylabel=f"{mode}: times the {report['base']}")
        plain_numbers(ax.yaxis)
        ax.grid(axis="y", which="both", alpha=0.25)
        ax.set_xticks(range(len(cells)), [cell["label"].replace(" ", "\n") for cell in cells])
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    title(figure, report, "One LIF layer beside the traffic of memory")
    figure.savefig(file, dpi=120)


def bars(report: dict[str, Any], file: Path) -> None:
    """A bar for each contender; the base is a dashed line."""
    panels = [(cell, f"{cell['label']}, {cell['mode']}") for cell in report["cells"]]
    unit = report.get("unit", "ms")
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(6.2 * columns, 0.6 + rows * (0.9 + 0.27 * len(names(report)))), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for ax, (cell, label) in zip(axes, panels, strict=False):
        _bar_panel(ax, report, cell, label, unit)
    for ax in list(figure.axes)[len(panels) :]:
        ax.set_axis_off()
    title(figure, report, report["title"])
    figure.savefig(file, dpi=120)


def _bar_panel(ax: Axes, report: dict[str, Any], cell: dict[str, Any], label: str, unit: str) -> None:
    found = [(name, value(cell["results"].get(name), report["clock"])) for name in names(report)]
    shown = [(name, number) for name, number in found if number is not None and name != report.get("base")][::-1]
    drawn = ax.barh([name for name, _ in shown], [n for _, n in shown], color=[style(name)[0] for name, _ in shown])
    ax.bar_label(drawn, [f"{number:.3g}" for _, number in shown], padding=3, fontsize=8)
    ax.margins(x=0.12)
    base = dict(found).get(report.get("base", ""))
    if base is not None:
        ax.axvline(base, color="black", ls="--", lw=1)
        ax.set_title(f"{label}   (dashed: {report['base']}, {base:.3g} {unit})", fontsize=9)
    else:
        ax.set_title(label, fontsize=9)
    ax.set_xlabel(unit)
    ax.tick_params(axis="y", labelsize=8)


def curves(ax: Axes, report: dict[str, Any], cells: list[dict[str, Any]], along: str, scale: str = "") -> None:
    """A line for each contender, its results over cell[along], divided by cell[scale] when given; both axes log."""
    for name in names(report):
        found = [(cell, value(cell["results"].get(name), report["clock"])) for cell in cells]
        points = [(cell[along], n / (cell[scale] if scale else 1)) for cell, n in found if n is not None]
        if not points:
            continue
        colour, mark = style(name)
        dashes = "--" if name == report.get("base") else "-"
        ax.plot(*zip(*points, strict=True), dashes, marker=mark, color=colour, label=name, markersize=5, lw=1.3)
    ax.set(xscale="log", yscale="log")
    plain_numbers(ax.yaxis)
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.grid(alpha=0.25)


def legend_below(figure: Figure) -> None:
    """One legend for all panels."""
    entries = {label: h for ax in figure.axes for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=4, frameon=False)
