"""The sigma-delta layer: sums up changes, and sends the change of its activity, as a Lava process.

Lava's own SigmaDelta (lava-nc 0.10.0, `lava.proc.sdn`) never clears its states, and sends its bias before the first
frame has arrived. In fixed point it cuts off the low bits of a message and forgets them, so that with every message the
receiver is further behind; and it knows no limits. This process keeps the equations, clears the states at each sample,
leaves in the residue what a message does not hold, and has 24 bits. Where nothing is cut off and nothing is beyond a
limit, its numbers are those of Lava's. Lava executes every file of this folder when it looks for process models, so the
folder holds nothing else.
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


class SigmaDeltaLayer(AbstractProcess):  # type: ignore[misc]
    """One layer of n neurons; `sigma`, in the units of the job, is the sum of what has arrived.

    threshold, bias: [n]; float64 in `floating_pt`, integers in `fixed_pt`. relu: the activity is not below 0.
    message_shift [n], largest: in `fixed_pt`, what a message leaves out of a state, and its largest number.
    period: steps of one sample; all states are cleared before each sample's first step.
    delay: steps between an input frame and the step at which it reaches this layer.
    messages [N, T, n], states [N, n], progress [1]: shared arrays that the model writes.
    """

    def __init__(
        self,
        *,
        threshold: np.ndarray,
        bias: np.ndarray,
        message_shift: np.ndarray,
        largest: int,
        relu: bool,
        period: int,
        delay: int,
        messages: np.ndarray,
        states: np.ndarray,
        progress: np.ndarray,
        name: str,
    ) -> None:
        super().__init__(
            largest=largest,
            relu=relu,
            period=period,
            delay=delay,
            messages=messages,
            states=states,
            progress=progress,
            name=name,
        )
        shape = threshold.shape
        self.a_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        self.sigma = Var(shape=shape, init=0)
        self.act = Var(shape=shape, init=0)
        self.residue = Var(shape=shape, init=0)
        self.threshold = Var(shape=shape, init=threshold)
        self.bias = Var(shape=shape, init=bias)
        self.message_shift = Var(shape=shape, init=message_shift)


class _SigmaDeltaModel(GradedModel):  # type: ignore[misc]
    """What both arithmetics share."""

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.relu: bool = proc_params["relu"]

    def rest(self) -> None:
        for state in (self.sigma, self.act, self.residue):
            state[:] = 0


@implements(proc=SigmaDeltaLayer, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class SigmaDeltaModelFloat(_SigmaDeltaModel):
    """In float64; a message is the whole change."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    sigma: np.ndarray = LavaPyType(np.ndarray, float)
    act: np.ndarray = LavaPyType(np.ndarray, float)
    residue: np.ndarray = LavaPyType(np.ndarray, float)
    threshold: np.ndarray = LavaPyType(np.ndarray, float)
    bias: np.ndarray = LavaPyType(np.ndarray, float)
    message_shift: np.ndarray = LavaPyType(np.ndarray, float)

    def encode(self, arrived: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.sigma[:] = self.sigma + arrived
        act = self.sigma + self.bias
        act = np.maximum(act, 0) if self.relu else act
        delta = act - self.act + self.residue
        sent = np.where(np.abs(delta) >= self.threshold, delta, 0)
        self.residue[:] = delta - sent
        self.act[:] = act
        return sent, self.sigma


@implements(proc=SigmaDeltaLayer, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class SigmaDeltaModelFixed(_SigmaDeltaModel):
    """In integers: what arrives wrapped around 24 bits, states clipped to them, messages rounded to their own unit."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    sigma: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)
    act: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)
    residue: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)
    threshold: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)
    bias: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)
    message_shift: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=5)

    def encode(self, current: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.sigma[:] = clipped(self.sigma + wrapped(checked(current)))
        act = clipped(self.sigma.astype(np.int64) + self.bias)
        act = np.maximum(act, 0) if self.relu else act
        delta = clipped(act - self.act + self.residue)
        unit = 1 << self.message_shift.astype(np.int64)
        # Rounded to the nearest; halves upwards.
        rounded = np.clip((delta + unit // 2) // unit, -self.largest, self.largest)
        sent = np.where(np.abs(delta) >= self.threshold, rounded, 0)
        self.residue[:] = delta - sent * unit
        self.act[:] = act
        return sent.astype(np.int32), self.sigma
