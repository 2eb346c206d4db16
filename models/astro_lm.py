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

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn

import spikekit.state as sessions
from spikekit.errors import InputError, StateError
from spikekit.models.exact import ExactReadout, SpikeLinear
from spikekit.neurons import LIF, Astrocyte
from spikekit.surrogate import Triangle


@dataclass(frozen=True)
class AstroLMConfig:
    """Sizes and settings.

    vocabulary: V. width: C, of the residual stream. layers: blocks. hidden: neurons that mix tokens, None: C. feed:
    neurons of the second half of a block, None: 4·C. decays: smallest and largest beta of the neurons behind a norm,
    spread over the channels and learned; that of all others is fixed.
    astrocytes: False keeps the same network and parameters with the strength of its astrocytes, κ, held at 0; None
    leaves the astrocytes out. domains: of the neurons that mix tokens, None: one a neuron. scales: calcium signals a
    domain. timescales: the shortest and the longest, over which they are spread at random in equal steps of the
    logarithm. acts_on, strength: as in `sk.Astrocyte`. weight: of the calcium of one spike, whatever its time scale.
    """

    vocabulary: int
    width: int = 192
    layers: int = 2
    hidden: int | None = None
    feed: int | None = None
    decays: tuple[float, float] = (0.01, 0.95)
    astrocytes: bool | None = True
    domains: int | None = None
    scales: int = 1
    timescales: tuple[float, float] = (5.0, 2000.0)
    acts_on: str = "gain"
    strength: float = 0.5
    weight: float = 0.3

    def __post_init__(self) -> None:
        for name in ("vocabulary", "width", "layers", "hidden", "feed", "domains", "scales"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise InputError(f"AstroLMConfig: {name} must be a whole number above 0, got {value!r}")
        if not 0 < self.decays[0] < self.decays[1] < 1:
            raise InputError(f"AstroLMConfig: decays must be two rising numbers between 0 and 1, got {self.decays}")
        if self.domains is not None and (self.hidden or self.width) % self.domains:
            raise InputError(
                f"AstroLMConfig: domains must divide the {self.hidden or self.width} neurons that mix tokens, "
                f"got {self.domains}"
            )

    def astrocyte(self, neurons: int) -> Astrocyte | None:
        """The astrocytes over `neurons`, None where there are none."""
        if self.astrocytes is None:
            return None
        domains = self.domains or neurons
        low, high = (math.log(time) for time in self.timescales)
        times = torch.linspace(low, high, domains * self.scales)[torch.randperm(domains * self.scales)].exp()
        times = times.view(domains, self.scales)
        made = Astrocyte(
            domains,
            times,
            self.acts_on,
            strength=self.strength if self.astrocytes else 0.0,
            # One spike raises calcium by about 1/τ.
            weight=self.weight * times,
        )
        # Frozen, all of them: at κ = 0 the others have no gradient but zero.
        return made.requires_grad_(bool(self.astrocytes))


PRESETS: Final[dict[str, dict[str, int]]] = {
    "1m": {"width": 208, "layers": 2},
    "10m": {"width": 384, "layers": 5},
    "100m": {"width": 640, "layers": 8},
    "400m": {"width": 1280, "layers": 15},
    "1.5b": {"width": 2048, "layers": 28},
}
"""Sizes by name: about so many parameters, with a vocabulary of 65 for the first, of 50,257 from 100m on."""


def preset(name: str, vocabulary: int, **changes: Any) -> AstroLMConfig:
    """The configuration `name` of `PRESETS`. Raises InputError for another name."""
    if name not in PRESETS:
        raise InputError(f"astro_lm: unknown preset {name!r}; choose one of {', '.join(PRESETS)}")
    return AstroLMConfig(vocabulary, **{**PRESETS[name], **changes})


class TokenShift(nn.Module):
    """Each channel of x [T, B, C] summed over its last four steps, with learned weights: a causal convolution.

    The state is {"x": [B, 3, C]}, the last three steps.
    """

    temporal: ClassVar[bool] = True
    taps: ClassVar[int] = 4

    def __init__(self, width: int) -> None:
        super().__init__()
        weight = 0.3 * torch.randn(self.taps, width)
        weight[0] += 0.7
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        """X [T, B, C] to the same shape."""
        session, steps, back = sessions.active(), len(x), self.taps - 1
        before = x.new_zeros(back, *x.shape[1:])
        if session is not None:
            slot = session.slot(self)
            state = session.take(slot)
            before = before if state is None else self._checked(state, x, slot)
        line = torch.cat([before, x])
        if session is not None:
            session.give(slot, {"x": line[steps:].transpose(0, 1).clone()})
        # One product and one sum at a time: a fused convolution adds in an order of its own.
        y = line[back:] * self.weight[0]
        for tap in range(1, self.taps):
            y = y + line[back - tap : back - tap + steps] * self.weight[tap]
        return y

    def _checked(self, state: Any, x: Tensor, slot: str) -> Tensor:
        before = state.get("x") if isinstance(state, dict) else None
        wanted = (x.shape[1], self.taps - 1, x.shape[2])
        if not isinstance(before, Tensor) or before.shape != wanted:
            found = tuple(before.shape) if isinstance(before, Tensor) else type(before).__name__
            raise StateError(
                f"state of {slot!r} (TokenShift): x must have the shape {wanted}, got {found}. "
                "Index the state with sk.map_state, or pass state=None to start at rest."
            )
        return before.transpose(0, 1)


class Spikes(nn.Module):
    """What stands before every matrix: norm, token shift, and a LIF a channel with decays from short to long."""

    temporal: ClassVar[bool] = True

    def __init__(self, config: AstroLMConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.shift = TokenShift(config.width)
        self.neuron = _neuron(lambda: _lif(_spread(*config.decays, config.width), 0.5, learn=("beta",)))

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
        self.value = _neuron(lambda: _lif(0.9, astrocyte=config.astrocyte(hidden)))
        self.gate = _neuron(lambda: _lif(0.0))
        self.outward = SpikeLinear(hidden, width, bias=False, std=small * (0.1 * hidden) ** -0.5)
        self.feed = Spikes(config)
        self.widen = SpikeLinear(width, feed, std=(0.25 * width) ** -0.5)
        self.wide = _neuron(lambda: _lif(0.0))
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


# A curve that ends: the gradient of a neuron far from its threshold is 0, and products of zeros are left out.
_lif = partial(LIF, detach_reset=True, surrogate=Triangle())


def _neuron(make: Callable[[], LIF]) -> LIF:
    """The neuron on the device that is being built on: it looks at its numbers, which there are none of on "meta"."""
    device = torch.empty(0).device
    with torch.device("cpu"):
        neuron = make()
    return neuron.to(device)


def _spread(low: float, high: float, count: int) -> Tensor:
    """Decays from low to high in equal steps of the logarithm of 1 - beta, in random order."""
    return (1 - torch.logspace(math.log10(1 - low), math.log10(1 - high), count))[torch.randperm(count)]
