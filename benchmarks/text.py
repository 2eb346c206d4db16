"""Text in equal time or steps: the spiking model with and without astrocytes, an LSTM, a transformer of its size.

Bits a character (and perplexity a word) on the test text after so many seconds of training, firing rates, speed of
training and of generation, and the difference that astrocytes make, seed by seed. `python -m benchmarks.text --out
text.jsonl` writes a line a run and does not repeat those that are there; `--run-dir` keeps checkpoints, from which a
run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.language_models import NAMES, make
from benchmarks.lines import append, read
from benchmarks.table import mean_error
from benchmarks.text_stream import generation
from spikekit.datasets import TokenStreams, make_tokenizer, read_corpus
from spikekit.datasets.text import CORPORA
from spikekit.language import TextSettings, TextTrainer, score_text
from spikekit.language.checkpoint import language_config
from spikekit.models import AstroLM
from spikekit.models.astro_lm import PRESETS, preset

# The spiking models': the better of 4e-3 and 1e-2 in 20 s. The others' are customary ones, and were not searched.
RATES = {"astro": 1e-2, "frozen": 1e-2, "plain": 1e-2, "lstm": 4e-3, "transformer": 2e-3}
# Two runs are a pair where these are the same.
_PAIR = ("seed", "seconds", "steps", "preset", "vocabulary", "batch", "length", "device", "threads")


@dataclass(frozen=True)
class Run:
    """One training; the keys that a line of results is known by."""

    data: str
    model: str
    seed: int
    seconds: float | None
    steps: int | None
    preset: str
    tokens: str
    vocabulary: int | None
    batch: int
    length: int
    lr: float
    device: str
    threads: int


def train(run: Run, folder: Path | None) -> dict[str, Any]:
    """Train one model for its time; what a line of results holds."""
    corpus = read_corpus(run.data)
    tokenizer = make_tokenizer(run.tokens, corpus.train, run.vocabulary)
    torch.manual_seed(run.seed)
    # The transformer sees as far as it was trained to: twice a piece, by the cache of the one before.
    net = make(run.model, preset(run.preset, tokenizer.size), window=2 * run.length).to(run.device)
    streams = TokenStreams(tokenizer.encode(corpus.train), run.batch, run.length)

    def judge() -> float:
        return score_text(net, corpus.valid, tokenizer, most=20_000).bits_per_character

    clock = "cpu" if (run.threads, run.device) == (1, "cpu") else "wall"
    config = language_config(net, tokenizer) if isinstance(net, AstroLM) else {}
    name = f"{run.data}-{run.tokens}-{run.model}-{run.seed}"
    trainer = TextTrainer(
        net,
        streams,
        judge,
        TextSettings(seconds=run.seconds, steps=run.steps, clock=clock, lr=run.lr, judge=5),
        config=config | {"run": asdict(run)},
        run_dir=None if folder is None else folder / name,
    )
    history = trainer.fit()
    valid, test = (score_text(net, text, tokenizer) for text in (corpus.valid, corpus.test))
    return asdict(run) | {
        "parameters": sum(p.numel() for p in net.parameters()),
        "split": corpus.split,
        "steps_made": history[-1].step,
        "training_seconds": history[-1].seconds,
        "tokens_seen": history[-1].tokens,
        "training_tokens_per_second": history[-1].tokens / history[-1].seconds,
        "history": [[round(record.seconds, 1), round(record.valid_bits, 4)] for record in history],
        "valid_bits": valid.bits_per_character,
        "test_bits": test.bits_per_character,
        "test_perplexity": test.perplexity,
        "test_word_perplexity": test.word_perplexity,
        **generation(net, tokenizer.encode(corpus.test[:200])),
    }


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown: a row a text and model, mean ± standard error over seeds."""
    rows = [
        "| text | model (runs) | parameters | bits/character | held out | perplexity a word | training tokens/s "
        "| ms/token |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for data, tokens, model in sorted({(x["data"], x["tokens"], NAMES.index(x["model"])) for x in lines}):
        same = [x for x in lines if (x["data"], x["tokens"], x["model"]) == (data, tokens, NAMES[model])]
        cells = [
            mean_error([x[key] for x in same], digits)
            for key, digits in (
                ("test_bits", 3),
                ("valid_bits", 3),
                ("test_word_perplexity", 1),
                ("training_tokens_per_second", 0),
                ("ms_per_token_at_1000", 2),
            )
        ]
        rows.append(
            f"| {data} ({tokens}) | {NAMES[model]} ({len(same)}) | {same[0]['parameters']:,} | {' | '.join(cells)} |"
        )
    return "\n".join(rows)


def paired(lines: list[dict[str, Any]], one: str = "astro", other: str = "frozen") -> str:
    """The difference of two models' bits a character, run by run of the same seed and settings: one - other.

    A line a text, with the mean ± standard error over seeds, on the test and on the held-out text. Runs whose twin is
    missing are left out.
    """
    rows = []
    for data, tokens in sorted({(x["data"], x["tokens"]) for x in lines}):
        runs: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {one: {}, other: {}}
        for line in lines:
            if (line["data"], line["tokens"]) == (data, tokens) and line["model"] in runs:
                runs[line["model"]][tuple(line.get(key) for key in _PAIR)] = line
        both = sorted(runs[one].keys() & runs[other].keys(), key=str)
        if both:
            test, valid = (
                mean_error([runs[one][key][what] - runs[other][key][what] for key in both], 4)
                for what in ("test_bits", "valid_bits")
            )
            rows.append(
                f"{data} ({tokens}), {one} - {other}, {len(both)} pairs: {test} bits/character, held out {valid}"
            )
    return "\n".join(rows)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.text", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", default="tinyshakespeare", help=f"of {', '.join(CORPORA)}")
    parser.add_argument("--models", default="astro,frozen,lstm,transformer", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--seeds", default="0,1,2")
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--seconds", type=float, help="of training a run: CPU time at one thread, else wall clock (default: 600)"
    )
    length.add_argument("--steps", type=int, help="of a run, instead: what loads the machine then changes nothing")
    parser.add_argument("--preset", default="1m", choices=PRESETS)
    parser.add_argument("--tokens", default="char", choices=("char", "bpe"))
    parser.add_argument("--vocabulary", type=int, help="of a byte-pair code")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=64, help="tokens a piece")
    parser.add_argument("--lr", type=float, help="(default: one a model)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("text.jsonl"), help="one line a run")
    parser.add_argument("--run-dir", type=Path, help="for checkpoints")
    given = parser.parse_args(arguments)
    if given.steps is None and given.seconds is None:
        given.seconds = 600.0
    torch.set_num_threads(given.threads)
    same = ("seconds", "steps", "preset", "tokens", "vocabulary", "batch", "length", "device", "threads")
    settings = {name: getattr(given, name) for name in same}
    for seed, data, model in itertools.product(given.seeds.split(","), given.data.split(","), given.models.split(",")):
        run = Run(data, model, int(seed), lr=given.lr or RATES[model], **settings)
        if not any(asdict(run).items() <= line.items() for line in read(given.out)):
            append(given.out, train(run, given.run_dir))
    lines = read(given.out)
    print(table(lines))
    print(paired(lines))


if __name__ == "__main__":
    main()
