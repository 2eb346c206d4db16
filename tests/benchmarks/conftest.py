"""Benchmarks at toy sizes, as their commands are typed, with every peer absent."""

from __future__ import annotations

import importlib
import json
import sys

import pytest
import torch

from benchmarks.measure import PEERS


@pytest.fixture
def without_peers(monkeypatch):
    """No peer can be imported, whatever is installed."""
    loaded = [name for name in sys.modules if name.partition(".")[0] in PEERS]
    for name in (*PEERS, *loaded):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture
def quick(tmp_path, capsys, without_peers):
    """Run a benchmark's command: its report as it was written, and what it printed. More arguments may follow."""
    threads = torch.get_num_threads()

    def run(name: str, *more: str) -> tuple[dict, str]:
        module = importlib.import_module(f"benchmarks.{name}")
        module.main(["--quick", "--results", str(tmp_path), *more])
        file = tmp_path / f"{name}-1t-quick"
        printed = capsys.readouterr().out
        assert file.with_suffix(".md").read_text(encoding="utf-8").split("\n\n", 1)[1].strip() in printed
        assert file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")

        def refuse(constant):
            raise AssertionError(f"{constant} is not JSON")

        return json.loads(file.with_suffix(".json").read_text(encoding="utf-8"), parse_constant=refuse), printed

    yield run
    torch.set_num_threads(threads)
