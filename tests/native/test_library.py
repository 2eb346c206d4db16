"""Kernels: trusted after a self-test only, whatever the first call comes from; everything at first use, once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import spikekit as sk
from spikekit.native import Kernels, compile, library, threads_for
from spikekit.native.compile import CompileError


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKEKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(compile, "_EXTRA_FLAGS", ((),))
    source = tmp_path / "seven.c"
    source.write_text("int seven(void) { return 7; }\n")
    return source


def fine(dtype):
    """A self-test like an operation's: random numbers, gradients, comparisons."""
    x = torch.randn(3, dtype=dtype, requires_grad=True)
    (g,) = torch.autograd.grad((x.exp() @ x), x)
    assert type(g) is torch.Tensor
    assert g.device.type == "cpu"
    assert g.dtype == dtype
    assert torch.equal(g, torch.autograd.grad((x.exp() @ x), x)[0])


def test_nothing_happens_before_the_first_call(source, tmp_path):
    kernels = Kernels(source, fine)
    assert kernels.compiled(torch.float32) is None
    assert [path.name for path in tmp_path.iterdir()] == ["seven.c"]
    assert kernels.trusted(torch.float32)
    assert kernels.library(torch.float32).seven() == 7
    assert kernels.compiled(torch.float32).path.parent == tmp_path / "native"


def test_importing_and_building_a_network_loads_no_compiler(tmp_path):
    code = (
        "import sys, spikekit as sk; sk.LIF(); from spikekit.ops.lif.cpu import KERNELS\n"
        "assert not KERNELS._libraries and not KERNELS._refusals\n"
    )
    environment = os.environ | {"SPIKEKIT_CACHE": str(tmp_path / "none"), "CC": "nonsense"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "none").exists()


def test_one_verdict_for_each_dtype(source):
    seen = []

    def test(dtype):
        seen.append(dtype)
        if dtype == torch.float64:
            raise ArithmeticError("other spikes")

    kernels = Kernels(source, test)
    for _ in range(2):
        assert kernels.trusted(torch.float32)
        assert not kernels.trusted(torch.float64)
        assert kernels.refusal(torch.float64) == "self-test failed: ArithmeticError: other spikes"
        assert kernels.refusal(torch.float16) == "no kernels for torch.float16"
    assert seen == [torch.float32, torch.float64]


def test_what_does_not_compile_or_load_is_refused_with_the_reason(source, monkeypatch):
    source.write_text("nonsense")
    broken = Kernels(source, fine)
    assert "error" in broken.refusal(torch.float32)
    with pytest.raises(CompileError, match="error"):
        broken.library(torch.float32)
    source.write_text("int missing(void); int seven(void) { return missing(); }\n")
    assert "do not load" in Kernels(source, lambda dtype: None).refusal(torch.float32)
    source.write_text("int eight(void) { return 8; }\n")
    lacking = Kernels(source, lambda dtype: lacking.library(dtype).seven())
    assert "self-test failed: AttributeError" in lacking.refusal(torch.float32)


def test_the_self_test_may_use_the_operation_that_asks_for_it(source):
    def test(dtype):
        assert kernels.trusted(dtype)
        assert kernels.library(dtype).seven() == 7

    kernels = Kernels(source, test)
    assert kernels.refusal(torch.float32) == ""


def test_many_threads_at_once_test_once(source):
    count = []
    barrier = threading.Barrier(8)
    kernels = Kernels(source, lambda dtype: count.append(dtype))

    def work(_):
        barrier.wait()
        return kernels.trusted(torch.float32) and kernels.library(torch.float32).seven()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [7] * 8
    assert len(count) == 1


MODES = {
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "fake tensors": FakeTensorMode,
    "another device": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "saved tensors": lambda: torch.autograd.graph.saved_tensors_hooks(lambda t: t * 2, lambda t: t),
    "anomaly": torch.autograd.detect_anomaly,
}


@pytest.mark.filterwarnings("ignore:Anomaly Detection:UserWarning")
@pytest.mark.parametrize("mode", MODES)
def test_the_first_call_may_come_from_anywhere(source, mode):
    before = torch.get_rng_state()
    with MODES[mode]():
        kernels = Kernels(source, fine)
        assert kernels.refusal(torch.float32) == ""
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def fresh(monkeypatch):
    """The kernels of the LIF as in a process that never called them."""
    from spikekit.ops.lif import cpu

    kernels = Kernels(cpu.KERNELS.source, cpu._self_test)
    monkeypatch.setattr(cpu, "KERNELS", kernels)
    return kernels


def used(kernels):
    return kernels._refusals == {torch.float32: ""}


def test_first_use_in_a_graph_of_torch_compile(fresh):
    torch._dynamo.reset()
    x = torch.randn(4, 2, 3)
    assert torch.equal(torch.compile(sk.LIF(), fullgraph=True, backend="aot_eager")(x), sk.LIF()(x))
    assert used(fresh)
    torch._dynamo.reset()


def test_first_use_under_torch_export(fresh):
    x = torch.randn(4, 2, 3)
    program = torch.export.export(sk.LIF(), (x,), strict=False)
    assert torch.equal(program.module()(x), sk.LIF()(x))
    assert used(fresh)


def test_first_use_in_a_piece_that_is_computed_again(fresh):
    x = torch.randn(6, 2, 3, requires_grad=True)
    net = sk.LIF()
    (grad,) = torch.autograd.grad(sk.checkpoint_time(net, 2)(x).sum(), x)
    assert used(fresh)
    assert torch.equal(grad, torch.autograd.grad(net(x).sum(), x)[0])


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_first_use_without_gradients(fresh, mode):
    x = torch.randn(4, 2, 3)
    with mode():
        y = sk.LIF()(x)
    assert used(fresh)
    leaf = x.clone().requires_grad_()
    assert torch.equal(sk.LIF()(leaf), y)
    assert torch.autograd.grad(sk.LIF()(leaf).sum(), leaf)[0].any()


def test_kernels_that_are_refused_leave_the_numbers_as_they_are(monkeypatch, fresh):
    x = torch.randn(8, 2, 3, requires_grad=True)
    y = sk.LIF()(x)
    (grad,) = torch.autograd.grad(y.sum(), x)
    monkeypatch.setitem(fresh._refusals, torch.float32, "because")
    z = sk.LIF()(x)
    assert type(z.grad_fn).__name__ == "Backward_lifBackward"
    assert torch.equal(z, y)
    torch.testing.assert_close(torch.autograd.grad(z.sum(), x)[0], grad)


def test_small_work_and_forked_processes_get_one_thread(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert [threads_for(1), threads_for(1 << 20)] == [1, 3]
    monkeypatch.setattr(library, "_forked", True)
    assert threads_for(1 << 20) == 1


# In processes of their own: threads of OpenMP, once there, stay.
FORK = """
import os, sys, time, torch, spikekit as sk
torch.set_num_threads(2)
x = torch.randn(16, 8, 4096)
if {before}:
    sk.LIF()(x)
    (x + 1).exp()
pid = os.fork()
if pid == 0:
    with torch.no_grad():
        y = sk.ops.lif.lif(x, None, *(torch.tensor(v) for v in (0.9, 1.0, 1.0)), sk.LIF().rule)[0]
    os._exit(0 if y.shape == x.shape else 3)
for _ in range(600):
    ended, status = os.waitpid(pid, os.WNOHANG)
    if ended:
        sys.exit(os.waitstatus_to_exitcode(status))
    time.sleep(0.1)
os.kill(pid, 9)
sys.exit("the forked process hangs")
"""


def script(code, *arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
@pytest.mark.parametrize("before", [True, False], ids=["used before", "first use in the fork"])
def test_a_forked_process_does_not_hang(before):
    script(FORK.format(before=before), OMP_NUM_THREADS="2")


class Spikes(torch.utils.data.Dataset):
    """Recordings that are made by a neuron, in the workers of a loader."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        with torch.no_grad():
            return sk.LIF()(torch.full((16, 8, 4096), float(index)))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_workers_of_a_loader():
    expected = torch.stack([Spikes()[index] for index in range(4)])
    loader = torch.utils.data.DataLoader(Spikes(), batch_size=4, num_workers=2, timeout=60)
    assert torch.equal(next(iter(loader)), expected)


PROCESS = """
import sys, torch
from pathlib import Path
from spikekit.native import Kernels
kernels = Kernels(Path(sys.argv[1]), lambda dtype: None)
print(kernels.library(torch.float32).seven(), kernels.compiled(torch.float32).path.name)
"""


def test_two_processes_at_once_compile_once(source, tmp_path):
    count = tmp_path / "count"
    count.mkdir()
    compiler = tmp_path / "cc"
    compiler.write_text(f'#!/bin/sh\nmktemp -p {count} >/dev/null\nsleep 1\nexec gcc "$@"\n')
    compiler.chmod(0o755)
    with ThreadPoolExecutor(2) as pool:
        outputs = list(pool.map(lambda _: script(PROCESS, str(source), CC=str(compiler)), range(2)))
    assert outputs[0] == outputs[1]
    assert outputs[0].startswith("7 seven-float-")
    assert len(list(count.iterdir())) == 1


def test_first_use_in_a_thread_while_the_interpreter_ends():
    script(
        "import threading, torch, spikekit as sk\n"
        "threading.Thread(target=lambda: sk.LIF()(torch.ones(3, 2, 4))).start()\n"
    )
