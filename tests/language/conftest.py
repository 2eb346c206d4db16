from __future__ import annotations

import pytest
import torch

from spikekit.datasets import CharTokenizer, TokenStreams
from spikekit.language import TextSettings, TextTrainer, score_text
from spikekit.language.checkpoint import language_config
from spikekit.models import AstroLM, AstroLMConfig

TEXT = "the quick brown fox jumps over the lazy dog. " * 40


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tokenizer():
    return CharTokenizer(TEXT)


@pytest.fixture
def make(tokenizer):
    """Makes a trainer of a small network on `TEXT`."""

    def made(folder=None, steps=30, seed=0, **changes):
        torch.manual_seed(seed)
        net = AstroLM(AstroLMConfig(tokenizer.size, width=24, layers=1))
        streams = TokenStreams(tokenizer.encode(TEXT), 4, 20)
        settings = TextSettings(**{"steps": steps, "judge": 3, "lr": 2e-2} | changes)
        config = language_config(net, tokenizer)

        def judge():
            return score_text(net, TEXT[:300], tokenizer, batch=2).bits_per_character

        return TextTrainer(net, streams, judge, settings, run_dir=folder, config=config, quiet=True)

    return made
