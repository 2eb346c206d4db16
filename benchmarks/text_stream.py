"""What a token costs as a text grows: milliseconds and bytes of state, ours beside a transformer whose cache keeps all.

One stream, token by token, weights at random, which change neither: `python -m benchmarks.text_stream`. CPU time.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.language_models import NAMES, make
from spikekit.language import Continuation
from spikekit.models.astro_lm import PRESETS, preset

LENGTHS = (100, 1000, 10_000)
# The median of so many tokens before a length.
_TOKENS = 50


def generation(net: nn.Module, prompt: Tensor, lengths: Sequence[int] = (100, 1000)) -> dict[str, Any]:
    """Milliseconds of CPU time a token and bytes of state after so many tokens, one stream; firing rates over all."""
    more = Continuation(net, prompt, max(lengths), temperature=1.0)
    found: dict[str, Any] = {}
    times = [time.process_time()]
    for made, _ in enumerate(more, 1):
        times.append(time.process_time())
        if made in lengths:
            steps = [b - a for a, b in itertools.pairwise(times[-_TOKENS:])]
            found[f"ms_per_token_at_{made}"] = 1000 * statistics.median(steps)
            found[f"state_bytes_at_{made}"] = more.state_bytes
    return found | {"rates": {layer.name: round(layer.rate, 4) for layer in more.layers}}


def table(found: dict[str, dict[str, Any]], lengths: Sequence[int]) -> str:
    """Markdown: a row a model, two columns a length."""
    head = [f"ms at {length:,} | bytes at {length:,}" for length in lengths]
    rows = [f"| model | {' | '.join(head)} |", "|---|" + "---:|" * 2 * len(lengths)]
    for name, one in found.items():
        cells = [f"{one[f'ms_per_token_at_{n}']:.2f} | {one[f'state_bytes_at_{n}']:,}" for n in lengths]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.text_stream", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--models", default="astro,frozen,lstm,transformer", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--lengths", default=",".join(map(str, LENGTHS)), help="tokens")
    parser.add_argument("--preset", default="1m", choices=PRESETS)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    lengths = [int(length) for length in given.lengths.split(",")]
    found = {}
    for name in given.models.split(","):
        torch.manual_seed(0)
        net = make(name, preset(given.preset, 65))
        # As after training: until torch's LSTM has read a batch, a step of it takes five times as long.
        net(torch.zeros(64, 16, dtype=torch.int64))
        found[name] = generation(net, torch.zeros(1, dtype=torch.int64), lengths)
    print(table(found, lengths))


if __name__ == "__main__":
    main()
