from __future__ import annotations

import torch

from benchmarks.lines import read
from benchmarks.recall import TASKS, examine, main
from spikekit.datasets.memory_tasks import IGNORE


def test_a_line_a_run_that_is_not_repeated(tmp_path, capsys):
    out = tmp_path / "recall.jsonl"
    given = ["--out", str(out), "--seconds", "0.1", "--width", "8", "--layers", "1", "--batch", "4", "--longest", "20"]
    main([*given, "--seeds", "0", "--models", "astro,lstm"])
    lines = read(out)
    assert [(line["task"], line["model"]) for line in lines] == [(t, m) for t in TASKS for m in ("astro", "lstm")]
    assert all(set(line["accuracy"]) == {"10", "20"} for line in lines)
    assert all(line["steps"] > 0 and line["trained_gap"] == 10 for line in lines)
    main([*given, "--seeds", "0,1", "--models", "astro", "--tasks", "copy"])
    assert len(read(out)) == len(lines) + 1
    assert "| copy | astro (2) | 10: " in capsys.readouterr().out


def test_answers_are_counted():
    class Knows(torch.nn.Module):
        def forward(self, x):
            # The first token again, at every step.
            return torch.nn.functional.one_hot(x[:1].expand_as(x), 20).float()

    task = TASKS["delayed-recall"]
    assert examine(Knows(), task.batch, "cpu") == 1.0
    assert examine(Knows(), TASKS["copy"].batch, "cpu") < 0.7
    assert (task.batch(3)[1][:-1] == IGNORE).all()
