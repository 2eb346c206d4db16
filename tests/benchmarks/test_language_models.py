from __future__ import annotations

import pytest
import torch

import spikekit as sk
from benchmarks.language_models import NAMES, Attention, make
from spikekit.language.generate import state_bytes
from spikekit.models import AstroLM, AstroLMConfig

CONFIG = AstroLMConfig(11, width=48, layers=2)


def tokens(steps=24, batch=3):
    return torch.randint(11, (steps, batch))


@pytest.mark.parametrize("name", NAMES)
def test_all_are_of_about_as_many_parameters(name):
    wanted = sum(p.numel() for p in AstroLM(CONFIG).parameters())
    assert sum(p.numel() for p in make(name, CONFIG).parameters()) == pytest.approx(wanted, rel=0.15)


@pytest.mark.parametrize("name", NAMES)
def test_all_carry_their_state_and_look_back_alone(name):
    net, x = make(name, CONFIG).eval(), tokens()
    changed = x.clone()
    changed[15:] = (changed[15:] + 1) % 11
    with torch.no_grad():
        whole, _ = sk.run(net, x)
        assert torch.allclose(net(x), whole)
        assert torch.allclose(net(changed)[:15], whole[:15], atol=1e-5)
        assert not torch.allclose(net(changed)[15:], whole[15:], atol=1e-3)
        state, pieces = None, []
        for piece in x.split((7, 1, 16)):
            logits, state = sk.run(net, piece, state)
            pieces.append(logits)
    assert torch.allclose(torch.cat(pieces), whole, atol=1e-5)


def test_what_grows_and_what_does_not():
    sizes = {}
    for name, window in (("astro", None), ("lstm", None), ("transformer", None), ("transformer", 8)):
        net = make(name, CONFIG, window)
        with torch.no_grad():
            states = [sk.run(net, tokens(length))[1] for length in (10, 24)]
        sizes[name, window] = [state_bytes(state) for state in states]
    assert sizes["transformer", None][1] == 2.4 * sizes["transformer", None][0]
    assert all(first == second for key, (first, second) in sizes.items() if key != ("transformer", None))


def test_a_window_is_all_that_is_seen():
    attention = Attention(8, 2, 4)
    x = torch.randn(12, 1, 8)
    changed = x.clone()
    changed[:7] += 1
    difference = (attention(x) - attention(changed)).abs().amax((1, 2))
    # Step 10 sees steps 6 to 10, step 11 sees 7 to 11.
    assert difference[10] > 1e-3
    assert difference[11] < 1e-6
