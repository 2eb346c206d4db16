"""MPBN(sync=True): several processes, each with a part of the batch, are one with the whole of it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import spikekit as sk
from spikekit.errors import InputError
from spikekit.ops import paths
from spikekit.ops.mpbn import sync

# How the batch is shared out.
PARTS = {"even": (4, 4), "uneven": (1, 7), "three": (2, 5, 1)}
CLOSE = {torch.float64: {"rtol": 1e-10, "atol": 1e-12}, torch.float32: {"rtol": 1e-5, "atol": 1e-6}}


@pytest.fixture
def path():
    yield paths.set_path
    paths.set_path("auto")


def network(shape=6, reset="soft", dtype=torch.float64, **settings):
    """A convolution, a layer that learns all it can, and a second norm behind it."""
    return sk.Sequential(
        nn.Conv2d(2, 6, 3, padding=1),
        sk.LIF(0.6, 0.4, reset, norm=sk.MPBN(shape, momentum=0.3, **settings), learn=("beta", "threshold")),
        nn.Flatten(),
        nn.Linear(6 * 12, 5),
        sk.LIF(0.5, 0.3, norm=sk.MPBN(5)),
    ).to(dtype)


def synchronised(net):
    for module in net.modules():
        if isinstance(module, sk.MPBN):
            module.sync = True
    return net


def pass_both_ways(net, x, weight):
    """Output, gradients of x and the parameters, and buffers."""
    x = x.clone().requires_grad_()
    y, state = sk.run(net, x)
    loss = (y * weight).sum() + sum((entry["v"] * entry["v"]).sum() for entry in state.values())
    grads = torch.autograd.grad(loss, [x, *net.parameters()])
    return y.detach(), grads[0], grads[1:], list(net.buffers())


def check(net, x, parts, in_processes):
    """Outputs and gradients of x part by part, those of parameters as a sum, running statistics in every process."""
    weight = torch.randn(len(x), x.shape[1], 5, dtype=x.dtype)
    nets = [synchronised(copy.deepcopy(net)) for _ in parts]
    xs, weights = x.split(parts, 1), weight.split(parts, 1)
    found, collectives = in_processes(lambda rank: pass_both_ways(nets[rank], xs[rank], weights[rank]), len(parts))
    y, g_x, grads, buffers = pass_both_ways(net, x, weight)
    assert 0 < y.mean() < 1
    close = CLOSE[x.dtype]
    assert torch.equal(torch.cat([one[0] for one in found], 1), y)
    torch.testing.assert_close(torch.cat([one[1] for one in found], 1), g_x, **close)
    for index, wanted in enumerate(grads):
        scale = wanted.abs().max().item()
        torch.testing.assert_close(sum(one[2][index] for one in found) / scale, wanted / scale, **close)
    for one in found:
        torch.testing.assert_close(one[3], buffers, **close)
        assert all(map(torch.equal, one[3], found[0][3]))
    return collectives


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
@pytest.mark.parametrize("shape", [6, (6, 4, 3)], ids=str)
@pytest.mark.parametrize("dtype", CLOSE, ids=str)
def test_equal_to_one_process_with_the_whole_batch(parts, reset, shape, dtype, in_processes):
    x = torch.randn(5, 8, 2, 4, 3, dtype=dtype) + 0.2
    collectives = check(network(shape, reset, dtype), x, PARTS[parts], in_processes)
    # One a step and direction in each of the two layers.
    assert collectives == 2 * 2 * len(x)


@pytest.mark.parametrize("settings", [{"affine": False}, {"positive": True}], ids=str)
def test_settings(settings, in_processes):
    check(network(**settings), torch.randn(4, 8, 2, 4, 3, dtype=torch.float64), (3, 5), in_processes)


def test_the_reference_says_the_same(in_processes, path):
    path("reference")
    check(network(), torch.randn(4, 8, 2, 4, 3, dtype=torch.float64), (3, 5), in_processes)


def test_a_large_offset_keeps_its_variance(in_processes):
    x = torch.randn(1, 4096, 3) * 0.01 + torch.linspace(900, 1100, 4096)[:, None].round()
    nets = [sk.LIF(norm=sk.MPBN(3, momentum=1, sync=True)) for _ in range(2)]
    in_processes(lambda rank: nets[rank](x[:, rank::2]), 2)
    for net in nets:
        torch.testing.assert_close(net.norm.running_var.double(), x[0].double().var(0), rtol=1e-6, atol=0)


def test_one_sample_in_each_process(in_processes):
    nets, x = [sk.LIF(norm=sk.MPBN(3, sync=True)) for _ in range(2)], torch.randn(4, 2, 3)
    found, _ = in_processes(lambda rank: nets[rank](x[:, rank : rank + 1]), 2)
    assert torch.equal(torch.cat(found, 1), sk.LIF(norm=sk.MPBN(3))(x))


def test_the_decision_is_that_of_all(in_processes):
    nets, x = [sk.LIF(norm=sk.MPBN(3, sync=True)) for _ in range(2)], torch.randn(4, 6, 3)

    def work(rank):
        part = x[:, rank::2].clone().requires_grad_()
        decision = sk.record(nets[rank], part, "norm.decision")[1]["norm.decision"]
        return decision, torch.autograd.grad(decision.square().sum(), part)[0]

    found, _ = in_processes(work, 2)
    x.requires_grad_()
    whole = sk.record(sk.LIF(norm=sk.MPBN(3)), x, "norm.decision")[1]["norm.decision"]
    (grad,) = torch.autograd.grad(whole.square().sum(), x)
    for rank, (decision, own) in enumerate(found):
        torch.testing.assert_close(decision, whole[:, rank::2])
        torch.testing.assert_close(own, grad[:, rank::2], rtol=1e-4, atol=1e-4)


def test_checkpoint_time_asks_again_in_the_backward_pass(in_processes):
    """Every process computes its pieces again at the same place, so their collectives meet."""
    net, x = network(), torch.randn(6, 8, 2, 4, 3, dtype=torch.float64)
    weight = torch.randn(6, 8, 5, dtype=torch.float64)
    nets = [sk.checkpoint_time(synchronised(copy.deepcopy(net)), 2) for _ in range(2)]
    parts, weights = x.split((3, 5), 1), weight.split((3, 5), 1)
    found, collectives = in_processes(lambda rank: pass_both_ways(nets[rank], parts[rank], weights[rank]), 2)
    y, g_x, grads, buffers = pass_both_ways(net, x, weight)
    assert torch.equal(torch.cat([one[0] for one in found], 1), y)
    torch.testing.assert_close(torch.cat([one[1] for one in found], 1), g_x)
    for index, wanted in enumerate(grads):
        torch.testing.assert_close(sum(one[2][index] for one in found), wanted)
    for one in found:
        torch.testing.assert_close(one[3], buffers)
    # Two layers: forward, forward again, back.
    assert collectives == 3 * 2 * len(x)


def test_eval_mode_asks_nobody(in_processes):
    net = sk.LIF(norm=sk.MPBN(3, sync=True)).eval()
    assert in_processes(lambda rank: net(torch.randn(4, 1 + rank, 3)).shape, 2)[1] == 0


def test_without_sync_each_keeps_to_itself(in_processes):
    nets, x = [sk.LIF(norm=sk.MPBN(3)) for _ in range(2)], torch.randn(4, 6, 3)
    found, collectives = in_processes(lambda rank: nets[rank](x[:, rank::2]), 2)
    assert collectives == 0
    assert torch.equal(found[1], sk.LIF(norm=sk.MPBN(3))(x[:, 1::2]))


def test_other_lengths_are_refused_by_all(in_processes):
    nets = [sk.LIF(norm=sk.MPBN(3, sync=True)) for _ in range(2)]

    def work(rank):
        with pytest.raises(InputError, match=r"sequences of different lengths, T = \[3, 4\]"):
            nets[rank](torch.randn(3 + rank, 2, 3))

    in_processes(work, 2)


def test_alone_it_is_the_ordinary_layer(monkeypatch):
    """No process group, or a group of one: no collective, and the kernels serve."""
    net, twin, x = sk.LIF(norm=sk.MPBN(3, sync=True)), sk.LIF(norm=sk.MPBN(3)), torch.randn(4, 5, 3)
    monkeypatch.setattr(sync, "moments", None)
    for size in (None, 1):
        if size is not None:
            monkeypatch.setattr(sync.dist, "is_initialized", lambda: True)
            monkeypatch.setattr(sync.dist, "get_world_size", lambda: 1)
        assert sync.processes() == 1
        assert torch.equal(net(x), twin(x))
    with pytest.raises(InputError, match=r"MPBN\(3, sync=True\): in train mode .* B = 1"):
        net(x[:, :1])


def test_it_is_told_and_copied():
    net = sk.LIF(norm=sk.MPBN(3, sync=True))
    assert "sync=True" in repr(copy.deepcopy(net))
    assert list(net.state_dict()) == list(sk.LIF(norm=sk.MPBN(3)).state_dict())
