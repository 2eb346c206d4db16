"""The report of a run as Markdown: times of spikekit, and how many times faster it is than each peer."""

from __future__ import annotations

from typing import Any

from benchmarks.contenders import OURS, OURS_ATTACHED, PEERS
from benchmarks.measure import Timing

# Above these a peer computes something else than its twin, and its times say nothing.
SPIKES_DIFFER, GRADIENT_ERROR = 1e-3, 1e-3


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _number(neurons: int) -> str:
    return f"{neurons >> 10}k" if neurons % 1024 == 0 else str(neurons)


def _milliseconds(result: Timing | str | None, clock: str) -> str:
    return f"{getattr(result, clock) * 1e3:.2f} ms" if isinstance(result, Timing) else "failed"


def _ratio(result: Timing | str | None, ours: Timing | str | None, clock: str) -> str:
    if not (isinstance(result, Timing) and isinstance(ours, Timing)):
        return "failed"
    once = "*" if result.repeats == 1 else ""
    return f"{getattr(result, clock) / getattr(ours, clock):.1f}x{once}"


def _times(report: dict[str, Any], mode: str, clock: str) -> list[str]:
    cells = [cell for cell in report["cells"] if cell["mode"] == mode]
    head = [f"T={cell['steps']} M={_number(cell['neurons'])}" for cell in cells]
    what = "forward and backward" if mode == "training" else "no_grad"
    lines = [f"### {mode.capitalize()} ({what})", "", _row(["", *head]), _row(["---"] * (len(head) + 1))]
    for ours in (OURS, OURS_ATTACHED):
        lines.append(_row([ours.name, *(_milliseconds(c["results"].get(ours.name), clock) for c in cells)]))
    for peer in PEERS:
        base = OURS_ATTACHED.name if peer.attached else OURS.name
        if peer.name in report["absent"]:
            shown = [report["absent"][peer.name]] * len(cells)
        else:
            shown = [_ratio(c["results"][peer.name], c["results"][base], clock) for c in cells]
        lines.append(_row([f"faster than {peer.name}", *shown]))
    failures = sorted({f"{name}: {r}" for c in cells for name, r in c["results"].items() if isinstance(r, str)})
    return [*lines, "", *(f"- {failure}" for failure in failures)]


def _agreement(report: dict[str, Any]) -> list[str]:
    lines = ["### Same equations?", "", _row(["", "spikes differ", "gradient error", ""]), _row(["---"] * 4)]
    for peer in PEERS:
        if peer.name in report["absent"]:
            lines.append(_row([peer.name, "-", "-", report["absent"][peer.name]]))
            continue
        check = report["agreement"][peer.name]
        fine = check["spikes_differ"] < SPIKES_DIFFER and check["gradient_error"] < GRADIENT_ERROR
        note = peer.note if fine else f"DISAGREES with its twin, do not compare; {peer.note}"
        lines.append(_row([peer.name, f"{check['spikes_differ']:.1e}", f"{check['gradient_error']:.1e}", note]))
    return lines


def show(report: dict[str, Any], clock: str) -> str:
    """The report of `benchmarks.lif.run` as text; clock: "cpu" or "wall"."""
    machine = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return "\n".join(
        [
            f"{machine['cpu']}, {machine['cores']} cores ({machine['capability']}), {machine['threads']} thread(s), "
            f"load {machine['load']}, allocator {report['allocator']}",
            versions,
            f"Median {clock} time of a call; 5.0x: spikekit takes a fifth of the peer's time; *: one call only.",
            "",
            *_times(report, "training", clock),
            *_times(report, "inference", clock),
            *_agreement(report),
        ]
    )
