"""What the astrocytes of a language model do while a text is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spikekit.datasets.tokens import Tokenizer
from spikekit.errors import InputError
from spikekit.models import AstroLM
from spikekit.models.glia import Glia
from spikekit.state import record
from spikekit.viz import calcium

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def calcium_picture(net: AstroLM, tokens: Tensor, tokenizer: Tokenizer, *, block: int = -1, last: int = 120) -> Figure:
    """Calcium and spikes of the neurons it modulates in one block, while `net` reads tokens int64 [N] from rest.

    block: which, -1 for the last. last: tokens of the end that are drawn. `sk.viz.calcium` says what is seen. Raises
    InputError for a network without astrocytes and for a block that is not there.
    """
    count = len(net.blocks)
    if not -count <= block < count:
        raise InputError(f"calcium_picture: block must be between {-count} and {count - 1}, got {block}")
    at = block % count
    glia = net.blocks[at].glia
    if not isinstance(glia, Glia):
        raise InputError("calcium_picture: this network has no astrocytes (astrocytes=None)")
    if tokens.ndim != 1 or not len(tokens) or last < 1:
        raise InputError(
            f"calcium_picture: tokens must be [N], at least one, and last above 0, got {list(tokens.shape)} and {last}"
        )
    names = [f"blocks.{at}.glia.calcium.membrane", f"blocks.{at}.value.spikes"]
    with torch.no_grad():
        _, seen = record(net.eval(), tokens[:, None].to(next(net.parameters()).device), names)
    traces, spikes = (seen[name][-last:, 0] for name in names)
    times = -1 / torch.log(glia.calcium.beta.detach())
    words = [tokenizer.decode([token]) for token in tokens[-last:].tolist()]
    return calcium(traces, times, spikes, words, title=f"block {at + 1} of {count}")
