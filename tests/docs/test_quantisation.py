"""docs/quantisation.md: its blocks run, and its numbers are those of the exporter."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from pages import DOCS, execute, sections

PAGE = "quantisation.md"
SECTIONS = sections(PAGE)


@pytest.mark.parametrize("section", SECTIONS, ids=[section.title for section in SECTIONS])
def test_blocks_run(section):
    names: dict[str, object] = {}
    for block in section.blocks:
        execute(PAGE, block, names)


def test_no_block_is_overlooked():
    text = (DOCS / PAGE).read_text(encoding="utf-8")
    assert text.count("```python") == sum(len(section.blocks) for section in SECTIONS) == 5
