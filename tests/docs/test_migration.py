"""docs/migration.md: every block runs, and where a peer is installed its network and ours fire the same spikes."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from pages import DOCS, Section, execute, sections

PAGE = "migration.md"
SECTIONS = sections(PAGE)
IDS = [section.title for section in SECTIONS]


def check(names: dict[str, object]) -> None:
    """`ours` and `theirs` are the same spikes, and some of them; gradients and values agree to rounding."""
    compared = 0
    if "theirs" in names:
        ours, theirs = names["ours"], names["theirs"]
        assert 0.01 < ours.mean() < 0.99
        assert torch.equal(ours, theirs), f"{int((ours != theirs).sum())} of {ours.numel()} spikes differ"
        compared += 1
    for name in ("grad", "values"):
        if f"theirs_{name}" in names:
            ours, theirs = names[f"ours_{name}"], names[f"theirs_{name}"]
            assert ours.abs().max() > 0
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * float(ours.abs().max()))
            compared += 1
    assert compared


def test_three_peers_are_on_the_page():
    assert {peer for section in SECTIONS for peer in section.peers()} == {"snntorch", "spikingjelly", "norse"}
    assert (DOCS / PAGE).read_text(encoding="utf-8").count("```python") == sum(
        len(section.blocks) for section in SECTIONS
    )


@pytest.mark.parametrize("section", SECTIONS, ids=IDS)
def test_our_side_runs(section: Section):
    names: dict[str, object] = {}
    for block in section.blocks:
        if block.needs is None:
            execute(PAGE, block, names)
    assert any(name.startswith("ours") for name in names)


@pytest.mark.parametrize("section", SECTIONS, ids=IDS)
def test_peer_agrees(section: Section):
    (peer,) = section.peers()
    if importlib.util.find_spec(peer) is None:
        pytest.skip(f"{peer} is not installed: `make bench` makes an environment that has it")
    names: dict[str, object] = {}
    for block in section.blocks:
        # What a peer's import or call deprecates is not ours to fail on.
        with warnings.catch_warnings():
            if block.needs:
                warnings.simplefilter("ignore")
            execute(PAGE, block, names)
    check(names)
