"""NIR: what is written is read again with equal spikes, and what a file cannot say is asked for."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import ExportError, InputError, MissingExtraError
from tests.interop.graphs import GOLDEN, ends, graph_of, nir


def chain(reset, inclusive=False, beta=0.9):
    torch.manual_seed(1)
    first = sk.LIF(beta, torch.rand(4) + 0.3, reset, inclusive=inclusive)
    second = sk.LIF(0.8, 1.0, reset, reset_quantum=1.2, inclusive=inclusive)
    net = sk.Sequential(nn.Conv2d(2, 4, (3, 2), stride=2), first, nn.Flatten(), nn.Linear(48, 8), second)
    return net.append(nn.Linear(8, 3, bias=False)).append(sk.LI(0.7)).eval()


def spikes():
    return (torch.rand(25, 5, 2, 8, 8, generator=torch.Generator().manual_seed(2)) < 0.4).float()


@pytest.mark.parametrize("soft", ["graph", "metadata"])
@pytest.mark.parametrize("inclusive", [False, True])
@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
@pytest.mark.parametrize("beta", [0.9, torch.tensor([0.5, 0.9, 0.31, 0.77]), 1.0], ids=["one", "channels", "IF"])
@torch.no_grad()
def test_written_and_read_is_the_same_network(tmp_path, reset, soft, inclusive, beta):
    net, x = chain(reset, inclusive, beta), spikes()
    sk.interop.to_nir(net, x, tmp_path / "net.nir", soft=soft)
    again = sk.interop.from_nir(tmp_path / "net.nir")
    ours, theirs = net(x), again(x)
    assert ours.abs().sum() > 0
    assert torch.equal(ours, theirs)


@torch.no_grad()
def test_the_graph_alone_says_soft_reset():
    net = sk.Sequential(nn.Linear(6, 8), sk.LIF(0.9, 0.5)).eval().double()
    x = 2 * torch.rand(40, 4, 6, dtype=torch.float64)
    graph = sk.interop.to_nir(net, x)
    for node in graph.nodes.values():
        node.metadata = {}
    again = sk.interop.from_nir(graph, dtype=torch.float64)
    assert 0 < net(x).mean() < 1
    assert torch.equal(net(x), again(x))


def test_soft_reset_is_no_lif_node_unless_asked_for():
    net, x = chain("soft"), spikes()
    kinds = {type(node).__name__ for node in sk.interop.to_nir(net, x).nodes.values()}
    assert "LIF" not in kinds
    assert {"LI", "Threshold", "Scale"} <= kinds
    marked = sk.interop.to_nir(net, x, soft="metadata").nodes["1"]
    assert isinstance(marked, nir.LIF)
    assert marked.metadata["reset"] == "soft"


def test_hard_reset_is_nirs_own_neuron():
    net = sk.Sequential(nn.Linear(6, 8), sk.LIF(0.9, 0.5, "hard")).eval()
    node = sk.interop.to_nir(net, torch.zeros(1, 1, 6), dt=1e-3).nodes["1"]
    np.testing.assert_allclose(node.tau, 1e-2, rtol=1e-6)
    np.testing.assert_allclose(node.r * 1e-3 / node.tau, 1)
    assert (node.v_reset == 0).all()
    assert (node.v_threshold == 0.5).all()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("snntorch_subtract", {"written_by": "snntorch", "reset": "soft"}),
        ("snntorch_zero", {"written_by": "snntorch", "reset": "hard"}),
        ("norse", {"written_by": "norse", "reset": "hard"}),
    ],
)
@torch.no_grad()
def test_files_of_the_peers_fire_the_peers_spikes(name, settings):
    recorded = np.load(GOLDEN / f"{name}.npz")
    y = sk.interop.from_nir(GOLDEN / f"{name}.nir", **settings)(torch.from_numpy(recorded["x"]))
    assert 0.01 < y.mean() < 0.99
    assert torch.equal(y, torch.from_numpy(recorded["y"]))


def test_the_wrong_reset_is_noticed_by_this_test():
    recorded = np.load(GOLDEN / "snntorch_subtract.npz")
    net = sk.interop.from_nir(GOLDEN / "snntorch_subtract.nir", written_by="snntorch", reset="hard")
    assert not torch.equal(net(torch.from_numpy(recorded["x"])), torch.from_numpy(recorded["y"]))


def test_a_reset_that_the_file_lost_is_asked_for():
    with pytest.raises(ExportError, match="reset='soft'"):
        sk.interop.from_nir(GOLDEN / "snntorch_subtract.nir")


def test_norses_time_constants_are_noticed():
    with pytest.raises(ExportError, match="written_by='norse'"):
        sk.interop.from_nir(GOLDEN / "norse.nir", dt=1e-3, reset="hard")


def test_a_changed_threshold_is_not_overruled_by_the_metadata():
    net = sk.Sequential(nn.Linear(6, 8), sk.LIF(0.9, 0.5)).eval()
    graph = sk.interop.to_nir(net, torch.zeros(1, 1, 6))
    graph.nodes["1"].threshold = graph.nodes["1"].threshold * 2
    with pytest.raises(ExportError, match="metadata"):
        sk.interop.from_nir(graph)


def test_what_is_not_read_is_named():
    first, last = ends()
    with pytest.raises(ExportError, match=r"'n1' \(Delay\)"):
        sk.interop.from_nir(graph_of(first, nir.Delay(np.ones(2)), last))
    weight = nir.Linear(np.eye(2, dtype=np.float32))
    loop = [("n0", "n1"), ("n1", "n2"), ("n2", "n1")]
    with pytest.raises(ExportError, match="loop"):
        sk.interop.from_nir(graph_of(first, weight, nir.Linear(np.eye(2)), last, edges=loop))
    inner = graph_of(*ends())
    with pytest.raises(ExportError, match=r"'n1' \(NIRGraph\)"):
        sk.interop.from_nir(graph_of(first, inner, last))


def test_bad_arguments():
    with pytest.raises(InputError, match="no file"):
        sk.interop.from_nir("absent.nir")
    with pytest.raises(InputError, match="written_by"):
        sk.interop.from_nir("absent.nir", written_by="me")
    with pytest.raises(InputError, match="soft"):
        sk.interop.to_nir(chain("soft"), spikes(), soft="lif")


@pytest.mark.parametrize("given", [{"reset": "hard"}, {"dt": 1e-3}, {"written_by": "norse", "reset": "soft"}], ids=str)
def test_files_of_ours_are_not_overruled(given):
    graph = sk.interop.to_nir(chain("soft"), spikes())
    with pytest.raises(InputError, match=r"spikekit wrote this, and it says .*(reset|dt) itself"):
        sk.interop.from_nir(graph, **given)


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "x.nir").write_bytes(b"no HDF5")
    with pytest.raises(ExportError, match="not a NIR file"):
        sk.interop.from_nir(tmp_path / "x.nir")


@pytest.mark.parametrize("name", ["input", "output"])
@torch.no_grad()
def test_layers_may_be_called_as_nodes_are(name):
    layers = {"fc": nn.Linear(2, 2), name: sk.LIF(), "b": nn.Linear(2, 2), "fc_linear": sk.LIF(), "c": nn.Linear(2, 2)}
    layers |= {f"{name}_reset": sk.LIF(), "d": nn.Linear(2, 2), f"{name}_membrane": sk.LIF()}
    net, x = sk.Sequential(OrderedDict(layers)).eval(), 9 * torch.rand(20, 3, 2)
    assert torch.equal(sk.interop.from_nir(sk.interop.to_nir(net, x))(x), net(x))


@torch.no_grad()
def test_grouped_convolutions_are_written(tmp_path):
    net = sk.Sequential(nn.Conv2d(2, 4, 3, groups=2), sk.LIF(0.8, 0.1)).eval()
    x = spikes()
    sk.interop.to_nir(net, x, tmp_path / "net.nir")
    assert 0 < net(x).mean() < 1
    assert torch.equal(sk.interop.from_nir(tmp_path / "net.nir")(x), net(x))


def test_what_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch):
    net, x = chain("soft"), spikes()
    with pytest.raises(InputError, match="is a folder"):
        sk.interop.to_nir(net, x, tmp_path)
    file = tmp_path / "deep" / "net.nir"
    sk.interop.to_nir(net, x, file)
    file.write_bytes(b"before")

    def full(path, graph):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nir, "write", full)
    with pytest.raises(InputError, match="No space left"):
        sk.interop.to_nir(net, x, file)
    assert file.read_bytes() == b"before"
    assert list(file.parent.iterdir()) == [file]


def test_the_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "nir", None)
    with pytest.raises(MissingExtraError, match=r"spikekit\[nir\]"):
        sk.interop.to_nir(chain("soft"), spikes())
