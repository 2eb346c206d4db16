"""A spiking language model: tokens are mixed by spikes, membranes and astrocytes, and no token looks back.

Model card. Input: tokens int64 [T, B]. Output: logits [T, B, V] of the token after each. Cost a token and the state
that `sk.run` carries do not depend on how many went before. The whole text at once, in pieces or token by token gives
the same bits in eval mode (float32, `models.exact`). The unit is after the abstract of Shen et al., "Astrocyte-
Enabled Advancements in Spiking Neural Networks for Large Language Modeling", arXiv 2312.07625, and
not after its equations: equations and network are ours. Block: x += mix(x), x += feed(x), where

    mix:  spikes = LIF(shift(norm(x)));  value, gate, sensed = three parts of W·spikes
          x += W_o (LIF(glia(value, sensed)) · LIF(gate))
    feed: spikes = LIF(shift(norm(x)));  x += W_v LIF(W_k·spikes)

The input of every matrix in the blocks is binary, also behind the gate, where both must fire. Not binary: the residual
stream, its layer norms and token shifts, calcium and what it releases (all elementwise), and the input of the readout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, ClassVar, Final, TypeVar

import torch
from torch import Tensor, nn

import spikekit.state as sessions
from spikekit.errors import InputError, StateError
from spikekit.models.exact import ExactReadout, SpikeLinear
from spikekit.models.glia import Glia, check_finite, check_rising
from spikekit.neurons import LIF
from spikekit.ops.paths import functorch_active
from spikekit.surrogate import Triangle

Made = TypeVar("Made", bound=nn.Module)


@dataclass(frozen=True)
class AstroLMConfig:
    """Sizes and settings.

    vocabulary: V. width: C, of the residual stream. layers: blocks. hidden: neurons that mix tokens, None: C. feed:
    neurons of the second half of a block, None: 4·C. decays: smallest and largest beta of the neurons behind a norm,
    spread over the channels, and learned unless learn_decays is False; that of all others is fixed.
    astrocytes: False keeps the same network and parameters with the strengths of its astrocytes, κ, held at 0; None
    leaves the astrocytes out. timescales, strength: see `Glia`.
    """

    vocabulary: int
    width: int = 192
    layers: int = 2
    hidden: int | None = None
    feed: int | None = None
    decays: tuple[float, float] = (0.01, 0.95)
    learn_decays: bool = True
    astrocytes: bool | None = True
    timescales: tuple[float, float] = (5.0, 2000.0)
    strength: float = 0.5

    def __post_init__(self) -> None:
        for name in ("vocabulary", "width", "layers", "hidden", "feed"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise InputError(f"AstroLMConfig: {name} must be a whole number above 0, got {value!r}")
        check_rising("AstroLMConfig: decays", self.decays, below=1)
        check_rising("AstroLMConfig: timescales", self.timescales)
        check_finite("AstroLMConfig: strength", self.strength)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> AstroLMConfig:
        """The configuration of plain values: JSON and YAML make lists of its tuples, and YAML a text of 1e-2."""
        numbers = ("decays", "timescales", "strength")
        given: dict[str, Any] = {name: _read(value) if name in numbers else value for name, value in values.items()}
        return cls(**given)

    def glia(self, neurons: int) -> Glia | None:
        """The astrocytes over `neurons`, None where there are none."""
        if self.astrocytes is None:
            return None
        made = _placed(lambda: Glia(neurons, self.timescales, self.strength if self.astrocytes else 0.0))
        # Frozen, all of it: at κ = 0 the rest has no gradient but zero.
        return made.requires_grad_(bool(self.astrocytes))


PRESETS: Final[dict[str, dict[str, int]]] = {
    "1m": {"width": 200, "layers": 2},
    "10m": {"width": 384, "layers": 5},
    "100m": {"width": 640, "layers": 8},
    "400m": {"width": 1280, "layers": 14},
    "1.5b": {"width": 2048, "layers": 26},
}
"""Sizes by name: about so many parameters, with a vocabulary of 65 for the first, of 50,257 from 100m on."""


def preset(name: str, vocabulary: int, **changes: Any) -> AstroLMConfig:
    """The configuration `name` of `PRESETS`. Raises InputError for another name."""
    if name not in PRESETS:
        raise InputError(f"astro_lm: unknown preset {name!r}; choose one of {', '.join(PRESETS)}")
    return AstroLMConfig.of({"vocabulary": vocabulary, **PRESETS[name], **changes})


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
        learn = ("beta",) if config.learn_decays else ()
        self.norm = nn.LayerNorm(config.width)
        self.shift = TokenShift(config.width)
        self.neuron = _placed(lambda: _lif(_spread(*config.decays, config.width), 0.5, learn=learn))

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
        self.hidden = hidden
        self.mix = Spikes(config)
        self.glia = config.glia(hidden)
        self.inward = SpikeLinear(width, (2 if self.glia is None else 3) * hidden, std=(0.25 * width) ** -0.5)
        # No leak of its own: it would add up what is the same at every step, and hardly a neuron would change.
        self.value = _placed(lambda: _lif(0.0))
        self.gate = _placed(lambda: _lif(0.0))
        self.outward = SpikeLinear(hidden, width, bias=False, std=small * (0.1 * hidden) ** -0.5)
        self.feed = Spikes(config)
        self.widen = SpikeLinear(width, feed, std=(0.25 * width) ** -0.5)
        self.wide = _placed(lambda: _lif(0.0))
        self.narrow = SpikeLinear(feed, width, bias=False, std=small * (0.25 * feed) ** -0.5)
        with torch.no_grad():
            # Gates start open half of the time.
            self.inward.bias[hidden : 2 * hidden] = 0.5  # type: ignore[index]

    def forward(self, x: Tensor) -> Tensor:
        """X [T, B, C] to [T, B, C]."""
        value, gate, *sensed = self.inward(self.mix(x)).split(self.hidden, -1)
        if self.glia is not None:
            value = self.glia(value, *sensed)
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
        # On a GPU the question would wait for it; a fake tensor holds no numbers.
        unread = tokens.device.type != "cpu" or torch.compiler.is_compiling() or functorch_active()
        if unread or hasattr(tokens, "fake_mode"):
            return
        low, high = (int(each) for each in tokens.aminmax())
        if low < 0 or high >= self.config.vocabulary:
            raise InputError(
                f"AstroLM: a token is {low if low < 0 else high}, and the vocabulary has {self.config.vocabulary}, 0 "
                f"to {self.config.vocabulary - 1}; use the tokenizer that the model was trained with"
            )

    def settings(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self.config)


# A curve that ends: the gradient of a neuron far from its threshold is 0, and products of zeros are left out.
_lif = partial(LIF, detach_reset=True, surrogate=Triangle())


def _placed(make: Callable[[], Made]) -> Made:
    """What holds neurons, on the device that is being built on: they look at their numbers, and "meta" has none."""
    device = torch.empty(0).device
    with torch.device("cpu"):
        made = make()
    return made.to(device)


def _read(value: Any) -> Any:
    """The number a text stands for, a tuple for a list; all else as it is, for the checks to name."""
    if isinstance(value, (list, tuple)):
        return tuple(map(_read, value))
    with suppress(ValueError):
        return float(value) if isinstance(value, str) else value
    return value


def _spread(low: float, high: float, count: int) -> Tensor:
    """Decays from low to high in equal steps of the logarithm of 1 - beta, in random order."""
    return (1 - torch.logspace(math.log10(1 - low), math.log10(1 - high), count))[torch.randperm(count)]
