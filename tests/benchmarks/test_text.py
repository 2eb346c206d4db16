from __future__ import annotations

import pytest

from benchmarks.recall import read
from benchmarks.text import main
from benchmarks.text_peers import main as peers
from spikekit.models.astro_lm import PRESETS


@pytest.fixture
def small(tmp_path, monkeypatch):
    file = tmp_path / "text/tinyshakespeare/input.txt"
    file.parent.mkdir(parents=True)
    file.write_text("Speak, speak.\nYou are all resolved rather to die than to famish?\n" * 80)
    monkeypatch.setenv("SPIKEKIT_DATA", str(tmp_path))
    monkeypatch.setitem(PRESETS, "1m", {"width": 16, "layers": 1})
    return tmp_path


def test_a_line_a_run_and_a_run_that_goes_on(small, capsys, monkeypatch):
    monkeypatch.setattr("benchmarks.text.generation", lambda net, prompt: {"ms_per_token_at_1000": 1.0})
    given = ["--out", str(small / "text.jsonl"), "--seconds", "0.2", "--batch", "4", "--length", "16"]
    given += ["--run-dir", str(small / "runs"), "--seeds", "0"]
    main([*given, "--models", "astro,frozen,lstm,transformer"])
    lines = read(small / "text.jsonl")
    assert [line["model"] for line in lines] == ["astro", "frozen", "lstm", "transformer"]
    assert all(0 < line["test_bits"] < 10 and line["split"].startswith("the first 90 %") for line in lines)
    assert lines[0]["parameters"] == lines[1]["parameters"]
    assert (small / "runs/tinyshakespeare-char-lstm-0/last.safetensors").exists()
    (small / "text.jsonl").unlink()
    main([*given, "--models", "lstm"])
    # The run was over: its checkpoint is read and not trained further.
    (again,) = read(small / "text.jsonl")
    assert (again["steps"], again["history"]) == (lines[2]["steps"], lines[2]["history"])
    assert "| tinyshakespeare (char) | lstm (1) |" in capsys.readouterr().out


def test_speed_without_peers(small, without_peers, capsys):
    peers(["--repeats", "1", "--batch", "2", "--length", "4"])
    printed = capsys.readouterr().out
    assert "snnTorch: not installed" in printed
    assert "| spikekit | " in printed
    assert "| LSTM (torch) | " in printed
