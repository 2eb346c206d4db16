"""What ALIF, the refractory LIF and the sigma-delta neuron have in common: fast paths against references, operators.

What is special to one of them is in the file of its name.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from types import ModuleType

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from spikekit import surrogate
from spikekit.ops import alif, paths, refractory, sigma_delta
from spikekit.ops.lif import LIFRule, state_dtype

CHOICES = itertools.product(("soft", "hard", "none"), (False, True), (False, True))
PERIOD = 2


@dataclass(frozen=True)
class Neuron:
    """How one neuron is called. Inputs: drive, states, parameters; outputs: spikes, traces, last states."""

    module: ModuleType
    cases: tuple
    states: tuple  # makers of the states that it starts from, given a shape
    parameters: int
    traces: int
    offset: float = 0.4
    constant_inputs: tuple = ()
    constant_outputs: tuple = ()
    saved: tuple | None = None
    quantum: int | None = None  # the parameter that matters with soft reset alone, counted from the last

    @property
    def name(self):
        return self.module.__name__.rpartition(".")[2]

    def __repr__(self):
        return self.name

    def inputs(self, shape=(6, 2, 3, 4, 5), dtype=torch.float32, rest=False, parameter=()):
        state = state_dtype(dtype)
        states = [None if rest else make(shape[1:]).to(state) for make in self.states]
        parameters = [torch.rand(parameter, dtype=state) * 0.5 + 0.4 for _ in range(self.parameters)]
        return [(torch.randn(shape) * 0.7 + self.offset).to(dtype), *states, *parameters]

    def run(self, case, *tensors, keep=False):
        keeps = "keep_activations" if self.module is sigma_delta else "keep_traces"
        return getattr(self.module, self.name)(*tensors, *self._rule(case), **{keeps: keep})

    def reference(self, case, *tensors):
        return getattr(self.module, f"{self.name}_reference")(*tensors, *self._rule(case))

    def _rule(self, case):
        return (PERIOD, case) if self.module is refractory else (case,)

    def choices(self, case):
        """Of the operator, behind the tensors: what the gradient depends on, and what it does not."""
        if self.module is sigma_delta:
            return (case,), ()
        rule = (case.reset, case.inclusive, case.detach_reset, *case.surrogate.encode())
        return rule, (PERIOD,) if self.module is refractory else ()

    @property
    def moving(self):
        """The inputs that have a gradient."""
        return [i for i in range(1 + len(self.states) + self.parameters) if i not in self.constant_inputs]

    @property
    def learning(self):
        """The outputs that have one."""
        return [i for i in range(1 + self.traces + len(self.states)) if i not in self.constant_outputs]


RULES = tuple(LIFRule(*choice, surrogate.ATan()) for choice in CHOICES)
ALIF = Neuron(alif, RULES, (torch.randn, torch.rand), 5, 2, quantum=-3)
REFRACTORY = Neuron(
    refractory,
    RULES,
    (torch.randn, lambda shape: torch.randint(0, 4, shape)),
    parameters=3,
    traces=2,
    offset=0.6,
    constant_inputs=(2,),
    constant_outputs=(2, 4),
    quantum=-1,
)
SIGMA_DELTA = Neuron(
    sigma_delta,
    ("relu", "none"),
    (torch.randn, torch.randn, lambda shape: torch.randn(shape) * 0.2),
    parameters=2,
    traces=1,
    offset=0.0,
    constant_inputs=(4,),
    constant_outputs=(4,),
    saved=(5,),
)
NEURONS = [ALIF, REFRACTORY, SIGMA_DELTA]
CASES = [(neuron, case) for neuron in NEURONS for case in neuron.cases]
CURVES = [LIFRule("soft", False, False, make()) for make in (surrogate.Sigmoid, surrogate.Triangle, surrogate.SechBump)]


def both(neuron, case, tensors):
    """The fast path and the reference as functions of the inputs that have a gradient, and these."""

    def of_moving(op):
        def outputs(*given):
            full = list(tensors)
            for index, value in zip(neuron.moving, given, strict=True):
                full[index] = value
            return op(case, *full)

        return outputs

    fast = of_moving(lambda *given: neuron.run(*given, keep=True))
    return fast, of_moving(neuron.reference), [tensors[index] for index in neuron.moving]


def only(outputs, *wanted):
    return tuple(index in wanted for index in range(outputs))


def every(neuron):
    """Use all outputs that have a gradient."""
    return only(1 + neuron.traces + len(neuron.states), *neuron.learning)


def ends(neuron):
    """Use the spikes and the last states, as training does: traces are for those who look."""
    return tuple(used and not 0 < index <= neuron.traces for index, used in enumerate(every(neuron)))


@pytest.mark.usefixtures("poison", "path")
@pytest.mark.parametrize(("neuron", "case"), CASES, ids=repr)
@pytest.mark.parametrize(
    ("parameter", "rest"),
    [((), False), ((3, 1, 1), False), ((3, 4, 5), False), ((3, 1, 1), True)],
    ids=["scalar", "per channel", "per neuron", "from rest"],
)
def test_rules(neuron, case, parameter, rest, equal_to_reference):
    tensors = neuron.inputs(dtype=torch.float64, parameter=parameter, rest=rest)
    (spikes, *_), grads = equal_to_reference(*both(neuron, case, tensors), ends(neuron))
    equal_to_reference(*both(neuron, case, tensors), every(neuron))
    assert 0.05 < (spikes != 0).double().mean() < 0.95
    unused = len(grads) + neuron.quantum if neuron.quantum and case.reset != "soft" else None
    assert all(g.abs().max() > 0 for index, g in enumerate(grads) if index != unused)


@pytest.mark.usefixtures("poison", "path")
@pytest.mark.parametrize("neuron", NEURONS, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("rest", [True, False])
def test_layouts_and_dtypes(neuron, dtype, layout, rest, equal_to_reference):
    x, *others = neuron.inputs(dtype=dtype, rest=rest, parameter=(3, 1, 1))
    outputs, _ = equal_to_reference(*both(neuron, neuron.cases[0], [layout(x), *others]), ends(neuron))
    assert [y.dtype for y in outputs] == [dtype, *[state_dtype(dtype)] * (len(outputs) - 1)]


@pytest.mark.usefixtures("poison", "path")
@pytest.mark.parametrize("neuron", NEURONS, ids=repr)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 4), (4, 1, 33), (2, 1, 1100), (3, 2, 17_000)], ids=str)
@pytest.mark.parametrize("parameter", [False, True], ids=["scalar", "per neuron"])
def test_shapes(neuron, shape, parameter, equal_to_reference):
    tensors = neuron.inputs(shape, torch.float64, parameter=shape[2:] if parameter else ())
    case = neuron.cases[len(neuron.cases) // 3]  # hard reset
    equal_to_reference(*both(neuron, case, tensors), ends(neuron))


@pytest.mark.usefixtures("poison", "path")
@pytest.mark.parametrize(("neuron", "wanted"), [(n, w) for n in NEURONS for w in n.learning], ids=repr)
@pytest.mark.parametrize(
    ("shape", "rest"), [((4, 2, 5), False), ((4, 2, 5), True), ((1, 2, 5), False), ((3, 2, 9000), False)], ids=str
)
def test_gradients_from_each_output_alone(neuron, wanted, shape, rest, equal_to_reference):
    tensors = neuron.inputs(shape, torch.float64, rest=rest)
    equal_to_reference(*both(neuron, neuron.cases[0], tensors), only(5, wanted))


@pytest.mark.usefixtures("path", "poison")
@pytest.mark.parametrize(("neuron", "wanted"), [(n, w) for n in NEURONS for w in range(len(n.moving))], ids=repr)
def test_one_gradient_at_a_time(neuron, wanted):
    fast, reference, tensors = both(neuron, neuron.cases[0], neuron.inputs((4, 2, 5), torch.float64))
    grads = []
    for op in (fast, reference):
        leaves = [a.clone().requires_grad_(index == wanted) for index, a in enumerate(tensors)]
        spikes, *others = op(*leaves)
        assert not any(others[index - 1].requires_grad for index in neuron.constant_outputs)
        last = [y for index, y in enumerate(others, 1) if index > neuron.traces and y.requires_grad]
        ((spikes * tensors[0]).sum() + sum(y.square().sum() for y in last)).backward()
        assert [leaf.grad is not None for leaf in leaves] == [index == wanted for index in range(len(leaves))]
        grads.append(leaves[wanted].grad)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("neuron", [ALIF, REFRACTORY], ids=repr)
@pytest.mark.parametrize("rule", CURVES, ids=lambda rule: type(rule.surrogate).__name__)
def test_other_surrogates(neuron, rule, equal_to_reference):
    equal_to_reference(*both(neuron, rule, neuron.inputs((5, 2, 7))), ends(neuron))


@pytest.mark.usefixtures("poison", "path")
@pytest.mark.parametrize(("neuron", "case"), CASES, ids=repr)
@pytest.mark.parametrize("parameter", [(), (8,)], ids=["scalar", "per neuron"])
def test_inference_gives_the_numbers_of_training(neuron, case, parameter):
    tensors = neuron.inputs((5, 3, 8), parameter=parameter)
    outputs, expected = neuron.run(case, *tensors), neuron.reference(case, *tensors)
    for index, (found, wanted) in enumerate(zip(outputs, expected, strict=True)):
        assert found is None if 0 < index <= neuron.traces else torch.equal(found, wanted)


@pytest.mark.parametrize("neuron", NEURONS, ids=repr)
def test_the_reference_can_be_forced(neuron, monkeypatch):
    tensors = neuron.inputs(rest=True)
    monkeypatch.setattr(paths, "_choice", "reference")
    forced = neuron.run(neuron.cases[0], *tensors)
    assert all(map(torch.equal, forced, neuron.reference(neuron.cases[0], *tensors)))


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("neuron", NEURONS, ids=repr)
@pytest.mark.parametrize("case", [0, -1])
@pytest.mark.parametrize(("keep", "rest"), [(True, False), (True, True), (False, True)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_opcheck(neuron, case, keep, rest, dtype):
    tensors = neuron.inputs((3, 2, 4), dtype, rest, (4,))
    for index in neuron.moving if keep else ():
        tensors[index] = None if tensors[index] is None else tensors[index].requires_grad_()
    choices = itertools.chain(*neuron.choices(neuron.cases[case]))
    torch.library.opcheck(getattr(torch.ops.spikekit, neuron.name).default, (*tensors, *choices, keep))


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("neuron", NEURONS, ids=repr)
@pytest.mark.parametrize("all_needed", [True, False])
@pytest.mark.parametrize("traces", [True, False])
def test_opcheck_backward(neuron, all_needed, traces):
    tensors = neuron.inputs((3, 2, 4), parameter=(4,))
    spikes, *kept = neuron.run(neuron.cases[0], *tensors, keep=True)[: 1 + neuron.traces]
    # The gradient of a sum is one number shown everywhere, with strides of zero.
    last = [torch.ones(()).expand(spikes.shape[1:]), None, torch.randn(spikes.shape[1:])][: len(neuron.states)]
    upstream = [torch.randn_like(spikes), *(torch.randn_like(spikes) if traces else None for _ in kept), *last]
    saved = range(1, len(tensors)) if neuron.saved is None else neuron.saved
    torch.library.opcheck(
        getattr(torch.ops.spikekit, f"{neuron.name}_backward").default,
        (
            *(upstream[index] for index in neuron.learning),
            *kept,
            *(tensors[index] for index in saved),
            *neuron.choices(neuron.cases[0])[0],
            [True, *[all_needed] * (len(neuron.moving) - 1)],
        ),
    )


@pytest.mark.parametrize("neuron", NEURONS, ids=repr)
def test_fake_kernel_knows_the_shapes(neuron):
    with FakeTensorMode():
        x, scalars = torch.empty(5, 2, 3, dtype=torch.float16), [torch.empty(()) for _ in range(neuron.parameters)]
        choices = itertools.chain(*neuron.choices(neuron.cases[0]))
        rest = [None] * len(neuron.states)
        outputs = getattr(torch.ops.spikekit, neuron.name)(x, *rest, *scalars, *choices, True)
    expected = [(5, 2, 3)] * (1 + neuron.traces) + [(2, 3)] * len(neuron.states)
    assert [tuple(y.shape) for y in outputs] == expected
    assert [y.dtype for y in outputs] == [torch.float16, *[torch.float32] * (len(expected) - 1)]


@pytest.mark.parametrize("neuron", NEURONS, ids=repr)
@pytest.mark.parametrize("batch", [1, 3, 130])
def test_threads_do_not_change_a_bit(neuron, batch):
    tensors = neuron.inputs((20, batch, 700))
    results, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(neuron.run(neuron.cases[0], *tensors, keep=True))
    finally:
        torch.set_num_threads(threads)
    assert all(map(torch.equal, *results))


@pytest.mark.parametrize("neuron", NEURONS, ids=repr)
def test_a_second_derivative_is_refused_not_wrong(neuron):
    x, *others = neuron.inputs((3, 2, 4), rest=True)
    spikes, *_ = neuron.run(neuron.cases[0], x.requires_grad_(), *others)
    (grad,) = torch.autograd.grad(spikes.sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivative"):
        grad.sum().backward()
