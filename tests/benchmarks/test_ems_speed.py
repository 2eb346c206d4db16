"""The peer's network is ours: shown where the peer is installed; without it the benchmark says so."""

from __future__ import annotations

import pytest
import torch

from benchmarks import ems_speed
from benchmarks.measure import Timing

SIZE = ems_speed.Size(steps=2, batch=1, side=64, width=1 / 16)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_without_the_peer_ours_is_timed(without_peers, capsys):
    ems_speed.main(["--quick", "--json"])
    text = capsys.readouterr().out
    assert "not installed" in text
    assert '"results"' in text


def test_another_network_is_found_out():
    net = ems_speed.network(SIZE).double()
    x, boxes = ems_speed.data(SIZE, torch.float64)
    same, other = ems_speed.network(SIZE).double(), ems_speed.network(SIZE).double()
    assert max(ems_speed.difference(net, same, x, boxes).values()) == 0
    with torch.no_grad():
        next(other.parameters()).mul_(1.1)
    found = ems_speed.difference(net, other, x, boxes)
    assert max(found.values()) > ems_speed.EQUAL


def test_an_unequal_peer_is_not_timed(monkeypatch):
    def unequal(net):
        other = ems_speed.network(SIZE).to(next(net.parameters()).dtype)
        with torch.no_grad():
            other.detect[0][0].bias.add_(1.0)
        return other

    monkeypatch.setattr(ems_speed, "spikingjelly_net", unequal)
    report = ems_speed.run(SIZE, 1, 1.0)
    assert report["absent"].startswith("not timed: it differs")
    assert set(report["results"]) == {ems_speed.OURS, ems_speed.FLOOR}
    assert "not timed" in ems_speed.table([report])


def test_the_peer_is_the_same_network():
    pytest.importorskip("spikingjelly")
    report = ems_speed.run(SIZE, 1, 5.0)
    assert report["absent"] is None
    assert all(isinstance(timing, Timing) for timing in report["results"].values())
