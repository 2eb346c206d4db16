"""What one core of a chip holds, with the source of every figure; what nobody published is marked as assumed.

Intel's own toolchain is not public, so the figures of Loihi 1 are those of nengo-loihi, which ran on it. A table is
edited with `Target.edited`: what you write there is yours, and is shown as such.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spikekit.errors import InputError


@dataclass(frozen=True)
class Limit:
    """One figure: None for no limit. assumed: no public source says so for this chip."""

    value: int | None
    source: str
    assumed: bool = False


KEYS = {
    "cores": "cores of a chip",
    "neurons": "neurons (compartments) of a core",
    "in_axons": "input axons of a core: presynaptic neurons that it listens to",
    "out_axons": "output axons of a core: pairs of a neuron and a core that listens to it",
    "memory_bits": "bits of synaptic memory of a core",
    "state_bits": "bits of that memory that each neuron's state takes",
    "thresholds": "different thresholds of a core",
    "configs": "different decays of a core",
    "block_synapses": "synapses of a block of synaptic memory",
    "block_bits": "bits of the head of a block",
    "word_bits": "bits that a block is rounded up to",
}
"""The figures of a table, and what they are."""


@dataclass(frozen=True)
class Target:
    """A chip by the figures in `KEYS`."""

    name: str
    limits: Mapping[str, Limit]

    def __post_init__(self) -> None:
        if self.limits.keys() != KEYS.keys():
            wrong = sorted(self.limits.keys() ^ KEYS.keys())
            raise InputError(f"Target {self.name!r}: it must hold the figures {list(KEYS)}; look at {wrong}")
        for key, limit in self.limits.items():
            least = 0 if key in ("state_bits", "block_bits") else 1
            optional = key not in ("state_bits", "block_synapses", "block_bits", "word_bits")
            if limit.value is None and optional:
                continue
            if isinstance(limit.value, bool) or not isinstance(limit.value, int) or limit.value < least:
                raise InputError(
                    f"Target {self.name!r}: {key} must be a whole number from {least}"
                    f"{' or None' if optional else ''}, got {limit.value!r}"
                )

    def __getitem__(self, key: str) -> int | None:
        return self.limits[key].value

    def size(self, key: str) -> int:
        """A figure that has a value, always."""
        return self.limits[key].value or 0

    def most(self, key: str) -> float:
        """A figure to compare with; infinite where there is no limit."""
        value = self.limits[key].value
        return float("inf") if value is None else value

    def edited(self, changes: Mapping[str, int | None], name: str | None = None) -> Target:
        """The same table with figures of your own, {"in_axons": 4096, ...}; they are shown as assumed."""
        if unknown := sorted(set(changes) - set(KEYS)):
            raise InputError(f"Target {self.name!r}: there is no figure {unknown}; the figures are {list(KEYS)}")
        own = {key: Limit(value, "given by the user", assumed=True) for key, value in changes.items()}
        return Target(name or f"{self.name}, edited", {**self.limits, **own})


_NENGO = "nengo-loihi, block.py"
_NENGO_CHECK = "nengo-loihi, hardware/validate.py"

LOIHI1 = Target(
    "Loihi 1",
    {
        "cores": Limit(128, "Davies et al. 2018, IEEE Micro 38(1)"),
        "neurons": Limit(1024, _NENGO),
        "in_axons": Limit(4096, _NENGO),
        "out_axons": Limit(4096, _NENGO),
        "memory_bits": Limit(2**20, _NENGO),
        "state_bits": Limit(0, "Davies et al. 2018: neurons have memory of their own"),
        "thresholds": Limit(16, _NENGO_CHECK),
        "configs": Limit(32, _NENGO_CHECK),
        "block_synapses": Limit(64, _NENGO),
        "block_bits": Limit(10, _NENGO),
        "word_bits": Limit(64, _NENGO),
    },
)
"""Loihi 1, 2018. Its neuron resets to zero: a network with soft reset fits in size only."""

_BRIEF = "Intel's technology brief of Loihi 2 (2021), after a second source"
_ONE = "unpublished; as Loihi 1"

LOIHI2 = Target(
    "Loihi 2",
    {
        "cores": Limit(128, "open-neuromorphic.org, Loihi 2"),
        "neurons": Limit(8192, "1 million neurons on 128 cores: open-neuromorphic.org, Loihi 2"),
        "in_axons": Limit(4096, _ONE, assumed=True),
        "out_axons": Limit(4096, _ONE, assumed=True),
        "memory_bits": Limit(192 * 1024 * 8, f"192 KB a core: {_BRIEF}", assumed=True),
        "state_bits": Limit(64, "unpublished; one 64-bit word, in the same memory", assumed=True),
        "thresholds": Limit(None, "neurons are programs: a threshold is a number of their state", assumed=True),
        "configs": Limit(None, "neurons are programs: a decay is a number of their state", assumed=True),
        "block_synapses": Limit(64, _ONE, assumed=True),
        "block_bits": Limit(10, _ONE, assumed=True),
        "word_bits": Limit(64, _ONE, assumed=True),
    },
)
"""Loihi 2, 2021: most of its figures are assumptions, to be edited by whoever has better ones."""
