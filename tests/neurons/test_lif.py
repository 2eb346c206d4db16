"""What a LIF, IF and LI are made of: settings, names, parameters that learn, and what they print."""

from __future__ import annotations

import pytest
import torch

import spikekit as sk


@pytest.mark.parametrize(("theirs", "ours"), [("subtract", "soft"), ("zero", "hard"), ("none", "none")])
def test_the_names_of_snntorch(theirs, ours):
    x = torch.randn(6, 2, 3) + 0.5
    expected = sk.LIF(reset=ours)(x)
    for lif in (sk.LIF(reset=theirs), sk.LIF(reset_mechanism=theirs)):
        assert lif.reset == ours
        assert torch.equal(lif(x), expected)


def test_defaults():
    assert repr(sk.LIF()) == "LIF(beta=0.9, threshold=1, reset='soft', surrogate=ATan(alpha=2.0))"
    assert repr(sk.LI()) == "LI(beta=0.9)"
    assert repr(sk.IF()) == "IF(beta=1, threshold=1, reset='soft', surrogate=ATan(alpha=2.0))"


def test_repr_shows_every_setting():
    lif = sk.LIF(
        torch.full((3,), 0.5),
        2.0,
        "hard",
        reset_quantum=1.5,
        surrogate=sk.surrogate.Triangle(0.5),
        detach_reset=True,
        inclusive=True,
        learn=("threshold", "beta"),
    )
    assert repr(lif) == (
        "LIF(beta=tensor[3], threshold=2, reset_quantum=1.5, reset='hard', surrogate=Triangle(width=0.5), "
        "inclusive=True, detach_reset=True, learn=('beta', 'threshold'))"
    )
    assert repr(sk.LI(0.25, learn="beta")) == "LI(beta=0.25, learn=('beta',))"


@pytest.mark.parametrize("shape", [(), (3,), (3, 4, 5)], ids=["one", "per channel", "per neuron"])
def test_learnable_parameters_start_at_their_values(shape):
    beta, threshold = torch.rand(shape) * 0.8 + 0.1, torch.rand(shape) + 0.5
    x = torch.randn(5, 2, 3, 4, 5, dtype=torch.float64) + 0.3
    fixed = sk.LIF(beta, threshold).double()
    learned = sk.LIF(beta, threshold, learn=("beta", "threshold")).double()
    torch.testing.assert_close(learned.beta, fixed.beta, rtol=1e-6, atol=0)
    torch.testing.assert_close(learned.threshold, fixed.threshold, rtol=1e-6, atol=0)
    assert torch.equal(learned(x), fixed(x))
    assert {name for name, _ in learned.named_parameters()} == {"beta_raw", "threshold_raw"}
    assert not list(fixed.parameters())


def test_no_optimiser_step_leaves_the_legal_range():
    lif = sk.LIF(0.9, 1.0, learn=("beta", "threshold"))
    li = sk.LI(0.9, learn=("beta",))
    parameters = [*lif.parameters(), *li.parameters()]
    for maximise in (False, True):
        optimiser = torch.optim.SGD(parameters, lr=0.5, maximize=maximise)
        for _ in range(3):
            li(lif(torch.rand(5, 2, 3))).sum().backward()
            optimiser.step()
            for neuron in (lif, li):
                assert 0 <= neuron.beta <= 1
            assert lif.threshold > 0


def test_learning_moves_what_learns_and_nothing_else():
    lif = sk.LIF(0.5, 1.0, learn="threshold", reset_quantum=0.7)
    before = {name: value.clone() for name, value in lif.state_dict().items()}
    optimiser = torch.optim.SGD(lif.parameters(), lr=0.1)
    x = torch.rand(8, 4, 3)
    few = lif(x).sum()
    for _ in range(10):
        optimiser.zero_grad()
        (-lif(x).sum()).backward()
        optimiser.step()
    assert lif(x).sum() > few
    changed = {name for name, value in lif.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"threshold_raw"}


def test_the_quantum_follows_a_learned_threshold_unless_it_is_given():
    x = torch.full((1, 1, 1), 3.0)
    follows, fixed = (
        sk.LIF(1.0, 1.0, learn="threshold"),
        sk.LIF(1.0, 1.0, learn="threshold", reset_quantum=1.0),
    )
    for lif, left in ((follows, 1.0), (fixed, 2.0)):
        with torch.no_grad():
            lif.threshold_raw.fill_(torch.log(torch.tensor(2.0)))
        assert sk.run(lif, x)[1][""]["v"].item() == pytest.approx(left)


@pytest.mark.parametrize("neuron", [sk.LIF(learn="beta"), sk.LI(learn="beta")], ids=str)
def test_a_learned_parameter_cannot_be_hidden_by_an_attribute(neuron):
    """An attribute of its name would read back as the new value while the neuron went on with the old one."""
    with pytest.raises(
        sk.errors.InputError, match=r"beta is learned and cannot be assigned.*beta_raw under torch.no_grad"
    ):
        neuron.beta = torch.tensor(0.1)
    assert neuron.beta.item() == pytest.approx(0.9)


def test_a_fixed_parameter_that_is_replaced_is_used():
    lif = sk.LIF(0.9, 1.0)
    lif.threshold = torch.tensor(2.0)
    assert lif(torch.full((1, 1, 1), 1.5)).item() == 0
    with pytest.raises(TypeError, match="cannot assign 'float' as buffer 'beta'"):
        lif.beta = 0.5


def test_the_reset_is_read_only():
    """A neuron whose reset could be set but not used (snnTorch #426) would be worse than a refusal."""
    with pytest.raises(AttributeError):
        sk.LIF().reset = "hard"


def test_if_is_a_lif_without_leak():
    x = torch.randn(9, 2, 3)
    assert torch.equal(sk.IF(0.7, "hard")(x), sk.LIF(1.0, 0.7, "hard")(x))
    with pytest.raises(sk.errors.InputError, match="IF: beta is 1 by definition"):
        sk.IF(learn=("beta",))


def test_the_parameters_given_are_copied():
    beta = torch.tensor([0.5, 0.5])
    lif = sk.LIF(beta)
    beta.fill_(9.0)
    assert lif.beta.tolist() == [0.5, 0.5]


class Adaptive(sk.Neuron):
    """A neuron of a user's own: its state has two tensors, and its threshold rises with its spikes."""

    carries = ("v", "rise")

    def integrate(self, x, state, keep):
        v, rise = (torch.zeros_like(x[0]),) * 2 if state is None else (state["v"], state["rise"])
        spikes, membranes = [], []
        for drive in x:
            u = 0.5 * v + drive
            s = (u > 1 + rise).to(x.dtype)
            v, rise = u - s, 0.5 * rise + s
            spikes.append(s)
            membranes.append(u)
        traces = {"drive": x, "membrane": torch.stack(membranes), "spikes": torch.stack(spikes)}
        return traces["spikes"], {"v": v, "rise": rise}, {what: traces[what] for what in keep}


def test_own_neuron_in_a_network():
    net = sk.Sequential(torch.nn.Linear(3, 4), Adaptive(), torch.nn.Linear(4, 2), sk.LI())
    x = torch.randn(8, 2, 3) * 3
    whole = net(x)
    first, state = sk.run(net, x[:3])
    second, state = sk.run(net, x[3:], state)
    assert torch.equal(torch.cat([first, second]), whole)
    assert {name: set(entry) for name, entry in state.items()} == {"1": {"v", "rise"}, "3": {"v"}}
    _, recorded = sk.record(net, x)
    assert 0 < recorded["1.spikes"].mean() < 1
    with pytest.raises(sk.errors.StateError, match=r"'1' \(Adaptive\).*\['v', 'rise'\], got \[v Tensor\]"):
        sk.run(net, x, {"1": {"v": state["1"]["v"]}, "3": state["3"]})


def test_own_neuron_without_equations():
    with pytest.raises(NotImplementedError, match=r"Neuron must define integrate\(x, state, keep\)"):
        sk.Neuron()(torch.zeros(1, 1, 1))
