"""The neuron layer: leaky integrate-and-fire with a reset by subtraction, as a Lava process.

Lava's own LIF resets to zero only and compares strictly. This process keeps its arithmetic (lava-nc 0.10.0,
`lava.proc.lif.models`) and adds: a threshold, decays, bias and reset quantum per neuron, three resets, an inclusive
comparison, an adaptive threshold, a refractory period, a readout that never fires, and ports for the neurons' own
spikes and for what astrocytes make of the neurons. Lava executes every file of this folder when it looks for process
models, so the folder holds nothing else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from integers import STATE_LIMIT, checked, clipped, wrapped
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class SoftResetLIF(AbstractProcess):  # type: ignore[misc]
    """One layer of n neurons; `v` is the membrane, in the units of the job.

    decay, bias, threshold, quantum, current_decay: [n]; float64 in `floating_pt`, integers in `fixed_pt`.
    keeps_current: the synaptic current decays by current_decay, and the bias is part of it; else it is gone after its
    step.
    reset: "soft" subtracts quantum, "hard" sets zero, "none" leaves the membrane.
    inclusive: fire at v >= threshold instead of v > threshold. fires: False for a readout.
    adapts: the threshold rises by b, which decays by adapt_decay and takes adapt_step (in `floating_pt` 1, times
    adapt_step in the threshold) at each spike. refractory: steps after a spike in which a membrane is held. shift: of
    what arrives, into units of membrane, in `fixed_pt`.
    modulated: "gain" or "threshold": what arrives at m_in, parts of 4,096 in `fixed_pt`, multiplies the drive or the
    threshold; "" for neurons without astrocytes.
    period: steps of one sample; the membrane is cleared before each sample's first step.
    delay: steps between an input frame and the step at which it reaches this layer.
    spikes [N, T, n], membranes [N, n], progress [1]: shared arrays that the model writes.
    """

    def __init__(
        self,
        *,
        decay: np.ndarray,
        bias: np.ndarray,
        threshold: np.ndarray,
        quantum: np.ndarray,
        current_decay: np.ndarray,
        adapt_decay: np.ndarray,
        adapt_step: np.ndarray,
        keeps_current: bool,
        adapts: bool,
        refractory: int,
        modulated: str,
        shift: int,
        reset: str,
        inclusive: bool,
        fires: bool,
        period: int,
        delay: int,
        spikes: np.ndarray,
        membranes: np.ndarray,
        progress: np.ndarray,
        name: str,
    ) -> None:
        super().__init__(
            keeps_current=keeps_current,
            adapts=adapts,
            refractory=refractory,
            modulated=modulated,
            shift=shift,
            reset=reset,
            inclusive=inclusive,
            fires=fires,
            period=period,
            delay=delay,
            spikes=spikes,
            membranes=membranes,
            progress=progress,
            name=name,
        )
        shape = decay.shape
        self.a_in = InPort(shape=shape)
        # From the layer itself, one step late: nothing of the sample before may arrive in the first step of the next.
        self.r_in = InPort(shape=shape)
        self.m_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        self.u = Var(shape=shape, init=0)
        self.v = Var(shape=shape, init=0)
        self.b = Var(shape=shape, init=0)
        self.wait = Var(shape=shape, init=0)
        self.current_decay = Var(shape=shape, init=current_decay)
        self.adapt_decay = Var(shape=shape, init=adapt_decay)
        self.adapt_step = Var(shape=shape, init=adapt_step)
        self.decay = Var(shape=shape, init=decay)
        self.bias = Var(shape=shape, init=bias)
        self.threshold = Var(shape=shape, init=threshold)
        self.quantum = Var(shape=shape, init=quantum)


class _SoftResetModel(PyLoihiProcessModel):  # type: ignore[misc]
    """What both arithmetics share: when to clear, when to fire, how to reset, what to keep."""

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.keeps_current: bool = proc_params["keeps_current"]
        self.adapts: bool = proc_params["adapts"]
        self.refractory: int = proc_params["refractory"]
        self.modulated: str = proc_params["modulated"]
        self.shift: int = proc_params["shift"]
        self.reset: str = proc_params["reset"]
        self.inclusive: bool = proc_params["inclusive"]
        self.fires: bool = proc_params["fires"]
        self.period: int = proc_params["period"]
        self.delay: int = proc_params["delay"]
        self.spikes: np.ndarray = proc_params["spikes"]
        self.membranes: np.ndarray = proc_params["membranes"]
        self.progress: np.ndarray = proc_params["progress"]

    def integrate(self, current: np.ndarray) -> None:
        """Decay the membrane and add this step's input to it."""
        raise NotImplementedError

    def level(self) -> np.ndarray:
        """The threshold, in units of the membrane."""
        raise NotImplementedError

    def adapt(self, fired: np.ndarray) -> None:
        """Let the threshold decay, and rise where a neuron fired."""
        raise NotImplementedError

    def run_spk(self) -> None:
        step = self.time_step - 1 - self.delay
        current, own, self.factor = self.a_in.recv(), self.r_in.recv(), self.m_in.recv()
        fired = np.zeros(self.v.shape, bool)
        sample, within = divmod(step, self.period)
        # Before its first frame arrives, and after the last one, a layer is silent: a bias would make it
        # fire.
        if 0 <= sample < len(self.spikes):
            # Each synapse costs one step, so each layer starts a sample one step after the layer before it.
            if within == 0:
                for state in (self.u, self.v, self.b, self.wait):
                    state[:] = 0
            else:
                current = current + own
            held, live = self.v.copy(), self.wait == 0
            self.integrate(current)
            if self.refractory:
                self.v[~live] = held[~live]
            if self.fires:
                fired = live & (self.v >= self.level() if self.inclusive else self.v > self.level())
                self.clear(fired)
                self.wait[:] = np.where(fired, self.refractory, np.maximum(self.wait - 1, 0))
                if self.adapts:
                    self.adapt(fired)
            self.spikes[sample, within] = fired
            if within == self.period - 1:
                self.membranes[sample] = self.v
            self.progress[0] = step + 1
        self.s_out.send(fired)

    def clear(self, fired: np.ndarray) -> None:
        """Reset the membranes of the neurons that fired."""
        if self.reset == "soft":
            self.v[:] -= self.quantum * fired
        elif self.reset == "hard":
            self.v[fired] = 0


@implements(proc=SoftResetLIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class SoftResetModelFloat(_SoftResetModel):
    """v = decay v + (a + bias), in float64."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    r_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    m_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, bool)
    u: np.ndarray = LavaPyType(np.ndarray, float)
    v: np.ndarray = LavaPyType(np.ndarray, float)
    b: np.ndarray = LavaPyType(np.ndarray, float)
    wait: np.ndarray = LavaPyType(np.ndarray, float)
    current_decay: np.ndarray = LavaPyType(np.ndarray, float)
    adapt_decay: np.ndarray = LavaPyType(np.ndarray, float)
    adapt_step: np.ndarray = LavaPyType(np.ndarray, float)
    decay: np.ndarray = LavaPyType(np.ndarray, float)
    bias: np.ndarray = LavaPyType(np.ndarray, float)
    threshold: np.ndarray = LavaPyType(np.ndarray, float)
    quantum: np.ndarray = LavaPyType(np.ndarray, float)

    def integrate(self, current: np.ndarray) -> None:
        # A torch layer adds its bias to its own output before the neuron sees it: the same order here.
        drive = current + self.bias
        drive = self.factor * drive if self.modulated == "gain" else drive
        self.u[:] = (self.current_decay * self.u if self.keeps_current else 0) + drive
        self.v[:] = self.decay * self.v + self.u

    def level(self) -> np.ndarray:
        if self.modulated == "threshold":
            return self.threshold * self.factor
        return self.threshold + self.adapt_step * self.b if self.adapts else self.threshold

    def adapt(self, fired: np.ndarray) -> None:
        self.b[:] = self.adapt_decay * self.b + fired


@implements(proc=SoftResetLIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class SoftResetModelFixed(_SoftResetModel):
    """Loihi's integers: 24-bit state, input shifted, by 6 bits as a rule, and wrapped, membrane clipped."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    r_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    m_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=14)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, bool)
    u: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)
    v: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)
    b: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)
    wait: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)
    current_decay: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=12)
    adapt_decay: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=13)
    adapt_step: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)
    decay: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=13)
    bias: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)
    threshold: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=17)
    quantum: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)

    def integrate(self, current: np.ndarray) -> None:
        current = checked(current)
        if self.keeps_current:
            self.u[:] = wrapped(_decayed(self.u, 4095 - self.current_decay) + (current << self.shift) + self.bias)
        else:
            self.u[:] = wrapped(current << self.shift) + self.bias
        if self.modulated == "gain":
            self.u[:] = _decayed(self.u, self.factor)
        self.v[:] = clipped(_decayed(self.v, 4096 - self.decay) + self.u)

    def level(self) -> np.ndarray:
        level = self.threshold << 6
        if self.modulated == "threshold":
            # Above 0, as in floating point, where it never gets there.
            return np.clip((level.astype(np.int64) * self.factor) >> 12, 1, STATE_LIMIT - 1)
        return np.minimum(level + self.b, STATE_LIMIT - 1) if self.adapts else level

    def adapt(self, fired: np.ndarray) -> None:
        rest = _decayed(self.b, 4096 - self.adapt_decay)
        self.b[:] = np.minimum(rest + self.adapt_step * fired, STATE_LIMIT - 1)

    def clear(self, fired: np.ndarray) -> None:
        super().clear(fired)
        # A quantum below 0 adds to the membrane, which has 24 bits.
        self.v[:] = clipped(self.v)


def _decayed(state: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """A state times keep / 4096, rounded towards zero."""
    product = state.astype(np.int64) * keep
    return np.sign(product) * (np.abs(product) >> 12)
