"""tune_allocator: freed memory is used again, in a process that asked for it, and a clear error where it cannot be."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

import spikekit as sk
from spikekit.errors import InputError

FAULTS = """
import resource, sys, torch, spikekit as sk
torch.set_num_threads(1)
if sys.argv[1] == "tuned":
    sk.tune_allocator()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(1 << 24).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(sum([faults() for _ in range(40)][-10:]))
"""


def glibc():
    try:
        return bool(ctypes.CDLL(None).mallopt)
    except (AttributeError, TypeError, OSError):
        return False


def faults(how):
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, timeout=120, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not glibc(), reason="glibc")
def test_freed_memory_is_used_again():
    """Ten tensors of 64 MiB, each 32 huge pages or 16,384 small ones, once the heap has found its size."""
    assert faults("tuned") < 16
    assert faults("plain") >= 320


def test_without_glibc_it_says_so(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    with pytest.raises(InputError, match="needs glibc's mallopt, which this platform does not have"):
        sk.tune_allocator()


def test_a_refusal_is_an_error(monkeypatch):
    class Refuses:
        @staticmethod
        def mallopt(name, value):
            return 0

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Refuses)
    with pytest.raises(InputError, match="refused"):
        sk.tune_allocator()
