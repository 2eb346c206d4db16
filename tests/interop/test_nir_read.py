"""Graphs by hand, of no writer: what is read means what NIR's own equations say, and all else is refused by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import spikekit as sk
from spikekit.errors import ExportError, InputError
from tests.interop.graphs import ends, graph_of, nir
from tests.interop.nir_simulator import simulate

DT = 1e-3


def full(*values):
    return np.array(values, np.float64)


def chain(*nodes):
    first, last = ends()
    return graph_of(first, *nodes, last)


def same(graph, steps=40, scale=1.5, shape=(2,), **settings):
    """The spikes, or membranes, of the reading and of NIR's equations, in float64."""
    draw = np.random.default_rng(0)
    x = scale * draw.random((steps, 3, *shape))
    with torch.no_grad():
        found = sk.interop.from_nir(graph, dt=DT, dtype=torch.float64, **settings)(torch.from_numpy(x)).numpy()
    renamed = {"n0": "input", f"n{len(graph.nodes) - 1}": "output"}
    nodes = {renamed.get(name, name): node for name, node in graph.nodes.items()}
    edges = [(renamed.get(a, a), renamed.get(b, b)) for a, b in graph.edges]
    expected = simulate(nir.NIRGraph(nodes, edges, type_check=False), x, DT)
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-9, atol=1e-9)
    assert expected.any()
    assert not expected.all()


def soft_graph(gain=1.0, scale=-0.8, back="n2"):
    first, last = ends()
    tau = full(5e-3, 2e-3)
    nodes = [first, nir.Affine(full([1, 0.5], [-0.2, 1]), full(0.1, 0)), nir.LI(tau, gain * tau / DT, np.zeros(2))]
    nodes += [nir.Threshold(full(0.7, 0.9)), nir.Scale(full(scale, scale)), last]
    edges = [("n0", "n1"), ("n1", "n2"), ("n2", "n3"), ("n3", "n4"), ("n4", back), ("n3", "n5")]
    return graph_of(*nodes, edges=edges)


@pytest.mark.parametrize("gain", [1.0, 1.7])
def test_membrane_threshold_and_feedback_are_a_soft_reset(gain):
    same(soft_graph(gain))


def test_feedback_that_adds_is_read_too():
    same(soft_graph(scale=0.3))


@pytest.mark.parametrize(
    ("node", "key", "value", "message"),
    [
        ("n3", "threshold", np.nan, r"'n3' \(Threshold\): threshold holds"),
        ("n4", "scale", np.inf, r"'n4' \(Scale\): scale holds"),
        ("n2", "v_leak", 0.5, r"'n3' \(Threshold\) follows a membrane that leaks"),
        ("n2", "tau", DT, r"'n3' \(Threshold\) is reset a step late, and its beta is 0"),
    ],
)
def test_soft_resets_that_are_not_read(node, key, value, message):
    graph = soft_graph()
    setattr(graph.nodes[node], key, full(value, value))
    with pytest.raises(ExportError, match=message):
        sk.interop.from_nir(graph, dt=DT)


def test_feedback_to_elsewhere_is_refused():
    with pytest.raises(ExportError, match=r"node 'n4' \(Scale\) does not lead back to 'n2' alone"):
        sk.interop.from_nir(soft_graph(back="n1"), dt=DT)


def lif(**changes):
    values = {"tau": 4e-3, "r": 4.0, "v_leak": 0.0, "v_threshold": 0.8, "v_reset": 0.0} | changes
    return nir.LIF(**{name: full(value, value) for name, value in values.items()})


@pytest.mark.parametrize("v", [0.0, 0.3, -0.4])
def test_a_neuron_that_rests_elsewhere_has_a_threshold_above_its_rest(v):
    graph = chain(nir.Linear(np.eye(2)), lif(v_leak=v, v_reset=v))
    with torch.no_grad():
        net = sk.interop.from_nir(graph, dt=DT, reset="hard", dtype=torch.float64)
    assert float(net[1].threshold) == pytest.approx(0.8 - v)
    if v == 0:
        same(graph, reset="hard")


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (lif(v_reset=0.2), "resets to 0.2 and rests at 0"),
        (nir.LI(full(4e-3, 4e-3), full(4, 4), full(0.1, 0)), "leaks to 0.1; our LI leaks to 0"),
        (lif(tau=5e-4), "is shorter than a step"),
    ],
)
def test_neurons_that_are_not_read(node, message):
    with pytest.raises(ExportError, match=rf"node 'n2' \(\w+\).*{message}"):
        sk.interop.from_nir(chain(nir.Linear(np.eye(2)), node), dt=DT, reset="hard")


@pytest.mark.parametrize(("writer", "inclusive"), [(None, False), ("snntorch", False), ("sinabs", True)])
def test_sinabs_alone_fires_at_its_threshold(writer, inclusive):
    r = 1.0 if writer == "sinabs" else 4.0
    graph = chain(nir.Linear(np.eye(2)), lif(r=r, tau=4.0 if writer == "sinabs" else 4e-3))
    net = sk.interop.from_nir(graph, dt=None if writer == "sinabs" else DT, written_by=writer, reset="none")
    assert net[1].rule.inclusive == inclusive


@pytest.mark.parametrize("kind", ["AvgPool2d", "SumPool2d"])
@pytest.mark.parametrize("flat", [(0, -1), (-3, -1), (0, 2)])
def test_pooling_and_flatten(kind, flat):
    pool = getattr(nir, kind)(np.array([2, 2]), np.array([2, 2]), np.array([0, 1]))
    shape, out = (2, 4, 6), (2, 2, 4)
    graph = chain(pool, nir.Flatten({"input": np.array(out)}, *flat))
    x = torch.rand(5, 3, *shape)
    found = sk.interop.from_nir(graph)(x)
    means = torch.nn.functional.avg_pool2d(x.flatten(0, 1), 2, padding=(0, 1))
    expected = means.reshape(5, 3, -1) * (4 if kind == "SumPool2d" else 1)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("key", ["v_leak", "v_reset"])
def test_a_rest_that_is_not_the_metadatas_is_refused(key):
    net = sk.Sequential(torch.nn.Linear(2, 2), sk.LIF(0.9, 0.5, "hard")).eval()
    graph = sk.interop.to_nir(net, torch.zeros(1, 1, 2))
    setattr(graph.nodes["1"], key, full(0, 0.1))
    with pytest.raises(ExportError, match=f"another {key} than its metadata says"):
        sk.interop.from_nir(graph)


@pytest.mark.parametrize("dtype", ["float32", None, torch.int64], ids=repr)
def test_a_dtype_that_holds_no_weights(dtype):
    with pytest.raises(InputError, match="dtype must be a floating point type, got"):
        sk.interop.from_nir(chain(nir.Linear(np.eye(2))), dtype=dtype)
