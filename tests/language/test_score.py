from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from spikekit.datasets import CharTokenizer
from spikekit.errors import InputError
from spikekit.language import score_text
from spikekit.language.score import token_loss


class Bigram(nn.Module):
    """Knows a text in which a token is always followed by the next, with 90 %."""

    def __init__(self, vocabulary):
        super().__init__()
        chances = torch.full((vocabulary, vocabulary), 0.1 / (vocabulary - 1))
        chances[torch.arange(vocabulary), (torch.arange(vocabulary) + 1) % vocabulary] = 0.9
        self.table = nn.Parameter(chances.log())

    def forward(self, tokens):
        return self.table[tokens]


def test_scores_are_those_of_hand():
    text = "abcd efgh\n" * 20
    tokenizer = CharTokenizer("".join(sorted(set(text))))
    net = Bigram(tokenizer.size).train()
    score = score_text(net, text, tokenizer, batch=1, steps=7)
    pairs = list(zip(tokenizer.encode(text)[:-1].tolist(), tokenizer.encode(text)[1:].tolist(), strict=True))
    nats = -sum(float(net.table.detach()[a, b]) for a, b in pairs)
    assert score.nats == pytest.approx(nats, rel=1e-5)
    assert score.tokens == len(text) - 1
    assert score.bits_per_character == pytest.approx(nats / math.log(2) / (len(text) - 1), rel=1e-5)
    assert score.perplexity == pytest.approx(math.exp(nats / (len(text) - 1)), rel=1e-5)
    # Two words and a line's end, twenty times.
    assert score.words == pytest.approx(60 * (len(text) - 1) / len(text))
    assert net.training
    few = score_text(net, text, tokenizer, batch=1, steps=7, most=20)
    assert few.tokens == 21
    assert few.bits_per_character == pytest.approx(score.bits_per_character, rel=0.5)


def test_steps_at_which_nothing_is_asked_are_left_out():
    logits = torch.randn(3, 2, 5)
    targets = torch.tensor([[-100, -100], [1, -100], [2, 3]])
    chosen = [(1, 0, 1), (2, 0, 2), (2, 1, 3)]
    expected = -sum(logits.log_softmax(-1)[place] for place in chosen) / 3
    assert torch.allclose(token_loss(logits, targets), expected)
    with pytest.raises(InputError, match=r"logits \[T, B, V\] for targets \(3, 2\), got \(2, 3, 5\)"):
        token_loss(logits.transpose(0, 1), targets)
