"""Synthetic tasks that need memory: what was seen must be said after a gap. A result on them is no result on real data.

Delayed recall; copy (Hochreiter & Schmidhuber 1997; Arjovsky, Shah, Bengio 2016); selective copy (Gu & Dao 2023).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spikekit.errors import InputError

KINDS = ("delayed-recall", "copy", "selective-copy")
IGNORE = -100
"""The target of a step at which nothing is asked; `torch.nn.functional.cross_entropy` leaves it out."""


@dataclass(frozen=True)
class MemoryTask:
    """Sequences of tokens drawn anew at each call of `batch`.

    kind: "delayed-recall": one symbol, `gap` steps of noise, a question; the answer is the symbol.
    "copy": `items` symbols, `gap` blanks, `items` questions, to be answered in order.
    "selective-copy": `items` symbols at random places among gap + items steps, the rest blanks; then as in copy.
    gap: steps between what is to be kept and the first question, or the blanks among it. symbols: how many there are to
    remember, so that a guess is right in one of so many. noise: different tokens that fill the gap of delayed recall;
    1: always the same. Raises InputError for an unknown kind and for numbers below 1 (gap: below 0).
    """

    kind: str
    gap: int
    symbols: int = 8
    items: int = 1
    noise: int = 4

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"MemoryTask: unknown kind {self.kind!r}; choose one of {', '.join(KINDS)}")
        for name, least in (("gap", 0), ("symbols", 2), ("items", 1), ("noise", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InputError(f"MemoryTask: {name} must be a whole number, {least} or more, got {value!r}")
        if self.kind == "delayed-recall" and self.items != 1:
            raise InputError(f"MemoryTask: delayed recall asks for one symbol, got items = {self.items}; use copy")

    @property
    def name(self) -> str:
        """As a figure's caption should say it."""
        return f"{self.kind.replace('-', ' ')}, gap {self.gap} (synthetic)"

    @property
    def vocabulary(self) -> int:
        """Number of different tokens: symbols from 0, then noise or the blank, then the question."""
        return self.symbols + (self.noise if self.kind == "delayed-recall" else 1) + 1

    @property
    def steps(self) -> int:
        """Length of a sequence, T."""
        return self.gap + 2 * self.items

    def batch(self, size: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Tokens x and targets y, both int64 [T, B]; y is `IGNORE` wherever nothing is asked."""
        kept = torch.randint(self.symbols, (self.items, size), generator=generator)
        blank, question = self.symbols, self.vocabulary - 1
        x = torch.full((self.steps, size), blank)
        if self.kind == "delayed-recall":
            x[:] = blank + torch.randint(self.noise, x.shape, generator=generator)
        if self.kind == "selective-copy":
            # A random order of the steps before the first question; its first ones, sorted, are the places.
            order = torch.rand(self.gap + self.items, size, generator=generator).argsort(0)
            x.scatter_(0, order[: self.items].sort(0).values, kept)
        else:
            x[: self.items] = kept
        x[-self.items :] = question
        y = torch.full_like(x, IGNORE)
        y[-self.items :] = kept
        return x, y
