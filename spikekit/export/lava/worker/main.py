"""The Lava worker: run a job file, write a result file, say on stdout how it goes.

Run by path with an interpreter that has numpy, scipy and lava-nc, and nothing of spikekit or torch:
`python main.py JOB RESULT TOKEN`, in a process group of its own, with stdin held open by the caller. Lines on
stdout that start with "@spikekit " are JSON for the caller; all others are log.

Lava blocks for ever when one of its processes raises or dies. So each one is watched from a thread, from the
moment it exists; the first trouble is reported and everything ends. Lava's own `stop()` is not used: it waits
for every process to answer, and as nothing here has a name in the file system, killing them leaves nothing
behind.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import guard

REPORT_EVERY = 0.2
TRACEBACK_CHARACTERS = 3000
PATIENCE = 20  # checks, of 0.05 s each


def report(event: str, **facts: Any) -> None:
    """One line for the caller, in a single write so that lines of other processes do not mix with it."""
    os.write(1, f"@spikekit {json.dumps({'event': event, **facts})}\n".encode())


class Run:
    """What the watching thread needs to know about a run that the main thread sets up and drives."""

    def __init__(self) -> None:
        self.runtime: Any = None
        self.names: list[str] = []
        self._ending = threading.Lock()
        self._ended_for = 0

    def _actors(self) -> list[Any]:
        infrastructure = getattr(self.runtime, "_messaging_infrastructure", None)
        return list(infrastructure.actors) if infrastructure else []

    def check(self) -> None:
        """Fail if one of Lava's processes raised or ended; the watching thread calls this."""
        ended = []
        for index, actor in enumerate(self._actors()):
            code = actor.exitcode
            name = self.names[index] if index < len(self.names) else "Lava's runtime service"
            try:
                raised = actor.exception
            except Exception as error:
                raised = (error, f"an exception that could not be sent: {error!r}")
            if raised is not None:
                self.fail(name, str(raised[1]))
            if code is not None:
                ended.append((name, code))
        for name, code in ended:
            if code < 0:
                self.fail(name, f"its process was killed by signal {-code}")
        # Lava ends the others when one raises, and their end may be seen before the exception arrives.
        self._ended_for = self._ended_for + 1 if ended else 0
        if self._ended_for > PATIENCE:
            self.fail(ended[0][0], f"its process ended with code {ended[0][1]}")

    def fail(self, where: str, text: str) -> None:
        """Report the trouble, unless the run is ending already, and end this process and its children."""
        if self._ending.acquire(blocking=False):
            report("error", where=where, text=text[-TRACEBACK_CHARACTERS:])
            self._end(1)

    def finish(self) -> None:
        """Report success and end, unless a failure came first."""
        if self._ending.acquire(blocking=False):
            report("done")
            self._end(0)
        time.sleep(60)

    def _end(self, code: int) -> None:
        actors = self._actors()
        for actor in actors:
            actor.kill()
        for actor in actors:
            actor._popen.wait(1.0)
        # Not sys.exit: atexit handlers and threads of Lava would wait for children that are gone.
        os._exit(code)


def execute(run: Run, job: str, result: str, token: str) -> None:
    """Build the network of the job, run all its steps, write the result."""
    import shim

    shim.prepare()

    import memory

    memory.use_anonymous_channels(token)

    from importlib.metadata import version

    import network
    import numpy as np
    from lava.magma.compiler.compiler import Compiler
    from lava.magma.core.process.message_interface_enum import ActorType
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.magma.runtime.mgmt_token_enums import MGMT_RESPONSE, enum_equal
    from lava.magma.runtime.runtime import Runtime

    with np.load(job, allow_pickle=False) as file:
        net = network.build(file)
        tag = f"{json.loads(str(file['meta']))['mode']}_pt".replace("float_", "floating_")
    executable = Compiler().compile(net.source, Loihi2SimCfg(select_tag=tag))
    run.names = [net.processes[process.name] for process in executable.proc_builders]
    run.runtime = Runtime(executable, ActorType.MultiProcessing)
    run.runtime.initialize()
    report("running", steps=net.steps)
    began = time.perf_counter()
    run.runtime.start(RunSteps(num_steps=net.steps, blocking=False))
    answer = run.runtime.service_to_runtime[0]
    told = began
    while not answer.probe():
        time.sleep(0.002)
        if time.perf_counter() - told >= REPORT_EVERY:
            told = time.perf_counter()
            report("progress", step=int(net.progress[-1]))
    seconds = time.perf_counter() - began
    if not enum_equal(answer.recv(), MGMT_RESPONSE.DONE):
        # The process that went wrong also tells the watching thread, which knows more: let it speak first.
        time.sleep(1.0)
        run.fail("Lava's runtime service", "the run ended with an error that no process explained")
    versions = {"lava": version("lava-nc"), "python": platform.python_version()}
    network.write_result(result, net, {"format": 2, "versions": versions, "seconds": seconds})


def main(job: str, result: str, token: str) -> None:
    """Run one job; never returns."""
    run = Run()
    guard.watch(str(Path(job).parent), run.check)
    guard.end_children_with_me()
    try:
        execute(run, job, result, token)
    except ModuleNotFoundError as error:
        run.fail("import", str(error))
    except ImportError:
        run.fail("import", traceback.format_exc())
    except BaseException:
        run.fail("setup", traceback.format_exc())
    run.finish()


if __name__ == "__main__":
    main(*sys.argv[1:4])
