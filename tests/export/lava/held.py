"""A network drawn at random, held against Lava: as it was exported, driven to its limits, and in floating point."""

from __future__ import annotations

from spikekit.ops.integer import STATE_MAX


def hold(seed, worker, chip, x, loud, strong):
    """Raise where `chip` on x, `loud` on `strong`, or the plan on x is not what Lava gives."""
    for each, data, backend in ((chip, x, "lava-fixed"), (loud, strong, "lava-fixed"), (chip, x, "lava-float")):
        proof = each.verify(data, backend, python=worker)
        assert proof.identical, f"seed {seed}: {proof}"


def extremes(traces):
    """Whether a sum wrapped, and whether a state stood at its limit."""
    return (
        any(bool((trace.peak_drive > 2**23).any()) for trace in traces),
        any(bool((trace.membranes.abs() == STATE_MAX).any()) for trace in traces),
    )
