"""Running a self-test where nothing of its caller's reaches it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch


class Judgement(threading.Thread):
    """A self-test in a thread of its own.

    The first call of a kernel may come from anywhere: inference mode, autocast, another default device, a tracer with
    fake tensors, hooks on saved tensors. Threads start without any of them.
    """

    def __init__(self, self_test: Callable[[], None]) -> None:
        super().__init__(name="spikekit self-test")
        self._self_test = self_test
        self.verdict = "the self-test did not end"

    def reach(self) -> str:
        """Run the test: why it failed, or nothing where it passed. Never raises."""
        try:
            self.start()
            self.join()
        except RuntimeError as error:
            return f"self-test failed: {error}"
        return self.verdict

    def run(self) -> None:
        try:
            with torch.random.fork_rng(devices=[]):
                self._self_test()
            self.verdict = ""
        except Exception as error:
            self.verdict = f"self-test failed: {type(error).__name__}: {error}"
