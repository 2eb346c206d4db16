"""Pages whose blocks show what they say by running."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from pages import DOCS, execute, sections

BLOCKS = {
    "astrocyte.md": 2,
    "continual.md": 1,
    "detection.md": 3,
    "export.md": 3,
    "folding.md": 2,
    "language.md": 1,
    "learning.md": 3,
    "quantisation.md": 8,
    "report.md": 3,
}
SECTIONS = [(page, section) for page in BLOCKS for section in sections(page)]


@pytest.mark.parametrize(("page", "section"), SECTIONS, ids=[f"{page} {section.title}" for page, section in SECTIONS])
def test_blocks_run(page, section, tmp_path, monkeypatch):
    # Files that a page writes go nowhere else.
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in section.blocks:
        execute(page, block, names)


@pytest.mark.parametrize("page", BLOCKS)
def test_no_block_is_overlooked(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    assert text.count("```python") == sum(len(section.blocks) for section in sections(page)) == BLOCKS[page]
