"""Whatever goes wrong in the worker: one clear error in time, and nothing left of it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from spikekit.errors import WorkerError
from spikekit.export.lava import LavaJob, LavaResult, client, group, run_job

LONG = 300_000
SIGNALS = pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])


def processes(marker: str) -> list[int]:
    """Living processes whose command line holds `marker`: a worker's holds its temporary folder, as do its
    children's."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if marker.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return sorted(found)


def wait_until(condition, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """A temporary folder of our own and known tokens; checks at the end that a worker left nothing
    anywhere."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    tokens = []

    def token(size: int) -> str:
        tokens.append(os.urandom(size).hex())
        return tokens[-1]

    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(client.secrets, "token_hex", token)
    yield str(folder)
    assert processes(str(folder)) == []
    assert list(folder.iterdir()) == []
    assert [name for name in os.listdir("/dev/shm") if any(token in name for token in tokens)] == []


@pytest.fixture
def long_job(make_layer, chain):
    """A job that would take minutes."""
    rng = np.random.default_rng(0)
    layers = chain(make_layer(rng, "fixed", 4, 2, name="first"), make_layer(rng, "fixed", 3, 4, name="second"))
    return LavaJob("fixed", layers, np.ones((1, LONG, 2), bool))


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


def test_two_at_once_do_not_meet(worker, scratch, make_layer, assert_same):
    rng = np.random.default_rng(11)
    jobs = [
        LavaJob("fixed", (make_layer(rng, "fixed", 12, 6, name="only"),), rng.random((3, 10, 6)) < 0.5)
        for _ in range(2)
    ]
    results = [None, None]

    def work(index: int) -> None:
        results[index] = run_job(jobs[index], python=worker)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for job, result in zip(jobs, results, strict=True):
        assert_same(job, result)


SPAWNED = """
import multiprocessing, sys
from pathlib import Path
from spikekit.export.lava import LavaJob, run_job

def work(job, python, result):
    run_job(LavaJob.load(job), python=python).save(result)

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    process = multiprocessing.Process(target=work, args=tuple(sys.argv[2:5]))
    process.start()
    process.join(60)
    sys.exit(process.exitcode)
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_caller_with_any_start_method(method, worker, scratch, make_layer, assert_same, tmp_path):
    """The worker is an interpreter of its own, whatever started the one that calls."""
    rng = np.random.default_rng(13)
    job = LavaJob("fixed", (make_layer(rng, "fixed", 12, 6),), rng.random((3, 10, 6)) < 0.5)
    job.save(tmp_path / "job.npz")
    (tmp_path / "caller.py").write_text(SPAWNED)
    environment = os.environ | {"PYTHONPATH": str(Path(client.__file__).parents[3])}
    paths = [tmp_path / "job.npz", worker, tmp_path / "result.npz"]
    subprocess.run([sys.executable, tmp_path / "caller.py", method, *paths], check=True, timeout=90, env=environment)
    assert_same(job, LavaResult.load(tmp_path / "result.npz"))


def test_a_full_dev_shm(worker, scratch, make_layer, assert_same, tmp_path):
    """Channels have no names there, so a container's small /dev/shm is enough; without any room it is one error."""
    tiny = "mount -t tmpfs -o size=%s tmpfs /dev/shm"
    if subprocess.run(["unshare", "-rm", "sh", "-c", tiny % "4k"], capture_output=True).returncode:
        pytest.skip("no namespace of its own to be had here")
    rng = np.random.default_rng(14)
    job = LavaJob("fixed", (make_layer(rng, "fixed", 300, 40),), rng.random((3, 10, 40)) < 0.5)
    inside = tmp_path / "inside"

    def within(size: str, fill: str = "true") -> Path:
        inside.write_text(
            f'#!/bin/sh\nexec unshare -rm sh -c \'{tiny % size} && {fill} && exec {worker} "$@"\' sh "$@"\n'
        )
        inside.chmod(0o755)
        return inside

    assert_same(job, run_job(job, python=within("256k")))
    with pytest.raises(WorkerError, match=r"No space left on device"):
        run_job(job, python=within("4k", "(head -c 4096 /dev/zero > /dev/shm/full; true)"), timeout=20.0)


def test_the_result_is_safe_from_a_worker_that_outlives_its_report(scratch, make_layer, monkeypatch, tmp_path):
    """A worker cleans up when its stdin closes: not while its result is still to be read."""
    monkeypatch.setattr(group, "GRACE", 0.3)
    LavaResult((), (), "0.10.0", "3.10.1", 0.5).save(tmp_path / "prepared.npz")
    slow = tmp_path / "slow"
    slow.write_text(
        f"#!/bin/sh\ntrap '' TERM\ncp {tmp_path}/prepared.npz $3\n"
        'echo \'@spikekit {"event": "done"}\'\nread line\nrm $3\n'
    )
    slow.chmod(0o755)
    job = LavaJob("fixed", (make_layer(np.random.default_rng(0), "fixed", 2, 2),), np.ones((1, 1, 2), bool))
    assert run_job(job, python=slow).seconds == 0.5


def test_settings_of_the_callers_python_do_not_reach_the_worker(
    worker, scratch, make_layer, assert_same, monkeypatch, tmp_path
):
    (tmp_path / "numpy.py").write_text("raise RuntimeError('this is not numpy')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    rng = np.random.default_rng(12)
    job = LavaJob("float", (make_layer(rng, "float", 12, 6),), rng.random((3, 10, 6)) < 0.5)
    assert_same(job, run_job(job, python=worker))


def test_no_interpreter_and_a_wrong_one(scratch, long_job, monkeypatch, tmp_path):
    monkeypatch.delenv("SPIKEKIT_LAVA_PYTHON", raising=False)
    monkeypatch.setenv("SPIKEKIT_CACHE", str(tmp_path / "empty"))
    with pytest.raises(WorkerError, match=r"no Lava worker is installed.*spikekit lava install"):
        run_job(long_job)
    with pytest.raises(WorkerError, match=r"/nowhere/python: no interpreter.*spikekit lava install"):
        run_job(long_job, python="/nowhere/python")
    without = tmp_path / "python"
    without.symlink_to(Path(sys.executable).resolve())
    with pytest.raises(WorkerError, match=r"could not be imported: No module named.*spikekit lava install"):
        run_job(long_job, python=without)
    not_python = tmp_path / "broken"
    not_python.write_text("not a program")
    not_python.chmod(0o755)
    with pytest.raises(WorkerError, match=r"broken: could not be started.*spikekit lava install"):
        run_job(long_job, python=not_python)
    not_python.write_text("#!/bin/sh\necho something strange; exit 3")
    with pytest.raises(WorkerError, match=r"ended with code 3(?s:.)*something strange"):
        run_job(long_job, python=not_python)


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
