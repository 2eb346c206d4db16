"""The README's example runs as printed, and what it says about the shell is true."""

from __future__ import annotations

import re
from pathlib import Path

import torch

import spikekit as sk

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_fifteen_lines_run_and_prove_themselves(worker):
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 1
    names: dict[str, object] = {}
    exec(blocks[0], names)
    net, x, state = names["net"], names["x"], names["state"]
    with torch.no_grad():
        whole, at_rest = sk.run(net, x)
    torch.testing.assert_close(state["1"]["v"], at_rest["1"]["v"], rtol=0, atol=0)
    assert whole.shape == names["y"].shape
    for backend in ("lava-fixed", "lava-float"):
        assert names["chip"].verify(x, backend, python=worker).identical


def test_no_page_holds_a_placeholder():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]:
        found = re.findall(r"^[A-Z_]{3,}$|\b(?:TODO|TBD|FIXME|XXX|MEASURED)\b", page.read_text(), re.MULTILINE)
        assert not found, (page.name, found)
