"""A spiking language model: tokens are mixed by spikes, membranes and astrocytes, and no token looks back.

Model card. Input: tokens int64 [T, B]. Output: logits [T, B, V] of the token after each. Cost a token and the state
that `sk.run` carries do not depend on how many went before. The whole text at once, in pieces or token by token gives
the same bits in eval mode (float32, `models.exact`). The unit is after the abstract of Shen et al., "Astrocyte-
Enabled Advancements in Spiking Neural Networks for Large Language Modeling", arXiv 2312.07625, whose equations are not
public: equations and network are ours. Block: x += mix(x), x += feed(x), where

    mix:  spikes = LIF(shift(norm(x)));  value, gate = two halves of W·spikes;  x += W_o (LIF_astro(value) · LIF(gate))
    feed: spikes = LIF(shift(norm(x)));  x += W_v LIF(W_k·spikes)

The input of every matrix in the blocks is binary, also behind the gate, where both must fire. Not binary: the residual
stream, its layer norms and token shifts (elementwise), and the input of the readout.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

import spikekit.state as sessions
from spikekit.errors import InputError, StateError
from spikekit.models.exact import ExactReadout, SpikeLinear
from spikekit.neurons import LIF


@dataclass(frozen=True)
class AstroLMConfig:
    """Sizes and settings.

    vocabulary: V. width: C, of the residual stream. layers: blocks. hidden: neurons that mix tokens, None: C. feed:
    neurons of the second half of a block, None: 4·C. decays: smallest and largest beta of the neurons behind a norm,
    spread over the channels and learned.
    """

    vocabulary: int
    width: int = 192
    layers: int = 2
    hidden: int | None = None
    feed: int | None = None
    decays: tuple[float, float] = (0.1, 0.95)

    def __post_init__(self) -> None:
        for name in ("vocabulary", "width", "layers", "hidden", "feed"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise InputError(f"AstroLMConfig: {name} must be a whole number above 0, got {value!r}")


class TokenShift(nn.Module):
    """Between each step and the one before, channel by channel: x + mix·(x[t-1] - x), for x [T, B, C]."""

    temporal: ClassVar[bool] = True

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.linspace(0.0, 0.6, width))

    def forward(self, x: Tensor) -> Tensor:
        """X [T, B, C] to the same shape; the state is {"x": [B, C]}, the last step."""
        session = sessions.active()
        before = torch.zeros_like(x[0])
        if session is not None:
            slot = session.slot(self)
            state = session.take(slot)
            if state is not None:
                before = self._checked(state, x, slot)
            session.give(slot, {"x": x[-1].clone()})
        return x + (torch.cat([before[None], x[:-1]]) - x) * self.mix

    def _checked(self, state: Any, x: Tensor, slot: str) -> Tensor:
        before = state.get("x") if isinstance(state, dict) else None
        if not isinstance(before, Tensor) or before.shape != x.shape[1:]:
            found = tuple(before.shape) if isinstance(before, Tensor) else type(before).__name__
            raise StateError(
                f"state of {slot!r} (TokenShift): x must have the shape {tuple(x.shape[1:])}, got {found}. "
                "Index the state with sk.map_state, or pass state=None to start at rest."
            )
        return before


class Spikes(nn.Module):
    """What stands before every matrix: norm, token shift, and a LIF a channel with decays from short to long."""

    temporal: ClassVar[bool] = True

    def __init__(self, config: AstroLMConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.shift = TokenShift(config.width)
        low, high = config.decays
        # Equal steps of the logarithm of the time constant; shuffled, since the shift is ordered by channel as well.
        beta = 1 - torch.logspace(*torch.log10(torch.tensor([1 - low, 1 - high])).tolist(), config.width)
        self.neuron = LIF(beta[torch.randperm(config.width)], learn=("beta",), detach_reset=True)

    def forward(self, x: Tensor) -> Tensor:
        """X [T, B, C] to spikes [T, B, C]."""
        spikes: Tensor = self.neuron(self.shift(self.norm(x)))
        return spikes


class Block(nn.Module):
    """Token mixing and feed-forward, each added to the residual stream."""

    temporal: ClassVar[bool] = True

    def __init__(self, config: AstroLMConfig) -> None:
        super().__init__()
        width, hidden, feed = config.width, config.hidden or config.width, config.feed or 4 * config.width
        small = (2 * config.layers) ** -0.5
        self.mix = Spikes(config)
        self.inward = SpikeLinear(width, 2 * hidden, std=(0.25 * width) ** -0.5)
        self.value = LIF(0.9, detach_reset=True)
        self.gate = LIF(0.5, detach_reset=True)
        self.outward = SpikeLinear(hidden, width, bias=False, std=small * (0.1 * hidden) ** -0.5)
        self.feed = Spikes(config)
        self.widen = SpikeLinear(width, feed, std=(0.25 * width) ** -0.5)
        self.wide = LIF(0.5, detach_reset=True)
        self.narrow = SpikeLinear(feed, width, bias=False, std=small * (0.25 * feed) ** -0.5)
        with torch.no_grad():
            # Gates start open half of the time.
            self.inward.bias[hidden:] = 0.5  # type: ignore[index]

    def forward(self, x: Tensor) -> Tensor:
        """X [T, B, C] to [T, B, C]."""
        value, gate = self.inward(self.mix(x)).chunk(2, -1)
        x = x + self.outward(self.value(value) * self.gate(gate))
        narrow: Tensor = self.narrow(self.wide(self.widen(self.feed(x))))
        return x + narrow


class AstroLM(nn.Module):
    """The language model of the module's docstring, with random weights; `config` says its sizes."""

    temporal: ClassVar[bool] = True

    def __init__(self, config: AstroLMConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocabulary, config.width)
        self.blocks = nn.Sequential(*(Block(config) for _ in range(config.layers)))
        self.norm = nn.LayerNorm(config.width)
        self.readout = ExactReadout(config.width, config.vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens int64 [T, B] to logits [T, B, V]."""
        self._check(tokens)
        logits: Tensor = self.readout(self.norm(self.blocks(self.embed(tokens))))
        return logits

    def _check(self, tokens: Tensor) -> None:
        if not isinstance(tokens, Tensor) or tokens.ndim != 2 or tokens.dtype not in (torch.int64, torch.int32):
            found = f"{tokens.dtype} {list(tokens.shape)}" if isinstance(tokens, Tensor) else type(tokens).__name__
            raise InputError(f"AstroLM: the input must be tokens, int64 [T, B], got {found}")
        if not tokens.numel():
            raise InputError(f"AstroLM: the input has no tokens: shape {list(tokens.shape)} of [T, B]")

    def settings(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self.config)
