"""A trained language model in one safetensors file: weights, sizes and tokeniser."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from spikekit.datasets.tokens import Tokenizer, tokenizer_from_config
from spikekit.errors import CheckpointError, InputError
from spikekit.models.astro_lm import AstroLM, AstroLMConfig
from spikekit.train import load_weights, read_config

LANGUAGE_MODELS = ("astro_lm",)


def language_config(net: nn.Module, tokenizer: Tokenizer, **more: Any) -> dict[str, Any]:
    """What `load_language_model` rebuilds `net` from, as plain values; more: kept beside it."""
    if not isinstance(net, AstroLM):
        raise InputError(f"language_config: a checkpoint can be made of an AstroLM, got {type(net).__name__}")
    return {"language": {"model": "astro_lm", "settings": net.settings(), "tokens": tokenizer.config()}} | more


def load_language_model(path: str | os.PathLike[str]) -> tuple[AstroLM, Tokenizer, dict[str, Any]]:
    """The network, in eval mode, its tokeniser, and the configuration stored in a checkpoint or run folder.

    Raises CheckpointError for a file that is missing, damaged or of no language model.
    """
    file = Path(path)
    file = file / "last.safetensors" if file.is_dir() else file
    if not file.exists():
        raise CheckpointError(f"{file}: no such checkpoint; train one with: spikekit train shakespeare_astro --out RUN")
    config = read_config(file)
    found = config.get("language")
    if not isinstance(found, Mapping) or found.get("model") not in LANGUAGE_MODELS:
        raise CheckpointError(f"{file}: holds no language model; `spikekit evaluate` reads networks that classify")
    try:
        net = AstroLM(AstroLMConfig.of(found["settings"]))
        tokenizer = tokenizer_from_config(found["tokens"])
    except (KeyError, TypeError, AttributeError, InputError) as error:
        raise CheckpointError(f"{file}: its description of the language model is damaged ({error})") from error
    load_weights(net, file)
    return net.eval(), tokenizer, config
