"""The astrocytes over a layer of neurons, as a Lava process: slow calcium, and what it makes of the neurons.

It hears the spikes of the layer in the step in which they are sent, and what it sends is of the calcium before that
step: so it sends first and hears afterwards, or it and the layer would wait for each other. Synapses between the two
would take a step each way; on a chip both would live in one core. Presynaptic spikes arrive through synapses, as at the
neurons. Lava executes every file of this folder when it looks for
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
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class Astrocytes(AbstractProcess):  # type: ignore[misc]
    """Over n neurons, in domains of neighbours; `calcium` [domains, K] is the slow state.

    acts_on: "gain", which sends g, or "threshold", which sends 2 - g, to every neuron. decay, weight: [domains, K].
    shares: what one spike of the neurons and one that arrives count in the mean that calcium follows.
    bias, strength [domains]: in `floating_pt`, where decay is λ. offset [domains], table [domains, 257]: in `fixed_pt`,
    where calcium of 1.0 is 2^22, and 1.0 of decay, weight and what is sent is 4,096.
    period: steps of one sample of `samples`; calcium is cleared before each sample's first step.
    delay: steps between an input frame and the step at which it reaches this layer.
    """

    def __init__(
        self,
        *,
        n: int,
        acts_on: str,
        decay: np.ndarray,
        weight: np.ndarray,
        bias: np.ndarray,
        strength: np.ndarray,
        shares: tuple[float, float],
        own: float,
        offset: np.ndarray,
        table: np.ndarray,
        samples: int,
        period: int,
        delay: int,
        name: str,
    ) -> None:
        super().__init__(
            acts_on=acts_on, shares=shares, own=own, samples=samples, period=period, delay=delay, name=name
        )
        self.s_in = InPort(shape=(n,))
        self.p_in = InPort(shape=offset.shape)
        self.m_out = OutPort(shape=(n,))
        self.calcium = Var(shape=decay.shape, init=0)
        self.decay = Var(shape=decay.shape, init=decay)
        self.weight = Var(shape=weight.shape, init=weight)
        self.bias = Var(shape=bias.shape, init=bias)
        self.strength = Var(shape=strength.shape, init=strength)
        self.offset = Var(shape=offset.shape, init=offset)
        self.table = Var(shape=table.shape, init=table)


class _AstrocytesModel(PyLoihiProcessModel):  # type: ignore[misc]
    """What both arithmetics share: when to clear, when to send, whom to hear."""

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.acts_on: str = proc_params["acts_on"]
        self.shares: tuple[float, float] = proc_params["shares"]
        self.own: float = proc_params["own"]
        self.samples: int = proc_params["samples"]
        self.period: int = proc_params["period"]
        self.delay: int = proc_params["delay"]

    def factor(self) -> np.ndarray:
        """What each domain does to its neurons."""
        raise NotImplementedError

    def follow(self, spikes: np.ndarray, heard: np.ndarray) -> None:
        """Let calcium follow the numbers of spikes of each domain, of its neurons and presynaptic ones."""
        raise NotImplementedError

    def run_spk(self) -> None:
        sample, within = divmod(self.time_step - 1 - self.delay, self.period)
        if within == 0:
            self.calcium[:] = 0
        domains = len(self.calcium)
        neurons = self.s_in.shape[0] // domains
        self.m_out.send(np.repeat(self.factor(), neurons))
        spikes, heard = self.s_in.recv(), self.p_in.recv()
        if 0 <= sample < self.samples:
            self.follow(spikes.reshape(domains, neurons).sum(1), heard)


@implements(proc=Astrocytes, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class AstrocytesModelFloat(_AstrocytesModel):
    """In float64, in the order of `spikekit.ops.astrocyte.reference`."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, bool)
    p_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)
    m_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)
    calcium: np.ndarray = LavaPyType(np.ndarray, float)
    decay: np.ndarray = LavaPyType(np.ndarray, float)
    weight: np.ndarray = LavaPyType(np.ndarray, float)
    bias: np.ndarray = LavaPyType(np.ndarray, float)
    strength: np.ndarray = LavaPyType(np.ndarray, float)
    offset: np.ndarray = LavaPyType(np.ndarray, float)
    table: np.ndarray = LavaPyType(np.ndarray, float)

    def factor(self) -> np.ndarray:
        z = self.bias
        for k in range(self.weight.shape[1]):
            z = z + self.weight[:, k] * self.calcium[:, k]
        g = 1 + self.strength * (z / (1 + np.abs(z)))
        return g if self.acts_on == "gain" else 2 - g

    def follow(self, spikes: np.ndarray, heard: np.ndarray) -> None:
        own, arrived = spikes * self.shares[0], heard * self.shares[1]
        mean = arrived if self.own == 0 else own if self.own == 1 else self.own * own + (1 - self.own) * arrived
        self.calcium[:] = self.decay * self.calcium + (1 - self.decay) * mean[:, None]


@implements(proc=Astrocytes, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class AstrocytesModelFixed(_AstrocytesModel):
    """In integers, as in `spikekit.ops.astrocyte.integer`: a table in place of the division, products cut off."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, bool)
    p_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    m_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=14)
    calcium: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)
    decay: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=12)
    weight: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=14)
    bias: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)
    strength: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)
    offset: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=26)
    table: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=14)

    def factor(self) -> np.ndarray:
        weighed = self.weight.astype(np.int64) * (self.calcium >> 10)
        place = np.clip((self.offset + weighed.sum(1)) >> 12, 0, 4095)
        domain, at, between = np.arange(len(place)), place >> 4, place & 15
        low, high = self.table[domain, at], self.table[domain, at + 1]
        factor: np.ndarray = (low * (16 - between) + high * between) >> 4
        return factor

    def follow(self, spikes: np.ndarray, heard: np.ndarray) -> None:
        own, arrived = (int(share) for share in self.shares)
        counts = own * spikes.astype(np.int64) + arrived * heard.astype(np.int64)
        mean, decay = np.clip(counts, 0, 2**22)[:, None], self.decay.astype(np.int64)
        self.calcium[:] = (self.calcium * (4096 - decay) + mean * decay) >> 12
