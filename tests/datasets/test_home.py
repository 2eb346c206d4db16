"""The two folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from spikekit.datasets import cache_home, data_home


@pytest.mark.parametrize(
    ("home", "variable", "default"),
    [(data_home, "SPIKEKIT_DATA", ".cache/spikekit/data"), (cache_home, "SPIKEKIT_CACHE", ".cache/spikekit")],
)
def test_home(home, variable, default, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for unset in (
        lambda: monkeypatch.delenv(variable, raising=False),
        lambda: monkeypatch.setenv(variable, ""),
    ):
        unset()
        assert home() == tmp_path / default
    monkeypatch.setenv(variable, str(tmp_path / "there"))
    assert home() == tmp_path / "there"
    monkeypatch.setenv(variable, "~/mine")
    assert home() == tmp_path / "mine"
    monkeypatch.setenv(variable, "relative")
    assert home() == Path.cwd() / "relative"
