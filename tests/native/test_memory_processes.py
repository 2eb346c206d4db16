"""Memory that is used again, across processes: forks, shared tensors, the end of the interpreter."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import warnings

import pytest
import torch

from spikekit.native import memory
from spikekit.native.memory import empty

SHAPE = (4, 8, 1 << 13)  # 1 MiB of float32


def script(code, **environment):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "faulthandler", "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def in_a_fork(work):
    """Exit code of `work` in a forked process."""

    def single():
        # Torch's own loops wait for ever in a forked process for threads that only the parent has.
        torch.set_num_threads(1)
        work()

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
        child = multiprocessing.get_context("fork").Process(target=single)
        child.start()
    child.join(60)
    return child.exitcode


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_a_forked_process_has_memory_of_its_own():
    unused, y = (empty(SHAPE, torch.float32).zero_() for _ in range(2))
    del unused

    def work():
        y.fill_(1)
        empty(SHAPE, torch.float32).fill_(1)

    with memory.store._lock:  # another thread's, at the moment of the fork
        assert in_a_fork(work) == 0
    assert not y.any()
    assert not empty(SHAPE, torch.float32).any()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_a_tensor_may_be_shared_with_another_process():
    y = empty(SHAPE, torch.float32).fill_(1)
    y.share_memory_()
    assert y.is_shared()
    assert in_a_fork(lambda: y.fill_(2)) == 0
    # Its first piece went back to the store, and has nothing to do with it any more.
    other = empty(SHAPE, torch.float32).fill_(9)
    assert bool((y == 2).all())
    assert bool((other == 9).all())


def test_the_interpreter_ends_quietly_with_tensors_alive():
    script(
        "import torch\n"
        "from spikekit.native import empty\n"
        "import builtins, threading\n"
        "a = empty((1 << 20,), torch.float32).fill_(1)\n"
        "builtins.kept = empty((1 << 20,), torch.float32).requires_grad_() * 2\n"
        "torch.kept = [builtins.kept.sum(), empty((1 << 20,), torch.float32)]\n"
        "cycle = [empty((1 << 20,), torch.float32)]; cycle.append(cycle)\n"
        "del a\n"
        "local = threading.local(); local.y = empty((1 << 20,), torch.float32)\n"
    )


def test_the_limit_zero_holds_in_a_process():
    out = script(
        "import torch, spikekit as sk\n"
        "from spikekit.native.memory import store\n"
        "y = sk.LIF()(torch.ones(4, 4, 1 << 16))\n"
        "print(int(y.sum()), store._lent, store.unused)",
        SPIKEKIT_KEEP_MB="0",
    )
    assert out.split(maxsplit=1)[1].strip() == "{} 0"
