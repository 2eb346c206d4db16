"""`sk.FoldedLIF` by itself: literal voltages in both directions, and the refusals of every neuron."""

from __future__ import annotations

import pytest
import torch

import spikekit as sk
from spikekit.errors import InputError, StateError
from spikekit.ops.lif import LIFRule


def folded(threshold, sign, reset="soft", quantum=0.5, beta=0.5, inclusive=False):
    numbers = (torch.tensor(value) for value in (beta, threshold, quantum, sign, 1.0))
    return sk.FoldedLIF(*numbers, LIFRule(reset, inclusive, False, sk.surrogate.ATan()))


@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
@pytest.mark.parametrize("inclusive", [False, True])
def test_voltages(reset, inclusive):
    """Two neurons, one above 0.25, one below -0.25; multiples of powers of two, so that all is exact."""
    x = torch.tensor([[0.5, -0.5], [0.25, 0.5], [-0.25, -0.5], [0.25, -0.25], [-1.0, 1.0]]).unsqueeze(1)
    lif = folded([0.25, -0.25], [1.0, -1.0], reset, inclusive=inclusive)
    spikes, seen = sk.record(lif, x, "membrane")
    v = torch.zeros(1, 2)
    for t in range(5):
        u = 0.5 * v + x[t]
        above = u[:, 0] >= 0.25 if inclusive else u[:, 0] > 0.25
        below = u[:, 1] <= -0.25 if inclusive else u[:, 1] < -0.25
        s = torch.stack([above, below], 1).float()
        v = {"soft": u - 0.5 * s, "hard": u * (1 - s), "none": u}[reset]
        assert torch.equal(seen["membrane"][t], u)
        assert torch.equal(spikes[t], s)
    assert torch.equal(sk.run(lif, x)[1][""]["v"], v)
    assert 0 < spikes.mean() < 1


def test_a_threshold_below_zero_fires_from_rest():
    assert bool((folded([-0.1], [1.0], "hard")(torch.zeros(4, 2, 1)) == 1).all())
    assert bool((folded([0.1], [-1.0], "hard")(torch.zeros(4, 2, 1)) == 1).all())


def test_repr():
    assert repr(folded([0.25, -0.25], [1.0, -1.0])) == (
        "FoldedLIF(beta=0.5, threshold=-0.25..0.25, reset='soft', quantum=0.5, flipped=1 of 2)"
    )
    assert repr(folded([0.5], [1.0], "hard", inclusive=True)) == (
        "FoldedLIF(beta=0.5, threshold=0.5, reset='hard', inclusive=True)"
    )


def test_refusals():
    lif = folded([0.25, -0.25], [1.0, -1.0])
    with pytest.raises(InputError, match="threshold holds values that are not finite"):
        folded([float("nan")], [1.0])
    with pytest.raises(InputError, match=r"threshold has the shape \(2,\), which does not fit the drive \(3, 1, 4\)"):
        lif(torch.zeros(3, 1, 4))
    with pytest.raises(InputError, match=r"the drive holds nan at"):
        lif(torch.full((3, 1, 2), float("nan")))
    with pytest.raises(StateError, match="batch of 1"):
        sk.run(lif, torch.zeros(3, 2, 2), {"": {"v": torch.zeros(1, 2)}})
