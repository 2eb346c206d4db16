from __future__ import annotations

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import ExportError
from spikekit.export.float_run import run_plan
from spikekit.export.plan import plan
from tests.export.nets import conv_net, frames


@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
@pytest.mark.parametrize("settings", [{}, {"inclusive": True}, {"reset_quantum": 0.4}])
def test_the_plan_fires_the_spikes_of_the_float64_network(reset, settings):
    net = conv_net(reset=reset, **settings).double()
    x = frames().double()
    traces = run_plan(plan(net, x).layers, x)
    with torch.no_grad():
        y, recorded = sk.record(net, x, ["2.spikes", "2.membrane", "6.spikes"])
    assert recorded["2.spikes"].mean() > 0.02
    assert torch.equal(traces[0].spikes, recorded["2.spikes"].flatten(2))
    assert torch.equal(traces[1].spikes, recorded["6.spikes"])
    torch.testing.assert_close(traces[0].membranes, recorded["2.membrane"].flatten(2), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(traces[2].membranes, y, rtol=1e-11, atol=1e-11)


def test_linear_batch_norm_nested_chains_and_fold_time():
    torch.manual_seed(0)
    inner = sk.Sequential(nn.Linear(112, 6), nn.BatchNorm1d(6), sk.IF(0.5))
    net = sk.Sequential(nn.Flatten(), inner, sk.fold_time(nn.Linear(6, 2)), sk.LI(0.5)).eval().double()
    nn.init.uniform_(inner[1].running_var, 0.05, 0.2)
    x = frames().double()
    layers = plan(net, x).layers
    assert [layer.name for layer in layers] == ["1.2", "3"]
    torch.testing.assert_close(run_plan(layers, x)[1].membranes, net(x).detach(), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_padding_by_name(padding):
    net = sk.Sequential(nn.Conv2d(2, 3, 3, padding=padding, dilation=2), sk.LIF(0.9)).double()
    with torch.no_grad():
        expected = net(frames().double())
    trace = run_plan(plan(net, frames()).layers, frames())[0]
    assert torch.equal(trace.spikes, expected.flatten(2))


def test_layers_used_twice_are_two_layers_of_the_plan():
    torch.manual_seed(0)
    linear, lif = nn.Linear(112, 112), sk.LIF(0.9, 0.2)
    net = sk.Sequential(nn.Flatten(), linear, lif, linear, lif).double()
    layers = plan(net, frames()).layers
    assert [layer.name for layer in layers] == ["2", "4"]
    with torch.no_grad():
        assert torch.equal(run_plan(layers, frames())[1].spikes, net(frames().double()))


def test_batch_norm_behind_flatten_of_single_pixels():
    torch.manual_seed(0)
    net = sk.Sequential(nn.Conv2d(2, 5, (8, 7)), nn.Flatten(), nn.BatchNorm1d(5), sk.LIF(0.9, 0.1)).eval().double()
    nn.init.uniform_(net[2].running_var, 0.05, 0.2)
    with torch.no_grad():
        assert torch.equal(run_plan(plan(net, frames()).layers, frames())[0].spikes, net(frames().double()))


@pytest.mark.parametrize("affine", [True, False])
def test_threshold_dependent_batch_norm_folds_with_its_factor(affine):
    torch.manual_seed(0)
    net = sk.Sequential(
        nn.Conv2d(2, 4, 3, bias=False),
        sk.TDBN2d(4, threshold=0.5, alpha=0.7, affine=affine),
        sk.LIF(0.25, 0.1),
        nn.Flatten(),
        nn.Linear(120, 6),
        sk.TDBN1d(6, threshold=0.3, affine=affine),
        sk.LIF(0.9, 0.3),
    )
    for norm in (net[1], net[5]):
        nn.init.uniform_(norm.running_var, 0.05, 0.2)
        nn.init.normal_(norm.running_mean, 0, 0.1)
    net = net.eval().double()
    x = frames().double()
    traces = run_plan(plan(net, x).layers, x)
    with torch.no_grad():
        _, recorded = sk.record(net, x)
    assert recorded["6.spikes"].mean() > 0.02
    assert torch.equal(traces[0].spikes, recorded["2.spikes"].flatten(2))
    assert torch.equal(traces[1].spikes, recorded["6.spikes"])


class OwnTDBN(sk.TDBN2d):
    def forward(self, x):
        return 2 * super().forward(x)


def test_a_changed_threshold_dependent_batch_norm_is_refused():
    net = sk.Sequential(nn.Conv2d(2, 3, 3), OwnTDBN(3), sk.LIF()).eval()
    with pytest.raises(ExportError, match=r"defines forward itself.*use TDBN2d itself"):
        plan(net, frames())


class Custom(nn.Module):
    def forward(self, x):
        return torch.exp(x)


class OwnForward(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class OwnNeuron(sk.LIF):
    def integrate(self, x, state, keep):
        return super().integrate(2 * x, state, keep)


class OwnCurrent(sk.CUBALIF):
    def integrate(self, x, state, keep):
        return super().integrate(2 * x, state, keep)


class OwnChain(sk.Sequential):
    def forward(self, x):
        return super().forward(2 * x)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([nn.Conv2d(2, 3, 3), nn.ReLU(), sk.LIF(0.9)], r"layer 1 \(ReLU\)"),
        ([nn.Flatten(), nn.Linear(112, 3)], r"nothing to export\. End it in .*sk\.LI\(\)"),
        ([nn.Flatten(), nn.Linear(112, 3), sk.LI(0.9), nn.Linear(3, 2), sk.LIF(0.9)], r"layer 2 \(LI\) does not fire"),
        (
            [nn.Conv2d(2, 3, 3), sk.LIF(0.9), nn.BatchNorm2d(3).eval()],
            r"ends in layer 2 \(BatchNorm2d\) without a neuron.*sk.LI",
        ),
        ([nn.Conv2d(2, 3, 3), nn.BatchNorm2d(4).eval(), sk.LIF()], r"BatchNorm2d\) normalises 4.*shape \(3, 6, 5\)"),
        ([nn.Conv2d(3, 3, 3), sk.LIF()], r"layer 0 \(Conv2d\) takes 3 channels and sees the shape \(2, 8, 7\)"),
        ([nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), sk.LIF(0.9)], "padding_mode"),
        ([nn.Conv2d(2, 3, 3), sk.LIF(0.9), nn.Linear(5, 2), sk.LI(0.9)], "put nn.Flatten"),
        ([Custom(), sk.LIF(0.9)], r"layer 0 \(Custom\): exp: exp cannot be read"),
        (
            [nn.Flatten(), OwnForward(112, 3), sk.LI()],
            r"layer 1 \(OwnForward\) defines forward itself.* use Linear itself",
        ),
        ([nn.Flatten(), nn.Linear(112, 3), OwnNeuron()], r"layer 2 \(OwnNeuron\) defines integrate itself"),
        ([OwnChain(nn.Flatten(), nn.Linear(112, 3)), sk.LI()], r"layer 0 \(OwnChain\) defines forward"),
        ([nn.Flatten(0), nn.Linear(112, 3), sk.LI()], "layer 0 .*joins time and batch"),
        ([nn.Flatten()], "nothing to export"),
        ([nn.Flatten(), nn.Linear(112, 3), OwnCurrent()], r"layer 2 \(OwnCurrent\) defines integrate itself"),
        ([nn.Flatten(), sk.LI(), nn.Linear(112, 3)], r"layer 1 \(LI\) does not fire"),
        ([nn.LayerNorm((2, 8, 7)), sk.LIF()], r"layer 0 \(LayerNorm\) cannot be exported: use BatchNorm"),
        ([nn.Upsample(scale_factor=2, mode="bilinear"), sk.LIF()], r"layer 0 .*mode 'bilinear'.*'nearest'"),
        ([nn.Flatten(), nn.AvgPool2d(2), sk.LIF()], r"layer 1 \(AvgPool2d\) sees the shape \(112,\); it takes images"),
        ([nn.Conv2d(2, 3, 2, padding="same"), sk.LIF(0.9)], "pads unevenly"),
    ],
)
def test_what_cannot_be_exported_is_refused_with_the_way_out(layers, message):
    with pytest.raises(ExportError, match=message):
        plan(sk.Sequential(*layers), frames())


def test_train_mode_is_refused():
    with pytest.raises(ExportError, match=r"layer 1 .*train mode.*net.eval\(\)"):
        plan(conv_net().train(), frames())


def test_weights_that_are_not_finite_are_refused():
    net = conv_net()
    net[5].weight.data[1, 2] = float("nan")
    with pytest.raises(ExportError, match=r"layer 5 \(Linear\): its weight holds NaN"):
        plan(net, frames())


def test_what_hooks_do_cannot_be_read():
    net = conv_net()
    handle = net[5].register_forward_hook(lambda module, inputs, output: 2 * output)
    with pytest.raises(ExportError, match=r"layer 5 \(Linear\) has a forward hook"):
        plan(net, frames())
    handle.remove()
    net.register_forward_pre_hook(lambda module, inputs: (2 * inputs[0],))
    with pytest.raises(ExportError, match="Sequential has a forward hook"):
        plan(net, frames())


def test_parametrized_layers_are_refused():
    net = conv_net()
    nn.utils.parametrizations.weight_norm(net[5])
    with pytest.raises(ExportError, match=r"layer 5 .*parametrized.*remove_parametrizations"):
        plan(net, frames())


def test_a_replaced_forward_is_refused():
    net = conv_net()
    net[5].forward = lambda x: x[:, :12]
    with pytest.raises(ExportError, match=r"layer 5 \(Linear\) defines forward itself"):
        plan(net, frames())


def test_a_chain_with_a_hole_is_refused():
    net = sk.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(112, 3), nn.Identity()), sk.LIF())
    net[1].register_module("1", None)
    with pytest.raises(ExportError, match=r"layer 1\.1 is None.*nn\.Identity"):
        plan(net, frames())
