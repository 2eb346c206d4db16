"""Whatever goes wrong in the worker: one clear error in time, and nothing left of it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from spikekit.errors import WorkerError
from spikekit.export.lava import LavaJob, client, run_job
from tests.export.lava.processes import LONG, processes, wait_until

SIGNALS = pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])


def at_first_progress(action):
    """A progress callback that calls `action` once, when steps are being made."""
    done = []

    def progress(step: int, total: int) -> None:
        assert total == LONG
        if step and not done:
            done.append(step)
            action()

    return progress


def test_an_exception_in_a_process_model_comes_back_at_once(worker, scratch, make_layer, chain):
    weights = np.full((1, 1100), 254)
    quiet = make_layer(
        np.random.default_rng(0), "fixed", 1100, 1, name="many", weights=np.full((1100, 1), 254), weight_exp=7
    )
    loud = make_layer(np.random.default_rng(0), "fixed", 1, 1100, name="loud", weights=weights, weight_exp=7)
    job = LavaJob("fixed", chain(quiet, loud), np.ones((1, LONG, 1), bool))
    began = time.monotonic()
    with pytest.raises(
        WorkerError, match=r"the neurons of layer 'loud': OverflowError: an input current of 35763200"
    ) as caught:
        run_job(job, python=worker)
    assert time.monotonic() - began < 10
    assert "in integrate" in str(caught.value)


@SIGNALS
def test_a_lava_process_that_is_killed_is_named(number, worker, scratch, long_job):
    with pytest.raises(WorkerError, match=rf"(layer '|the input|service).*killed by signal {number:d}"):
        run_job(
            long_job,
            python=worker,
            progress=at_first_progress(lambda: os.kill(processes(scratch)[-2], number)),
        )


@SIGNALS
def test_a_worker_that_is_killed_is_an_error(number, worker, scratch, long_job):
    with pytest.raises(WorkerError, match=rf"Lava worker: killed by signal {number:d}.* at step [1-9]"):
        run_job(
            long_job,
            python=worker,
            progress=at_first_progress(lambda: os.kill(processes(scratch)[0], number)),
        )


def test_a_frozen_worker_runs_out_of_time(worker, scratch, long_job):
    def freeze() -> None:
        for process in processes(scratch):
            os.kill(process, signal.SIGSTOP)

    with pytest.raises(WorkerError, match=r"not done after 2.5 s at step .* of 300000. Pass a larger timeout"):
        run_job(long_job, python=worker, timeout=2.5, progress=at_first_progress(freeze))


def test_a_timeout_before_lava_is_even_imported(worker, scratch, long_job):
    with pytest.raises(WorkerError, match=r"not done after 0.05 s\. Pass"):
        run_job(long_job, python=worker, timeout=0.05)


def test_an_interrupt_ends_the_worker(worker, scratch, long_job):
    # A shell has what it starts in the background ignore interrupts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_job(long_job, python=worker, progress=at_first_progress(lambda: os.kill(os.getpid(), signal.SIGINT)))
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_failing_callback_ends_the_worker(worker, scratch, long_job):
    with pytest.raises(ZeroDivisionError):
        run_job(long_job, python=worker, progress=at_first_progress(lambda: 1 / 0))


SCRIPT = """
import sys, tempfile
from spikekit.export.lava import LavaJob, run_job
tempfile.tempdir = sys.argv[2]
print("ready", flush=True)
run_job(LavaJob.load(sys.argv[1]), python=sys.argv[3], progress=lambda step, total: print(step, flush=True))
"""


@SIGNALS
def test_the_worker_ends_when_its_caller_is_killed(number, worker, scratch, long_job, tmp_path):
    long_job.save(tmp_path / "long.npz")
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "long.npz"), scratch, str(worker)]
    environment = os.environ | {"PYTHONPATH": str(Path(client.__file__).parents[3])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as caller:
        while (line := caller.stdout.readline().strip()) in ("ready", "0"):
            pass
        assert int(line) > 0
        assert len(processes(scratch)) > 5
        caller.send_signal(number)
        caller.wait(10)
    assert wait_until(lambda: not processes(scratch) and not os.listdir(scratch), 5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(24))
def test_a_kill_at_any_time_leaves_nothing(seed, worker, scratch, long_job):
    """From before the import of Lava to well into the run; any of its processes; with either signal."""
    chance = random.Random(seed)
    number = chance.choice([signal.SIGKILL, signal.SIGTERM])

    def kill() -> None:
        time.sleep(chance.uniform(0.0, 1.2))
        alive = processes(scratch)
        if alive:
            os.kill(chance.choice(alive), number)

    killer = threading.Thread(target=kill)
    killer.start()
    began = time.monotonic()
    # If the kill came before there was anything to kill, the time runs out instead.
    with pytest.raises(WorkerError, match=r"signal|not done|ended"):
        run_job(long_job, python=worker, timeout=6.0)
    killer.join()
    assert time.monotonic() - began < 12
