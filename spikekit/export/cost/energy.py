"""Energy of a network as an estimate: counted operations times published figures, each with its source.

Dynamic energy of the cores only: no static power, no host, no input and output, no hops between cores. The figures are
of Loihi 1; no table for Loihi 2 has been published, so none is given. What separates two tables here, half as much
again, is less than what separates any of them from a measurement: compare networks with it, not chips.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spikekit.errors import InputError

OPERATIONS = {
    "synaptic_operations": "a spike, or a message, that arrives at a synapse",
    "updates": "a neuron in a step",
    "spikes": "a spike of a neuron",
    "messages": "a spike sent to one core",
    "macs": "a product added to a sum",
    "accumulates": "a weight added to a sum",
}
"""What can be counted, and what one of it is."""


@dataclass(frozen=True)
class EnergyModel:
    """A table of energies. figures: operation -> picojoules each. caveat: what to know before believing it."""

    name: str
    figures: Mapping[str, float]
    source: str
    caveat: str

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.figures) - set(OPERATIONS)):
            raise InputError(f"EnergyModel {self.name!r}: {unknown} are not counted; counted are {list(OPERATIONS)}")


@dataclass(frozen=True)
class Energy:
    """One estimate, in joules. parts: joules of each kind of operation. uncounted: those that were not counted."""

    model: EnergyModel
    joules: float
    parts: Mapping[str, float]
    uncounted: tuple[str, ...] = ()


CHIPS = (
    EnergyModel(
        "Loihi 1, Davies 2018",
        {"synaptic_operations": 23.6, "updates": 81.0},
        "Davies et al. 2018, IEEE Micro 38(1), Table 2",
        "14 nm, simulated before the chip was made; the smallest figure of a synaptic operation",
    ),
    EnergyModel(
        "Loihi 1, keras-spiking",
        {"synaptic_operations": 27.1, "updates": 81.0},
        "keras-spiking, after Davies et al. 2018: 23.6 + 3.5 pJ a synaptic operation",
        "as Davies 2018, with the spike's way to the synapse",
    ),
    EnergyModel(
        "Loihi 1, SANA-FE",
        {"synaptic_operations": 35.5, "updates": 72.8, "spikes": 69.3, "messages": 76.8},
        "SANA-FE, arch/loihi.yaml, calibrated on Loihi 1",
        "every neuron counts as updated in every step; hops between cores (3.0 and 4.2 pJ each) are left out",
    ),
)
"""Tables of Loihi 1."""

CMOS_45NM = EnergyModel(
    "45 nm arithmetic, Horowitz 2014",
    {"macs": 4.6, "accumulates": 0.9},
    "Horowitz 2014, ISSCC: 32-bit floating point, 3.7 pJ a product and 0.9 pJ a sum",
    "arithmetic alone, without the memory that feeds it, which costs more; not a figure of any chip here",
)
"""What papers compare a spiking network with a conventional one by."""


def estimate(counts: Mapping[str, float], model: EnergyModel) -> Energy:
    """Energy of counted operations, {"synaptic_operations": 4e5, ...}, by one table.

    Operations that the table has no figure for cost nothing there; those that the table asks for and nobody counted are
    named in `uncounted`.
    """
    if unknown := sorted(set(counts) - set(OPERATIONS)):
        raise InputError(f"estimate: unknown operations {unknown}; known are {list(OPERATIONS)}")
    parts = {what: counts[what] * each * 1e-12 for what, each in model.figures.items() if what in counts}
    uncounted = tuple(what for what in model.figures if what not in counts)
    return Energy(model, sum(parts.values()), parts, uncounted)


def in_words(joules: float) -> str:
    """Joules with three digits: "10.0 µJ"."""
    for unit, factor in (("J", 1.0), ("mJ", 1e-3), ("µJ", 1e-6), ("nJ", 1e-9), ("pJ", 1e-12)):
        value = joules / factor
        # From where rounding makes it 1.00.
        if value >= 0.9995:
            return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"
    return f"{joules / 1e-12:.3g} pJ"
