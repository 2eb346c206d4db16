"""`sk.fold`: the same spikes with less to compute, and everything a network must still do."""

from __future__ import annotations

import copy
import io
import pickle
import re

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import InputError
from spikekit.neurons import FoldedLIF
from spikekit.ops import paths
from tests.folding.nets import conv_net, frames, res_net, settle, spikes_equal

RESETS = ("soft", "hard", "none")


@pytest.mark.parametrize("element", [False, True], ids=["channel", "element"])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("settings", [{}, {"reset_quantum": None}, {"inclusive": True}], ids=str)
def test_the_spikes_are_the_same(reset, element, settings):
    net = conv_net(reset, element, **settings).double()
    folded = sk.fold(net)
    assert 0.05 < spikes_equal(net, folded, frames().double()) < 0.9
    assert not [m for m in folded.modules() if isinstance(m, (nn.modules.batchnorm._BatchNorm, sk.MPBN))]
    assert not any(p.requires_grad for p in folded.parameters())
    assert not folded.training
    assert folded[2].flips
    assert folded.fold_report.weights == {"1": "0", "6": "5"}
    assert list(folded.fold_report.thresholds) == ["2", "7"]
    assert not folded.fold_report.kept


def test_the_original_is_untouched():
    net = conv_net()
    before, text = copy.deepcopy(net.state_dict()), repr(net)
    sk.fold(net, negative="negate")
    assert repr(net) == text
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.requires_grad for p in net.parameters())
    assert not hasattr(net, "fold_report")


@pytest.mark.parametrize("path", ["torch", "reference"])
def test_every_path(path):
    net = conv_net()
    x = frames()
    folded = sk.fold(net)
    expected, seen = sk.record(folded, x)
    paths.set_path(path)
    try:
        y, found = sk.record(folded, x)
    finally:
        paths.set_path("auto")
    assert all(torch.equal(found[name], seen[name]) for name in seen)
    torch.testing.assert_close(y, expected)


def test_drive_and_fold_in_half_precision():
    """Thresholds stay in float32, as all of a neuron's numbers do."""
    lif = sk.fold(settle(sk.LIF(0.6, 0.5, norm=sk.MPBN(4))))
    half = copy.deepcopy(lif).half()
    assert half.threshold.dtype == torch.float32
    x = torch.randn(5, 3, 4).half()
    assert torch.equal(half(x).float(), lif(x.float()))


@pytest.mark.parametrize("reset", RESETS)
def test_nets_that_are_no_chains(reset):
    net = res_net(reset=reset).double()
    folded = sk.fold(net)
    assert 0.05 < spikes_equal(net, folded, frames(4, 6).double()) < 0.9
    assert len(folded.fold_report.weights) == 7
    assert folded.fold_report.weights["stem.module.1"] == "stem.module.0"
    assert len(folded.fold_report.thresholds) == 5


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("element", [False, True], ids=["channel", "element"])
def test_states_mean_the_same(reset, element):
    """A sequence begun by the network is carried on by its fold, and in pieces is whole."""
    net = conv_net(reset, element).double()
    folded, x = sk.fold(net), frames().double()
    whole, last = sk.run(net, x)
    _, state = sk.run(net, x[:3])
    y, end = sk.run(folded, x[3:], state)
    torch.testing.assert_close(y, whole[3:].detach(), rtol=1e-9, atol=1e-9)
    for slot in last:
        torch.testing.assert_close(end[slot]["v"], last[slot]["v"].detach(), rtol=1e-9, atol=1e-9)


def test_membranes_are_recorded_as_they_were():
    net = conv_net().double()
    names = ["2.membrane", "2.drive", "7.membrane"]
    (_, seen), (_, found) = (sk.record(n, frames().double(), names) for n in (net, sk.fold(net)))
    for name in names:
        torch.testing.assert_close(found[name], seen[name].detach(), rtol=1e-9, atol=1e-9)


def test_rectifiers_are_dropped_and_other_neurons_pass():
    net = sk.Sequential(
        nn.Linear(6, 5), sk.RecurrentLIF(5, rectifier=sk.MPR()), sk.CUBALIF(rectifier=sk.MPR()), sk.presets.inflor_snn()
    ).eval()
    folded = sk.fold(net)
    spikes_equal(net.double(), folded.double(), torch.randn(6, 3, 6, dtype=torch.float64) * 3)
    assert [type(layer) for layer in folded] == [type(layer) for layer in net]
    assert all(layer.rectifier is None for layer in folded[1:])
    assert str(folded.fold_report) == "nothing to fold"


def test_a_neuron_alone():
    lif = settle(sk.LIF(0.6, 0.5, norm=sk.MPBN(4))).double()
    folded = sk.fold(lif)
    assert isinstance(folded, FoldedLIF)
    assert "flipped=" in repr(folded)
    assert torch.equal(folded(x := torch.randn(9, 3, 4).double()), lif(x).detach())


def test_shared_layers_and_chains_within_chains():
    inner = sk.Sequential(
        nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Identity(), sk.LIF(0.5, 0.4, norm=sk.MPBN(2))
    )
    net = settle(
        sk.Sequential(inner, inner, sk.Sequential(nn.Conv2d(2, 3, 3)), nn.BatchNorm2d(3), sk.LIF(0.5))
    ).double()
    folded = sk.fold(net)
    assert folded.fold_report.weights == {"0.1": "0.0", "3": "2.0"}
    assert folded[0] is folded[1]
    spikes_equal(net, folded, frames().double())


class Own(nn.Module):
    """Convolution and normalisation as attributes: their order is known to the forward alone."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)
        self.lif = sk.LIF(0.5, 0.4, norm=sk.MPBN(2))

    def forward(self, x):
        return self.lif(sk.fold_time(self.norm)(sk.fold_time(self.conv)(x)))


def twice(conv):
    return sk.Sequential(conv, nn.BatchNorm2d(2), conv, nn.BatchNorm2d(2))


def hooked():
    net = sk.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2))
    net[0].register_forward_hook(lambda module, inputs, output: 2 * output)
    return net


@pytest.mark.parametrize(
    ("net", "kept"),
    [
        (Own(), {"norm": "no convolution"}),
        (twice(nn.Conv2d(2, 2, 3, padding=1)), {"1": "no convolution", "3": "no convolution"}),
        (hooked(), {"1": "the Conv2d before it has.*hooks"}),
        (sk.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 2, 3)), {"0": "no convolution"}),
        (
            sk.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2, track_running_stats=False)),
            {"1": "no running statistics"},
        ),
        (sk.Sequential(nn.Conv2d(2, 2, 3), nn.ReLU(), nn.BatchNorm2d(2)), {"2": "no convolution"}),
        (
            sk.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 2, 3)), nn.BatchNorm2d(2)),
            {"1": "parametrizations"},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_paired_stays_and_is_reported(net, kept):
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            settle(module)
    if isinstance(net, Own):
        settle(net)
    net = net.eval().double()
    folded = sk.fold(net)
    assert list(folded.fold_report.kept) == list(kept)
    for name, reason in kept.items():
        assert re.search(reason, folded.fold_report.kept[name])
        assert f"{name}: stays, since" in str(folded.fold_report)
    spikes_equal(net, folded, frames().double())


def test_state_dict_copies_pickles_and_compile():
    net, x = conv_net(), frames()
    folded = sk.fold(net)
    expected = folded(x)
    stored = io.BytesIO()
    torch.save(folded.state_dict(), stored)
    stored.seek(0)
    # A fold of other numbers, with no negative weight: what is loaded says which channels are flipped.
    other = sk.fold(conv_net(positive=True))
    assert not other[2].flips
    other.load_state_dict(torch.load(stored, weights_only=True))
    for made in (other, copy.deepcopy(folded), pickle.loads(pickle.dumps(folded))):
        assert torch.equal(made(x), expected)
    assert pickle.loads(pickle.dumps(folded)).fold_report == folded.fold_report
    compiled = torch.compile(folded, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), expected)
    assert torch.equal(sk.fold(folded)(x), expected)


def test_train_mode_is_refused():
    with pytest.raises(InputError, match=r"fold: the network \(Sequential\) is in train mode; call net.eval\(\)"):
        sk.fold(conv_net().train())
    net = conv_net()
    net[2].norm.train()
    with pytest.raises(InputError, match=r"fold: layer 2.norm \(MPBN\) is in train mode"):
        sk.fold(net)


def test_statistics_that_never_saw_data_are_refused():
    for layers in ((nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2)), (sk.LIF(norm=sk.MPBN(2)),)):
        net = sk.Sequential(*layers).eval()
        with pytest.raises(InputError, match=r"layer [01]: the running statistics .* never updated.*train mode"):
            sk.fold(net)
        # As initialised, but of another mean: somebody set it.
        next(m for m in net.modules() if hasattr(m, "running_mean")).running_mean.fill_(0.1)
        sk.fold(net)


@pytest.mark.parametrize(("shape", "place"), [(6, "channel 3"), ((6, 8, 8), r"neuron \(3, 1, 2\)")])
def test_a_weight_of_zero_is_refused(shape, place):
    net = conv_net(element=shape != 6)
    net[2].norm.weight.data[3 if shape == 6 else (3, 1, 2)] = 0
    with pytest.raises(InputError, match=rf"layer 2: the weight of MPBN.* is 0 for {place}, one of 1.*positive=True"):
        sk.fold(net)


class OwnNeuron(sk.LIF):
    def integrate(self, x, state, keep):
        return super().integrate(2 * x, state, keep)


def test_a_neuron_with_an_arithmetic_of_its_own_is_refused():
    with pytest.raises(InputError, match=r"layer 1 \(OwnNeuron\) is not an sk.LIF"):
        sk.fold(settle(sk.Sequential(nn.Linear(3, 2), OwnNeuron(norm=sk.MPBN(2)))))


def test_activity_is_measured_as_before():
    net, x = conv_net(), frames()
    rows = []
    for each in (net, sk.fold(net)):
        with sk.measure.ActivityMeter(each) as meter:
            each(x)
        rows.append([(row.name, row.spikes, row.neuron_steps, row.dead_neurons) for row in meter.summary()])
    assert rows[0] == rows[1]
    assert len(rows[0]) == 3
