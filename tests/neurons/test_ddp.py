"""Two processes under DistributedDataParallel: the gradients of one process on the whole batch."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

import spikekit as sk

WORKER = """
    import os, sys, torch, torch.distributed as dist, spikekit as sk
    from torch import nn
    rank, folder = int(sys.argv[1]), sys.argv[2]
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    net, x = torch.load(f"{folder}/task.pt", weights_only=False)
    ddp = nn.parallel.DistributedDataParallel(net)
    part = x[:, rank::2]
    first, state = sk.run(ddp, part[:3])
    second, _ = sk.run(ddp, part[3:], state)
    torch.cat([first, second]).square().mean().backward()
    torch.save([p.grad for p in net.parameters()], f"{folder}/{rank}.pt")
    dist.barrier()
    # At once: gloo, once in some runs, aborts an interpreter that ends in the usual way.
    os._exit(0)
"""


@pytest.mark.slow
def test_gradients_of_two_processes(tmp_path):
    net = sk.Sequential(
        nn.Linear(5, 6), sk.LIF(learn=("beta", "threshold")), nn.Linear(6, 3), sk.LI(learn="beta")
    ).double()
    x = torch.randn(6, 8, 5, dtype=torch.float64)
    torch.save((net, x), tmp_path / "task.pt")
    command = [sys.executable, "-c", textwrap.dedent(WORKER)]
    workers = [
        subprocess.Popen([*command, str(rank), str(tmp_path)], stderr=subprocess.PIPE, text=True) for rank in range(2)
    ]
    errors = [worker.communicate(timeout=200)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors
    net(x).square().mean().backward()
    for rank in range(2):
        grads = torch.load(tmp_path / f"{rank}.pt")
        for parameter, grad in zip(net.parameters(), grads, strict=True):
            torch.testing.assert_close(grad, parameter.grad, rtol=1e-9, atol=1e-12)
