"""`sk.fold`: a trained network as one for inference, whose neurons fire the same spikes with less to compute."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from spikekit.errors import InputError
from spikekit.folding.batch_norm import Linear, Norm, normalised
from spikekit.folding.thresholds import check_statistics, folded_thresholds, place
from spikekit.folding.wiring import Wiring, replace
from spikekit.layers import altered
from spikekit.neurons import LIF
from spikekit.neurons.firing import FiringNeuron
from spikekit.neurons.folded import FoldedLIF
from spikekit.norm.tdbn import TDBN1d, TDBN2d

_LINEAR = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, TDBN1d, TDBN2d)
NEGATIVE = ("flip", "negate", "refuse")
THRESHOLD = ("own", "positive", "common")


@dataclass
class FoldReport:
    """What `sk.fold` did, by the names of layers; `net.fold_report` of what it returns.

    weights: batch normalisation -> the layer it went into. thresholds: neuron -> its thresholds, in words. kept: what
    could not be folded -> why.
    """

    weights: dict[str, str] = field(default_factory=dict)
    thresholds: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{norm}: into the weights of {layer}" for norm, layer in self.weights.items()]
        lines += [f"{neuron}: {words}" for neuron, words in self.thresholds.items()]
        lines += [f"{norm}: stays, since {reason}" for norm, reason in self.kept.items()]
        return "\n".join(lines or ["nothing to fold"])


def fold(net: nn.Module, *, negative: str = "flip", threshold: str = "own") -> nn.Module:
    """A copy of a trained network for inference, with normalisation folded away; `net` is not changed.

    Batch normalisation (TDBN too) behind a convolution or linear layer goes into its weights, in float64. `sk.MPBN`
    becomes thresholds, one a channel or neuron, with a weight of any sign; soft reset keeps the quantum it was trained
    with. Rectifiers are dropped. Layers are paired where they follow one another in `sk.Sequential` or `nn.Sequential`,
    anywhere in the network; what cannot be paired stays, in eval mode, and is listed in `fold_report` of the result.
    Names of layers, states of `sk.run` and names for `sk.record` stay the same. `sk.verify_fold` proves it.

    negative: what to do where the norm's weight is negative, so that a neuron fires *below* its threshold:
      "flip"    the neuron compares the other way round;
      "negate"  for a target that knows ">" alone: the weights and bias in front of that channel change sign, and with
                them threshold and quantum;
      "refuse"  raise.
    threshold: "own", any; "positive", for a target with unsigned thresholds: raise where one is not above 0; "common",
      for a target with one threshold: the weights and bias in front of each LIF are divided by its thresholds, it fires
      at 1, and soft reset subtracts quantum/threshold.

    Raises InputError, naming layer and channel: in train mode, for statistics that never saw data, for a weight of 0,
    and where an option cannot be kept.
    """
    for what, value, known in (("negative", negative, NEGATIVE), ("threshold", threshold, THRESHOLD)):
        if value not in known:
            raise InputError(f"fold: unknown {what} {value!r}; choose one of {known}")
    if not isinstance(net, nn.Module):
        raise InputError(f"fold: the network must be an nn.Module, got {type(net).__name__}")
    for name, module in net.named_modules():
        if module.training:
            raise InputError(f"fold: {_called(name)} ({type(module).__name__}) is in train mode; call net.eval() first")
    work = nn.ModuleList([deepcopy(net)])
    report = FoldReport()
    with torch.no_grad():
        _fold_batch_norms(work, report)
        _fold_neurons(work, negative, threshold, report)
    folded = work[0].requires_grad_(False)
    folded.fold_report = report  # type: ignore[assignment]
    return folded


def _called(name: str) -> str:
    return f"layer {name}" if name else "the network"


def _named(work: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every module of the network with the name that the user knows."""
    return [(name.partition(".")[2], module) for name, module in work.named_modules() if name]


def _fold_batch_norms(work: nn.Module, report: FoldReport) -> None:
    wiring, names = Wiring(work), {module: name for name, module in _named(work)}
    for norm, name in names.items():
        if not isinstance(norm, Norm):
            continue
        layer = wiring.only_before(norm)
        if reason := _unfit(norm, layer):
            report.kept[name] = reason
            continue
        check_statistics(name, norm, norm.running_mean, norm.running_var)  # type: ignore[arg-type]
        _put_into(cast(Linear, layer), norm)
        replace(work, norm, nn.Identity().eval())
        report.weights[name] = names[layer]  # type: ignore[index]


def _put_into(layer: Linear, norm: Norm) -> None:
    exact, dtype = normalised(layer, norm), layer.weight.dtype
    layer.weight = nn.Parameter(exact.weight.to(dtype))
    layer.bias = None if exact.bias is None else nn.Parameter(exact.bias.to(dtype))


def _unfit(norm: Norm, layer: nn.Module | None) -> str | None:
    """Why batch normalisation cannot go into the layer before it, or None."""
    if type(norm) not in _NORMS or altered(norm):
        return f"it is of the class {type(norm).__name__}, or has hooks"
    if norm.running_mean is None or norm.running_var is None:
        return "it keeps no running statistics"
    if not isinstance(layer, _LINEAR):
        return (
            "no convolution or linear layer feeds it, and it alone, as far as chains tell; put the two next to each "
            "other in an sk.Sequential"
        )
    if type(layer) not in _LINEAR or altered(layer) or is_parametrized(layer):
        return f"the {type(layer).__name__} before it has an arithmetic of its own, hooks or parametrizations"
    if len(layer.weight) != norm.num_features:
        return f"it normalises {norm.num_features} features, the layer before it gives {len(layer.weight)}"
    return None


def _scale_rows(layer: Linear, scale: Tensor) -> None:
    """Multiply what `layer` gives by `scale` [rows], through its weight and bias, in float64."""
    dtype, weight = layer.weight.dtype, layer.weight.double()
    layer.weight = nn.Parameter((weight * scale.reshape(-1, *[1] * (weight.ndim - 1))).to(dtype))
    if layer.bias is not None:
        layer.bias = nn.Parameter((layer.bias.double() * scale).to(dtype))


def _fold_neurons(work: nn.Module, negative: str, threshold: str, report: FoldReport) -> None:
    wiring = Wiring(work)
    for name, module in _named(work):
        if isinstance(module, FiringNeuron) and module.rectifier is not None:
            module.drop_rectifier()
        if not isinstance(module, FiringNeuron):
            continue
        norm = getattr(module, "norm", None)
        plain = norm is None and threshold != "common"
        if plain or (norm is None and bool((module.threshold == 1).all())):
            continue
        if (
            not isinstance(module, LIF)
            or module.astrocyte is not None
            or type(module).integrate is not LIF.integrate
            or altered(module)
        ):
            raise InputError(
                f"fold: layer {name} ({type(module).__name__}) is not an sk.LIF or sk.IF as it comes, and cannot be "
                "folded; " + ("use threshold='own'" if norm is None else "use sk.LIF(norm=...)")
            )
        folded, words = _folded(name, module, wiring.only_before(module), negative, threshold)
        replace(work, module, folded)
        report.thresholds[name] = words


def _folded(name: str, lif: LIF, before: nn.Module | None, negative: str, threshold: str) -> tuple[FoldedLIF, str]:
    """The folded neuron of `lif`; the rows of the layer before it change where an option asks for that."""
    level, sign = folded_thresholds(name, lif)
    quantum = lif._tensors()["reset_quantum"].double()
    dtype = lif.beta.dtype if lif.norm is None else lif.norm.running_mean.dtype
    below = (sign < 0).nonzero()
    if len(below) and (negative == "refuse" or (threshold == "common" and negative == "flip")):
        raise InputError(
            f"fold: layer {name}: the weight of the norm is negative for {place(below[0])}, one of {len(below)}, so it "
            f"fires below its threshold. Train with sk.MPBN(..., positive=True), or use negative='negate'."
        )
    # What the rows in front of the neuron, and all it compares, are multiplied by.
    scale = torch.ones_like(level)
    if negative == "negate" and len(below):
        scale, level, sign = sign, level * sign, torch.ones_like(sign)
        quantum = _over(quantum, scale) * scale
    if threshold != "own":
        _check_positive(name, level, sign, threshold)
    if threshold == "common":
        scale, quantum, level = scale / level, _over(quantum, level) / level, torch.ones_like(level)
    least, most = float(level.min()), float(level.max())
    several = f"thresholds {list(level.shape)}, {least:.4g} to {most:.4g}"
    words = several if level.ndim > 0 else f"threshold {least:.4g}"
    words += f", {len(below)} of {level.numel()} fire below them" if len(below) and negative == "flip" else ""
    if not bool((scale == 1).all()):
        words += ", rows of the layer before scaled"
        _scale_rows_before(name, before, scale)
    beta, level, quantum, sign, scale = (a.to(dtype) for a in (lif.beta.double(), level, quantum, sign, scale))
    if len(bad := (~torch.isfinite(level)).nonzero()):
        raise InputError(
            f"fold: layer {name}: the folded threshold of {place(bad[0])} is beyond the range of {dtype}; its norm's "
            "weight is all but 0. Prune it, train with sk.MPBN(..., positive=True), or fold net.double()."
        )
    return FoldedLIF(beta, level, quantum, sign, scale, lif.rule).eval(), words


def _check_positive(name: str, level: Tensor, sign: Tensor, threshold: str) -> None:
    """Raise InputError where a threshold is not above 0, or where a neuron fires below one that is."""
    if len(low := (level <= 0).nonzero()):
        at = tuple(low[0].tolist())
        flipped = bool(sign.expand_as(level)[at] < 0)
        way_out = (
            "it fires below that, which negative='negate' turns into a positive threshold"
            if flipped
            else "it fires from rest. Use threshold='own', or train with a smaller bias of the norm"
        )
        raise InputError(
            f"fold: layer {name}: the folded threshold of {place(low[0])} is {level[at]:.4g}, one of {len(low)} that "
            f"are not above 0, which threshold={threshold!r} cannot hold: {way_out}."
        )
    if len(below := (sign < 0).nonzero()):
        raise InputError(
            f"fold: layer {name}: {place(below[0])}, one of {len(below)}, fires below a threshold above 0, so from "
            f"rest, which threshold={threshold!r} cannot hold. Use threshold='own', or train with "
            "sk.MPBN(..., positive=True)."
        )


def _over(quantum: Tensor, level: Tensor) -> Tensor:
    """The quantum, shaped to meet one value a neuron."""
    return quantum.reshape(-1, *[1] * (level.ndim - 1)) if quantum.ndim == 1 and level.ndim > 1 else quantum


def _scale_rows_before(name: str, layer: nn.Module | None, scale: Tensor) -> None:
    if not isinstance(layer, _LINEAR) or type(layer) not in _LINEAR or altered(layer) or is_parametrized(layer):
        raise InputError(
            f"fold: layer {name}: its rows are to be scaled, and no plain convolution or linear layer feeds it, and it "
            "alone, as far as chains tell. Put the two next to each other in an sk.Sequential, or use negative='flip' "
            "and threshold='own'."
        )
    rows = len(layer.weight)
    if scale.ndim == 0:
        scale = scale.expand(rows)
    flat = scale.reshape(len(scale), -1)
    if len(scale) != rows or not bool((flat == flat[:, :1]).all()):
        raise InputError(
            f"fold: layer {name}: its rows are to be scaled by one number a channel, but its neurons differ inside a "
            "channel. Use sk.MPBN(channels), or negative='flip' and threshold='own'."
        )
    _scale_rows(layer, flat[:, 0].contiguous())
