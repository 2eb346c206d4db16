"""The commands as a user types them, one after the other in one run folder."""

from __future__ import annotations

import json
import os
import re
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import spikekit
from spikekit import cli, models, task
from spikekit.cli import main
from spikekit.datasets import SaccadeDigits
from spikekit.export import Divergence, LayerProof, LoihiNet, Proof, to_loihi
from spikekit.neurons import LI
from spikekit.train import Trainer


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


@pytest.fixture
def no_data(tmp_path, monkeypatch):
    """A machine without N-MNIST, whatever the real one has."""
    monkeypatch.setenv("SPIKEKIT_DATA", str(tmp_path / "data"))


@pytest.fixture
def seen(monkeypatch):
    """What `LoihiNet.verify` is given, without running Lava; the proof says what `seen.identical` says."""
    seen = SimpleNamespace(identical=True, shapes=[], timeouts=[])

    def verify(chip, x, backend="lava-fixed", *, timeout):
        seen.shapes.append(tuple(x.shape))
        seen.timeouts.append(timeout)
        layers = tuple(LayerProof(layer.name, 9, 0, 9, 0, 0.0) for layer in chip.layers)
        first = None if seen.identical else Divergence(layers[0].name, 0, 1, 2, 1.0, 0.0)
        return Proof(backend, x.shape[1], x.shape[0], layers, first, "0.10.0", "3.10.1", 0.5)

    monkeypatch.setattr(LoihiNet, "verify", verify)
    return seen


def test_train_leaves_a_run_that_evaluate_reads(run, capsys):
    assert {"last.safetensors", "metrics.csv"} <= {path.name for path in run.iterdir()}
    assert main(["evaluate", str(run)]) == 0
    out = capsys.readouterr().out
    assert "Saccade-Digits (synthetic): accuracy" in out
    assert "layer 2 (LIF)" in out
    assert float(out.split("accuracy ")[1].split("%")[0]) > 50


def test_export_notes_what_was_trained_on(network):
    expected = {"data": "saccade-digits", "bins": 4, "model": "event_conv", "arguments": {}}
    assert LoihiNet.load(network).notes == {"task": expected}


def test_export_in_few_bits_and_one_threshold_a_layer(run, tmp_path, capsys):
    path = tmp_path / "few.npz"
    given = ["export", str(run), "--calibration", "20", "--bits", "5", "--thresholds", "layer", "--out", str(path)]
    assert main(given) == 0
    chip = LoihiNet.load(path)
    assert {layer.weight_bits for layer in chip.layers} == {5}
    assert all(len(set(layer.threshold)) == 1 for layer in chip.layers if layer.fires)
    with pytest.raises(SystemExit):
        main([*given[:5], "3"])
    assert "invalid choice: 3" in capsys.readouterr().err


def test_export_writes_nir_too(run, tmp_path, capsys):
    path = tmp_path / "net.nir"
    assert (
        main(["export", str(run), "--calibration", "20", "--out", str(tmp_path / "net.npz"), "--nir", str(path)]) == 0
    )
    assert f"{path}: NIR" in capsys.readouterr().out
    assert path.is_file()


def test_export_says_what_netx_cannot_hold(run, tmp_path, capsys):
    given = ["--out", str(tmp_path / "net.npz"), "--netx", str(tmp_path / "net.net")]
    assert main(["export", str(run), "--calibration", "20", *given]) == 1
    assert "netx resets neurons to zero, not 'soft'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_report_is_about_the_data_of_training(network, capsys, no_data, monkeypatch):
    # Were the data chosen anew, it would be this, and not found.
    monkeypatch.setattr("spikekit.datasets.NMNIST.available", lambda: True)
    assert main(["report", str(network.parent), "--samples", "30", "--proof", "0"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Saccade-Digits (synthetic): 30 recordings, 4 frames each\n")
    assert "integer accuracy" in out
    report = json.loads((network.parent / "report.json").read_text())
    assert [layer["neurons"] for layer in report["layers"]] == [4624, 2592, 128, 10]
    loss = report["quantisation"]
    assert [layer["name"] for layer in loss["layers"]] == [layer["name"] for layer in report["layers"]]
    assert f"layer {loss['worst']} hurts most" in out
    assert (report["data"], report["steps"], report["samples"]) == ("Saccade-Digits (synthetic)", 4, 30)
    assert report["proofs"] == []
    page = (network.parent / "report.html").read_text()
    assert "Saccade-Digits (synthetic)" in page
    assert "Not run." in page
    assert (network.parent / "activity.png").stat().st_size > 10_000


def test_report_proves_a_part_on_lava(network, tmp_path, capsys, worker):
    page, figures = tmp_path / "deep" / "page.html", tmp_path / "figures.json"
    given = ["report", str(network), "--samples", "5", "--proof", "1", "-o", str(page), "--json", str(figures)]
    assert main(given) == 0
    (proof,) = json.loads(figures.read_text())["proofs"]
    assert (proof["identical"], proof["samples"]) == (True, 1)
    assert "identical" in page.read_text()
    assert f"written: {page}, {figures}" in capsys.readouterr().out


def test_verify_on_lava(network, capsys, worker):
    assert main(["verify", str(network), "--samples", "2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Saccade-Digits (synthetic): 2 recordings, 4 frames each\n")
    assert out.count("identical") == 2


def test_other_data_keeps_the_number_of_frames(network, seen, no_data):
    assert main(["verify", str(network), "--data", "auto", "--samples", "3", "--timeout", "5"]) == 0
    assert seen.shapes == [(4, 3, 2, 34, 34)] * 2
    assert seen.timeouts == [5.0] * 2


def test_data_that_was_asked_for_is_not_replaced(network, seen, no_data, capsys):
    assert main(["verify", str(network), "--data", "nmnist"]) == 1
    assert "SPIKEKIT_DATA" in capsys.readouterr().err
    assert not seen.shapes


def test_a_network_without_notes_runs_on_what_is_there(network, seen, no_data, tmp_path, capsys):
    plain = replace(LoihiNet.load(network), notes={"made by": "hand"}).save(tmp_path / "plain.npz")
    assert main(["verify", str(plain), "--backend", "lava-fixed"]) == 0
    assert seen.shapes == [(10, 10, 2, 34, 34)]
    assert "Saccade-Digits (synthetic): 10 recordings, 10 frames each" in capsys.readouterr().out


def test_a_difference_is_exit_code_one(network, seen, tmp_path, monkeypatch, capsys):
    seen.identical = False
    assert main(["verify", str(network), "--samples", "1"]) == 1
    assert len(seen.shapes) == 2
    monkeypatch.setattr("spikekit.export.lava.worker_python", lambda: Path("python"))
    assert main(["report", str(network), "--samples", "3", "-o", str(tmp_path / "page.html")]) == 1
    assert seen.shapes[2] == (4, 2, 2, 34, 34)
    assert "DIFFERENT, first at layer" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["verify", "report"])
def test_a_network_of_other_frames_is_refused(network, command, tmp_path, capsys):
    net = nn.Sequential(nn.Flatten(2), nn.Linear(512, 10), LI()).eval()
    to_loihi(net, torch.ones(4, 1, 2, 16, 16), notes=LoihiNet.load(network).notes).save(tmp_path / "net.npz")
    assert main([command, str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "net.npz takes frames (2, 16, 16), Saccade-Digits (synthetic) gives (2, 34, 34)" in error


@pytest.mark.parametrize(
    ("option", "value"), [("--bins", "5"), ("--model", "mlp"), ("--data", "nmnist")], ids=["bins", "model", "data"]
)
def test_a_run_is_not_continued_as_another(run, option, value, capsys, monkeypatch):
    # As many recordings, so that nothing but the name tells the two kinds of data apart.
    monkeypatch.setattr("spikekit.datasets.NMNIST", SaccadeDigits)
    before = {path.name: path.stat().st_mtime_ns for path in run.glob("*.*")}
    assert train(run, option, value) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"task.{option.removeprefix('--')} = " in error
    assert f"cannot go on with {value if value.isdigit() else repr(value)}" in error
    assert {path.name: path.stat().st_mtime_ns for path in run.glob("*.*")} == before


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
    listed = re.findall(r"^    (\w+)  ", out, re.MULTILINE)
    assert set(re.findall(r"^  spikekit (\w+)", out, re.MULTILINE)) == set(listed) >= {"doctor", "train", "lava"}


def test_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"spikekit {spikekit.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "nowhere"], "no such checkpoint; train one with: spikekit train --out nowhere"),
        (["evaluate", "here/best.safetensors"], "no such checkpoint; train one with: spikekit train --out here"),
        (["verify", "nowhere.npz"], "nowhere.npz: no such file"),
        (["report", "."], "net.npz: no such file; write it with `spikekit export`"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_one(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_report_that_cannot_be_written_says_so(network, tmp_path, capsys):
    moved = tmp_path / "net.npz"
    moved.write_bytes(network.read_bytes())
    (tmp_path / "report.json").mkdir()
    assert main(["report", str(moved), "--samples", "2", "--proof", "0"]) == 1
    error = capsys.readouterr().err
    assert "report.json" in error
    assert error.count("\n") == 1


def test_an_unwritable_run_folder_is_refused_before_training(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert train(tmp_path / "file" / "run") == 1
    assert "file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "option", "values", "message"),
    [
        ("train", "--epochs", ["0", "abc", "1.5"], "is not a whole number above 0"),
        ("train", "--seed", ["-1", "abc", "1.5", str(2**64)], "is not a whole number from 0 to 2**64 - 1"),
        ("train", "--lr", ["0", "-1", "nan", "inf", "abc"], "is not a finite number above 0"),
        ("train", "--devices", ["0", "-1", "1.5", "gpu"], "is not auto or a whole number above 0"),
        ("train", "--data", ["mnist"], "invalid choice"),
        ("train", "--model", ["vgg"], "invalid choice"),
        ("train", "--precision", ["8"], "invalid choice"),
        ("export", "--calibration", ["0"], "is not a whole number above 0"),
        ("verify", "--samples", ["0"], "is not a whole number above 0"),
        ("verify", "--timeout", ["0", "nan", "inf"], "is not a finite number above 0"),
        ("verify", "--data", ["mnist"], "invalid choice"),
        ("report", "--data", ["mnist"], "invalid choice"),
        ("report", "--proof", ["-1", "1.5"], "is not a whole number from 0"),
    ],
)
def test_wrong_usage_is_exit_code_two(command, option, values, message, capsys):
    place = ["--out", "x"] if command == "train" else ["x"]
    for value in values:
        with pytest.raises(SystemExit) as stopped:
            main([command, *place, f"{option}={value}"])
        assert stopped.value.code == 2
        error = capsys.readouterr().err
        assert f"argument {option}: " in error
        assert f"{value!r}" in error
        assert message in error


def test_values_arrive_as_numbers():
    given = cli._parser().parse_args(["train", "--out", "x", "--lr", "1e-3", "--seed", str(2**64 - 1)])
    assert (given.lr, given.seed, given.devices) == (1e-3, 2**64 - 1, 1)
    assert cli._parser().parse_args(["train", "--out", "x", "--devices", "2"]).devices == 2
    assert cli._parser().parse_args(["train", "--out", "x", "--devices", "auto"]).devices == "auto"


def test_names_to_choose_from_are_those_that_exist():
    assert cli.DATA == task.DATA
    assert set(cli.MODELS) == set(models.MODELS)


@pytest.mark.parametrize("precision", cli.PRECISIONS)
@pytest.mark.filterwarnings("ignore:.*AMP with fp16 is not supported on CPU")
def test_the_trainer_takes_every_precision(precision):
    Trainer(nn.Linear(2, 2), accelerator="cpu", precision=precision)


@pytest.mark.parametrize("arguments", [["doctor", "--no-lava"], ["--help"]], ids=["command", "help"])
def test_a_reader_that_has_enough_ends_it_quietly(arguments, capsys):
    reader, writer = os.pipe()
    os.close(reader)
    # Closing writes what is left in the buffer, as the interpreter does at exit.
    with os.fdopen(writer, "w") as out, redirect_stdout(out):
        assert main(arguments) == 141
    assert capsys.readouterr().err == ""
