"""Dtypes: what goes in comes out, half precision integrates in float32, autocast leaves the membrane alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import spikekit as sk

HALF = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize(
    "neuron",
    [
        *(sk.LIF(), sk.CUBALIF(), sk.RecurrentLIF(3), sk.RecurrentLIF(3, bias=True)),
        *(sk.ALIF(threshold=0.5), sk.RefractoryLIF(1, threshold=0.5)),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALF], ids=str)
def test_spikes_have_the_dtype_of_the_drive(neuron, dtype):
    y, state = sk.run(neuron, torch.randn(5, 2, 3, dtype=dtype) + 0.5)
    assert y.dtype == dtype
    assert {value.dtype for value in state[""].values()} == {torch.float32 if dtype in HALF else dtype}
    assert set(y.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALF], ids=str)
def test_readout_is_never_half(dtype):
    assert sk.LI()(torch.randn(5, 2, 3, dtype=dtype)).dtype == (torch.float32 if dtype in HALF else dtype)


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_half_precision_integrates_in_float32(dtype):
    """1000 drives of 2^-9: a bfloat16 membrane would stop at 0.5, where half a step is lost to rounding."""
    x = torch.full((1000, 1, 1), 2.0**-9, dtype=dtype)
    y, recorded = sk.record(sk.IF(threshold=10.0), x, ["spikes", "membrane"])
    assert recorded["membrane"][-1].item() == 1000 / 512
    assert y.sum() == 0


def test_autocast_leaves_currents_and_recurrent_weights_alone():
    net = sk.Sequential(nn.Linear(6, 8), sk.CUBALIF(learn="alpha"), sk.RecurrentLIF(8, learn="beta"))
    x = torch.randn(7, 4, 6) * 3
    with torch.autocast("cpu", torch.bfloat16):
        y, recorded = sk.record(net, x, ["1.drive", "1.current", "1.spikes", "2.membrane"])
        _, state = sk.run(net, x)
        recorded["2.membrane"].square().mean().backward()
    dtypes = [recorded[name].dtype for name in ("1.drive", "1.current", "1.spikes", "2.membrane")]
    assert dtypes == [torch.bfloat16, torch.float32, torch.bfloat16, torch.float32]
    assert {value.dtype for entry in state.values() for value in entry.values()} == {torch.float32}
    for name, parameter in net.named_parameters():
        assert parameter.grad.dtype == torch.float32, name
        assert parameter.grad.abs().sum() > 0, name
    assert torch.equal(net[2](net[1](recorded["1.drive"].float())).bfloat16(), y)


def test_autocast_computes_layers_in_bfloat16_and_membranes_in_float32():
    net = sk.Sequential(nn.Linear(6, 8), sk.LIF(learn="beta"), nn.Linear(8, 3), sk.LI(learn="beta"))
    x = torch.randn(7, 4, 6)
    with torch.autocast("cpu", torch.bfloat16):
        y, recorded = sk.record(net, x, ["1.drive", "1.membrane", "1.spikes", "3.drive"])
        _, state = sk.run(net, x)
        y.square().mean().backward()
    dtypes = {name: trace.dtype for name, trace in recorded.items()}
    assert dtypes == {
        "1.drive": torch.bfloat16,
        "1.membrane": torch.float32,
        "1.spikes": torch.bfloat16,
        "3.drive": torch.bfloat16,
    }
    assert y.dtype == torch.float32
    assert {v["v"].dtype for v in state.values()} == {torch.float32}
    for name, parameter in net.named_parameters():
        assert parameter.grad.dtype == torch.float32, name
        assert parameter.grad.abs().sum() > 0, name
    # What autocast computes is what the rounded drive gives.
    assert torch.equal(sk.LIF()(recorded["1.drive"].float()).bfloat16(), recorded["1.spikes"])


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("learn", [(), ("beta", "threshold")], ids=["fixed", "learned"])
def test_a_halved_network_keeps_its_decay_and_threshold(dtype, learn):
    recurrent = sk.RecurrentLIF(8, 0.7001, learn=learn)
    net = sk.Sequential(
        nn.Linear(6, 8),
        sk.LIF(0.999, 0.3001, reset_quantum=0.7001, learn=learn),
        sk.CUBALIF(0.4999),
        recurrent,
        sk.LI(0.9999),
    )

    def kept():
        lif = [net[1].beta, net[1].threshold, net[1].reset_quantum]
        return [*lif, net[2].alpha, recurrent.beta, recurrent.recurrent.weight, net[4].beta]

    before = [value.clone() for value in kept()]
    net.to(dtype)
    assert net[0].weight.dtype == dtype
    after = kept()
    for a, b in zip(before, after, strict=True):
        assert torch.equal(a, b)
    assert net(torch.randn(5, 2, 6, dtype=dtype)).dtype == torch.float32
    doubled = net.double().to(dtype)
    assert doubled[1].beta.dtype == torch.float32


def test_a_double_network_is_double_throughout():
    net = sk.Sequential(nn.Linear(6, 8), sk.LIF(learn=("beta", "threshold")), nn.Linear(8, 3), sk.LI()).double()
    x = torch.randn(7, 4, 6, dtype=torch.float64)
    y, state = sk.run(net, x)
    y.sum().backward()
    assert y.dtype == torch.float64
    assert {v["v"].dtype for v in state.values()} == {torch.float64}
    assert {p.grad.dtype for p in net.parameters()} == {torch.float64}


def test_parameters_may_be_wider_than_the_drive():
    lif = sk.LIF(torch.tensor(0.9, dtype=torch.float64), learn="beta")
    y = lif(torch.randn(5, 2, 3))
    assert y.dtype == torch.float32
    y.sum().backward()
    assert lif.beta_raw.grad.dtype == torch.float64


@pytest.mark.parametrize(
    "neuron", [sk.LIF(), sk.LIF(reset="hard"), sk.LIF(reset="none"), sk.LI(), sk.CUBALIF(), sk.RecurrentLIF(3)], ids=str
)
def test_the_meta_device_gives_shapes(neuron):
    x = torch.empty(5, 2, 3, device="meta")
    y, state = sk.run(neuron.to("meta"), x)
    assert (y.device.type, y.shape) == ("meta", x.shape)
    assert {value.shape for value in state[""].values()} == {(2, 3)}
