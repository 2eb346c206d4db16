"""A training run of a language model in one YAML file; `spikekit train shakespeare_astro --out runs/shakespeare`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch
from torch import nn

from spikekit.datasets import Corpus, TokenStreams, read_corpus
from spikekit.datasets.text import CORPORA
from spikekit.datasets.tokens import Tokenizer, check_kind, make_tokenizer
from spikekit.errors import InputError
from spikekit.keys import check_keys, choose, naming, number
from spikekit.language.checkpoint import LANGUAGE_MODELS, language_config
from spikekit.language.score import score_text
from spikekit.language.trainer import TextSettings, TextTrainer
from spikekit.models.astro_lm import PRESETS, AstroLM, AstroLMConfig, preset
from spikekit.train import seed_all

_SIZES = tuple(entry.name for entry in fields(AstroLMConfig) if entry.name != "vocabulary")


@dataclass(frozen=True)
class TextRecipe:
    """What a run on text is made of, in plain values.

    data: a name of `spikekit.datasets.text.CORPORA`. tokens: {"kind": "char"}, or "bpe" with its size. model: {"name":
    "astro_lm"} with a preset, and whatever of `AstroLMConfig` is to differ. batch: streams read side by side. length:
    tokens a piece, through which the gradient goes. training: see `TextSettings`. judged: held-out tokens that are
    scored while training.
    """

    data: str
    model: Mapping[str, Any]
    tokens: Mapping[str, Any] = field(default_factory=lambda: {"kind": "char"})
    batch: int = 16
    length: int = 64
    training: Mapping[str, Any] = field(default_factory=lambda: {"steps": 1000})
    judged: int = 20_000
    seed: int = 0

    def __post_init__(self) -> None:
        choose(self.data, CORPORA, "data")
        for key, least in (("batch", 1), ("length", 1), ("judged", 1), ("seed", 0)):
            value = getattr(self, key)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InputError(f"{key} must be a whole number, {least} or more, got {value!r}")
        check_keys(self.tokens, ("kind", "size"), "tokens")
        check_kind(choose(self.tokens.get("kind"), ("char", "bpe"), "tokens: kind"), self.tokens.get("size"))
        check_keys(self.model, ("name", "preset", *_SIZES), "model")
        choose(self.model.get("name"), LANGUAGE_MODELS, "model: name")
        if "preset" in self.model:
            choose(self.model["preset"], PRESETS, "model: preset")
        check_keys(self.training, tuple(entry.name for entry in fields(TextSettings)), "training")
        # What cannot be made is to be found before any data is loaded.
        with naming("training"):
            self.settings()
        with naming("model"):
            self.sizes(256)

    def settings(self) -> TextSettings:
        """How long and how fast."""
        given = dict(self.training)
        for key in ("seconds", "lr", "weight_decay", "warmup", "clip_norm"):
            if given.get(key) is not None:
                given[key] = number(given[key], key)
        return TextSettings(**given)

    def sizes(self, vocabulary: int) -> AstroLMConfig:
        """The network's configuration."""
        given = {key: value for key, value in self.model.items() if key not in ("name", "preset")}
        if "preset" in self.model:
            return preset(self.model["preset"], vocabulary, **given)
        return AstroLMConfig.of({"vocabulary": vocabulary, **given})

    def corpus(self) -> Corpus:
        """The text."""
        return read_corpus(self.data)

    def tokenizer(self, corpus: Corpus) -> Tokenizer:
        """What cuts it into tokens, made of the part that is trained on."""
        return make_tokenizer(self.tokens["kind"], corpus.train, self.tokens.get("size"))

    def build(self, vocabulary: int) -> AstroLM:
        """The network, with the random weights of the seed."""
        seed_all(self.seed)
        return AstroLM(self.sizes(vocabulary))

    def trainer(
        self, net: nn.Module, corpus: Corpus, tokenizer: Tokenizer, device: torch.device, **settings: Any
    ) -> TextTrainer:
        """What trains `net` on the corpus; settings: of `TextTrainer`."""
        net.to(device)
        streams = TokenStreams(tokenizer.encode(corpus.train), self.batch, self.length)

        def judge() -> float:
            return score_text(net, corpus.valid, tokenizer, most=self.judged).bits_per_character

        config = language_config(net, tokenizer, recipe=asdict(self))
        return TextTrainer(net, streams, judge, self.settings(), config=config, **settings)


def is_text(values: Any) -> bool:
    """Whether the values of a YAML file are those of a run on text."""
    return isinstance(values, Mapping) and values.get("data") in CORPORA


def make_text_recipe(values: Mapping[str, Any], where: str) -> TextRecipe:
    """The recipe of the values in the file `where`. Raises InputError naming the file, the key and the fix."""
    check_keys(values, [entry.name for entry in fields(TextRecipe)], where)
    if "model" not in values:
        raise InputError(f"{where}: the key 'model' is missing")
    with naming(where):
        return TextRecipe(**values)
