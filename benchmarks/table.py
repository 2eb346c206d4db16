"""A report as Markdown: times of spikekit, how many times faster it is than each peer, and how far from the bound."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.contenders import OURS, OURS_ATTACHED
from benchmarks.measure import Timing

Result = Timing | float | str | None
NOTHING = "–"
BUSY = "BUSY: the machine was not idle, and wall-clock times mean little"


def row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    return [row(head), row(["---"] * len(head)), *(row(cells) for cells in rows), ""]


def mean_error(values: Sequence[float], digits: int, sign: str = "") -> str:
    """The mean ± its standard error, which one value has not; sign "+" for differences."""
    text = f"{statistics.fmean(values):{sign}.{digits}f}"
    return text if len(values) < 2 else f"{text} ± {statistics.stdev(values) / len(values) ** 0.5:.{digits}f}"


def count(number: int) -> str:
    """4096 as 4k, 1048576 as 1M."""
    for unit, shift in (("M", 20), ("k", 10)):
        if number >= 1 << shift and number % (1 << shift) == 0:
            return f"{number >> shift}{unit}"
    return str(number)


def value(result: Result, clock: str) -> float | None:
    """Milliseconds of a timing on the clock "cpu" or "wall", any other number as it is; None for a failure."""
    if isinstance(result, Timing):
        return float(getattr(result, clock)) * 1e3
    return float(result) if isinstance(result, int | float) else None


def ratio(result: Result, reference: Result, clock: str) -> float | None:
    """How many times the reference; None where either failed."""
    above, below = value(result, clock), value(reference, clock)
    return above / below if above is not None and below else None


def entry(result: Result, reference: Result, clock: str, unit: str, times: str = "x") -> str:
    """One cell: the value and how many times the reference it is; * marks a single call."""
    if result is None:
        return NOTHING
    number = value(result, clock)
    if number is None:
        return "failed"
    text = f"{number:.3g} {unit}" if number < 100 else f"{number:.0f} {unit}"
    if isinstance(result, Timing) and result.repeats == 1:
        text += "*"
    factor = ratio(result, reference, clock)
    return text if factor is None else f"{text}, {factor:.1f}{times}"


def measured(report: dict[str, Any], mode: str) -> list[str]:
    """One table: a row for each size, a column for each contender."""
    cells = [cell for cell in report["cells"] if cell["mode"] == mode]
    base, clock = report.get("base"), report["clock"]
    unit = cells[0].get("unit", report.get("unit", "ms"))
    head, rows = [""], [[cell["label"]] for cell in cells]
    if base:
        head.append(base)
        for line, cell in zip(rows, cells, strict=True):
            line.append(entry(cell["results"].get(base), None, clock, unit))
    for contender in report["contenders"]:
        name, mine = contender["name"], contender["name"] in (OURS.name, OURS_ATTACHED.name)
        if not any(name in cell["results"] for cell in cells) and not contender["absent"]:
            continue
        head.append(name)
        for line, cell in zip(rows, cells, strict=True):
            results = cell["results"]
            reference = results.get(base) if mine else results.get(contender["against"])
            times = f" × {base}" if mine else "x"
            shown = entry(results.get(name), reference, clock, unit, times)
            line.append("not timed" if contender["absent"] else shown)
    failures = sorted({f"- {name}: {r}" for c in cells for name, r in c["results"].items() if isinstance(r, str)})
    return [f"### {mode[0].upper()}{mode[1:]}", "", *grid(head, rows), *failures, *([""] if failures else [])]


def compared(report: dict[str, Any]) -> list[str]:
    """Who ran, how, and whether it fires the spikes of its twin."""
    rows = []
    for contender in report["contenders"]:
        check = contender["check"]
        spikes = f"{check['differ']} of {check['spikes']}" if check else NOTHING
        error = check and check["gradient_error"]
        gradient = NOTHING if error is None else f"{error:.1e}"
        note = "; ".join(text for text in (contender["absent"], contender["note"]) if text)
        rows.append([contender["name"], spikes, gradient, note])
    return ["### Same equations?", "", *grid(["", "spikes that differ", "gradient error", ""], rows)]


def busy(machine: dict[str, Any]) -> bool:
    """Whether several threads were to run at once where others kept the cores: wall-clock time is then theirs too."""
    threads, load = machine["threads"], machine["load"]
    return threads > 1 and load is not None and load[0] + threads > machine["cores"] + 1


def head(report: dict[str, Any]) -> list[str]:
    """What the numbers depend on, and how to read them."""
    machine = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    what = report.get("what") or (
        f"Median {'CPU' if report['clock'] == 'cpu' else 'wall-clock'} time of a call; 5.0x: five times as long as "
        "spikekit; *: one call only."
    )
    return [
        f"{machine['cpu']}, {machine['cores']} cores ({machine['capability']}), {machine['threads']} thread(s), "
        f"load {machine['load']} before and {machine.get('load_after')} after, allocator {report['allocator']}"
        + (f", {BUSY}" if busy(machine) else "")
        + (", QUICK: sizes too small to mean anything" if report["quick"] else ""),
        versions,
        what,
        "",
    ]


def show(report: dict[str, Any]) -> str:
    """The whole report as text."""
    lines = head(report)
    for mode in dict.fromkeys(cell["mode"] for cell in report["cells"]):
        lines += measured(report, mode)
    return "\n".join([*lines, *report.get("remarks", []), *compared(report)])
