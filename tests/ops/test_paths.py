"""Which path runs, and how to force one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from spikekit import surrogate
from spikekit.errors import InputError
from spikekit.ops import paths
from spikekit.ops.li import li
from spikekit.ops.lif import LIFRule, cpu, lif

RULE = LIFRule("soft", False, False, surrogate.ATan())


@pytest.fixture
def auto():
    yield
    paths.set_path("auto")


def node(x):
    """The name of the autograd node behind the spikes: the sequence path leaves one node, the reference a loop."""
    scalars = [torch.tensor(v) for v in (0.9, 1.0, 1.0)]
    return type(lif(x, None, *scalars, RULE)[0].grad_fn).__name__


@pytest.fixture
def kernel_calls(monkeypatch):
    """The names of the functions of C that were called."""
    calls = []
    for name in ("forward", "backward"):
        whole = getattr(cpu, name)
        monkeypatch.setattr(
            cpu, name, lambda *a, _whole=whole, _name=name, **k: (calls.append(_name), _whole(*a, **k))[1]
        )
    return calls


def train(rule=RULE):
    x = torch.randn(3, 2, 4, requires_grad=True)
    lif(x, None, *(torch.tensor(v) for v in (0.9, 1.0, 1.0)), rule)[0].sum().backward()


def test_auto_takes_the_kernels(kernel_calls):
    train()
    assert kernel_calls == ["forward", "backward"]


def test_the_pure_torch_path_can_be_forced(auto, kernel_calls):
    paths.set_path("torch")
    train()
    assert kernel_calls == []


def test_a_surrogate_without_a_kernel_takes_the_pure_torch_path(kernel_calls):
    class Flat(surrogate.Surrogate):
        def derivative(self, m):
            return torch.ones_like(m)

    train(LIFRule("soft", False, False, Flat()))
    assert kernel_calls == []


def test_reference_can_be_forced(auto):
    x = torch.randn(3, 2, 4, requires_grad=True)
    paths.set_path("reference")
    assert paths.forced_path() == "reference"
    assert "Stack" in node(x)
    assert "Stack" in type(li(x, None, torch.tensor(0.9)).grad_fn).__name__


def test_unknown_path_is_refused(auto):
    with pytest.raises(InputError, match=r"'auto', 'torch', 'reference'.*got 'fast'.*SPIKEKIT_PATH"):
        paths.set_path("fast")
    assert paths.forced_path() == "auto"


def test_the_interpreter_must_be_asked_for(auto, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(InputError, match="TRITON_INTERPRET=1"):
        paths.set_path("triton")
    assert paths.forced_path() == "auto"


def test_environment_variable_is_checked_at_import():
    done = subprocess.run(
        [sys.executable, "-c", "import spikekit"],
        env=os.environ | {"SPIKEKIT_PATH": "quick"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode != 0
    assert "got 'quick' (check $SPIKEKIT_PATH)" in done.stderr


def test_functorch_is_seen():
    seen = []
    torch.func.vmap(lambda x: (seen.append(paths.functorch_active()), x)[1])(torch.zeros(2))
    assert seen == [True]
    assert not paths.functorch_active()
