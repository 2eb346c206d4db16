"""Max pooling of currents as a Lava process: neurons with several dendrites, which send the largest of their sums.

Lava has no process that takes a maximum. This one has no state: what it sends in a step is what arrived in it, rounded
to the unit of its messages. Lava executes every file of this folder when it looks for process models, so the folder
holds nothing else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from graded import GradedModel
from integers import checked, clipped, wrapped
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class MaximumLayer(AbstractProcess):  # type: ignore[misc]
    """One layer of n neurons; what arrives at dendrite d of neuron i has the number d n + i.

    bias [n]: float64 in `floating_pt`, integers in `fixed_pt`. message_shift [n], largest: in `fixed_pt`, what a
    message leaves out of a sum, and its largest number. period: steps of one sample.
    delay: steps between an input frame and the step at which it reaches this layer.
    messages [N, T, n], states [N, n], progress [1]: shared arrays that the model writes.
    """

    def __init__(
        self,
        *,
        bias: np.ndarray,
        message_shift: np.ndarray,
        dendrites: int,
        largest: int,
        period: int,
        delay: int,
        messages: np.ndarray,
        states: np.ndarray,
        progress: np.ndarray,
        name: str,
    ) -> None:
        super().__init__(
            dendrites=dendrites,
            largest=largest,
            period=period,
            delay=delay,
            messages=messages,
            states=states,
            progress=progress,
            name=name,
        )
        self.a_in = InPort(shape=(dendrites * len(bias),))
        self.s_out = OutPort(shape=bias.shape)
        self.bias = Var(shape=bias.shape, init=bias)
        self.message_shift = Var(shape=bias.shape, init=message_shift)


class _MaximumModel(GradedModel):  # type: ignore[misc]
    """What both arithmetics share."""

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.dendrites: int = proc_params["dendrites"]

    def largest_sum(self, arrived: np.ndarray) -> np.ndarray:
        """Of the dendrites of each neuron [n]."""
        largest: np.ndarray = arrived.reshape(self.dendrites, -1).max(0)
        return largest


@implements(proc=MaximumLayer, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class MaximumModelFloat(_MaximumModel):
    """In float64; a message is the whole sum."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    bias: np.ndarray = LavaPyType(np.ndarray, float)
    message_shift: np.ndarray = LavaPyType(np.ndarray, float)

    def encode(self, arrived: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        state = self.largest_sum(arrived) + self.bias
        return state, state


@implements(proc=MaximumLayer, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class MaximumModelFixed(_MaximumModel):
    """In integers: the largest sum wrapped around 24 bits, the bias added and clipped, rounded to units of messages."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    bias: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)
    message_shift: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=5)

    def encode(self, arrived: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        state = clipped(wrapped(checked(self.largest_sum(arrived))) + self.bias)
        unit = 1 << self.message_shift.astype(np.int64)
        # Rounded to the nearest; halves upwards.
        sent = np.clip((state + unit // 2) // unit, -self.largest, self.largest)
        return sent.astype(np.int32), state
