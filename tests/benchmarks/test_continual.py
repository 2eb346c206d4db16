"""The command on small sets: results that are kept, gone on with, told from earlier ones, and reported."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import continual, continual_cost, continual_runs
from benchmarks.continual_report import report
from spikekit import continual as cl
from spikekit.datasets import ImageSet


@pytest.fixture
def digits(monkeypatch):
    def data(name):
        generator = torch.Generator().manual_seed(0)
        labels = torch.arange(60) % 10
        images = torch.randint(0, 256, (60, 1, 28, 28), generator=generator, dtype=torch.uint8)
        return (ImageSet("noise", images, labels, (0.5,), (0.25,)),) * 2

    monkeypatch.setattr(continual_runs, "_data", data)
    monkeypatch.setattr("os.environ", {})


def run(tmp_path, *more):
    continual.main(["--protocol", "mnist-class", "--results", str(tmp_path), *more])


def test_every_method_has_its_row_and_what_is_done_is_not_done_again(digits, tmp_path, capsys, monkeypatch):
    methods = "plain,hlop-fast,replay,sparse"
    run(tmp_path, "--methods", methods, "--subset", "8")
    page = (tmp_path / "continual-mnist-class-8.md").read_text()
    rows = [line.split(" | ")[0].strip("| ") for line in page.splitlines() if line.startswith("|")][2:]
    assert sorted(rows) == sorted(methods.split(","))
    assert (tmp_path / "continual-mnist-class-8.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(continual, "course", None)
    run(tmp_path, "--methods", methods, "--subset", "8")
    assert "mnist-class-8 plain-bptt-0: ACC" in capsys.readouterr().out


def test_a_run_that_was_killed_goes_on_with_its_time(digits, tmp_path, monkeypatch):
    real, calls = cl.Course.accuracy, []

    def accuracy(self, *args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, *args)

    monkeypatch.setattr(cl.Course, "accuracy", accuracy)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "--methods", "plain", "--no-report")
    folder = tmp_path / "continual" / "mnist-class"
    (folder / "plain-bptt-0" / "seconds").write_text("1000")
    run(tmp_path, "--methods", "plain", "--no-report")
    assert json.loads((folder / "plain-bptt-0.json").read_text())["cpu_seconds"] > 1000
    assert [file.name for file in folder.iterdir()] == ["plain-bptt-0.json"]


def test_results_of_earlier_settings_are_not_averaged_with_those_of_now(digits, tmp_path):
    run(tmp_path, "--methods", "plain", "--seeds", "0,1")
    assert "| 2 " in (tmp_path / "continual-mnist-class.md").read_text()
    file = tmp_path / "continual" / "mnist-class" / "plain-bptt-1.json"
    line = json.loads(file.read_text())
    line["settings"]["lr"] = 0.2
    file.write_text(json.dumps(line))
    assert "| 1 " in report(tmp_path, "mnist-class")
    run(tmp_path, "--methods", "plain", "--seeds", "1", "--no-report")
    assert json.loads(file.read_text())["settings"]["lr"] == 0.1


@pytest.mark.parametrize(
    "wrong",
    [("--seeds", "a"), ("--seeds", "-1"), ("--subset", "0"), ("--methods", "hlop,none"), ("--rules", "backprop")],
    ids=" ".join,
)
def test_wrong_arguments_end_with_usage(wrong, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(tmp_path, f"{wrong[0]}={wrong[1]}")
    assert wrong[0] in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_cost_is_of_tasks_with_the_authors_units(digits, monkeypatch):
    continual_cost.trained.cache_clear()
    made = []
    monkeypatch.setattr(continual_cost, "method", lambda *args: made.append(continual_runs.method(*args)) or made[-1])
    step = continual_cost.stepper("hlop", "bptt", 3)
    step()
    assert made[0].units == {"0": 220, "2": 340, "4": 240}
    continual_cost.trained.cache_clear()
