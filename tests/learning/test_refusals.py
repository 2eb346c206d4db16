"""What no rule can use is refused with one error that says what to do."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import InputError
from spikekit.learning import BPTT, DSR, OTTT

RULES = [BPTT(), OTTT(), DSR()]


def net_of(*middle):
    return sk.Sequential(nn.Linear(6, 8), sk.LIF(0.9, 0.3), *middle, nn.Linear(8, 3))


def loss(output):
    return output.square().mean()


@pytest.fixture(params=RULES, ids=str)
def rule(request):
    return request.param


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.rand(4, 6), r"must have the axes \[T, B, ...\]"),
        (torch.rand(0, 4, 6), "each of one entry at least"),
        (torch.rand(5, 0, 6), "each of one entry at least"),
        ([1.0], "must be a tensor, got list"),
        (torch.rand(5, 4, 7), "layer 0: .* needs 6 features on the last axis, got 7"),
        (torch.ones(5, 4, 6, dtype=torch.int64), "layer 0: .* needs floating point"),
        (torch.full((5, 4, 6), float("nan")), "layer 1: .* not finite"),
        (torch.full((5, 4, 6), float("inf")), "layer 1: .* not finite"),
    ],
)
def test_inputs(rule, x, words):
    with pytest.raises(InputError, match=words):
        rule(net_of(), x, loss)


def test_not_finite_in_one_late_step(rule):
    x = torch.rand(5, 4, 6)
    x[3, 2, 1] = float("nan")
    with pytest.raises(InputError, match=r"layer 1: .* not finite"):
        rule(net_of(), x, loss)


def test_a_last_layer_that_is_not_finite(rule):
    net = net_of()
    nn.init.constant_(net[2].bias, float("nan"))
    with pytest.raises(InputError, match=r"the loss.* is nan"):
        rule(net, torch.rand(5, 4, 6), loss)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda output: output, "must be a scalar tensor, got shape"),
        (lambda output: 0.5, "must be a scalar tensor, got float"),
        (lambda output: output.detach().mean(), "has no gradient"),
    ],
)
def test_losses(rule, wrong, words):
    with pytest.raises(InputError, match=words):
        rule(net_of(), torch.rand(5, 4, 6), wrong)


def test_what_is_no_network(rule):
    with pytest.raises(InputError, match=r"net must be an nn\.Module, got function"):
        rule(loss, torch.rand(5, 4, 6), loss)


def test_gradients_switched_off(rule):
    with torch.no_grad(), pytest.raises(InputError, match="gradients are switched off"):
        rule(net_of(), torch.rand(5, 4, 6), loss)


def test_outputs_without_time(rule):
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = net_of()

        def forward(self, x):
            return self.inner(x).mean(0)

    with pytest.raises(InputError, match=r"must return \[T, B, ...\]"):
        rule(Pooled(), torch.rand(5, 4, 6), loss)


@pytest.mark.parametrize("rule", [OTTT(), OTTT(decay=0.5), DSR()], ids=str)
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: net_of(sk.RecurrentLIF(8)), "'2' is a RecurrentLIF"),
        (lambda: sk.checkpoint_time(net_of()), "'the network' is a checkpoint_time"),
        (lambda: torch.compile(net_of(), backend="eager"), "is compiled; give the network that was compiled"),
    ],
)
def test_networks(rule, make, words):
    with pytest.raises(InputError, match=words):
        rule(make(), torch.rand(5, 4, 6), loss)


def test_a_forward_of_ones_own():
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    net = sk.Sequential(Doubled(6, 8), sk.LIF(), nn.Linear(8, 3))
    for rule in RULES:
        with pytest.raises(InputError, match=r"layer '0' .Doubled. has a forward of its own"):
            rule(net, torch.rand(5, 4, 6), loss, listen=lambda *call: None)
        assert all("forward" not in vars(module) for module in net.modules())
    BPTT()(net, torch.rand(5, 4, 6), loss)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"decay": 1.5}, "decay must be between 0 and 1, got 1.5"),
        ({"decay": {"0": -0.1}}, "decay must be between 0 and 1, got -0.1"),
        ({"decay": True}, "decay must be between 0 and 1, got True"),
        ({"decay": float("nan")}, "decay must be between 0 and 1"),
        ({"decay": {"1": 0.5}}, r"decay names \['1'\]; the weight layers are \['0', '2'\]"),
        ({"every_step": True}, r"needs update=\.\.\."),
    ],
)
def test_settings_of_ottt(settings, words):
    with pytest.raises(InputError, match=words):
        OTTT(**settings)(net_of(), torch.rand(5, 4, 6), loss)


def test_decays_that_ottt_cannot_know():
    class Slow(sk.Neuron):
        def integrate(self, x, state, keep):
            return x, {"v": x[-1]}, {}

    x = torch.rand(5, 4, 6)
    with pytest.raises(InputError, match="'2' is a Slow, whose decay it does not know; give decay="):
        OTTT()(net_of(Slow()), x, loss)
    OTTT(decay=0.5)(net_of(Slow()), x, loss)
    with pytest.raises(InputError, match="beta of '2' differs between its neurons"):
        OTTT()(net_of(sk.LIF(torch.linspace(0.1, 0.9, 8))), x, loss)

    class Fork(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.a, self.b = nn.Linear(6, 3), sk.LIF(0.5), sk.LIF(0.9)

        def forward(self, x):
            x = self.fc(x)
            return self.a(x) + self.b(x)

    with pytest.raises(InputError, match=r"layer 'fc' drives neurons of different decays"):
        OTTT()(Fork(), x, loss)
    OTTT(decay={"fc": 0.7})(Fork(), x, loss)


def test_an_input_that_changes_its_size_over_time():
    class Growing(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.lif, self.calls = nn.Linear(6, 3), sk.LI(0.5), 0

        def forward(self, x):
            self.calls += 1
            y = self.lif(self.fc(x).mean(-1, keepdim=True))
            return y + self.fc(x.repeat(1, self.calls, 1))[:, :4]

    with pytest.raises(InputError, match=r"layer 'fc' has the shape .* and had .* a step before"):
        OTTT(decay=0.5)(Growing(), torch.rand(5, 4, 6), loss)


def test_a_loss_that_cannot_be_called(rule):
    with pytest.raises(InputError, match="must be a function of the output, got NoneType"):
        rule(net_of(), torch.rand(5, 4, 6), None)


def test_a_listener_on_a_compiled_network_is_refused():
    with pytest.raises(InputError, match="is compiled; give the network that was compiled"):
        BPTT()(torch.compile(net_of(), backend="eager"), torch.rand(5, 4, 6), loss, listen=lambda *told: None)


def test_rows_in_the_place_of_a_signal_that_is_computed_again_are_refused():
    net = sk.checkpoint_time(net_of(), 2)
    with pytest.raises(InputError, match=r"of layer 'module.0', which checkpoint_time computes again"):
        BPTT()(net, torch.rand(5, 4, 6), loss, listen=lambda name, layer, signal: signal)
    heard = []
    BPTT()(net, torch.rand(5, 4, 6), loss, listen=lambda name, layer, signal: heard.append(name))
    assert heard == ["module.0", "module.2"] * 3
