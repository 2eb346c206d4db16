"""What the models of neurons that send numbers share: when a sample begins and ends, and what is kept of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.model.py.model import PyLoihiProcessModel


class GradedModel(PyLoihiProcessModel):  # type: ignore[misc]
    """A model whose process has a_in, s_out and bias [n], and gives period, delay and the arrays that are filled."""

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.largest: int = proc_params["largest"]
        self.period: int = proc_params["period"]
        self.delay: int = proc_params["delay"]
        self.messages: np.ndarray = proc_params["messages"]
        self.states: np.ndarray = proc_params["states"]
        self.progress: np.ndarray = proc_params["progress"]

    def rest(self) -> None:
        """Clear the states: a sample begins."""

    def encode(self, arrived: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take in what arrived; what is sent, and the state that is kept of the last step."""
        raise NotImplementedError

    def run_spk(self) -> None:
        step = self.time_step - 1 - self.delay
        arrived = self.a_in.recv()
        sent = np.zeros_like(self.bias)
        sample, within = divmod(step, self.period)
        # Before its first frame arrives, and after the last one, a layer is silent.
        if 0 <= sample < len(self.messages):
            if within == 0:
                self.rest()
            sent, state = self.encode(arrived)
            self.messages[sample, within] = sent
            if within == self.period - 1:
                self.states[sample] = state
            self.progress[0] = step + 1
        self.s_out.send(sent)
