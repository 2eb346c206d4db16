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
    net, x = torch.load(f"{folder}/task.pt", weights_only=False)
    ddp = nn.parallel.DistributedDataParallel(net)
    for _ in range(2):
        net.zero_grad()
        ddp(x[:, rank::2]).square().mean().backward()
    torch.save([p.grad for p in net.parameters()], f"{folder}/{rank}.pt")
    dist.barrier()
    # At once: gloo, once in some runs, aborts an interpreter that ends in the usual way.
    os._exit(0)
"""


def test_two_processes_each_with_the_statistics_of_its_part(tmp_path):
    net = sk.Sequential(nn.Linear(5, 6), sk.LIF(norm=sk.MPBN(6)), nn.Linear(6, 3), sk.LI()).double()
    x = torch.randn(6, 8, 5, dtype=torch.float64)
    torch.save((net, x), tmp_path / "task.pt")
    command = [sys.executable, "-c", textwrap.dedent(WORKER)]
    workers = [
        subprocess.Popen([*command, str(rank), str(tmp_path)], stderr=subprocess.PIPE, text=True) for rank in range(2)
    ]
    errors = [worker.communicate(timeout=200)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors
    (sum(net(x[:, rank::2]).square().mean() for rank in range(2)) / 2).backward()
    for rank in range(2):
        for parameter, grad in zip(net.parameters(), torch.load(tmp_path / f"{rank}.pt"), strict=True):
            torch.testing.assert_close(grad, parameter.grad, rtol=1e-9, atol=1e-12)
