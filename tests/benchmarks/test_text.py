from __future__ import annotations

import pytest

from benchmarks.lines import read
from benchmarks.text import main, paired
from benchmarks.text_peers import main as peers
from benchmarks.text_stream import main as stream
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
    assert [again[key] for key in ("steps_made", "history")] == [lines[2][key] for key in ("steps_made", "history")]
    assert "| tinyshakespeare (char) | lstm (1) |" in capsys.readouterr().out


def test_as_many_steps(small, capsys, monkeypatch):
    monkeypatch.setattr("benchmarks.text.generation", lambda net, prompt: {"ms_per_token_at_1000": 1.0})
    given = ["--out", str(small / "text.jsonl"), "--steps", "6", "--batch", "4", "--length", "16", "--seeds", "0"]
    main([*given, "--models", "astro,frozen"])
    assert [line["steps_made"] for line in read(small / "text.jsonl")] == [6, 6]
    assert "tinyshakespeare (char), astro - frozen, 1 pairs: " in capsys.readouterr().out


def test_speed_without_peers(small, without_peers, capsys):
    peers(["--repeats", "1", "--batch", "2", "--length", "4"])
    printed = capsys.readouterr().out
    assert "snnTorch: not installed" in printed
    assert "| spikekit | " in printed
    assert "| LSTM (torch) | " in printed


def line(model, seed, test, valid, seconds=1.0):
    same = {"preset": "1m", "vocabulary": None, "batch": 4, "length": 16, "device": "cpu", "threads": 1}
    scores = {"test_bits": test, "valid_bits": valid}
    return same | scores | {"data": "d", "tokens": "char", "model": model, "seed": seed, "seconds": seconds}


def test_differences_are_of_runs_that_differ_in_the_model_alone():
    lines = [line("astro", 0, 2.5, 2.4), line("frozen", 1, 2.7, 2.5), line("lstm", 0, 1.0, 1.0)]
    assert paired(lines) == ""
    lines += [line("frozen", 0, 2.6, 2.3), line("astro", 1, 2.4, 2.6), line("astro", 2, 9.0, 9.0)]
    lines += [line("frozen", 2, 9.0, 9.0, seconds=2.0)]
    # Differences -0.1 and -0.3, and twice 0.1; half of the distance is the standard error of two.
    assert paired(lines) == (
        "d (char), astro - frozen, 2 pairs: -0.2000 ± 0.1000 bits/character, held out 0.1000 ± 0.0000"
    )


def test_the_cost_of_a_token_as_the_text_grows(small, capsys):
    stream(["--lengths", "5,60", "--models", "astro,transformer"])
    head, _, astro, transformer = capsys.readouterr().out.splitlines()
    assert head == "| model | ms at 5 | bytes at 5 | ms at 60 | bytes at 60 |"
    cells = {row.split(" | ")[0][2:]: row.rstrip(" |").split(" | ") for row in (astro, transformer)}
    assert cells["astro"][2] == cells["astro"][4]
    # After so many tokens the cache holds the prompt and all but the last.
    assert [int(cells["transformer"][place].replace(",", "")) for place in (2, 4)] == [5 * 2 * 4 * 16, 60 * 2 * 4 * 16]
