"""What is asked of a GPU without waiting for it; here with a GPU that answers when it is told to."""

from __future__ import annotations

import pytest
import torch

import spikekit as sk
from spikekit.errors import InputError
from spikekit.neurons import watch as watches


class Event:
    """An event of a GPU that is busy until `done`."""

    done = False

    def record(self, stream):
        pass

    def query(self):
        return Event.done


@pytest.fixture
def watch(monkeypatch):
    make = torch.empty
    # Pinned memory is the CPU's, also where the default device is another: it must be asked for by name.
    monkeypatch.setattr(torch, "empty", lambda *a, pin_memory=False, device="meta", **k: make(*a, device=device, **k))
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setattr(Event, "done", False)
    return watches.Watch()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_answer_comes_when_it_is_there(bad, dtype, watch, monkeypatch):
    watch.ask(torch.ones(3, dtype=dtype), "first")
    watch.ask(torch.tensor([1.0, bad, 2.0], dtype=dtype), "second")
    watch.look()
    monkeypatch.setattr(Event, "done", True)
    with pytest.raises(InputError, match=r"^second: in an earlier call .* CUDA_LAUNCH_BLOCKING=1"):
        watch.look()
    watch.look()


def test_large_numbers_are_finite(watch, monkeypatch):
    monkeypatch.setattr(Event, "done", True)
    watch.ask(torch.full((1000,), torch.finfo(torch.float32).max), "large")
    watch.look()


@pytest.mark.parametrize(("value", "waits"), [(None, False), ("0", False), ("1", True)])
def test_blocking_launches_wait_for_answers(value, waits, monkeypatch):
    monkeypatch.delenv("CUDA_LAUNCH_BLOCKING", raising=False)
    if value is not None:
        monkeypatch.setenv("CUDA_LAUNCH_BLOCKING", value)
    assert watches.waits() is waits


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu():
    neuron = sk.LIF().cuda()
    drive = torch.zeros(3, 1, 4, device="cuda")
    drive[1, 0, 2] = float("nan")
    neuron(drive)
    torch.cuda.synchronize()
    with pytest.raises(InputError, match="in an earlier call"):
        neuron(drive.zero_())
    neuron(drive)
