"""The commands as a user types them, one after the other in one run folder."""

from __future__ import annotations

import json

import pytest

from spikekit.cli import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with a network trained for one epoch on the embedded synthetic set, and its cache."""
    folder = tmp_path_factory.mktemp("run")
    assert train(folder) == 0
    return folder


def train(folder, *more):
    return main(["train", "--out", str(folder), "--data", "saccade-digits", "--epochs", "1", "--bins", "4", *more])


@pytest.fixture(scope="module")
def network(run):
    assert main(["export", str(run), "--calibration", "50"]) == 0
    return run / "net.npz"


def test_train_leaves_a_run_that_evaluate_reads(run, capsys):
    assert {"last.safetensors", "metrics.csv"} <= {path.name for path in run.iterdir()}
    assert main(["evaluate", str(run)]) == 0
    out = capsys.readouterr().out
    assert "Saccade-Digits (synthetic): accuracy" in out
    assert "layer 2 (LIF)" in out
    assert float(out.split("accuracy ")[1].split("%")[0]) > 50


def test_export_and_report(network, capsys):
    assert main(["report", str(network), "--data", "saccade-digits", "--samples", "30"]) == 0
    out = capsys.readouterr().out
    assert "integer accuracy" in out
    report = json.loads((network.parent / "report.json").read_text())
    assert [layer["neurons"] for layer in report["layers"]] == [4624, 2592, 128, 10]
    assert (network.parent / "activity.png").stat().st_size > 10_000


def test_verify_on_lava(network, capsys, worker):
    command = ["verify", str(network), "--data", "saccade-digits", "--samples", "2"]
    assert main(command) == 0
    assert capsys.readouterr().out.count("identical") == 2


def test_doctor_names_what_it_found(capsys):
    assert main(["doctor", "--no-lava"]) == 0
    out = capsys.readouterr().out
    for topic in ("spikekit", "torch", "neuron path", "extra events", "N-MNIST", "cache"):
        assert topic in out


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    for command in ("doctor", "train", "evaluate", "export", "verify", "report", "lava"):
        assert f"spikekit {command}" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "nowhere"], "no such checkpoint"),
        (["verify", "nowhere.npz"], "no such file"),
        (["train", "--out", "x", "--data", "mnist"], "data must be one of"),
        (["train", "--out", "x", "--data", "saccade-digits", "--model", "vgg"], "unknown model 'vgg'"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_one(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_an_unwritable_run_folder_is_refused_before_training(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert train(tmp_path / "file" / "run") == 1
    assert "file" in capsys.readouterr().err


def test_wrong_usage_is_exit_code_two(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--out", "x", "--epochs", "0"])
    assert stopped.value.code == 2
    assert "not a whole number above 0" in capsys.readouterr().err
