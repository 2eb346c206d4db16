"""Run a job in the worker interpreter, and leave nothing behind whatever happens to it."""

from __future__ import annotations

import os
import secrets
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from spikekit.errors import ExportError, WorkerError
from spikekit.export.lava.group import end_group
from spikekit.export.lava.job import LavaJob, LavaResult
from spikekit.export.lava.listen import Listener
from spikekit.export.lava.locate import worker_python

WORKER = Path(__file__).parent / "worker" / "main.py"
# Settings of the caller's interpreter that would reach into the worker's, which is another Python.
_NOT_PASSED_ON = (
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "PYTHONWARNINGS",
    "PYTHONDEVMODE",
    "PYTHONINSPECT",
)
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_INSTALL = "Install the worker with: spikekit lava install"


def _interpreter(python: str | os.PathLike[str] | None) -> Path:
    if os.name != "posix":
        raise WorkerError("Lava's simulator needs fork: use Linux, macOS or WSL.")
    path = Path(python) if python is not None else worker_python()
    if path is None:
        raise WorkerError(f"no Lava worker is installed. {_INSTALL}")
    if not path.is_file() or not os.access(path, os.X_OK):
        raise WorkerError(f"{path}: no interpreter to run Lava with. {_INSTALL}, or set SPIKEKIT_LAVA_PYTHON.")
    return path


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
    return kept | dict.fromkeys(_ONE_THREAD, "1") | {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}


def run_job(
    job: LavaJob,
    *,
    python: str | os.PathLike[str] | None = None,
    timeout: float | None = 120.0,
    progress: Callable[[int, int], None] | None = None,
) -> LavaResult:
    """Run all samples of `job` in Lava and return the spikes and final membranes of every layer.

    `python` is an interpreter with lava-nc (default: `locate.worker_python()`); `timeout` is the longest the
    whole run may take, in seconds, None for no limit; `progress(done, total)` is called a few times a second
    with time steps. Raises WorkerError if the worker is missing, fails, is killed or runs out of time; by
    then no process, semaphore or temporary file of it is left. The worker also ends by itself when the
    calling process does.
    """
    interpreter = _interpreter(python)
    token = f"sk{secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory(prefix=f"spikekit-lava-{token}-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        job.save(folder / "job.npz", compress=False)
        command = [str(interpreter), str(WORKER), str(folder / "job.npz"), str(folder / "result.npz"), token]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=_environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise WorkerError(f"{interpreter}: could not be started ({error}). {_INSTALL}") from error
        listener = Listener(process, progress, job.inputs.shape[0] * job.inputs.shape[1])
        try:
            listener.wait(None if timeout is None else time.monotonic() + timeout)
        finally:
            left = end_group(process, token)
        if left:
            raise listener.error(f"{left} of the worker could not be ended", "End them by hand.")
        listener.raise_for(timeout)
        try:
            return LavaResult.load(folder / "result.npz")
        except ExportError as error:
            raise listener.error(f"no usable result came back ({error})", "Run it again.") from error
