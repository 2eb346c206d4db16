"""The input of a network: one frame a step, kept in the narrow type it came in.

Lava's RingBuffer holds its data as int32 or float64 and starts over at its end; this one casts a frame when
it is sent and is silent afterwards. Lava executes every file of this folder when it looks for process models,
so the folder holds nothing else.
"""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class FrameSource(AbstractProcess):  # type: ignore[misc]
    """Sends `frames[t]`, [steps, n], at step t + 1, then zeros."""

    def __init__(self, *, frames: np.ndarray, name: str) -> None:
        super().__init__(frames=frames, name=name)
        self.s_out = OutPort(shape=frames.shape[1:])


class _FrameModel(PyLoihiProcessModel):  # type: ignore[misc]
    """Both arithmetics: only the type of the message differs."""

    message: type = np.int32

    def run_spk(self) -> None:
        frames = self.proc_params["frames"]
        step = self.time_step - 1
        if step < len(frames):
            self.s_out.send(frames[step].astype(self.message))
        else:
            self.s_out.send(np.zeros(frames.shape[1:], self.message))


@implements(proc=FrameSource, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class FrameModelFixed(_FrameModel):
    """Frames as 32-bit integers."""

    message = np.int32
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)


@implements(proc=FrameSource, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class FrameModelFloat(_FrameModel):
    """Frames as 64-bit floats."""

    message = np.float64
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
