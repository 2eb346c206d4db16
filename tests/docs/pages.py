"""Reads the code blocks of a Markdown page and runs them, one namespace a section."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

FENCE = re.compile(r"(?:^<!-- needs: (\w+) -->\n)?^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#{2,3} (.+)$", re.MULTILINE)
DOCS = Path(__file__).parents[2] / "docs"


@dataclass(frozen=True)
class Block:
    """One fenced block: its code, the package it needs besides ours, and the line it starts at."""

    code: str
    needs: str | None
    line: int


@dataclass(frozen=True)
class Section:
    """The blocks under one heading; they share their names."""

    title: str
    blocks: tuple[Block, ...]

    def peers(self) -> set[str]:
        return {block.needs for block in self.blocks if block.needs}


def sections(page: str) -> list[Section]:
    """The sections of docs/`page` that hold code."""
    text = (DOCS / page).read_text(encoding="utf-8")
    starts = [match.start() for match in HEADING.finditer(text)] + [len(text)]
    found = []
    for start, end in pairwise(starts):
        title = text[start:end].splitlines()[0].lstrip("# ")
        blocks = tuple(
            Block(match[2], match[1], text.count("\n", 0, match.start(2))) for match in FENCE.finditer(text, start, end)
        )
        if blocks:
            found.append(Section(title, blocks))
    return found


def execute(page: str, block: Block, names: dict[str, Any]) -> None:
    """Run a block in `names`; a traceback shows the page and the page's own line."""
    exec(compile("\n" * block.line + block.code, str(DOCS / page), "exec"), names)
