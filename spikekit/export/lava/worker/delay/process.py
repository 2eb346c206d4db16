"""Spikes that wait: what a connection across several layers sends, so that it arrives with the others.

Every synapse of Lava costs one step; a neuron whose inputs come from layers at different depths needs those of the
nearer ones later. On a chip this is the delay of an axon. Lava executes every file of this folder when it looks for
process models, so the folder holds nothing else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class DelayLine(AbstractProcess):  # type: ignore[misc]
    """Sends what it received `steps` steps before, and zeros at first; for n neurons."""

    def __init__(self, *, n: int, steps: int, name: str) -> None:
        super().__init__(n=n, steps=steps, name=name)
        self.s_in = InPort(shape=(n,))
        self.s_out = OutPort(shape=(n,))


class _DelayModel(PyLoihiProcessModel):  # type: ignore[misc]
    """Both arithmetics: only the type of the message differs."""

    message: type = np.int32

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.waiting = np.zeros((proc_params["steps"], proc_params["n"]), self.message)

    def run_spk(self) -> None:
        place = self.time_step % len(self.waiting)
        # Sent before anything is received: with zero delay this would block a loop.
        self.s_out.send(self.waiting[place].copy())
        self.waiting[place] = self.s_in.recv()


@implements(proc=DelayLine, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class DelayModelFixed(_DelayModel):
    """Messages of 32-bit integers."""

    message = np.int32
    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)


@implements(proc=DelayLine, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class DelayModelFloat(_DelayModel):
    """Messages of 64-bit floats."""

    message = np.float64
    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
