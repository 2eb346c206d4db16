from __future__ import annotations

import json
import sys

import torch

from benchmarks import integer
from spikekit.export import to_loihi
from spikekit.task import Task
from tests.export.nets import conv_net, frames


def test_rows_tell_each_number_of_recordings(capsys):
    chip = to_loihi(conv_net(), frames())
    rows, identical = integer.measure(chip, frames(batch=120), 0, 1)
    assert [row[0] for row in rows] == ["simulate, 1 at once", "simulate, 100 at once", "simulate, 120 at once"]
    assert all(float(row[1]) >= 0 for row in rows)
    assert identical


def test_lava_is_held_against_both_ends(worker):
    chip = to_loihi(conv_net(), frames())
    rows, identical = integer.measure(chip, frames(batch=3), 2, 1)
    assert identical
    assert rows[-3][0] == "Lava, 2 one after the other"
    assert all(row[2].endswith(" x") for row in rows[-2:])


def test_the_command_takes_a_network_and_writes_its_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SPIKEKIT_DATA", str(tmp_path / "none"))
    net = Task().resolved().build().eval()
    path = to_loihi(net, torch.ones(10, 1, 2, 34, 34)).save(tmp_path / "net.npz")
    threads = torch.get_num_threads()
    given = ["--network", str(path), "--samples", "2", "--lava-samples", "0", "--repeats", "1"]
    monkeypatch.setattr(sys, "argv", ["integer", *given, "--json", str(tmp_path / "figures.json")])
    try:
        integer.main()
    finally:
        torch.set_num_threads(threads)
    assert "simulate, 2 at once" in capsys.readouterr().out
    assert json.loads((tmp_path / "figures.json").read_text())["identical"] is True
