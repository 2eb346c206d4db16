"""A network in six libraries: the same weights, the neuron of each contender between them.

Where a call of the neuron takes one step, time is the outer loop, as in the peers' own tutorials; where it takes the
sequence, each layer of weights is applied to all steps at once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import spikekit as sk
from benchmarks.agreement import Agreement, on_path
from benchmarks.contenders import OURS, Contender, Layer, Step
from benchmarks.workloads import Workload

Stages = list[nn.Sequential]


@dataclass(frozen=True)
class Network:
    """A contender's network. run: frames in its own layout to readouts; stages: its own copy of the weights.

    net: where it is ours, the module that `run` calls.
    """

    contender: Contender
    run: Layer
    stages: Stages
    net: nn.Module | None = None

    def lay_out(self, x: Tensor) -> Tensor:
        """Frames [T, B, ...] in the layout of the contender."""
        return x.transpose(0, 1).contiguous() if self.contender.batch_first else x

    def loss(self, x: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of the readout's mean over time; x in the layout of the contender."""
        readout: Tensor = self.run(x).mean(1 if self.contender.batch_first else 0)
        return F.cross_entropy(readout, labels)

    def parameters(self) -> list[nn.Parameter]:
        """All weights and biases, stage by stage."""
        return [parameter for stage in self.stages for parameter in stage.parameters()]

    def call(self, x: Tensor, labels: Tensor, mode: str) -> Callable[[], object]:
        """What is measured. "training": forward, loss, backward; "inference": forward under no_grad."""
        parameters = self.parameters()

        def train() -> None:
            for parameter in parameters:
                parameter.grad = None
            self.loss(x, labels).backward()

        def infer() -> object:
            with torch.no_grad():
                return self.run(x)

        return train if mode == "training" else infer


def ours(neuron: Callable[[], nn.Module], stages: Stages) -> sk.Sequential:
    """The spikekit network: `neuron` after every stage but the last."""
    layers: list[nn.Module] = []
    for stage in stages[:-1]:
        layers += [*stage, neuron()]
    return sk.Sequential(*layers, *stages[-1])


def _in_pieces(net: nn.Module, steps: int) -> Layer:
    def run(x: Tensor) -> Tensor:
        state, readouts = None, []
        for piece in x.split(steps):
            readout, state = sk.run(net, piece, state)
            readouts.append(readout)
        return torch.cat(readouts)

    return run


def _time_outer(stages: Stages, neurons: Sequence[Step]) -> Layer:
    def run(x: Tensor) -> Tensor:
        states: list[object] = [None] * len(neurons)
        readouts = []
        for frame in x.unbind(0):
            spikes = frame
            for i, neuron in enumerate(neurons):
                spikes, states[i] = neuron(stages[i](spikes), states[i])
            readouts.append(stages[-1](spikes))
        return torch.stack(readouts)

    return run


def _layer_wise(stages: Stages, neurons: Sequence[Layer]) -> Layer:
    def run(x: Tensor) -> Tensor:
        leading = x.shape[:2]
        spikes = x.flatten(0, 1)
        for stage, neuron in zip(stages, neurons, strict=False):
            spikes = neuron(stage(spikes).unflatten(0, leading)).flatten(0, 1)
        readout: Tensor = stages[-1](spikes)
        return readout.unflatten(0, leading)

    return run


def build(contender: Contender, workload: Workload) -> Network:
    """The network of a contender on its own copy of the workload's weights. Raises ImportError."""
    stages = copy.deepcopy(workload.stages)
    hidden = len(stages) - 1
    with torch.no_grad():
        for parameter in (p for stage in stages[:-1] for p in stage.parameters()):
            parameter.mul_(contender.gain)
    if contender.step is not None:
        return Network(contender, _time_outer(stages, [contender.step() for _ in range(hidden)]), stages)
    if contender.sequence is not None:
        return Network(contender, _layer_wise(stages, [contender.sequence() for _ in range(hidden)]), stages)
    net = ours(contender.twin, stages)
    run = net if contender.pieces is None else _in_pieces(net, contender.pieces)
    return Network(contender, run, stages, net)


def floor(workload: Workload) -> Network:
    """The dense network without neurons: what the weights alone cost."""
    stages = copy.deepcopy(workload.stages)
    nothing = Contender("floor", sk.LIF, "the same weights without neurons")
    return Network(nothing, _layer_wise(stages, [lambda x: x] * (len(stages) - 1)), stages)


def hidden_spikes(network: Network, x: Tensor) -> list[Tensor]:
    """The spikes of each hidden layer, [T, B, ...], whichever way round the network loops."""
    seen: list[list[Tensor]] = [[] for _ in network.stages[1:]]
    if network.net is not None:
        # On the neurons: our weights take another path while somebody listens to them.
        neurons = [layer for layer in network.net.modules() if isinstance(layer, sk.LIF)]
        hooks = [
            neuron.register_forward_hook(lambda _, inputs, spikes, kept=kept: kept.append(spikes))
            for neuron, kept in zip(neurons, seen, strict=True)
        ]
    else:
        hooks = [
            stage[0].register_forward_pre_hook(lambda _, inputs, kept=kept: kept.append(inputs[0]))
            for stage, kept in zip(network.stages[1:], seen, strict=True)
        ]
    try:
        with torch.no_grad():
            network.run(network.lay_out(x))
    finally:
        for hook in hooks:
            hook.remove()
    if network.net is not None:
        return [torch.cat(kept) for kept in seen]
    steps, batch = x.shape[:2]
    if network.contender.batch_first:
        return [torch.cat(kept).unflatten(0, (batch, steps)).transpose(0, 1) for kept in seen]
    return [torch.cat(kept).unflatten(0, (steps, batch)) for kept in seen]


def gradients(network: Network, workload: Workload) -> list[Tensor]:
    """The gradient of the loss in all weights, as if the contender took our drive."""
    loss = network.loss(network.lay_out(workload.x), workload.labels)
    found = torch.autograd.grad(loss, network.parameters())
    readout = len(list(network.stages[-1].parameters()))
    hidden = len(found) - readout
    return [grad * network.contender.gain if i < hidden else grad for i, grad in enumerate(found)]


def check(network: Network, workload: Workload) -> Agreement:
    """Spikes of all hidden layers and gradients of all weights beside those of the twin, on the workload itself.

    The twin runs on the loops that define our operations, so that ours is checked like any other.
    """
    stages = copy.deepcopy(workload.stages)
    net = ours(network.contender.twin, stages)
    twin = Network(OURS, net, stages, net)
    with on_path("reference"):
        expected = hidden_spikes(twin, workload.x)
        expected_gradients = gradients(twin, workload)
    found = hidden_spikes(network, workload.x)
    pairs = zip(gradients(network, workload), expected_gradients, strict=True)
    return Agreement(
        differ=sum(int((a != b).sum()) for a, b in zip(found, expected, strict=True)),
        spikes=int(sum(layer.sum() for layer in expected)),
        entries=sum(layer.numel() for layer in expected),
        gradient_error=max(float((theirs - mine).norm() / mine.norm()) for theirs, mine in pairs),
    )
