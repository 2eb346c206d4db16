"""What `spikekit train` does with a recipe on text, and what `spikekit generate` does."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections import deque
from dataclasses import replace
from pathlib import Path

import torch

from spikekit.datasets.tokens import UNKNOWN
from spikekit.errors import InputError, require
from spikekit.language.checkpoint import load_language_model
from spikekit.language.generate import Continuation
from spikekit.language.recipe import TextRecipe
from spikekit.language.score import score_text

_PICTURES = (".png", ".svg", ".pdf")
# Tokens of the end that are read for a picture: calcium settles long before the part that is drawn.
_DRAWN = 10_000
# No character is longer in bytes.
_LONGEST = 4


def train_text(recipe: TextRecipe, given: Namespace) -> int:
    """Train, or go on; the test text is read once, with the weights of the last step."""
    for option in ("epochs", "precision"):
        if getattr(given, option) is not None:
            raise InputError(f"--{option} does not go with text: a run has steps or seconds, and float32")
    if given.devices not in (1, "auto"):
        raise InputError("--devices: text is trained on one device")
    recipe = recipe if given.seed is None else replace(recipe, seed=given.seed)
    corpus = recipe.corpus()
    tokenizer = recipe.tokenizer(corpus)
    net = recipe.build(tokenizer.size)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    parameters = sum(p.numel() for p in net.parameters())
    print(f"{corpus.name}: {corpus.split}")
    print(f"{recipe.model['name']}: {parameters:,} parameters, {tokenizer.size} tokens, on {device}", flush=True)
    trainer = recipe.trainer(net, corpus, tokenizer, device, run_dir=given.out)
    history = trainer.fit(resume=not given.fresh)
    test = score_text(net, corpus.test, tokenizer)
    words = "" if recipe.data == "tinyshakespeare" else f", perplexity {test.word_perplexity:.1f} a word"
    print(
        f"after {history[-1].step} steps: held out {history[-1].valid_bits:.3f}, test {test.bits_per_character:.3f} "
        f"bits/character{words}; checkpoint in {given.out}"
    )
    return 0


def generate(given: Namespace) -> int:
    """Write the prompt and what comes after it, as it comes; --picture: the astrocytes meanwhile, --stats: the cost."""
    if given.picture is not None:
        _check_picture(given.picture)
    net, tokenizer, _ = load_language_model(given.checkpoint)
    if torch.cuda.is_available():
        net.cuda()
    prompt = tokenizer.encode(given.prompt)
    if lost := sorted({a for a, b in zip(given.prompt, tokenizer.decode(prompt), strict=False) if a != b == UNKNOWN}):
        signs = ", ".join(map(repr, lost))
        print(f"spikekit generate: never seen in training, and read as unknown: {signs}", file=sys.stderr)
    more = Continuation(net, prompt, given.count, temperature=given.temperature, top_k=given.top_k, seed=given.seed)
    _write(given.prompt)
    pending: list[int] = []
    # Of a text of any length no more is kept than is drawn.
    read = deque(prompt.tolist(), maxlen=_DRAWN)
    for token in more:
        read.append(token)
        # A character may be several tokens of a byte-pair code: it is written once it is whole.
        pending.append(token)
        text = tokenizer.decode(pending)
        if not text.endswith(UNKNOWN) or len(pending) > _LONGEST:
            _write(text)
            pending.clear()
    _write(tokenizer.decode(pending) + "\n")
    if given.stats:
        print(f"\n{more.tokens_per_second:.0f} tokens/s, {more.state_bytes:,} bytes of state")
        for layer in more.layers:
            print(f"  layer {layer.name} ({layer.kind}): {layer.rate:.4f} spikes per neuron and step")
    if given.picture is not None:
        from spikekit.language.picture import calcium_picture

        figure = calcium_picture(net, torch.tensor(list(read)), tokenizer)
        given.picture.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(given.picture, dpi=110)
    return 0


def _check_picture(path: Path) -> None:
    # Before the text, which may take a while.
    require("matplotlib.figure", "viz")
    if path.suffix not in _PICTURES:
        raise InputError(f"--picture: {path} must end in {', '.join(_PICTURES)}")


def _write(text: str) -> None:
    # A terminal that knows no such character is shown a question mark.
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()
