"""NIR files that are damaged, changed, or of another writer than was said: one error that names the node."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import ExportError
from tests.interop.graphs import GOLDEN, ends, graph_of, nir


def tampered(node, key, value, soft="metadata"):
    net = sk.Sequential(nn.Linear(2, 2), sk.LIF(0.9, 0.5)).eval()
    graph = sk.interop.to_nir(net, torch.zeros(1, 1, 2), soft=soft)
    setattr(graph.nodes[node], key, value(getattr(graph.nodes[node], key)))
    return graph


@pytest.mark.parametrize(
    ("node", "key", "soft"),
    [
        ("1", "tau", "metadata"),
        ("1", "r", "metadata"),
        ("1", "v_threshold", "metadata"),
        ("1_membrane", "tau", "graph"),
        ("1_reset", "scale", "graph"),
    ],
)
def test_no_changed_value_is_overruled_by_the_metadata(node, key, soft):
    with pytest.raises(ExportError, match="than its metadata says"):
        sk.interop.from_nir(tampered(node, key, lambda values: values * 1.5, soft))


@pytest.mark.parametrize("key", ["dt", "beta", "reset", "threshold", "inclusive", "quantum"])
@pytest.mark.parametrize("soft", ["graph", "metadata"])
def test_metadata_with_a_part_missing_is_refused(key, soft):
    graph = tampered("1", "metadata", lambda notes: {k: v for k, v in notes.items() if k != key}, soft)
    with pytest.raises(ExportError, match=rf"lacks \['{key}'\]"):
        sk.interop.from_nir(graph)


@pytest.mark.parametrize(("key", "value"), [("spikekit", "99"), ("reset", "banana"), ("quantum", np.full(2, np.nan))])
def test_metadata_of_no_neuron_is_refused(key, value):
    with pytest.raises(ExportError, match="metadata"):
        sk.interop.from_nir(tampered("1", "metadata", lambda notes: notes | {key: value}))


def neuron_graph(**values):
    first, last = ends()
    given = {"tau": 1e-3, "r": 10.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0} | values
    lif = nir.LIF(**{name: np.broadcast_to(value, 2).copy() for name, value in given.items()})
    return graph_of(first, nir.Affine(np.eye(2), np.zeros(2)), lif, last)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, "text"])
@pytest.mark.parametrize(("node", "key"), [("n1", "weight"), ("n1", "bias"), ("n2", "r"), ("n2", "v_threshold")])
def test_damaged_values_name_the_node(node, key, value):
    graph = neuron_graph()
    setattr(graph.nodes[node], key, np.full_like(getattr(graph.nodes[node], key), value, dtype=type(value)))
    with pytest.raises(ExportError, match=rf"node '{node}' \(\w+\): {key} holds"):
        sk.interop.from_nir(graph, reset="hard")


@pytest.mark.parametrize(
    ("node", "key", "value"),
    [
        ("n1", "weight", np.ones(2)),
        ("n1", "bias", np.ones(3)),
        ("n2", "tau", np.full(3, 1e-3)),
        ("n2", "tau", np.zeros(0)),
        ("n2", "v_threshold", np.ones(3)),
    ],
)
def test_shapes_that_do_not_fit_name_the_node(node, key, value):
    graph = neuron_graph()
    setattr(graph.nodes[node], key, value)
    with pytest.raises(ExportError, match=f"node '{node}'"):
        sk.interop.from_nir(graph, reset="hard")


def test_beta_of_one_is_an_infinite_time_constant():
    net = sk.interop.from_nir(neuron_graph(tau=np.inf, r=np.inf), written_by="snntorch", reset="hard")
    assert isinstance(net[1], sk.IF)


@pytest.mark.parametrize(
    ("edge", "match"),
    [
        (("n4", "n2"), r"'n4' \(Affine\) is not on the way .* leads to \['n2'\]"),
        (None, r"'n4' \(Affine\) is not on the way"),
        (("n3", "n1"), r"'n3' \(Output\) leads to"),
        (("nowhere", "n2"), "a node 'nowhere' that the graph lacks"),
    ],
    ids=str,
)
def test_what_is_beside_the_chain_is_not_left_out(edge, match):
    graph = neuron_graph()
    if edge is None or "n4" in edge:
        graph.nodes["n4"] = nir.Affine(np.eye(2), np.ones(2))
    graph.edges += [] if edge is None else [edge]
    with pytest.raises(ExportError, match=match):
        sk.interop.from_nir(graph, reset="hard")


@pytest.mark.parametrize("written_by", ["norse", "sinabs"])
def test_a_file_of_another_writer_is_noticed(written_by):
    with pytest.raises(ExportError, match=f"{written_by} writes 1"):
        sk.interop.from_nir(GOLDEN / "snntorch_subtract.nir", written_by=written_by, reset="soft")


def test_another_dt_than_snntorchs_is_noticed():
    with pytest.raises(ExportError, match="dt is not"):
        sk.interop.from_nir(GOLDEN / "snntorch_subtract.nir", written_by="snntorch", dt=5e-5, reset="soft")


def test_a_learned_beta_above_one_of_snntorch_is_one():
    beta = np.array([0.9, 1.2])
    tau = 1e-4 / (1 - beta)
    net = sk.interop.from_nir(neuron_graph(tau=tau, r=tau / 1e-4), written_by="snntorch", reset="none")
    torch.testing.assert_close(net[1].beta, torch.tensor([0.9, 1.0]))


def test_snntorchs_synaptic_with_reset_to_zero_is_refused():
    first, last = ends()
    ones = np.ones(2)
    cuba = nir.CubaLIF(
        tau_syn=2e-4 * ones, tau_mem=1e-3 * ones, r=10 * ones, w_in=2 * ones, v_threshold=ones, v_leak=0 * ones
    )
    graph = graph_of(first, nir.Affine(np.eye(2), np.zeros(2)), cuba, last)
    sk.interop.from_nir(graph, written_by="snntorch", reset="soft")
    with pytest.raises(ExportError, match="drops the input"):
        sk.interop.from_nir(graph, written_by="snntorch", reset="hard")


def test_sinabs_exp_leak_does_not_scale_its_input_by_default():
    first, last = ends()
    leak = nir.LI(np.full(2, 10.0), np.ones(2), np.zeros(2))
    graph = graph_of(first, nir.Linear(np.eye(2)), leak, last)
    y = sk.interop.from_nir(graph, written_by="sinabs")(torch.ones(1, 1, 2))
    assert torch.equal(y, torch.ones(1, 1, 2))


def test_damaged_files_are_refused_or_read_as_they_were(tmp_path):
    """Any bytes changed or cut off: never an error of another kind, never another network."""
    file = tmp_path / "net.nir"
    net, x = sk.Sequential(nn.Linear(2, 2), sk.LIF(0.9, 0.5)).eval(), 3 * torch.ones(9, 1, 2)
    sk.interop.to_nir(net, x, file)
    sound, random, refused = file.read_bytes(), np.random.default_rng(0), 0
    for trial in range(24):
        damaged = bytearray(sound)
        if trial % 4 == 0:
            del damaged[random.integers(len(sound)) :]
        else:
            for at in random.integers(0, len(sound), random.integers(1, 40)):
                damaged[at] = random.integers(256)
        file.write_bytes(damaged)
        try:
            read = sk.interop.from_nir(file)
        except ExportError:
            refused += 1
        else:
            assert torch.equal(read(x), net(x))
    assert refused > 6
