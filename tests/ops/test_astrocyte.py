"""The LIF modulated by astrocytes: both fast paths against the reference, on every rule, layout and output."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import spikekit as sk
from spikekit import surrogate
from spikekit.ops.astrocyte import AstrocyteRule, astrocyte_lif, astrocyte_reference
from spikekit.ops.lif import LIFRule, state_dtype

CURVE = surrogate.ATan().encode()
ACTS = ("gain", "threshold", "plasticity")
OWN = (1.0, 0.5, 0.0)
CHOICES = list(itertools.product(("soft", "hard", "none"), (False, True), (False, True)))
SOFT = LIFRule("soft", False, False, surrogate.ATan())
# Spikes, membranes, calcium, last v, last c.
USED = (True, False, True, True, True)


def both(rule, acts_on="gain", own=1.0):
    astrocyte = AstrocyteRule(acts_on, own)
    return (
        (lambda *i: astrocyte_lif(*i, rule, astrocyte, keep_traces=True)),
        (lambda *i: astrocyte_reference(*i, rule, astrocyte)),
    )


def inputs(shape=(7, 2, 4, 3, 5), dtype=torch.float32, rest=False, parameter=(), own=1.0, domains=2, scales=3):
    """Calcium that matters: fast decays, large weights of both signs."""
    state = state_dtype(dtype)
    batch = shape[1]
    v0 = None if rest else torch.randn(shape[1:], dtype=state)
    c0 = None if rest else torch.rand(batch, domains, scales, dtype=state)
    sensed = None if own == 1 else torch.rand(shape[0], batch, domains, dtype=state)
    parameters = [torch.rand(parameter, dtype=state) * 0.5 + 0.4 for _ in range(3)]
    glia = [
        torch.rand(domains, scales, dtype=state) * 0.8 + 0.1,
        torch.randn(domains, scales, dtype=state) * 3,
        torch.randn(domains, dtype=state) * 0.3,
        torch.rand(domains, dtype=state) * 0.8 - 0.9,
    ]
    return [(torch.randn(shape) * 0.7 + 0.5).to(dtype), v0, c0, sensed, *parameters, *glia]


@pytest.mark.usefixtures("poison", "path")
@pytest.mark.parametrize(("reset", "inclusive", "detach"), CHOICES)
@pytest.mark.parametrize(("acts_on", "own"), list(itertools.product(ACTS, OWN)))
def test_rules(reset, inclusive, detach, acts_on, own, equal_to_reference):
    rule = LIFRule(reset, inclusive, detach, surrogate.ATan())
    tensors = inputs((5, 2, 4, 3, 2), dtype=torch.float64, parameter=() if inclusive else (4, 3, 2), own=own, scales=2)
    (spikes, *_), grads = equal_to_reference(*both(rule, acts_on, own), tensors, USED)
    assert 0.05 < spikes.mean() < 0.95
    if acts_on != "plasticity":
        present = [name for name, a in enumerate(tensors) if a is not None]
        assert all(g.abs().max() > 0 for index, g in zip(present, grads, strict=True) if index != 6 or reset == "soft")


@pytest.mark.usefixtures("poison", "path")
@pytest.mark.parametrize(("acts_on", "own"), list(zip(ACTS, OWN, strict=True)))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("rest", [True, False])
def test_layouts_and_dtypes(acts_on, own, dtype, layout, rest, equal_to_reference):
    x, *others = inputs((4, 2, 4, 2, 3), dtype=dtype, rest=rest, own=own, parameter=(4, 1, 1))
    outputs, _ = equal_to_reference(*both(SOFT, acts_on, own), [layout(x), *others], USED)
    state = state_dtype(dtype)
    assert [y.dtype for y in outputs] == [dtype, state, state, state, state]


@pytest.mark.usefixtures("poison", "path")
@pytest.mark.parametrize("acts_on", ["gain", "threshold"])
@pytest.mark.parametrize(
    ("shape", "domains", "scales"),
    [
        ((1, 1, 1), 1, 1),
        ((1, 3, 4), 4, 2),
        ((5, 1, 33), 3, 5),
        ((3, 2, 1100), 1, 2),
        ((3, 2, 8, 33, 20), 2, 3),
    ],
    ids=str,
)
@pytest.mark.parametrize("per_neuron", [False, True])
def test_shapes(acts_on, shape, domains, scales, per_neuron, equal_to_reference):
    """Domains of one neuron, of more than a strip, and no multiple of one."""
    parameter = shape[2:] if per_neuron else ()
    tensors = inputs(shape, torch.float64, parameter=parameter, domains=domains, scales=scales)
    rule = LIFRule("hard", False, False, surrogate.ATan())
    equal_to_reference(*both(rule, acts_on), tensors, USED)


@pytest.mark.usefixtures("poison", "path")
@pytest.mark.parametrize("wanted", range(5))
@pytest.mark.parametrize("acts_on", ACTS)
@pytest.mark.parametrize("rest", [True, False])
def test_gradients_from_each_output_alone(wanted, acts_on, rest, equal_to_reference):
    use = tuple(index == wanted for index in range(5))
    tensors = inputs((5, 2, 6), torch.float64, rest=rest, own=0.5)
    equal_to_reference(*both(SOFT, acts_on, 0.5), tensors, use)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("wanted", range(11))
@pytest.mark.parametrize("acts_on", ["gain", "threshold"])
def test_one_gradient_at_a_time(wanted, acts_on, poison):
    tensors, grads = inputs((4, 2, 6), torch.float64, own=0.5), []
    for op in both(SOFT, acts_on, 0.5):
        leaves = [a.clone().requires_grad_(index == wanted) for index, a in enumerate(tensors)]
        spikes, _, _, v, c = op(*leaves)
        ((spikes * tensors[0]).sum() + v.square().sum() + c.square().sum()).backward()
        assert [leaf.grad is not None for leaf in leaves] == [index == wanted for index in range(11)]
        grads.append(leaves[wanted].grad)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(
    "curve", [surrogate.Sigmoid(), surrogate.Triangle(), surrogate.SechBump(), sk.MPR().surrogate(0.6, None)], ids=str
)
def test_other_surrogates(curve, equal_to_reference):
    rule = LIFRule("soft", False, False, curve)
    equal_to_reference(*both(rule), inputs((5, 2, 8)), USED)


@pytest.mark.usefixtures("poison", "path")
@pytest.mark.parametrize("acts_on", ACTS)
@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("parameter", [(), (8,)], ids=["scalar", "per neuron"])
def test_inference_gives_the_numbers_of_training(acts_on, own, parameter):
    tensors = inputs((5, 3, 8), parameter=parameter, own=own)
    rule = AstrocyteRule(acts_on, own)
    expected = astrocyte_reference(*tensors, SOFT, rule)
    spikes, membranes, calcium, v, c = astrocyte_lif(*tensors, SOFT, rule)
    assert membranes is None
    assert calcium is None
    assert all(map(torch.equal, (spikes, v, c), (expected[0], *expected[3:])))


@pytest.mark.usefixtures("path")
def test_long_sequences_stay_bit_equal(equal_to_reference):
    """Spikes of 300 steps feed back on one another: one bit that differs would be seen."""
    tensors = inputs((300, 2, 60), own=0.5, scales=2)
    tensors[7] = torch.exp(-1 / torch.tensor([[5.0, 70.0], [11.0, 200.0]]))
    with torch.no_grad():
        rule = AstrocyteRule("gain", 0.5)
        found = astrocyte_lif(*tensors, SOFT, rule, keep_traces=True)
        expected = astrocyte_reference(*tensors, SOFT, rule)
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("op", [astrocyte_reference, astrocyte_lif], ids=["reference", "sequence"])
@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
@pytest.mark.parametrize("acts_on", ["gain", "threshold"])
@pytest.mark.parametrize("own", OWN)
def test_gradcheck_on_a_smooth_spike(op, reset, acts_on, own, poison, smooth_spike):
    """The step replaced by its surrogate's antiderivative: see test_lif_gradcheck."""
    curve = smooth_spike(surrogate.ATan(1.0))
    tensors = inputs((3, 2, 4), torch.float64, own=own, scales=2, parameter=(4,))
    leaves = [None if a is None else a.requires_grad_() for a in tensors]
    rule = LIFRule(reset, False, False, curve)

    def outputs(*i):
        return [y for y in op(*i, rule, AstrocyteRule(acts_on, own)) if y is not None]

    assert torch.autograd.gradcheck(outputs, leaves)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(("keep", "rest"), [(True, False), (True, True), (False, True)])
@pytest.mark.parametrize("acts_on", ["gain", "threshold"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_opcheck(keep, rest, acts_on, dtype):
    own = 1.0 if rest else 0.5
    tensors = inputs((3, 2, 4), dtype, rest, (4,), own)
    if keep:
        tensors = [None if a is None else a.requires_grad_() for a in tensors]
    choices = ("soft", False, False, *CURVE, acts_on, own, keep)
    torch.library.opcheck(torch.ops.spikekit.astrocyte.default, (*tensors, *choices))


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("needs", [[True] * 11, [True, *[False] * 10]], ids=["all", "x"])
@pytest.mark.parametrize("traces", [True, False])
@pytest.mark.parametrize("acts_on", ACTS)
def test_opcheck_backward(needs, traces, acts_on):
    x, v0, c0, _, *parameters = inputs((3, 2, 4), parameter=(4,))
    calcium, end = torch.rand(3, 2, 2, 3), torch.ones(()).expand(2, 4)
    of_traces = (torch.randn_like(x), torch.randn_like(calcium)) if traces else (None, None)
    drive = x if acts_on == "gain" else None
    tensors = (torch.randn_like(x), *of_traces, end, None, x.clone(), calcium, torch.rand(3, 2, 2), drive, v0, c0)
    choices = ("soft", False, False, *CURVE, acts_on, 1.0, needs)
    torch.library.opcheck(torch.ops.spikekit.astrocyte_backward.default, (*tensors, *parameters, *choices))


def test_fake_kernel_knows_the_shapes():
    with FakeTensorMode():
        x, scalars = torch.empty(5, 2, 4, dtype=torch.float16), [torch.empty(()) for _ in range(3)]
        glia = [torch.empty(2, 3), torch.empty(2, 3), torch.empty(2), torch.empty(2)]
        choices = ("soft", False, False, *CURVE, "gain", 1.0, True)
        outputs = torch.ops.spikekit.astrocyte(x, None, None, None, *scalars, *glia, *choices)
    assert [tuple(y.shape) for y in outputs] == [(5, 2, 4), (5, 2, 4), (5, 2, 2, 3), (5, 2, 2), (2, 4), (2, 2, 3)]
    assert [y.dtype for y in outputs] == [torch.float16, *[torch.float32] * 5]


@pytest.mark.parametrize("acts_on", ACTS)
def test_threads_do_not_change_a_bit(acts_on):
    tensors = [a.requires_grad_() for a in inputs((20, 5, 700), own=0.5)]
    results, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            outputs = astrocyte_lif(*tensors, SOFT, AstrocyteRule(acts_on, 0.5))
            loss = outputs[0].sum() + outputs[4].sum()
            results.append([*outputs, *torch.autograd.grad(loss, tensors)])
    finally:
        torch.set_num_threads(threads)
    assert all(map(torch.equal, *results))


def test_transforms_get_the_reference():
    x, _, _, _, *rest = inputs((4, 2, 6), rest=True)
    rule = AstrocyteRule("gain", 1.0)

    def loss(drive):
        return astrocyte_lif(drive, None, None, None, *rest, SOFT, rule)[0].sum()

    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(leaf), leaf)
    torch.testing.assert_close(torch.func.grad(loss)(x), expected)


def test_a_second_derivative_is_refused():
    tensors = [None if a is None else a.requires_grad_() for a in inputs((3, 2, 4))]
    spikes, *_ = astrocyte_lif(*tensors, SOFT, AstrocyteRule("gain", 1.0))
    (grad,) = torch.autograd.grad(spikes.sum(), tensors[0], create_graph=True)
    with pytest.raises(RuntimeError, match="second derivative"):
        grad.sum().backward()


def test_only_a_gain_keeps_the_drive():
    kept = {}
    for acts_on in ACTS:
        tensors = [None if a is None else a.requires_grad_() for a in inputs((3, 2, 4))]
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda a, saved=saved: saved.append(a.shape) or a, lambda a: a):
            astrocyte_lif(*tensors, SOFT, AstrocyteRule(acts_on, 1.0))
        kept[acts_on] = saved.count((3, 2, 4))
    assert kept == {"gain": 2, "threshold": 1, "plasticity": 1}
