"""Where a worker is called from, and with which interpreter: other callers, small machines, foreign settings."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from spikekit.errors import WorkerError
from spikekit.export.lava import LavaJob, LavaResult, client, group, run_job


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
