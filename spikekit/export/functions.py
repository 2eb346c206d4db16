"""A forward of the user's own, traced by `torch.fx`, and the functions that may stand in it."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional as F

from spikekit.errors import ExportError, SpikekitError
from spikekit.export.inplace import InPlaceProxy, check_in_place
from spikekit.export.pooling import adaptive_pool, average_pool, upsampled
from spikekit.export.signal import Signal, added, affine, concatenated, every_channel, flattened
from spikekit.sequential import FoldTime

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
Extra = dict[str, tuple[nn.Module, str]]


class _Tracer(fx.Tracer):
    """Traces one forward; what it calls are leaves, a `fold_time` made on the way included."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.extra: Extra = {}

    def create_args_for_root(
        self, root_fn: Any, is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """What is passed in: a network gives each block its input, so arguments that have a default keep it."""
        _, *others = inspect.signature(root_fn).parameters.values()
        needed = [p.name for at, p in enumerate(others) if p.kind in _POSITIONAL and (not at or p.default is p.empty)]
        return root_fn, [self.root, *(self.create_proxy("placeholder", name, (), {}) for name in needed)]

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return InPlaceProxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True

    def path_of_module(self, mod: nn.Module) -> str:
        if isinstance(mod, FoldTime) and not any(mod is part for part in self.root.modules()):
            inner = self.path_of_module(mod.module)
            self.extra[f"{inner} folded"] = (mod, inner)
            return f"{inner} folded"
        try:
            return super().path_of_module(mod)
        except NameError as error:
            kind = type(mod).__name__
            raise ExportError(
                f"{self.name}: its forward calls a {kind} that is no attribute of it; make it in __init__"
            ) from error


def trace(name: str, module: nn.Module) -> tuple[fx.Graph, Extra]:
    """The graph of a module's own forward, and the `fold_time`s that it makes: graph target -> (module, path)."""
    tracer = _Tracer(name)
    try:
        graph = tracer.trace(module)
    except SpikekitError:
        raise
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ExportError(
            f"{name}: its forward cannot be traced ({reason}). Build it of layers, sums and concatenations alone, "
            "without asking tensors for their values or shapes, or as an sk.Sequential."
        ) from error
    folded = {target: fold for target, (fold, _) in tracer.extra.items()}
    check_in_place(name, graph, dict(module.named_modules(remove_duplicate=False)) | folded)
    return graph, tracer.extra


def call_function(where: str, function: Any, given: list[Any], named: dict[str, Any], lead: int) -> Any:
    """What `function` makes of signals; lead: axes in front of a signal's own. Raises ExportError for others."""
    known = _FUNCTIONS.get(function) if callable(function) else None
    if known is None:
        label = getattr(function, "__name__", str(function))
        raise ExportError(
            f"{where}: {label} cannot be read. Sums, differences, concatenation, flatten, average pooling, repeating "
            "can be; put everything else into a layer, or take it out of the network."
        )
    try:
        return known(where, lead, *given, **named)
    except (TypeError, OverflowError) as error:
        raise ExportError(f"{where}: these arguments cannot be read ({error}); leave out what is not needed") from error


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _add(where: str, lead: int, one: Any, other: Any, *, alpha: float = 1, sign: float = 1.0) -> Signal:
    factor = sign * alpha
    if isinstance(one, Signal) and isinstance(other, Signal):
        return added(where, one, _times(where, lead, other, factor))
    if _number(one) and isinstance(other, Signal):
        return affine(where, np.array([factor]), np.array([float(one)]), other)
    if _number(other) and isinstance(one, Signal):
        return affine(where, np.array([1.0]), np.array([factor * other]), one)
    raise ExportError(f"{where}: it adds a tensor of its own; make it the bias of a layer")


def _sub(where: str, lead: int, one: Any, other: Any, *, alpha: float = 1) -> Signal:
    return _add(where, lead, one, other, alpha=alpha, sign=-1.0)


def _times(where: str, lead: int, one: Any, other: Any) -> Signal:
    signal, factor = (one, other) if isinstance(one, Signal) else (other, one)
    if not _number(factor) or not isinstance(signal, Signal):
        raise ExportError(f"{where}: a product of activities is no sum of synapses; only numbers can multiply")
    return affine(where, np.array([float(factor)]), np.zeros(1), signal)


def _over(where: str, lead: int, one: Any, other: Any) -> Signal:
    if not _number(other):
        raise ExportError(f"{where}: a quotient of activities is no sum of synapses; only numbers can divide")
    if other == 0:
        raise ExportError(f"{where}: it divides by 0")
    return _times(where, lead, one, 1.0 / other)


def _negative(where: str, lead: int, one: Signal) -> Signal:
    return _times(where, lead, one, -1.0)


def _cat(where: str, lead: int, tensors: Any, dim: int = 0) -> Signal:
    signals = list(tensors)
    if not all(isinstance(signal, Signal) for signal in signals):
        raise ExportError(f"{where}: it joins a tensor of its own to the others, which a plan cannot")
    axis = _axis(where, lead, signals[0], dim)
    if len({(*s.shape[:axis], *s.shape[axis + 1 :]) for s in signals}) > 1:
        raise ExportError(f"{where}: shapes {[s.shape for s in signals]} cannot be joined along axis {dim}")
    return concatenated(where, axis, signals)


def _flatten(where: str, lead: int, one: Signal, start_dim: int = 0, end_dim: int = -1) -> Signal:
    start, end = (_axis(where, lead, one, dim) for dim in (start_dim, end_dim))
    return flattened(where, start, end, one)


def _axis(where: str, lead: int, signal: Signal, dim: int) -> int:
    axis = dim if dim >= 0 else lead + len(signal.shape) + dim
    if not lead <= axis < lead + len(signal.shape):
        raise ExportError(
            f"{where}: axis {dim} is time or batch, or is not there; a sample has the shape {signal.shape}, behind "
            f"{'time and batch' if lead == 2 else 'the batch, into which time is folded'}"
        )
    return axis - lead


def _mean(where: str, lead: int, one: Signal, dim: Any = None, keepdim: bool = False) -> Signal:
    dims = [dim] if isinstance(dim, int) else dim
    if dims is None or sorted(_axis(where, lead, one, d) for d in dims) != [1, 2] or len(one.shape) != 3:
        raise ExportError(f"{where}: only the mean over both axes of images can be read")
    pool = nn.AdaptiveAvgPool2d(1)
    pooled = every_channel(where, pool, lambda shape: adaptive_pool(pool, shape), one)
    return pooled if keepdim else flattened(where, 0, 2, pooled)


def _average(where: str, lead: int, one: Signal, *sizes: Any, **named: Any) -> Signal:
    pool = nn.AvgPool2d(*sizes, **named)
    return every_channel(where, pool, lambda shape: average_pool(pool, shape), _images(where, lead, one))


def _adaptive(where: str, lead: int, one: Signal, output_size: Any) -> Signal:
    pool = nn.AdaptiveAvgPool2d(output_size)
    return every_channel(where, pool, lambda shape: adaptive_pool(pool, shape), _images(where, lead, one))


def _interpolate(
    where: str,
    lead: int,
    one: Signal,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: None = None,
    recompute_scale_factor: None = None,
    antialias: bool = False,
) -> Signal:
    if mode not in ("nearest", "nearest-exact"):
        raise ExportError(f"{where}: mode {mode!r} cannot be exported; use 'nearest', which repeats")
    grow = nn.Upsample(size, scale_factor, mode)
    return every_channel(where, grow, lambda shape: upsampled(grow, shape), _images(where, lead, one))


def _images(where: str, lead: int, one: Signal) -> Signal:
    if len(one.shape) != 3 or lead != 1:
        raise ExportError(f"{where}: it takes images (C, H, W) with time folded into the batch, got {one.shape}")
    return one


def _same(where: str, lead: int, one: Signal) -> Signal:
    return one


def _dropout(
    where: str, lead: int, one: Signal, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Signal:
    if training:
        raise ExportError(f"{where}: it drops in eval mode too; write F.dropout(x, p, self.training), or nn.Dropout")
    return one


_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    operator.add: _add,
    operator.iadd: _add,
    torch.add: _add,
    operator.sub: _sub,
    operator.isub: _sub,
    torch.sub: _sub,
    operator.mul: _times,
    operator.imul: _times,
    torch.mul: _times,
    operator.truediv: _over,
    operator.itruediv: _over,
    torch.div: _over,
    operator.neg: _negative,
    torch.neg: _negative,
    torch.cat: _cat,
    torch.concat: _cat,
    torch.flatten: _flatten,
    torch.mean: _mean,
    torch.clone: _same,
    torch.detach: _same,
    F.dropout: _dropout,
    F.dropout1d: _dropout,
    F.dropout2d: _dropout,
    F.avg_pool2d: _average,
    F.adaptive_avg_pool2d: _adaptive,
    F.interpolate: _interpolate,
}
METHODS: dict[str, Any] = {
    "add": torch.add,
    "add_": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "neg": torch.neg,
    "flatten": torch.flatten,
    "mean": torch.mean,
    "contiguous": torch.clone,
    "clone": torch.clone,
    "detach": torch.detach,
}
