"""How sk.Sequential and sk.fold_time call nn.Linear: by events where nothing listens, else as a module."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.nn.functional import linear as dense
from torch.nn.modules.module import register_module_forward_hook, register_module_full_backward_hook
from torch.nn.utils.parametrizations import weight_norm

import spikekit as sk
import spikekit.ops.conv as conv_op
import spikekit.ops.conv_lif as conv_lif_op
from spikekit import layers
from spikekit.errors import InputError
from spikekit.ops.conv import cpu as conv_cpu
from spikekit.ops.conv import events as conv_events
from spikekit.ops.conv_lif import cpu as conv_lif_cpu
from spikekit.ops.paths import set_path


@pytest.fixture
def by_events(monkeypatch):
    """The weights of the layers that were called without their module."""
    seen = []
    fast = layers.linear
    monkeypatch.setattr(layers, "linear", lambda x, w, b: seen.append(w) or fast(x, w, b))
    return seen


def test_plain_linear_layers_go_the_fast_way(by_events):
    linear = nn.Linear(6, 4)
    x = torch.randn(3, 2, 6)
    expected = dense(x, linear.weight, linear.bias)
    for net in (sk.Sequential(linear), sk.fold_time(linear), sk.Sequential(nn.Sequential(nn.Identity(), linear))):
        torch.testing.assert_close(net(x), expected)
        assert by_events.pop() is linear.weight


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def own_forward():
    layer = nn.Linear(6, 4)
    layer.forward = lambda x: x[:, :4]
    return layer


@pytest.mark.parametrize("make", [lambda: Doubled(6, 4), own_forward, lambda: weight_norm(nn.Linear(6, 4))])
def test_layers_that_do_something_else_are_called(by_events, make):
    layer = make()
    x = torch.randn(3, 2, 6)
    assert torch.equal(sk.Sequential(layer)(x), layer(x.flatten(0, 1)).unflatten(0, (3, 2)))
    assert not by_events


HOOKS = {
    "forward": lambda layer, hook: layer.register_forward_hook(hook),
    "forward pre": lambda layer, hook: layer.register_forward_pre_hook(hook),
    "backward": lambda layer, hook: layer.register_full_backward_hook(hook),
    "backward pre": lambda layer, hook: layer.register_full_backward_pre_hook(hook),
    "all forward": lambda layer, hook: register_module_forward_hook(hook),
    "all backward": lambda layer, hook: register_module_full_backward_hook(hook),
}


@pytest.mark.parametrize("kind", HOOKS)
@pytest.mark.parametrize("nested", [False, True])
def test_hooks_are_called(by_events, kind, nested):
    called = []
    layer = nn.Linear(6, 4)
    handle = HOOKS[kind](layer, lambda module, *args: called.append(module))
    try:
        net = sk.Sequential(nn.Sequential(layer) if nested else layer)
        net(torch.randn(3, 2, 6, requires_grad=True)).sum().backward()
    finally:
        handle.remove()
    assert layer in called
    assert not by_events
    net(torch.randn(3, 2, 6))
    assert by_events


def test_hooks_of_a_plain_sequential_are_called(by_events):
    called = []
    chain = nn.Sequential(nn.Linear(6, 4))
    chain.register_forward_hook(lambda *args: called.append(1))
    sk.Sequential(chain)(torch.randn(3, 2, 6))
    assert called == [1]


def test_errors_still_name_the_layer():
    net = sk.Sequential(nn.Linear(256, 256), sk.LIF(), nn.Linear(200, 4))
    with pytest.raises(InputError, match=r"^layer 2: Linear\(.*it needs 200 features on the last axis, got 256"):
        net(torch.zeros(20, 32, 256))
    with pytest.raises(InputError, match=r"^layer 0: .*float64"):
        net(torch.zeros(20, 32, 256, dtype=torch.float64))


def network():
    return sk.Sequential(nn.Linear(200, 256), sk.LIF(), nn.Linear(256, 256), sk.LIF(), nn.Linear(256, 5), sk.LI())


def test_pieces_of_a_sequence_are_the_whole():
    net, x = network(), (torch.rand(60, 32, 200) < 0.1).float()
    with torch.no_grad():
        whole = net(x)
        state, pieces = None, []
        for piece in x.split(20):
            y, state = sk.run(net, piece, state)
            pieces.append(y)
    assert torch.equal(torch.cat(pieces), whole)


def test_a_network_learns_by_events(by_events):
    torch.manual_seed(3)
    net = network()
    labels = torch.arange(30) % 5
    x = (torch.rand(25, 30, 200) < 0.02 + 0.2 * (torch.arange(200) % 5 == labels[:, None])).float()
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(net(x).mean(0), labels)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]
    assert len(by_events) == 36


@pytest.fixture
def image_events(monkeypatch):
    """Convolutions by events whatever their size and density; fails where none was made so."""
    assert conv_cpu.supports(torch.float32)
    made = []
    for module, name in ((conv_cpu, "forward"), (conv_lif_cpu, "forward")):
        forward = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, forward=forward: made.append(args[0]) or forward(*args))
    monkeypatch.setattr(conv_op, "large", lambda multiplications, gradient: True)
    for module in (conv_op, conv_events, conv_lif_op):
        monkeypatch.setattr(module, "events_pay", lambda *args, **kwargs: True)
    yield
    assert made


def convolutional(*rest):
    return sk.Sequential(nn.Conv2d(2, 16, 5, 2, 2), sk.LIF(), nn.Conv2d(16, 20, 3, padding="valid"), *rest)


def frames():
    return (torch.rand(8, 8, 2, 20, 20) < 0.05).float()


def test_plain_convolutions_go_the_fast_way(monkeypatch):
    seen = []
    fast = layers.conv2d
    monkeypatch.setattr(layers, "conv2d", lambda x, w, *rest: seen.append(w) or fast(x, w, *rest))
    x = frames()
    convs = [
        *(nn.Conv2d(2, 4, 3), nn.Conv2d(2, 4, 3, padding="valid", bias=False)),
        *(
            nn.Conv2d(2, 4, 3, groups=2),
            nn.Conv2d(2, 4, 3, padding="same"),
            nn.Conv2d(2, 4, 3, padding_mode="circular"),
        ),
    ]
    for conv in convs:
        torch.testing.assert_close(sk.Sequential(conv)(x), torch.stack([conv(step) for step in x]))
    assert [w.data_ptr() for w in seen] == [conv.weight.data_ptr() for conv in convs[:2]]


@pytest.mark.usefixtures("image_events")
@pytest.mark.parametrize("rest", [(), (sk.LIF(),), (nn.BatchNorm2d(20), nn.MaxPool2d(2)), (nn.Sequential(nn.ReLU()),)])
def test_outputs_are_contiguous_whatever_happens_inside(rest):
    net, x = convolutional(*rest), frames()
    assert net(x).is_contiguous()
    assert sk.fold_time(net[0])(x).is_contiguous()
    _, recorded = sk.record(net, x)
    assert all(spikes.is_contiguous() for spikes in recorded.values())


@pytest.mark.usefixtures("image_events")
def test_a_layer_of_the_users_sees_contiguous_images():
    class Views(nn.Module):
        def forward(self, x):
            assert x.is_contiguous()
            return x.view(len(x), -1)

    assert convolutional(Views())(frames()).shape == (8, 8, 20 * 64)


@pytest.mark.usefixtures("image_events")
def test_images_that_come_channels_last_stay_so():
    x = frames().movedim(2, -1).contiguous().movedim(-1, 2)
    y = convolutional()(x)
    assert y[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.usefixtures("image_events")
@pytest.mark.parametrize("training", [True, False])
def test_a_convolutional_network_has_torchs_numbers(training):
    net, x = convolutional(nn.BatchNorm2d(20), sk.LIF(0.8, 0.5), nn.Flatten(), nn.Linear(1280, 10)), frames()
    net.train(training)
    results = []
    for path in ("auto", "torch"):
        set_path(path)
        try:
            y = net(x)
            results.append((y, *torch.autograd.grad(y.square().mean(), list(net.parameters()))))
        finally:
            set_path("auto")
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.usefixtures("image_events")
def test_a_convolutional_network_compiles_whole():
    net, x = convolutional(sk.LIF(), nn.Flatten(), nn.Linear(1280, 10)), frames()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    y, z = net(x), compiled(x)
    torch.testing.assert_close(y, z)
    for a, b in zip(*(torch.autograd.grad(o.sum(), list(net.parameters())) for o in (y, z)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("density", [0.9, 0.02])
@pytest.mark.parametrize("layer", [nn.Linear(512, 300), nn.Conv2d(16, 32, 5)], ids=["linear", "conv"])
def test_outputs_may_be_changed_in_place_whatever_the_density(layer, density):
    shape = (10, 40, 512) if isinstance(layer, nn.Linear) else (10, 32, 16, 17, 17)
    x = (torch.rand(shape) < density).float()
    sk.Sequential(layer, nn.ReLU(inplace=True))(x).sum().backward()
    y = sk.Sequential(layer)(x)
    y[2:3] *= 3
    y.sum().backward()


@pytest.mark.usefixtures("image_events")
@pytest.mark.parametrize("density", [0.9, 0.02])
def test_a_cropped_input_comes_out_contiguous(density):
    x = (torch.rand(10, 32, 16, 21, 21) < density).float()[..., 2:19, 2:19]
    assert sk.Sequential(nn.Conv2d(16, 32, 5))(x).is_contiguous()


@pytest.mark.filterwarnings("ignore:.torch.jit.*is deprecated:DeprecationWarning")
def test_forward_mode_keeps_its_tangent():
    x = (torch.rand(10, 40, 512) < 0.05).float()
    for net in (sk.Sequential(nn.Linear(512, 300).requires_grad_(False)), sk.LIF(), sk.LI()):
        with forward_ad.dual_level():
            y = net(forward_ad.make_dual(x, torch.ones_like(x)))
            assert forward_ad.unpack_dual(y).tangent.any()


@pytest.mark.usefixtures("image_events")
@pytest.mark.parametrize(
    "behind", [nn.BatchNorm2d(20), nn.AvgPool2d(2), sk.LIF()], ids=lambda layer: type(layer).__name__
)
def test_hooks_see_images_as_torch_lays_them_out(behind):
    net, seen = convolutional(behind), []
    with torch.no_grad():
        handle = behind.register_forward_hook(lambda layer, inputs, output: seen.extend((*inputs, output)))
        net(frames())
        handle.remove()
    assert all(images.is_contiguous() for images in seen)
    assert len(seen) == 2


def test_convolutions_work_under_vmap_and_with_fake_tensors():
    net, x = convolutional(sk.LIF()), frames()
    with torch.no_grad():
        mapped = torch.func.vmap(net)(torch.stack([x, x]))
        torch.testing.assert_close(mapped[1], net(x))
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            assert net(mode.from_tensor(x)).shape == mapped.shape[1:]
