"""Files for lava-dl's netx: what netx computed from them, recorded by tests/golden/make_netx.py, is what we compute."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import ExportError, InputError
from spikekit.export import LoihiNet, qat, to_loihi
from tests.export import netx_reader
from tests.export.nets import conv_net, frames
from tests.export.netx_cases import CASES, case

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("name", CASES)
def test_netx_computes_what_we_do(name, tmp_path):
    chip, x = case(name)
    with np.load(GOLDEN / f"{name}.netx.npz") as file:
        found = torch.from_numpy(file["found"])
    trace = chip.trace(x)[-1]
    assert torch.equal(found, trace.spikes.long() if chip.layers[-1].fires else trace.membranes)
    assert found.any()
    assert np.array_equal(netx_reader.run(chip.to_netx(tmp_path / "net.net"), x), found.numpy())


def test_the_file_holds_the_layers_in_order(tmp_path):
    chip, _ = case("netx_conv")
    path = chip.to_netx(tmp_path / "deep" / "net.net")
    assert [entry.name for entry in path.parent.iterdir()] == ["net.net"]
    with h5py.File(path) as file:
        layers = [file["layer"][str(i)] for i in range(len(file["layer"]))]
        assert [layer["type"][0] for layer in layers] == [b"input", b"conv", b"conv", b"flatten", b"dense"]
        assert layers[1]["weight"][()].tolist() == chip.layers[0].inputs[0].synapses.weight.tolist()
        assert layers[1]["bias"][()].shape == (4,)
        assert layers[4]["neuron"]["vThMant"][()] == chip.layers[2].threshold[0]


def hard(**settings):
    return conv_net(reset="hard", **settings)


def exported(net, **settings):
    return to_loihi(net.eval(), frames(), **{"target": "netx", **settings})


def one_threshold(net):
    net[2] = sk.LIF(0.8, 0.6, reset="hard")
    return net


def changed(**fields):
    """A network that netx takes but for one field of its first layer."""
    chip = exported(hard())
    first = chip.layers[0]
    return replace(chip, layers=(replace(first, **{k: change(getattr(first, k)) for k, change in fields.items()}),))


def readout_in_front():
    """A layer that sends nothing in front of another: reading a network refuses it, a file may hold it."""
    chip = exported(hard())
    return replace(chip, layers=(replace(chip.layers[0], fires=False, reset="none"), *chip.layers[1:]))


def dense(neuron):
    return sk.Sequential(nn.Flatten(), nn.Linear(112, 3), neuron)


REFUSED = {
    "has no exponent of weights.*target": lambda: to_loihi(one_threshold(hard()), frames(), thresholds="layer"),
    r"resets neurons to zero, not 'soft'\. Train with reset": lambda: exported(conv_net()),
    "fires neurons above their threshold": lambda: exported(hard(inclusive=True)),
    "has no single synapses": lambda: exported(sk.Sequential(nn.Flatten(), sk.LIF(reset="hard"))),
    r"keeps one decay a layer\. Train with one for all": lambda: exported(
        dense(sk.LIF(torch.tensor([0.5, 0.6, 0.7]), reset="hard"))
    ),
    "adds a bias to the membrane, not to the current": lambda: exported(dense(sk.CUBALIF(reset="hard"))),
    r"knows chains alone, and its inputs are \[-1, -2\]": lambda: exported(dense(sk.RecurrentLIF(3, reset="hard"))),
    "has no thresholds below 0": lambda: changed(threshold=lambda values: -values),
    "has readouts in the last place alone": lambda: readout_in_front(),
    "has neither adaptive thresholds nor refractory": lambda: exported(dense(sk.RefractoryLIF(2, reset="hard"))),
    "shifts every bias by 6 bits": lambda: changed(bias_exponent=lambda values: values + 1),
    "keeps one threshold a layer.*target": lambda: changed(threshold=lambda values: values + np.arange(len(values))),
    "keeps one bias a channel": lambda: exported(
        sk.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3, padding=1), sk.LIF(reset="hard"))
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_the_format_has_no_place_for_is_refused(message, tmp_path):
    torch.manual_seed(0)
    chip = REFUSED[message]()
    if "one bias" in message:
        layer = chip.layers[0]
        chip = replace(chip, layers=(replace(layer, bias_mantissa=np.arange(len(layer.bias))),))
    with pytest.raises(ExportError, match=f"layer .: netx {message}"):
        chip.to_netx(tmp_path / "net.net")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("last", [sk.LIF(0.9, 0.2, "hard"), sk.LI(0.9)], ids=["fires", "readout"])
def test_a_convolution_whose_neurons_are_flat(last, tmp_path):
    torch.manual_seed(0)
    conv = [nn.Conv2d(2, 3, 3, stride=2), nn.Flatten(), sk.LIF(0.8, 0.2, "hard")]
    chip = exported(sk.Sequential(*conv, nn.Linear(27, 4), last))
    found = netx_reader.run(chip.to_netx(tmp_path / "net.net"), frames())
    trace = chip.trace(frames())[-1]
    assert np.array_equal(found, (trace.spikes if chip.layers[-1].fires else trace.membranes).numpy())
    assert found.any()


def test_an_image_of_a_flat_layer_is_refused_and_leaves_nothing(tmp_path):
    """No network of ours unflattens, a file may."""
    chip = exported(hard())
    first = chip.layers[0]
    with pytest.raises(ExportError, match=r"layer 2: netx cannot unflatten \(4, 4, 4\) to \(2, 8, 7\)"):
        replace(chip, layers=(first, replace(first, inputs=(replace(first.inputs[0], source=0),)))).to_netx(
            tmp_path / "net.net"
        )
    assert not list(tmp_path.iterdir())


def test_settings_that_do_not_go_together():
    with pytest.raises(InputError, match="target must be 'lava' or 'netx', got 'loihi'"):
        to_loihi(hard(), frames(), target="loihi")
    with pytest.raises(InputError, match="one threshold a layer, so thresholds='neuron' cannot be"):
        to_loihi(hard(), frames(), target="netx", thresholds="neuron")
    with pytest.raises(InputError, match=r"qat\(\) settled .* target"):
        to_loihi(qat(hard(), frames()), frames(), target="netx")


def test_it_runs_on_lava_like_any_other(worker, tmp_path):
    chip = exported(hard())
    assert {layer.exponent for layer in chip.layers} == {0}
    proof = LoihiNet.load(chip.save(tmp_path / "net.npz")).verify(frames(batch=2, seed=3), python=worker)
    assert proof.identical, str(proof)


@pytest.mark.parametrize("fault", [ExportError("no"), KeyError("no"), KeyboardInterrupt()])
def test_whatever_goes_wrong_nothing_is_left_behind(fault, tmp_path, monkeypatch):
    chip, _ = case("netx_conv")
    kept = chip.to_netx(tmp_path / "net.net").read_bytes()

    def fails(*_):
        raise fault

    monkeypatch.setattr("spikekit.export.netx._Writer.layers", fails)
    with pytest.raises(type(fault)):
        chip.to_netx(tmp_path / "net.net")
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.net"]
    assert (tmp_path / "net.net").read_bytes() == kept
