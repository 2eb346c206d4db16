"""How well a language model foretells a text: bits a character, perplexity a token and a word."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikekit.datasets import TokenStreams
from spikekit.datasets.tokens import Tokenizer
from spikekit.errors import InputError
from spikekit.state import State, run


@dataclass(frozen=True)
class TextScore:
    """The surprise of a text: nats in all, over so many tokens, which stand for so many characters and words.

    characters, words: in proportion, where not every token of the text was scored. A word ends at white space, and each
    line's end counts as one, as in the usual perplexity of WikiText-2.
    """

    nats: float
    tokens: int
    characters: float
    words: float

    @property
    def bits_per_character(self) -> float:
        """Return -log2 p of the text, a character."""
        return self.nats / math.log(2) / self.characters

    @property
    def perplexity(self) -> float:
        """Return the perplexity a token."""
        return math.exp(self.nats / self.tokens)

    @property
    def word_perplexity(self) -> float:
        """Return the perplexity a word: that of every token of the word together."""
        return math.exp(min(self.nats / self.words, 700.0))


def score_text(
    net: nn.Module, text: str, tokenizer: Tokenizer, *, batch: int = 8, steps: int = 256, most: int | None = None
) -> TextScore:
    """The score of `net`, which maps tokens [T, B] to logits [T, B, V], on `text`, in eval mode and on its device.

    The text is read as `batch` streams from rest, `steps` tokens at a time with the state carried. most: tokens after
    which to stop; None: all. Modes of the modules are left as they were found.
    """
    tokens = tokenizer.encode(text)
    streams = TokenStreams(tokens, batch, steps)
    device = next(net.parameters()).device
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    nats, count = 0.0, 0
    state: State | None = None
    try:
        with torch.no_grad():
            for x, y in streams:
                logits, state = run(net, x.to(device), state)
                nats += float(token_loss(logits, y.to(device), "sum"))
                count += y.numel()
                if most is not None and count >= most:
                    break
    finally:
        for module, mode in modes:
            module.training = mode
    share = count / len(tokens)
    words = len(text.split()) + text.count("\n")
    return TextScore(nats, count, len(text) * share, words * share)


def token_loss(logits: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """Cross-entropy in nats of logits [T, B, V] and targets int64 [T, B]; steps of target -100 are left out."""
    if logits.ndim != 3 or logits.shape[:2] != targets.shape:
        raise InputError(
            f"the network must return logits [T, B, V] for targets {tuple(targets.shape)}, got {tuple(logits.shape)}"
        )
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction=reduction)
