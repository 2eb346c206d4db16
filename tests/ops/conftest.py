"""One way to set a fast path beside its reference: same inputs, forward bit for bit, every gradient close."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
import torch

import spikekit as sk
from spikekit import sequential
from spikekit.export.lava.worker import shim
from spikekit.ops import paths
from spikekit.ops.lif import reference, step
from tests.ops.layouts import channels_last, expanded

# Relative to the largest gradient; half precision rounds the gradient of x once more, on the way out.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def gradients(function, inputs, weights):
    """Outputs of `function`, and the gradients of a weighted sum of all of them for every input that wants one."""
    leaves = [None if a is None else a.detach().requires_grad_() for a in inputs]
    outputs = function(*leaves)
    outputs = (outputs,) if isinstance(outputs, torch.Tensor) else outputs
    loss = sum((y.double() * w).sum() for y, w in zip(outputs, weights, strict=True) if w is not None)
    wanted = [leaf for leaf in leaves if leaf is not None]
    return outputs, torch.autograd.grad(loss, wanted, allow_unused=True)


@pytest.fixture
def equal_to_reference():
    """Check `fast` against `reference`: both take `inputs`; `use` says which outputs the loss reads."""

    def check(fast, reference, inputs, use=(True, True, True)):
        with torch.no_grad():
            shapes = reference(*inputs)
        shapes = (shapes,) if isinstance(shapes, torch.Tensor) else shapes
        weights = [
            torch.randn(y.shape, dtype=torch.float64).to(y.device) if used else None
            for y, used in zip(shapes, use, strict=False)
        ]
        outputs, grads = gradients(fast, inputs, weights)
        expected, expected_grads = gradients(reference, inputs, weights)
        for y, z in zip(outputs, expected, strict=True):
            assert y.dtype == z.dtype
            assert torch.equal(y, z)
        tolerance = TOLERANCE[inputs[0].dtype]
        for index, (g, h) in enumerate(zip(grads, expected_grads, strict=True)):
            # A reference that does not use an input at all says None where a kernel says zero.
            h = torch.zeros_like(g) if h is None else h
            assert g.dtype == h.dtype
            assert g.shape == h.shape
            scale = max(float(h.abs().max()), 1e-3)
            assert float((g - h).abs().max()) <= tolerance * scale, f"gradient of input {index}"
        return outputs, grads

    return check


@pytest.fixture(params=["auto", pytest.param("torch", id="plain_torch")])
def path(request):
    """Both fast paths: the C kernels, and plain torch."""
    paths.set_path(request.param)
    yield request.param
    paths.set_path("auto")


@pytest.fixture(params=[torch.clone, channels_last, expanded], ids=["contiguous", "channels last", "expanded"])
def layout(request):
    """What lays a drive [T, B, C, ...] out in memory as a loader or a layer may leave it."""
    return request.param


@pytest.fixture
def smooth_spike(monkeypatch):
    """Put the antiderivative of a surrogate in the place of the step, for finite differences, on the path of torch."""

    def smooth(curve):
        monkeypatch.setattr(reference, "fire", lambda u, threshold, rule: curve.antiderivative(u - threshold))
        monkeypatch.setattr(
            step, "spike", lambda u, threshold, inclusive, out: out.copy_(curve.antiderivative(u - threshold))
        )
        monkeypatch.setattr(paths, "_choice", "torch")
        return curve

    return smooth


@pytest.fixture
def triton_device(monkeypatch):
    """Where Triton kernels are tested: the GPU, or the CPU in Triton's interpreter, with the path set to it."""
    pytest.importorskip("triton")
    if torch.cuda.is_available():
        yield "cuda"
        return
    # Triton reads the setting when it decorates a kernel: at the first use of an operation, which is in these tests.
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    paths.set_path("triton")
    yield "cpu"
    paths.set_path("auto")


@pytest.fixture
def always_fused(monkeypatch):
    """Make one-pass kernels run whatever the size and density; gives the shapes of the inputs that they were given.

    cpu: the module with the kernel; gate: the one that asks for the size; choosers: those that ask whether events pay.
    """

    def watch(cpu, gate, *choosers):
        for dtype in (torch.float32, torch.float64):
            assert cpu.supports(dtype)  # and its self-test is over before anything is watched
        seen = []
        forward = cpu.forward
        monkeypatch.setattr(cpu, "forward", lambda x, *rest: seen.append(tuple(x.shape)) or forward(x, *rest))
        monkeypatch.setattr(gate, "large", lambda multiplications, gradient: multiplications > 0)
        for module in (gate, *choosers):
            monkeypatch.setattr(module, "events_pay", lambda *args, **kwargs: True)
        return seen

    return watch


@pytest.fixture
def one_by_one(monkeypatch):
    """Run a network with each layer called alone: its output and its state."""

    def run(net, x):
        with monkeypatch.context() as patch:
            patch.setattr(sequential, "apply_together", lambda *args: None)
            return sk.run(net, x)

    return run


@pytest.fixture
def graded_spikes():
    """A fifth of the entries are not zero, and no two are alike."""
    return lambda *shape, dtype=torch.float32: (torch.rand(*shape) < 0.2).to(dtype) * torch.randn(*shape, dtype=dtype)


@pytest.fixture
def lava_says(worker):
    """What a script that imports Lava prints as JSON, given `data` as JSON: arithmetic alone, no process is started."""

    def run(script, data):
        done = subprocess.run(
            [worker, "-c", "import shim; shim.prepare()\n" + script],
            input=json.dumps(data),
            env=os.environ | {"PYTHONPATH": os.path.dirname(shim.__file__)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run
