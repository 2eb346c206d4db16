"""What `spikekit train` does with a recipe on text, and what `spikekit generate` does."""

from __future__ import annotations

import sys
from argparse import Namespace
from dataclasses import replace

import torch

from spikekit.errors import InputError
from spikekit.language.checkpoint import load_language_model
from spikekit.language.generate import Continuation
from spikekit.language.recipe import TextRecipe
from spikekit.language.score import score_text


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
    """Write the prompt and what comes after it, as it comes."""
    net, tokenizer, _ = load_language_model(given.checkpoint)
    if torch.cuda.is_available():
        net.cuda()
    prompt = tokenizer.encode(given.prompt)
    more = Continuation(net, prompt, given.count, temperature=given.temperature, top_k=given.top_k, seed=given.seed)
    sys.stdout.write(given.prompt)
    pending: list[int] = []
    for token in more:
        # A character may be several tokens of a byte-pair code: it is written once it is whole.
        pending.append(token)
        text = tokenizer.decode(pending)
        if not text.endswith("\ufffd"):
            sys.stdout.write(text)
            sys.stdout.flush()
            pending.clear()
    print(tokenizer.decode(pending) if pending else "")
    if given.stats:
        print(f"\n{more.tokens_per_second:.0f} tokens/s, {more.state_bytes:,} bytes of state")
        for layer in more.layers:
            print(f"  layer {layer.name} ({layer.kind}): {layer.rate:.4f} spikes per neuron and step")
    return 0
