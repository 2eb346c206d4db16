"""Online training through time: gradients from presynaptic traces, in memory that does not grow with T.

Xiao, Meng, Zhang, He, Lin 2022, NeurIPS, arXiv 2210.04195. With membranes detached between steps,

    a[t] = λ·a[t-1] + s[t]            a trace of the presynaptic signal s; λ: decay of the neurons behind
    δ[t] = ∂L[t]/∂u[t]                through the layers of step t alone
    dW   = Σ_t δ[t]·a[t]ᵀ,  db = Σ_t δ[t]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from spikekit.errors import InputError
from spikekit.layers import Operation
from spikekit.learning.decays import Source, behind, filters, neurons
from spikekit.learning.rule import Loss, Result, Rule, check_plain
from spikekit.learning.synapse import Credit, Listener, Pass, Synapse, passing, weight_layers
from spikekit.ops.lif import state_dtype
from spikekit.state import Session, State


@dataclass(frozen=True)
class OTTT(Rule):
    """Online training through time; arguments and errors of a call as in `Rule`.

    loss: called with the output of each step [1, B, ...], in order; the gradient is that of the mean over steps. Of
    earlier steps membranes, traces and outputs are kept, and nothing else: activations take the memory of one step.

    every_step: call `update` after each step (the paper's OTTT_O), else once at the end (OTTT_A).
    decay: of the traces. None: of the neurons behind each layer, as the equations have it, which is no trace at all
    for a readout without neurons. A number: for all layers, readout included, as in the authors' code. A mapping of
    layer names to numbers: for these. trace_bias: let the bias, too, count past steps (the gradient of a single layer
    is then exact); the authors' code does not. trace_input: trace the network's input; False: as in the authors' code.

    What is exact: Linear and Conv1d/2d/3d, their weights and biases, by the equations above; a CUBALIF's trace passes
    both of its filters. All other parameters, such as those of batch normalisation or learned thresholds, get the
    gradient of each step alone. The trace goes on through a reset. In train mode batch normalisation sees a step at a
    time. Spikes are those of `sk.run` called step by step. Refused: RecurrentLIF, decays that differ between neurons of
    a layer, torch's checkpoints and `sk.checkpoint_time`, compiled networks.
    """

    every_step: bool = False
    decay: float | Mapping[str, float] | None = None
    trace_bias: bool = False
    trace_input: bool = True

    def __post_init__(self) -> None:
        given = self.decay.values() if isinstance(self.decay, Mapping) else [self.decay]
        for value in given:
            if value is not None and not (
                isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
            ):
                raise InputError(f"OTTT: decay must be between 0 and 1, got {value!r}")

    def __call__(
        self,
        net: nn.Module,
        x: Tensor,
        loss: Loss,
        *,
        listen: Listener | None = None,
        update: Callable[[], object] | None = None,
    ) -> Result:
        self._check(net, x)
        check_plain(net, "OTTT")
        neurons(net, "OTTT")
        if self.every_step and update is None:
            raise InputError("OTTT: every_step=True needs update=..., which is called after every step")
        traces = Traces(self, net, listen)
        state: State | None = None
        outputs: Tensor | None = None
        total = x.new_zeros((), dtype=state_dtype(x.dtype))
        with passing(net, traces, "OTTT"):
            for t, x_t in enumerate(x.split(1)):
                output, state = traces.step(x_t, state)
                output = self._check_output(output, x_t)
                value = self._loss(loss, output, f" of step {t}")
                (value / len(x)).backward()
                total += value.detach() / len(x)
                if outputs is None:
                    # One piece: many small ones that stay would keep the heap from being used again.
                    outputs = output.new_empty((len(x), *output.shape[1:]))
                outputs[t] = output.detach()[0]
                if self.every_step and update is not None:
                    update()
        if not self.every_step and update is not None:
            update()
        return Result(total, cast(Tensor, outputs))


class Traces(Pass):
    """The passes of one sequence, a step each, and the traces between them."""

    # A trace is kept stage by stage, one a filter of the neurons behind; the last is what gradients see. The number
    # beside each is the trace of a bias, whose presynaptic signal is 1.

    def __init__(self, rule: OTTT, net: nn.Module, listen: Listener | None) -> None:
        super().__init__(listen)
        self.rule, self.net = rule, net
        self._paths = {id(module): path for path, module in net.named_modules()}
        # Where one decay is given for all, nothing needs to be known of the neurons.
        found = {} if isinstance(rule.decay, (int, float)) else neurons(net, "OTTT")
        self._filters = {name: filters(name, neuron, "OTTT") for name, neuron in found.items()}
        self._wanted = {name: {"drive", "spikes" if n.spiking else "membrane"} for name, n in found.items()}
        if isinstance(rule.decay, Mapping) and (unknown := set(rule.decay) - set(weight_layers(net))):
            raise InputError(f"OTTT: decay names {sorted(unknown)}; the weight layers are {sorted(weight_layers(net))}")
        self._traces: dict[Source, list[Tensor]] = {}
        self._ones: dict[Source, list[float]] = {}
        self._decays: dict[Source, tuple[float, ...]] | None = None
        self._calls: Counter[str] = Counter()
        self._running = False

    def step(self, x: Tensor, state: State | None) -> tuple[Any, State]:
        """The output of one step [1, B, ...], with gradients of this step alone, and the detached state behind it."""
        self._calls.clear()
        first = self._decays is None
        # The first step tells which neurons are behind a layer: their drives lead back to it. Its trace is its input.
        self._running = True
        try:
            with Session(self._paths, state, self._wanted if first else None) as session:
                output = self.net(x)
        finally:
            self._running = False
        if first:
            self._decays = self._find(session.traces)
        return output, pytree.tree_map(lambda v: v.detach() if isinstance(v, Tensor) else v, session.finish())

    def transmit(self, synapse: Synapse, operation: Operation, x: Tensor) -> Tensor:
        """The layer's output for x, with its trace in the place of x in the gradient of its weight."""
        name = self.names[id(synapse.layer)]
        if not self._running:
            raise InputError(
                f"OTTT: layer {name!r} is computed again in the backward pass, which would count its trace twice; "
                "leave torch.utils.checkpoint out"
            )
        source = (name, self._calls[name])
        self._calls[name] += 1
        credit = self._credit(source, x)
        credit.rows = self.report(synapse, credit.signal)
        return synapse.transmit(operation, x, credit)

    def _credit(self, source: Source, x: Tensor) -> Credit:
        signal = x.detach()
        # More digits for sums over time than half precision has.
        held = signal.to(state_dtype(x.dtype))
        if self._decays is None:
            # Where no gradient comes from, the network was entered.
            if self.rule.trace_input or x.requires_grad:
                self._traces[source] = [held]
            return Credit(signal, 1.0, source)
        if source not in self._decays:
            return Credit(signal, 1.0, source)
        stages, ones, one = self._traces[source], self._ones[source], 1.0
        if stages[0].shape != held.shape:
            raise InputError(
                f"OTTT: the input of layer {source[0]!r} has the shape {tuple(held.shape)}, and had "
                f"{tuple(stages[0].shape)} a step before"
            )
        for stage, decay in enumerate(self._decays[source]):
            held = stages[stage] = stages[stage] * decay + held
            one = ones[stage] = ones[stage] * decay + one
        return Credit(held, one if self.rule.trace_bias else 1.0, source)

    def _find(self, records: Mapping[str, list[Tensor]]) -> dict[Source, tuple[float, ...]]:
        """The decays of the traces that were begun in the first step."""
        drives = [(_path(name), trace[0]) for name, trace in records.items() if name.split(".")[-1] == "drive"]
        outputs = [trace[0] for name, trace in records.items() if name.split(".")[-1] != "drive"]
        rule = self.rule.decay
        given = rule if isinstance(rule, Mapping) else {}
        found = {}
        if not isinstance(rule, (int, float)):
            found = behind(drives, outputs, self._filters, given, "OTTT")
        decays = {}
        for source in list(self._traces):
            own = (float(rule),) if isinstance(rule, (int, float)) else found.get(source, ())
            own = (float(given[source[0]]),) if source[0] in given else own
            if any(own):
                decays[source] = own
                self._traces[source] *= len(own)
                self._ones[source] = [1.0] * len(own)
            else:
                del self._traces[source]
        return decays


def _path(record: str) -> str:
    """The path of the neuron that a recording such as "3.drive" or "3#2.drive" is of."""
    return record.rpartition(".")[0].partition("#")[0]
