"""Astrocytes on their way to integers: what is read, what is rounded, and what is refused."""

from __future__ import annotations

import json
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import ExportError, InputError
from spikekit.export import LoihiNet, qat, quantisation_loss, to_loihi
from spikekit.export.astrocyte import FloatAstrocyte
from spikekit.export.astrocyte_rounding import quantise_astrocyte
from spikekit.export.cost.costs import costs
from spikekit.export.cost.facts import facts
from spikekit.export.float_run import margins, run_plan
from spikekit.export.page import page
from spikekit.export.page.summary import summarise
from spikekit.export.plan import plan
from spikekit.ops.astrocyte.integer import CALCIUM_ONE, PARTS, Modulator
from tests.export.nets import frames
from tests.export.random_astrocytes import random_astrocytes


def astrocyte(acts_on="threshold", senses="post", domains=2, **given):
    torch.manual_seed(3)
    numbers = {"timescales": (2.0, 30.0), "strength": 0.7, "weight": torch.randn(domains, 2) * 3, "bias": 0.4}
    return sk.Astrocyte(domains, acts_on=acts_on, senses=senses, **numbers | given)


def network(own, other=None, **given):
    """Two layers, the first of which may sense what arrives; the second does not, where it has an astrocyte."""
    torch.manual_seed(5)
    conv, lif = nn.Conv2d(2, 4, 3, stride=2), sk.LIF(0.8, 0.15, astrocyte=own, **given)
    first = [conv, lif] if own is None or own.senses == "post" else [sk.TripartiteSynapse(conv, lif)]
    return sk.Sequential(*first, nn.Flatten(), nn.Linear(36, 6), sk.LIF(0.9, 0.2, astrocyte=other)).eval()


@pytest.mark.parametrize("seed", range(6))
def test_the_plan_fires_the_spikes_of_the_float64_network(seed):
    net, x = random_astrocytes(seed)
    layers = plan(net, x).layers
    trace = run_plan(layers, x)[-1]
    expected = deepcopy(net).double()(x.double()).flatten(2)
    assert torch.equal(trace.spikes, expected) if layers[-1].fires else torch.allclose(trace.membranes, expected)
    # The numbers of an astrocyte are those of the network in float64, to the last bit.
    modules = [module for module in net.double().modules() if isinstance(module, sk.Astrocyte)]
    modules = [module for module in modules if module.acts_on != "plasticity"]
    for module, layer in zip(modules, (layer for layer in layers if layer.astrocyte is not None), strict=True):
        assert torch.equal(torch.from_numpy(layer.astrocyte.decay), torch.exp(-1 / module.timescales))
        assert torch.equal(torch.from_numpy(layer.astrocyte.strength), module.strength)


@pytest.mark.parametrize("acts_on", ["gain", "threshold"])
def test_margins_are_to_the_threshold_as_it_is(acts_on):
    x = frames(steps=20)
    layers = plan(network(astrocyte(acts_on)), x).layers
    for layer, trace in zip(layers, run_plan(layers, x), strict=True):
        level = torch.from_numpy(layer.threshold) if trace.levels is None else trace.levels
        assert torch.equal(trace.membranes > level, trace.spikes.bool())
        assert torch.equal(margins(layer, trace), (trace.membranes - level).abs())
    assert (run_plan(layers, x)[0].levels is None) == (acts_on == "gain")


@pytest.mark.parametrize("acts_on", ["gain", "threshold"])
def test_without_strength_the_integers_are_those_of_the_plain_network(acts_on):
    x = frames()
    plain, chip = (to_loihi(network(own), x) for own in (None, astrocyte(acts_on, strength=0.0)))
    assert (chip.layers[0].astrocyte.table == PARTS).all()
    for one, other in zip(plain.trace(x), chip.trace(x), strict=True):
        assert torch.equal(one.spikes, other.spikes)
        assert torch.equal(one.membranes, other.membranes)


@pytest.mark.parametrize("senses", ["post", "pre", "both"])
def test_what_gates_plasticity_is_the_plain_neuron(senses):
    x = frames()
    chip = to_loihi(network(astrocyte("plasticity", senses)), x)
    assert chip.layers[0].astrocyte is None
    assert chip.layers[0].senses == ()
    assert torch.equal(chip.simulate(x), to_loihi(network(None), x).simulate(x))


@pytest.mark.parametrize("acts_on", ["gain", "threshold"])
@pytest.mark.parametrize("senses", ["post", "both"])
def test_the_integer_network_follows_the_float_network(acts_on, senses):
    x = frames(batch=20, steps=60)
    chip = to_loihi(network(astrocyte(acts_on, senses), astrocyte(acts_on)), x)
    still = to_loihi(network(None), x)
    found, exact, plain = (each[0].spikes.float() for each in (chip.trace(x), chip.trace_float(x), still.trace(x)))
    # The astrocyte does something, and the integers do the same.
    assert (plain != exact).float().mean() > 0.02
    assert (found != exact).float().mean() < 0.006


def test_the_table_is_near_the_equations():
    rng = np.random.default_rng(0)
    shape = (5, 3)
    weight, bias, strength = rng.normal(0, 1.5, shape), rng.normal(0, 1, 5), rng.uniform(-0.99, 0.99, 5)
    exact = FloatAstrocyte("gain", 1.0, 0, np.exp(-1 / rng.uniform(1, 3000, shape)), weight, bias, strength)
    whole = quantise_astrocyte("a", exact, 50)
    modulator = Modulator("gain", 1, 0, *map(torch.from_numpy, (whole.decay, whole.weight, whole.offset, whole.table)))
    c = rng.uniform(0, 1, (400, *shape))
    found = modulator.factor(torch.from_numpy((c * CALCIUM_ONE).astype(np.int64))).numpy() / PARTS
    z = bias + (weight * c).sum(-1)
    wanted = 1 + strength * (z / (1 + np.abs(z)))
    # Calcium and z are cut to one part in 4,096 of their range each.
    assert np.abs(found - wanted).max() < 4 * np.abs(weight).sum(1).max() / PARTS
    assert (whole.share, whole.heard_share) == (round(CALCIUM_ONE / 10), 0)
    # 12 bits of a decay.
    assert np.abs(whole.decay / PARTS - (1 - exact.decay)).max() <= 0.5 / PARTS


def test_weights_of_zero_leave_the_bias():
    exact = FloatAstrocyte("threshold", 0.5, 8, np.full((1, 2), 0.5), np.zeros((1, 2)), np.ones(1), np.full(1, 0.5))
    whole = quantise_astrocyte("a", exact, 4)
    assert (whole.table == round(PARTS * 0.75)).all()
    assert not whole.weight.any()
    assert not whole.offset.any()
    assert (whole.share, whole.heard_share) == (CALCIUM_ONE // 8, CALCIUM_ONE // 16)


def test_thresholds_have_room_to_rise():
    """Whatever astrocytes make of it, a threshold has its 24 bits."""
    net = sk.Sequential(nn.Linear(3, 4), sk.LIF(0.9, 50.0, astrocyte=astrocyte(strength=-0.99, bias=9.0)), sk.LI())
    net.insert(2, nn.Linear(4, 2))
    layer = to_loihi(net.eval(), torch.ones(5, 2, 3)).layers[0]
    assert layer.level.max() * layer.astrocyte.table.max() // PARTS < 2**23


class Weighed(nn.Module):
    temporal = True

    def __init__(self, synapse):
        super().__init__()
        self.synapse = synapse

    def forward(self, x):
        return self.synapse(2 * x)


def tripartite(inputs=4, domains=2, outputs=4):
    return sk.TripartiteSynapse(
        nn.Linear(inputs, outputs), sk.LIF(0.9, 0.3, astrocyte=astrocyte("gain", "pre", domains))
    )


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            [nn.Linear(4, 4), sk.LIF(astrocyte=astrocyte(timescales=(9.0, 8192.0)))],
            "8,192 steps, and a decay .* 12 bits",
        ),
        ([nn.Linear(4, 5), sk.LIF(astrocyte=astrocyte())], "the 2 domains of its Astrocyte do not divide 5 channels"),
        ([tripartite(4, 4, 8), tripartite(8, 3, 6)], "do not divide the 8 channels that it senses"),
        ([nn.Linear(4, 4), sk.LIF(astrocyte=astrocyte(senses="both"))], "nothing tells which these are"),
        ([nn.Linear(4, 4), sk.LIF(), Weighed(tripartite())], r"layer 2.synapse.neuron: .* weighs or adds them"),
        ([nn.Linear(4, 4), sk.LIF(), nn.Linear(4, 4), tripartite()], "layer 2 .* weighs or adds them"),
        (
            [nn.Linear(4, 4, bias=False), sk.SigmaDelta(0.1), tripartite()],
            "numbers, of sigma-delta neurons or a maximum",
        ),
        ([nn.Linear(4, 4), astrocyte()], "it is a part of a neuron"),
    ],
)
def test_what_is_refused(layers, message):
    with pytest.raises(ExportError, match=message):
        to_loihi(sk.Sequential(*layers).eval(), torch.ones(4, 2, 4))


def test_an_astrocyte_of_the_users_own_is_refused():
    class Own(sk.Astrocyte):
        def integrate(self, *given, **named):
            return super().integrate(*given, **named)

    net = sk.Sequential(nn.Linear(4, 4), sk.LIF(astrocyte=Own(2)))
    with pytest.raises(ExportError, match="its Own defines integrate itself"):
        to_loihi(net.eval(), torch.ones(4, 2, 4))


def test_a_neuron_of_the_users_own_is_refused_there_too():
    class Own(sk.LIF):
        def integrate(self, *given, **named):
            return super().integrate(*given, **named)

    synapse = sk.TripartiteSynapse(nn.Linear(4, 4), Own(astrocyte=astrocyte(senses="pre")))
    with pytest.raises(ExportError, match=r"layer 0.neuron \(Own\) defines integrate itself"):
        to_loihi(sk.Sequential(synapse).eval(), torch.ones(4, 2, 4))


def test_numbers_that_are_not_finite_are_refused():
    own = astrocyte()
    own.weight_raw.data[0, 0] = torch.nan
    with pytest.raises(ExportError, match="layer 1: its Astrocyte holds NaN or Inf"):
        plan(network(own), frames())


def test_back_ends_without_a_place_for_it_say_so(tmp_path):
    net, x = network(astrocyte(), reset="hard"), frames()
    with pytest.raises(ExportError, match="has an astrocyte"):
        qat(net, x)
    with pytest.raises(ExportError, match=r"layer 1: netx has no astrocytes over neurons\. Use"):
        to_loihi(sk.Sequential(*net[:2]), x, target="netx")
    chip = to_loihi(sk.Sequential(*net[:2]), x)
    with pytest.raises(ExportError, match="netx has no astrocytes over neurons"):
        chip.to_netx(tmp_path / "net.net")


def test_nir_has_no_place_for_it():
    pytest.importorskip("nir")
    with pytest.raises(ExportError, match="layer 1: NIR has no neuron that an astrocyte modulates"):
        sk.interop.to_nir(network(astrocyte()), frames())
    sk.interop.to_nir(network(astrocyte("plasticity")), frames())


@pytest.fixture(scope="module")
def chip():
    return to_loihi(network(astrocyte("gain", "both"), astrocyte()), frames())


def test_save_and_load_keep_everything(chip, tmp_path):
    x = frames()
    loaded = LoihiNet.load(chip.save(tmp_path / "net.npz"))
    for one, other in zip(chip.trace(x), loaded.trace(x), strict=True):
        assert torch.equal(one.membranes, other.membranes)
    for one, other in zip(chip.trace_float(x), loaded.trace_float(x), strict=True):
        assert torch.equal(one.membranes, other.membranes)
    assert torch.equal(chip.simulate(x), loaded.simulate(x))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("layers", 0, "astrocyte", "acts_on"), "plasticity"),
        (("layers", 0, "astrocyte", "share"), -1),
        (("layers", 0, "astrocyte", "share"), 2**23),
        (("layers", 0, "astrocyte", "heard_share"), 0),
        (("layers", 0, "astrocyte", "heard_share"), 0.5),
        (("layers", 0, "astrocyte"), None),
        (("layers", 0, "senses"), []),
        (("layers", 0, "senses", 0, "source"), 0),
        (("layers", 0, "senses", 0, "source"), -2),
        (("layers", 1, "astrocyte", "share"), 0),
        (("plan", 0, "astrocyte", "own"), 1.5),
        (("plan", 0, "astrocyte", "heard"), 0),
    ],
)
def test_files_that_do_not_fit_are_refused(chip, tmp_path, place, value):
    saved, other = chip.save(tmp_path / "net.npz"), tmp_path / "other.npz"
    with np.load(saved) as file:
        arrays = dict(file)
    meta = json.loads(str(arrays.pop("meta")))
    at = meta
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    np.savez(other, meta=np.array(json.dumps(meta)), **arrays)
    with pytest.raises(ExportError, match="not a LoihiNet file, or a damaged one"):
        LoihiNet.load(other)


@pytest.mark.parametrize("change", ["missing", "shorter", "other type", "out of range"])
def test_every_array_of_it_is_needed(chip, tmp_path, change):
    saved, other = chip.save(tmp_path / "net.npz"), tmp_path / "other.npz"
    with np.load(saved) as file:
        arrays = dict(file)
    own = [name for name in arrays if ".astrocyte." in name or ".sense" in name]
    # Each of two layers, in float and in integers, has four; the weights and ends of what the first hears.
    assert len(own) == 2 * 2 * 4 + 2 * 2
    for name in own:
        array, far = arrays[name], np.nan if arrays[name].dtype == np.float64 else 2**30
        changed = {
            "missing": {key: value for key, value in arrays.items() if key != name},
            "shorter": arrays | {name: array[..., :-1]},
            "other type": arrays | {name: array.astype(np.float32)},
            "out of range": arrays | {name: np.full_like(array, -far)},
        }[change]
        if change == "out of range" and name.endswith("0.weight") and "sense" in name:
            continue
        np.savez(other, **changed)
        with pytest.raises(ExportError, match="not a LoihiNet file, or a damaged one"):
            LoihiNet.load(other)


def test_reports_leave_its_states_out_and_say_so(chip):
    x = frames()
    described, plain = facts(chip), facts(to_loihi(network(None), x))
    assert [layer.calcium for layer in described] == [4, 4]
    assert [layer.synapses for layer in described] == [layer.synapses for layer in plain]
    counted = costs(described, x, [trace.spikes for trace in chip.trace(x)])
    assert [layer.updates for layer in counted.layers] == [layer.neurons * len(x) for layer in described]
    assert "astrocytes, of 8 calcium states" in page(summarise(chip, x))
    assert quantisation_loss(chip, x).layers[0].thresholds


@pytest.mark.parametrize("senses", ["post", "both"])
def test_input_below_0_that_is_sensed_is_refused(senses):
    x, net = frames(6, 2), network(astrocyte(senses=senses))
    chip = to_loihi(net, x)
    for call in (lambda: to_loihi(net, -x), lambda: chip.trace(-x), lambda: chip.trace_float(-x)):
        if senses == "post":
            call()
            continue
        with pytest.raises(InputError, match=r"the input holds -\d+, and the astrocyte of layer 0.neuron senses it"):
            call()
