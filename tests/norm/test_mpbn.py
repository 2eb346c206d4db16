"""`sk.MPBN` in a neuron: its statistics, its state, and everything a network with it must still do."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import InputError
from spikekit.ops import paths
from spikekit.train.fingerprint import fingerprint, first_difference


def conv(shape=6, **settings):
    return sk.Sequential(
        nn.Conv2d(2, 6, 3, padding=1),
        sk.LIF(0.25, 0.5, "hard", norm=sk.MPBN(shape, **settings)),
        nn.Flatten(),
        nn.Linear(6 * 16, 3),
        sk.LIF(0.5, norm=sk.MPBN(3)),
        sk.LI(),
    )


def clip(steps=6, batch=5):
    return torch.randn(steps, batch, 2, 4, 4)


def buffers(net):
    return {name: value.clone() for name, value in net.named_buffers()}


@pytest.mark.parametrize("shape", [(7, 5, 3), (4, 2, 3, 5, 2)], ids=str)
def test_running_statistics_are_those_of_batch_norm_called_once_a_step(shape):
    lif = sk.LIF(norm=sk.MPBN(3, momentum=0.3))
    bn = (nn.BatchNorm1d if len(shape) == 3 else nn.BatchNorm2d)(3, momentum=0.3)
    for _ in range(2):
        _, seen = sk.record(lif, torch.randn(shape) + 1, "membrane")
        for u in seen["membrane"]:
            bn(u.detach())
    for name, value in bn.named_buffers():
        torch.testing.assert_close(getattr(lif.norm, name), value, msg=name)
    assert int(lif.norm.num_batches_tracked) == 2 * shape[0]


def test_state_has_the_names_of_batch_norm():
    assert list(sk.MPBN(3).state_dict()) == list(nn.BatchNorm1d(3).state_dict())


@pytest.mark.parametrize("shape", [6, (6, 4, 3)], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_the_decision_is_recorded(shape, training):
    lif = sk.LIF(0.25, 0.5, "hard", detach_reset=True, norm=sk.MPBN(shape)).train(training)
    bn = nn.BatchNorm1d(lif.norm.bias.numel()).train(training)
    with torch.no_grad():
        for value in lif.norm.weight, lif.norm.bias, lif.norm.running_mean, lif.norm.running_var:
            value.uniform_(0.2, 1)
    bn.load_state_dict({name: value.flatten().clone() for name, value in lif.norm.state_dict().items()}, strict=False)
    _, seen = sk.record(lif, torch.randn(5, 8, 6, 4, 3), ["membrane", "norm.decision", "spikes"])
    u, m = seen["membrane"], seen["norm.decision"]
    assert torch.equal((m > 0.5).float(), seen["spikes"])
    assert 0 < seen["spikes"].mean() < 1
    for u_t, m_t in zip(u, m, strict=True):
        torch.testing.assert_close(m_t, bn(u_t.flatten(1 if bn.num_features == 72 else 2)).view_as(m_t))
    (grad,) = torch.autograd.grad(m.sum(), lif.norm.bias)
    torch.testing.assert_close(grad, torch.full_like(grad, m.numel() / grad.numel()))


def test_the_reset_acts_on_the_membrane_itself():
    """Charge is conserved by soft reset, whatever decides: Σ beta^(T-t) x[t] = v[T] + q Σ beta^(T-t) s[t]."""
    lif = sk.LIF(0.8, 0.3, reset_quantum=0.7, norm=sk.MPBN(4)).double()
    x = torch.randn(20, 6, 4, dtype=torch.float64)
    spikes, state = sk.run(lif, x)
    decay = lif.beta ** torch.arange(19, -1, -1)
    left = (decay[:, None, None] * (x - lif.reset_quantum * spikes)).sum(0)
    assert 0 < spikes.mean() < 1
    torch.testing.assert_close(left, state[""]["v"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("path", ["auto", "torch", "reference"])
def test_chunked_is_whole(training, path):
    whole = conv().train(training)
    pieces, x = copy.deepcopy(whole), clip(7)
    try:
        paths.set_path(path)
        expected, expected_state = sk.run(whole, x)
        first, state = sk.run(pieces, x[:3])
        second, state = sk.run(pieces, x[3:], state)
    finally:
        paths.set_path("auto")
    # The convolution may sum in another order on other sizes; what follows must not differ otherwise.
    torch.testing.assert_close(torch.cat([first, second]), expected)
    torch.testing.assert_close(state, expected_state)
    torch.testing.assert_close(buffers(pieces), buffers(whole))


def test_chunked_is_whole_to_the_last_bit():
    whole = sk.LIF(norm=sk.MPBN(5))
    pieces, x = copy.deepcopy(whole), torch.randn(9, 8, 5)
    expected, expected_state = sk.run(whole, x)
    first, state = sk.run(pieces, x[:4])
    second, state = sk.run(pieces, x[4:], state)
    assert torch.equal(torch.cat([first, second]), expected)
    assert torch.equal(*(next(iter(s.values()))["v"] for s in (state, expected_state)))
    for name, value in whole.named_buffers():
        assert torch.equal(pieces.get_buffer(name), value), name


def test_checkpoint_time_gives_the_same_gradients_and_statistics():
    net = conv().double()
    twin, x = copy.deepcopy(net), clip().double()
    net(x).square().sum().backward()
    sk.checkpoint_time(twin, 2)(x).square().sum().backward()
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)
    for name, value in net.named_buffers():
        torch.testing.assert_close(twin.get_buffer(name), value)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
@pytest.mark.parametrize("settings", [{}, {"positive": True}, {"affine": False}, {"eps": 1e-3}], ids=str)
def test_copies_and_state_dict(clone, settings):
    net, x = conv(**settings), clip()
    net(x).sum().backward()
    twin = clone(net)
    assert repr(twin) == repr(net)
    fresh = conv(**settings)
    fresh.load_state_dict(net.state_dict())
    for other in (twin, fresh):
        for mode in (False, True):
            assert torch.equal(other.train(mode)(x), copy.deepcopy(net).train(mode)(x))
        for (name, a), b in zip(net.named_buffers(), other.buffers(), strict=True):
            assert a.data_ptr() != b.data_ptr(), name


def test_positive_weight():
    norm = sk.MPBN((3, 2), positive=True)
    torch.testing.assert_close(norm.weight, torch.ones(3, 2))
    with torch.no_grad():
        norm.weight_raw.fill_(-4)
    assert bool((norm.weight > 0).all())
    sk.LIF(norm=norm)(torch.randn(4, 5, 3, 2)).sum().backward()
    assert bool((norm.weight_raw.grad != 0).any())
    assert "weight_raw" in norm.state_dict()


def test_without_affine():
    lif = sk.LIF(norm=sk.MPBN(3, affine=False))
    assert list(lif.norm.parameters()) == []
    twin = sk.LIF(norm=sk.MPBN(3))
    x = torch.randn(4, 5, 3)
    assert torch.equal(lif(x), twin(x))


def test_without_a_norm_nothing_is_there():
    lif = sk.LIF()
    assert lif.norm is None
    assert list(lif.state_dict()) == ["beta", "threshold"]
    assert "norm" not in repr(lif)
    assert [name for name, _ in lif.named_modules()] == [""]


def test_every_gradient_reaches_a_learned_neuron():
    lif = sk.LIF(torch.rand(3), torch.rand(3) + 0.2, norm=sk.MPBN(3), learn=("beta", "threshold"))
    lif(torch.randn(6, 8, 3)).sum().backward()
    assert all(bool((p.grad != 0).any()) for p in lif.parameters())


def test_integrate_and_fire_takes_a_norm():
    assert sk.IF(norm=sk.MPBN(3))(torch.randn(4, 5, 3)).shape == (4, 5, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": 0}, "channels or the shape of the neurons, ints > 0, got 0"),
        ({"shape": "6"}, "ints > 0, got '6'"),
        ({"shape": (3, 0)}, "ints > 0, got \\(3, 0\\)"),
        ({"shape": ()}, "ints > 0, got \\(\\)"),
        ({"shape": True}, "ints > 0, got True"),
        ({"shape": 3, "eps": 0}, "eps must be a number greater than 0, got 0"),
        ({"shape": 3, "eps": float("nan")}, "eps must be a number greater than 0, got nan"),
        ({"shape": 3, "momentum": 1.5}, "momentum must be a number between 0 and 1, got 1.5"),
        ({"shape": 3, "momentum": None}, "momentum must be a number between 0 and 1, got None"),
        ({"shape": 3, "positive": True, "affine": False}, "affine=False leaves out"),
    ],
    ids=str,
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        sk.MPBN(**arguments)


@pytest.mark.parametrize(
    ("norm", "shape", "message"),
    [
        (sk.MPBN(4), (3, 2, 5), r"MPBN\(4\): it normalises 4 channels \(axis 2\), the drive .* \(3, 2, 5\)"),
        (sk.MPBN(4), (3, 2), r"MPBN\(4\): it normalises 4 channels \(axis 2\), the drive .* \(3, 2\)"),
        (sk.MPBN((4, 2)), (3, 2, 4), r"it normalises the neurons \(4, 2\) \(axes 2 and on\), .* \(3, 2, 4\)"),
        (sk.MPBN(4), (3, 1, 4), r"MPBN\(4\): in train mode .* B = 1 \(axis 1\)"),
        (sk.MPBN((4, 2)), (3, 1, 4, 2), r"in train mode .* B = 1 \(axis 1\)"),
    ],
)
def test_bad_drives(norm, shape, message):
    lif = sk.LIF(norm=norm)
    with pytest.raises(InputError, match=message):
        lif(torch.randn(shape))
    assert int(norm.num_batches_tracked) == 0


def test_one_sample_with_space_or_in_eval_mode():
    assert sk.LIF(norm=sk.MPBN(3))(torch.randn(4, 1, 3, 2, 2)).shape == (4, 1, 3, 2, 2)
    assert sk.LIF(norm=sk.MPBN(3)).eval()(torch.randn(4, 1, 3)).shape == (4, 1, 3)


def test_other_norms_and_other_uses_are_refused():
    with pytest.raises(InputError, match=r"LIF: norm must be an sk.MPBN or None, got BatchNorm1d"):
        sk.LIF(norm=nn.BatchNorm1d(3))
    with pytest.raises(InputError, match=r"MPBN\(3\) is a part of a neuron"):
        sk.Sequential(nn.Linear(4, 3), sk.MPBN(3))(torch.randn(2, 3, 4))


def test_a_checkpoint_tells_the_settings():
    assert first_difference(fingerprint(conv()), fingerprint(conv(eps=1e-3))) is not None
    assert first_difference(fingerprint(conv()), fingerprint(conv())) is None


def test_a_step_of_training_between_an_eval_pass_and_its_gradient():
    net = sk.LIF(norm=sk.MPBN(5)).eval()
    x = torch.randn(4, 6, 5, requires_grad=True)
    (expected,) = torch.autograd.grad(net(x).sum(), x)
    y = net(x)
    net.train()(torch.randn(4, 6, 5))
    assert torch.equal(torch.autograd.grad(y.sum(), x)[0], expected)
