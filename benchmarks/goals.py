"""What the measurements should show, held against the reports: met, NOT met, or not measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.contenders import OURS, OURS_ATTACHED
from benchmarks.measure import PEERS
from benchmarks.table import ratio, value

Report = dict[str, Any]
# Two measurements that differ by less are the same: for the goals that say "not slower".
NOISE = 1.1


@dataclass(frozen=True)
class Finding:
    """One goal in one run. measured: in words; met: None where there is no measurement."""

    case: str
    goal: str
    measured: str
    met: bool | None

    def __str__(self) -> str:
        verdict = {True: "met", False: "**NOT met**", None: "not measured"}[self.met]
        return f"{self.measured}: {verdict}" if self.measured else verdict


def fastest_peer(results: dict[str, Any], clock: str) -> str | None:
    """The fastest of snnTorch, SpikingJelly, norse and sinabs; the plain loop is none of them."""
    times = {name: time for name in PEERS if (time := value(results.get(name), clock)) is not None}
    return min(times, key=times.__getitem__) if times else None


def against(report: Report, peer: str) -> str:
    """The name of our neuron with the reset of the peer's."""
    return next((c["against"] for c in report.get("contenders", ()) if c["name"] == peer), OURS.name)


def faster(report: Report, cell: dict[str, Any], case: str, least: float, peer: str | None = None) -> Finding:
    """At least so many times faster than the fastest peer, or than the one named."""
    found = peer or fastest_peer(cell["results"], report["clock"])
    goal = f"≥ {least:g} × {peer or 'the fastest PyTorch peer'}"
    times = found and ratio(cell["results"].get(found), cell["results"].get(against(report, found)), report["clock"])
    if not times:
        return Finding(case, goal, "", None)
    return Finding(case, goal, f"{times:.1f} × {found}", times >= least)


def below(report: Report, cell: dict[str, Any], case: str, most: float, base: str) -> Finding:
    """At most so many times the base, for the slower of our two resets."""
    goal = f"≤ {most:g} × the {base}" if most != 1 else f"below the {base}"
    found = [
        times
        for name in (OURS.name, OURS_ATTACHED.name)
        if (times := ratio(cell["results"].get(name), cell["results"].get(base), report["clock"])) is not None
    ]
    return Finding(case, goal, f"{max(found):.2f} ×" if found else "", max(found) <= most if found else None)


def lif(report: Report) -> Iterator[Finding]:
    for cell in report["cells"]:
        if cell["steps"] >= 16:
            case = f"LIF {cell['mode']}, {cell['label']}"
            yield faster(report, cell, case, 4 if cell["mode"] == "training" else 6)
            yield below(report, cell, case, 2.5, "bound")


def _network(report: Report, name: str, training: float, inference: float) -> Iterator[Finding]:
    for cell in report["cells"]:
        yield faster(report, cell, f"{name} {cell['mode']}", training if cell["mode"] == "training" else inference)


def _compiled(report: Report, name: str) -> Iterator[Finding]:
    for mode, found in report.get("compiled", {}).items():
        case, goal = f"{name} {mode}, torch.compile", f"not slower than eager (within {NOISE:g} ×)"
        if isinstance(found, str):
            yield Finding(case, goal, found, False)
            continue
        times = ratio(found["results"]["compiled"], found["results"]["eager"], report["clock"])
        yield Finding(case, goal, f"{times:.2f} ×" if times else "", None if times is None else times <= NOISE)


def mlp(report: Report) -> Iterator[Finding]:
    yield from _network(report, "MLP", 3.5, 6)
    for cell in report["cells"]:
        if cell["mode"] == "training":
            yield below(report, cell, "MLP training", 1, "floor")
    yield from _compiled(report, "MLP")


def conv(report: Report) -> Iterator[Finding]:
    yield from _network(report, "Conv net", 1.5, 2.2)
    yield from _compiled(report, "Conv net")


def mpbn(report: Report) -> Iterator[Finding]:
    for cell in report["cells"]:
        yield faster(report, cell, f"MPBN-LIF training, {cell['label']}", 4, "spikingjelly")


def density(report: Report) -> Iterator[Finding]:
    for line in report["summary"]:
        crossing = f"pays up to {line['crossover']:.0%}" if line["crossover"] else "pays nowhere"
        spread = f", {line['spread']:.1f} × from end to end" if line["spread"] else ""
        # Equal times at all densities are monotone too, and no gain.
        met = line["monotone"] and line["crossover"] is not None
        yield Finding(f"Density, {line['workload']} {line['mode']}", "fewer spikes, faster", crossing + spread, met)
        if line["worst"] is not None:
            slower = 1 / line["worst"]
            goal = f"never slower than dense weights (within {NOISE:g} ×)"
            yield Finding(f"Density, {line['workload']} {line['mode']}", goal, f"{slower:.2f} ×", slower <= NOISE)


def memory(report: Report) -> Iterator[Finding]:
    for line in report["long"]:
        case = f"checkpoint_time, MLP T={line['steps']}"
        saving = line["saving"]["kept"]
        # The goal is for the longest; the shorter ones are for the curve.
        if line is report["long"][-1]:
            text = "" if saving is None else f"{saving:.1%}"
            yield Finding(case, "≥ 80 % less kept for backward", text, None if saving is None else saving >= 0.8)


def scale(report: Report) -> Iterator[Finding]:
    for line in report["slopes"]:
        if line["name"] == OURS.name and line["slope"] is not None:
            case = f"LIF, {line['mode'].split()[0]} against {line['along']}"
            yield Finding(case, "linear: slope ≤ 1.1", f"{line['slope']:.2f}", line["slope"] <= 1.1)
    constant = report["bytes_a_step"]
    text = "" if constant is None else f"{constant:.2f} bytes"
    yield Finding(
        "LIF, kept for backward", "≤ 4 bytes a neuron and step", text, None if constant is None else constant < 4.001
    )


GOALS: dict[str, Callable[[Report], Iterable[Finding]]] = {
    "lif": lif,
    "mlp": mlp,
    "conv": conv,
    "mpbn": mpbn,
    "density": density,
    "memory": memory,
    "scale": scale,
}
