"""What the spiking language model is held against, of as many parameters: an LSTM and a small causal transformer.

Both take tokens [T, B] and give logits [T, B, V], and carry their state through `sk.run` as a spiking network does.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

import spikekit.state as sessions
from spikekit.models import AstroLM, AstroLMConfig


class LSTM(nn.Module):
    """torch's LSTM between an embedding and a readout; the state is {"h", "c"}, [B, layers, width]."""

    temporal: ClassVar[bool] = True

    def __init__(self, vocabulary: int, width: int, layers: int = 1) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, width, layers)
        self.readout = nn.Linear(width, vocabulary)
        with torch.no_grad():
            for name, bias in self.lstm.named_parameters():
                if name.startswith("bias_ih"):
                    # Jozefowicz et al. 2015: a forget gate that starts open.
                    bias[width : 2 * width] = 1.0

    def forward(self, tokens: Tensor) -> Tensor:
        session, start = sessions.active(), None
        if session is not None:
            slot = session.slot(self)
            state = session.take(slot)
            start = None if state is None else tuple(state[name].transpose(0, 1).contiguous() for name in ("h", "c"))
        y, (h, c) = self.lstm(self.embed(tokens), start)
        if session is not None:
            session.give(slot, {"h": h.transpose(0, 1), "c": c.transpose(0, 1)})
        return self.readout(y)


class Attention(nn.Module):
    """Causal attention with rotary positions (Su et al. 2021); the state is the cache {"k", "v"} [B, S, heads, D].

    window: how many tokens back the cache reaches; None: all of them.
    """

    temporal: ClassVar[bool] = True

    def __init__(self, width: int, heads: int, window: int | None) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.inward = nn.Linear(width, 3 * width)
        self.outward = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        steps, batch, width = x.shape
        q, k, v = self.inward(x).view(steps, batch, 3, self.heads, -1).permute(2, 1, 0, 3, 4)
        session = sessions.active()
        before = 0
        if session is not None:
            slot = session.slot(self)
            state = session.take(slot)
            if state is not None:
                k, v = torch.cat([state["k"], k], 1), torch.cat([state["v"], v], 1)
                before = state["k"].shape[1]
            keep = slice(None) if self.window is None else slice(-self.window, None)
            session.give(slot, {"k": k[:, keep], "v": v[:, keep]})
        # Keys are kept unrotated: positions count from the oldest, and only differences matter.
        q, k = (_rotated(a.transpose(1, 2), start) for a, start in ((q, before), (k, 0)))
        place = torch.arange(before + steps, device=x.device)
        distance = place[before:, None] - place
        seen = distance >= 0
        if self.window is not None:
            seen &= distance <= self.window
        y = functional.scaled_dot_product_attention(
            q,
            k,
            v.transpose(1, 2),
            attn_mask=None if not before and self.window is None else seen,
            is_causal=not before and self.window is None,
        )
        return self.outward(y.permute(2, 0, 1, 3).reshape(steps, batch, width))


class TransformerBlock(nn.Module):
    """Norms first; four times as wide inside."""

    def __init__(self, width: int, heads: int, window: int | None) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attention = Attention(width, heads, window)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norms[0](x))
        return x + self.narrow(functional.gelu(self.widen(self.norms[1](x))))


class Transformer(nn.Module):
    """Causal transformer with a cache of keys and values, which grows with the text unless there is a window."""

    temporal: ClassVar[bool] = True

    def __init__(self, vocabulary: int, width: int, layers: int, heads: int = 4, window: int | None = None) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads, window) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.readout = nn.Linear(width, vocabulary)
        # As GPT-2: small weights, and smaller where a block adds to the residual stream.
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                last = name.endswith(("outward.weight", "narrow.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * layers) if last else 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.readout(self.norm(self.blocks(self.embed(tokens))))


def _rotated(x: Tensor, start: int) -> Tensor:
    """X [B, heads, S, D], turned by the angles of the positions from `start` on."""
    half = x.shape[-1] // 2
    frequency = 10000.0 ** (-torch.arange(half, device=x.device) / half)
    angle = torch.arange(start, start + x.shape[-2], device=x.device)[:, None] * frequency
    a, b = x.chunk(2, -1)
    return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)


NAMES = ("astro", "frozen", "plain", "lstm", "transformer")
"""astro: the spiking model; frozen: the same with κ held at 0; plain: without astrocytes, and wider."""


def make(name: str, config: AstroLMConfig, window: int | None = None) -> nn.Module:
    """The model `name` of `NAMES`, of about as many parameters as the spiking model of `config`."""
    if name in ("astro", "frozen"):
        return AstroLM(replace(config, astrocytes=name == "astro"))
    with torch.device("meta"):
        wanted = sum(p.numel() for p in AstroLM(config).parameters())

    def build(width: int) -> nn.Module:
        if name == "plain":
            return AstroLM(replace(config, width=width, astrocytes=None))
        if name == "lstm":
            return LSTM(config.vocabulary, width)
        return Transformer(config.vocabulary, width, config.layers, window=window)

    def count(width: int) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in build(width).parameters())

    # Four heads of an even width. The count rises with the width.
    low, high = 1, 1024
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if count(8 * middle) < wanted else (low, middle)
    return build(8 * min((low - 1, low), key=lambda units: abs(count(8 * max(units, 1)) - wanted)))
