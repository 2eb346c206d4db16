"""Nobody is left behind: this worker ends when its caller does, and its own children end with it."""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import sys
import threading
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def end_children_with_me() -> None:
    """Have the kernel kill each process forked from now on when the one that forked it dies (Linux only)."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    me = os.getpid()

    def in_child() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # The parent may have died between the fork and the call above.
        if os.getppid() != me:
            os._exit(1)

    os.register_at_fork(after_in_child=in_child)


def watch(folder: str, check: Callable[[], None], every: float = 0.05) -> None:
    """Start the watching thread: call `check` every `every` seconds, and end everything when the caller is
    gone.

    The caller holds the other end of stdin; it is gone when that end closes or when this process has another
    parent. `folder`, the caller's temporary folder, is then removed, since nobody else will.
    """
    caller = os.getppid()

    def loop() -> None:
        while True:
            ready, _, _ = select.select([0], [], [], every)
            if (ready and not os.read(0, 1)) or os.getppid() != caller:
                shutil.rmtree(folder, ignore_errors=True)
                if os.getpgrp() == os.getpid():
                    os.killpg(os.getpid(), signal.SIGKILL)
                os._exit(1)
            check()

    threading.Thread(target=loop, name="guard", daemon=True).start()
