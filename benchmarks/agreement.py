"""What must hold before a contender is timed: the spikes and the gradients of its spikekit twin."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.contenders import Contender
from benchmarks.measure import one_line
from spikekit.ops.paths import forced_path, set_path

Made = TypeVar("Made")

# Beyond these a contender computes something else, and its times would say nothing. Rounding moves a membrane over the
# threshold now and then, and with it what follows; where it did, the gradient has less to agree with.
SPIKES_DIFFER = 5e-3
GRADIENT_ERROR, GRADIENT_ERROR_BESIDE_OTHER_SPIKES = 1e-3, 2e-2


@dataclass(frozen=True)
class Agreement:
    """Entries in which the spike trains of contender and twin differ, how many spikes the twin has, of how many
    neurons and steps; and the largest relative error of the gradient.
    """

    differ: int
    spikes: int
    entries: int
    gradient_error: float

    def as_json(self) -> dict[str, float | None]:
        """The fields; JSON has no NaN, so a gradient error that is none is None."""
        return vars(self) | {"gradient_error": self.gradient_error if math.isfinite(self.gradient_error) else None}

    def refusal(self) -> str | None:
        """Why the contender must not be timed, or None."""
        if not self.spikes:
            return "not timed: its twin is silent, so nothing was compared"
        if self.differ > SPIKES_DIFFER * self.spikes:
            return f"not timed: {self.differ} entries differ from the {self.spikes} spikes of its twin"
        limit = GRADIENT_ERROR_BESIDE_OTHER_SPIKES if self.differ else GRADIENT_ERROR
        # Written so that NaN is refused too.
        if not self.gradient_error <= limit:
            return f"not timed: its gradient is off by {self.gradient_error:.1e} of its twin's"
        return None


@contextmanager
def on_path(path: str) -> Iterator[None]:
    """Another path of spikekit, and the old one after."""
    before = forced_path()
    set_path(path)
    try:
        yield
    finally:
        set_path(before)


def admit(
    contenders: Iterable[Contender],
    make: Callable[[Contender], Made],
    check: Callable[[Made], Agreement],
) -> tuple[dict[str, Made], dict[str, Agreement], dict[str, str]]:
    """Make and check every contender: those that may be timed, all checks, and why the others may not, by name."""
    admitted: dict[str, Made] = {}
    checks: dict[str, Agreement] = {}
    absent: dict[str, str] = {}
    for contender in contenders:
        try:
            made = make(contender)
            checks[contender.name] = check(made)
        except ModuleNotFoundError as error:
            absent[contender.name] = f"not installed ({error.name})"
        except Exception as error:
            absent[contender.name] = one_line(error)
        else:
            refusal = checks[contender.name].refusal()
            if refusal is None:
                admitted[contender.name] = made
            else:
                absent[contender.name] = refusal
    return admitted, checks, absent


def roster(contenders: Iterable[Contender], checks: Mapping[str, Agreement], absent: Mapping[str, str]) -> list[object]:
    """The contenders of a report: name, whom it is compared with, how it ran, its check, and why it is absent."""
    return [
        {
            "name": contender.name,
            "against": contender.against,
            "note": contender.note,
            "check": checks[contender.name].as_json() if contender.name in checks else None,
            "absent": absent.get(contender.name),
        }
        for contender in contenders
    ]
