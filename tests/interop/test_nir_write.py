"""What `to_nir` refuses before anything is written, and what is exact in what it writes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import ExportError, InputError
from spikekit.export import qat
from spikekit.interop import nir_write
from tests.interop.graphs import nir

X = torch.ones(3, 2, 6)


def net(neuron=None):
    torch.manual_seed(0)
    return sk.Sequential(nn.Linear(6, 4), sk.LIF(0.5, 0.3) if neuron is None else neuron).eval()


@torch.no_grad()
def test_firing_at_the_threshold_is_firing_above_the_next_smaller_float32():
    theta = 0.3
    at = net(sk.LIF(0.5, theta, "hard", inclusive=True))
    for parameter, value in zip(at[0].parameters(), (0.0, theta), strict=True):
        parameter.fill_(value)
    graph = sk.interop.to_nir(at, X)
    level = graph.nodes["1"].v_threshold
    assert (np.nextafter(level.astype(np.float32), np.float32(1)) == np.float32(theta)).all()
    for node in graph.nodes.values():
        node.metadata = {}
    plain = sk.interop.from_nir(graph, reset="hard")
    assert not plain[1].rule.inclusive
    assert torch.equal(plain(X), torch.ones(3, 2, 4))
    assert torch.equal(at(X), torch.ones(3, 2, 4))


def test_some_neurons_without_a_leak():
    mixed = net(sk.LIF(torch.tensor([0.5, 1.0, 0.5, 0.5])))
    with pytest.raises(ExportError, match="layer 1: some of its neurons have beta = 1"):
        sk.interop.to_nir(mixed, X)


def test_a_matrix_that_is_too_large(monkeypatch):
    monkeypatch.setattr(nir_write, "MATRIX_MAX", 23)
    with pytest.raises(ExportError, match="layer 1: 6 x 4 weights"):
        sk.interop.to_nir(net(), X)


@pytest.mark.parametrize("neuron", [sk.ALIF(0.5), sk.RefractoryLIF(2)], ids=lambda neuron: type(neuron).__name__)
def test_neurons_without_a_node(neuron):
    with pytest.raises(ExportError, match="layer 1: NIR has no neuron with an adaptive threshold or a refractory"):
        sk.interop.to_nir(net(neuron), X)


def test_bad_arguments():
    with pytest.raises(InputError, match=r"sample must be an input tensor \[T, B, ...\], got shape \(2, 6\)"):
        sk.interop.to_nir(net(), X[0])
    with pytest.raises(InputError, match=r"sample must be .* got ndarray"):
        sk.interop.to_nir(net(), X.numpy())
    with pytest.raises(InputError, match="dt must be a positive number"):
        sk.interop.to_nir(net(), X, dt=0)
    with pytest.raises(InputError, match=r"net must be a torch\.nn\.Module, got int"):
        sk.interop.to_nir(3, X)
    with pytest.raises(InputError, match="give the network that it came from"):
        sk.interop.to_nir(qat(net(), X), X)
    with pytest.raises(InputError, match=r"0\.weight is on the meta device"):
        sk.interop.to_nir(net().to("meta"), X)


def test_values_are_kept_in_float32_where_that_is_exact():
    graph = sk.interop.to_nir(net(), X)
    assert isinstance(graph.nodes["1_linear"], nir.Affine)
    assert graph.nodes["1_linear"].weight.dtype == np.float32
    double = sk.interop.to_nir(sk.Sequential(nn.Linear(6, 4, dtype=torch.float64), sk.LIF(0.5)).eval(), X)
    assert double.nodes["1_linear"].weight.dtype == np.float64
