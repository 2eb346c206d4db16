"""The second tier: Inductor, and two processes under DistributedDataParallel."""

from __future__ import annotations

import copy
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

import spikekit as sk

pytestmark = pytest.mark.slow


# Inductor imports torch's own deprecated scripting.
@pytest.mark.filterwarnings("ignore:.torch.jit.*is deprecated:DeprecationWarning")
@pytest.mark.parametrize("shape", [3, (3, 4, 4)], ids=str)
def test_inductor_and_other_lengths(shape):
    net = sk.Sequential(
        nn.Conv2d(2, 3, 3), sk.LIF(norm=sk.MPBN(shape, positive=True)), nn.Flatten(), nn.Linear(48, 4), sk.LI(0.7)
    )
    twin = copy.deepcopy(net)
    compiled = torch.compile(twin, fullgraph=True)
    for steps, batch in ((5, 2), (3, 4), (8, 3)):
        x = torch.randn(steps, batch, 2, 6, 6)
        ours, theirs = net(x), compiled(x)
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)
        ours.square().sum().backward()
        theirs.square().sum().backward()
    for (name, p), q in zip(net.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, rtol=1e-3, atol=1e-4, msg=name)
    for (name, a), b in zip(net.named_buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5, msg=name)


WORKER = """
    import os, sys, torch, torch.distributed as dist
    from torch import nn
    rank, folder = int(sys.argv[1]), sys.argv[2]
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    net, parts, backend = torch.load(f"{folder}/task.pt", weights_only=False)
    if backend:
        net.compile(fullgraph=True, backend=backend)
    ddp = nn.parallel.DistributedDataParallel(net)
    for _ in range(2):
        net.zero_grad()
        # DDP takes the mean over processes: of losses that are sums over samples, half the sum of the whole.
        ddp(parts[rank]).square().sum().backward()
    torch.save(([p.grad for p in net.parameters()], list(net.buffers())), f"{folder}/{rank}.pt")
    dist.barrier()
    # At once: gloo, once in some runs, aborts an interpreter that ends in the usual way.
    os._exit(0)
"""


def in_two_processes(folder, net, parts, backend=""):
    """Gradients and buffers of each process after two passes."""
    torch.save((net, parts, backend), folder / "task.pt")
    command = [sys.executable, "-c", textwrap.dedent(WORKER)]
    workers = [
        subprocess.Popen([*command, str(rank), str(folder)], stderr=subprocess.PIPE, text=True) for rank in range(2)
    ]
    errors = [worker.communicate(timeout=200)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def network(sync):
    return sk.Sequential(nn.Linear(5, 6), sk.LIF(norm=sk.MPBN(6, sync=sync)), nn.Linear(6, 3), sk.LI()).double()


def test_two_processes_each_with_the_statistics_of_its_part(tmp_path):
    net, x = network(sync=False), torch.randn(6, 8, 5, dtype=torch.float64)
    found = in_two_processes(tmp_path, net, [x[:, rank::2] for rank in range(2)])
    twin = copy.deepcopy(net)
    for _ in range(2):
        twin(x[:, 0::2])
    (sum(net(x[:, rank::2]).square().sum() for rank in range(2)) / 2).backward()
    for grads, _ in found:
        for parameter, grad in zip(net.parameters(), grads, strict=True):
            torch.testing.assert_close(grad, parameter.grad, rtol=1e-9, atol=1e-12)
    # DDP hands the first process's statistics to all before a pass: its own last step is all that a second adds.
    torch.testing.assert_close(found[0][1], list(twin.buffers()), rtol=1e-12, atol=0)


@pytest.mark.parametrize("backend", ["", "aot_eager"])
def test_two_processes_with_the_statistics_of_all(backend, tmp_path):
    net, x = network(sync=True), torch.randn(6, 8, 5, dtype=torch.float64)
    found = in_two_processes(tmp_path, net, [x[:, :3], x[:, 3:]], backend)
    for _ in range(2):
        net.zero_grad()
        (net(x).square().sum() / 2).backward()
    for grads, buffers in found:
        torch.testing.assert_close(buffers, list(net.buffers()), rtol=1e-12, atol=0)
        for parameter, grad in zip(net.parameters(), grads, strict=True):
            torch.testing.assert_close(grad, parameter.grad, rtol=1e-9, atol=1e-12)
