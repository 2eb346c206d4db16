"""docs/equations.md: every block runs, and nothing the code offers is missing from the page."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from spikekit import surrogate
from spikekit.neurons.firing import RESETS

sys.path.insert(0, str(Path(__file__).parent))
from pages import DOCS, Section, execute, sections

PAGE = "equations.md"
SECTIONS = sections(PAGE)
CURVES = [
    name
    for name, value in vars(surrogate).items()
    if isinstance(value, type) and issubclass(value, surrogate.Surrogate) and value is not surrogate.Surrogate
]


@pytest.fixture(scope="module")
def text() -> str:
    return (DOCS / PAGE).read_text(encoding="utf-8")


@pytest.mark.parametrize("section", SECTIONS, ids=[section.title for section in SECTIONS])
def test_blocks_run(section: Section):
    names: dict[str, object] = {}
    for block in section.blocks:
        execute(PAGE, block, names)
    assert "assert" in "".join(block.code for block in section.blocks)


def test_no_block_is_overlooked(text: str):
    assert text.count("```python") == sum(len(section.blocks) for section in SECTIONS) > 0


@pytest.mark.parametrize("name", CURVES)
def test_every_surrogate_has_its_row_with_the_defaults(text: str, name: str):
    assert f"| `{getattr(surrogate, name)()!r}`".replace("surrogate.", "") in text
    assert f"sg.{name}(" in text, "its equation is not held against the code"


@pytest.mark.parametrize("kind", sorted(RESETS))
def test_every_reset_is_there(text: str, kind: str):
    assert f'`"{kind}"`' in text
