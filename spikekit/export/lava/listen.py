"""Follow a running worker: its reports, its log, its end."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from spikekit.errors import WorkerError

LOG_LINES = 20
_MARK = "@spikekit "
_TICK = 0.05


def _report(line: str) -> dict[str, Any] | None:
    """The report that a line of the worker holds, or None for a line of log."""
    if not line.startswith(_MARK):
        return None
    try:
        told: dict[str, Any] = json.loads(line.removeprefix(_MARK))
    except ValueError:
        # Torn by another process that wrote to the same pipe.
        return None
    return told


class Listener:
    """Reads what a worker writes until it ends or the time is up."""

    def __init__(
        self, process: subprocess.Popen[bytes], progress: Callable[[int, int], None] | None, total: int
    ) -> None:
        self._process = process
        self._progress = progress
        self._total = total
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._rest = b""
        self._failure: dict[str, Any] | None = None
        self._step: int | None = None
        self._done = False
        self._late = False
        self._code: int | None = None

    def wait(self, deadline: float | None) -> None:
        """Return when the worker has reported its end, has ended, or `deadline` (monotonic) has passed."""
        stream = self._process.stdout
        if stream is None:
            raise ValueError("the worker was started without a pipe")
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while not (self._done or self._failure):
                if deadline is not None and time.monotonic() > deadline:
                    self._late = True
                    return
                if selector.select(_TICK):
                    data = os.read(stream.fileno(), 65536)
                    self._take(data)
                    if data:
                        continue
                    selector.unregister(stream)
                # Asked before the next reading, so that whatever it wrote before it ended has been read.
                if self._code is not None:
                    return
                self._code = self._process.poll()

    def _take(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            text = line.decode("utf-8", errors="replace").rstrip()
            told = _report(text)
            if told:
                self._hear(told)
            elif text:
                self._log.append(text)

    def _hear(self, told: dict[str, Any]) -> None:
        if told["event"] == "error":
            self._failure = told
        elif told["event"] == "done":
            self._done = True
            self._advance(self._total)
        else:
            self._advance(int(told.get("step", 0)))

    def _advance(self, step: int) -> None:
        self._step = step
        if self._progress is not None:
            self._progress(step, self._total)

    def error(self, what: str, fix: str) -> WorkerError:
        """One error: what happened, what to do, and the end of the log."""
        reached = "" if self._step is None else f" at step {self._step} of {self._total}"
        log = "".join(f"\n  {line}" for line in self._log)
        return WorkerError(f"Lava worker: {what}{reached}. {fix}" + (f"\nIts log ends with:{log}" if log else ""))

    def raise_for(self, timeout: float | None) -> None:
        """Raise the WorkerError of a run that did not report success."""
        if self._done:
            return
        if self._failure is not None:
            where, text = self._failure["where"], self._failure["text"].rstrip()
            self._log.extend(text.splitlines()[-LOG_LINES:])
            what = text.splitlines()[-1] if text else "no reason given"
            if where == "import":
                fix = "No working lava-nc there: run `spikekit lava install`, or set SPIKEKIT_LAVA_PYTHON"
                raise self.error(f"Lava could not be imported: {what}", fix + ".")
            raise self.error(f"{where}: {what}", "See the traceback below; `spikekit doctor` tries a known network.")
        if self._late:
            fix = "Pass a larger timeout, or fewer samples; `spikekit doctor` tells whether Lava runs at all."
            raise self.error(f"not done after {timeout:g} s", fix)
        code = self._code or 0
        if code < 0:
            fix = "If nobody killed it, look for a lack of memory; then run it again."
            raise self.error(f"killed by signal {-code} ({signal.strsignal(-code)})", fix)
        raise self.error(f"ended with code {code} and without a result", "See the end of its log below.")
