from __future__ import annotations

import pytest
import torch

import spikekit as sk
from spikekit.errors import InputError
from spikekit.language import Continuation
from spikekit.language.generate import state_bytes
from spikekit.models import AstroLM, AstroLMConfig


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return AstroLM(AstroLMConfig(9, width=16, layers=2))


PROMPT = torch.tensor([1, 2, 3, 4])


def test_it_takes_the_likeliest_as_the_whole_pass_would(net):
    made = list(Continuation(net, PROMPT, 20, temperature=0))
    text = torch.cat([PROMPT, torch.tensor(made)])
    with torch.no_grad():
        expected = net(text[:-1, None])[len(PROMPT) - 1 :, 0].argmax(-1)
    assert made == expected.tolist()


def test_draws_are_those_of_the_seed(net):
    first, same, other = (list(Continuation(net, PROMPT, 30, seed=seed)) for seed in (3, 3, 4))
    assert first == same != other
    assert list(Continuation(net, PROMPT, 30, seed=3, top_k=1)) == list(Continuation(net, PROMPT, 30, temperature=0))


def test_it_begins_anew_each_time(net):
    more = Continuation(net, PROMPT, 20, temperature=0)
    assert list(more) == list(more)


def test_chances_are_those_of_the_network(net):
    with torch.no_grad():
        chances = net.eval()(PROMPT[:, None])[-1, 0].softmax(0)
    drawn = [next(iter(Continuation(net, PROMPT, 1, temperature=1.0, seed=seed))) for seed in range(300)]
    counts = torch.bincount(torch.tensor(drawn), minlength=9) / 300
    assert (counts - chances).abs().max() < 0.1


def test_what_it_took(net):
    more = Continuation(net, PROMPT, 10)
    assert (more.tokens_per_second, more.state_bytes) == (0, 0)
    tokens = list(more)
    assert more.tokens_per_second > 0
    with torch.no_grad():
        _, state = sk.run(net, PROMPT[:, None])
    assert more.state_bytes == state_bytes(state)
    # The last token was drawn and never read.
    assert {layer.neuron_steps for layer in more.layers if layer.neurons == 16} == {
        16 * (len(PROMPT) + len(tokens) - 1)
    }
    assert any(layer.rate > 0 for layer in more.layers)


def test_it_may_be_left_early_and_lets_the_weights_go(net):
    more = iter(Continuation(net, PROMPT, 10))
    next(more)
    more.close()
    assert all(getattr(layer, "_held", None) is None for layer in net.modules())
    assert not any(layer._forward_hooks for layer in net.modules())


@pytest.mark.parametrize(
    ("prompt", "values", "message"),
    [
        (PROMPT[:0], {}, "at least one"),
        (PROMPT[None], {}, "at least one"),
        (PROMPT, {"temperature": -1.0}, "temperature must be 0 or more"),
        (PROMPT, {"top_k": 0}, "top_k above 0"),
    ],
)
def test_mistakes_are_named(net, prompt, values, message):
    with pytest.raises(InputError, match=message):
        Continuation(net, prompt, 3, **values)
