"""Any norm of any sign, threshold, decay and reset: the fold fires the network's spikes and ends in its state."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

import spikekit as sk

sizes = st.floats(0.05, 5)
numbers = st.floats(-3, 3)


@given(
    weight=st.tuples(sizes, st.sampled_from([-1, 1])),
    bias=numbers,
    mean=numbers,
    var=st.floats(0, 10),
    threshold=sizes,
    quantum=sizes,
    beta=st.floats(0, 1),
    reset=st.sampled_from(["soft", "hard", "none"]),
    shape=st.sampled_from([(2,), (2, 3, 1)]),
)
def test_spikes_and_states(weight, bias, mean, var, threshold, quantum, beta, reset, shape):
    lif = sk.LIF(beta, threshold, reset, reset_quantum=quantum, norm=sk.MPBN(shape)).double().eval()
    with torch.no_grad():
        lif.norm.weight.fill_(weight[0] * weight[1])
        lif.norm.bias.fill_(bias)
        lif.norm.running_mean.fill_(mean)
        lif.norm.running_var.fill_(var)
        lif.norm.num_batches_tracked.fill_(1)
    x = torch.randn(12, 5, 2, 3, 1, dtype=torch.float64) * 2 + mean
    folded = sk.fold(lif)
    assert folded.flips == (weight[1] < 0)
    proof = sk.verify_fold(lif, x, folded)
    assert proof.away == 0
    if not proof.ties:
        (spikes, state), (found, end) = sk.run(lif, x), sk.run(folded, x)
        assert torch.equal(spikes, found)
        assert torch.equal(state[""]["v"], end[""]["v"])
