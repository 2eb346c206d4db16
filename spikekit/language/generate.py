"""Text token by token: one step of the network each, whose state does not grow."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from spikekit.errors import InputError
from spikekit.measure.activity import ActivityMeter, LayerActivity
from spikekit.models.exact import weights_held
from spikekit.state import State, run


class Continuation:
    """Goes on with a text: an iterator of `count` tokens, each drawn from what `net` says of the next.

    net: tokens [T, B] to logits [T, B, V]; it is put in eval mode, and its weights must not change until the iterator
    ends. prompt: tokens int64 [N], N > 0, read in one pass. temperature: of the draw; 0 takes the likeliest. top_k:
    draw among so many. seed: of the draws. After the iterator ended, `tokens_per_second`, `state_bytes` and `layers`
    say what it took; time spent outside between two tokens is not counted, nor is the prompt.
    """

    def __init__(
        self,
        net: nn.Module,
        prompt: Tensor,
        count: int,
        *,
        temperature: float = 0.8,
        top_k: int | None = None,
        seed: int = 0,
    ) -> None:
        if prompt.ndim != 1 or not len(prompt):
            raise InputError(f"Continuation: the prompt must be tokens [N], at least one, got {list(prompt.shape)}")
        if count < 0 or not temperature >= 0 or (top_k is not None and top_k < 1):
            raise InputError(
                "Continuation: count and temperature must be 0 or more and top_k above 0, "
                f"got {count}, {temperature} and {top_k}"
            )
        self._net, self._prompt, self._count = net.eval(), prompt, count
        self._temperature, self._top_k = temperature, top_k
        self._generator = torch.Generator().manual_seed(seed)
        self._state: State | None = None
        self._meter = ActivityMeter(net, allow_none=True)
        self._seconds, self._made = 0.0, 0

    def __iter__(self) -> Iterator[int]:
        device = next(self._net.parameters()).device
        x, self._state = self._prompt.to(device)[:, None], None
        with weights_held(self._net), self._meter:
            for index in range(self._count):
                began = time.perf_counter()
                with torch.no_grad():
                    logits, self._state = run(self._net, x, self._state)
                    token = self._draw(logits[-1, 0].cpu())
                x = torch.tensor([[token]], device=device)
                if index:
                    self._seconds += time.perf_counter() - began
                    self._made += 1
                yield token

    def _draw(self, logits: Tensor) -> int:
        if self._temperature == 0:
            return int(logits.argmax())
        if self._top_k is not None and self._top_k < len(logits):
            logits = logits.masked_fill(logits < logits.topk(self._top_k).values[-1], -torch.inf)
        # The largest is 0 before it is divided: no temperature, however small, makes it infinite.
        wide = logits.double()
        chances = torch.softmax((wide - wide.max()) / self._temperature, 0)
        return int(torch.multinomial(chances, 1, generator=self._generator))

    @property
    def tokens_per_second(self) -> float:
        """Return the steps a second, after the prompt's."""
        return self._made / self._seconds if self._seconds else 0.0

    @property
    def state_bytes(self) -> int:
        """Return the bytes of state carried from token to token."""
        return state_bytes(self._state)

    @property
    def layers(self) -> list[LayerActivity]:
        """Return what each spiking layer did, the prompt included."""
        return self._meter.summary()


def state_bytes(state: State | None) -> int:
    """The bytes of all tensors of a state of `sk.run`."""
    leaves = pytree.tree_leaves(state)
    return sum(leaf.numel() * leaf.element_size() for leaf in leaves if isinstance(leaf, Tensor))
