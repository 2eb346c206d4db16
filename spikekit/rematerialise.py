"""Long sequences: keep the states between pieces of time, and compute a piece again when its gradient is due.

Of T steps in pieces of c, T/c states and the activations of one piece are in memory at once, instead of T steps of
activations: least at c about sqrt(T), for one more forward pass. Chen et al. 2016, arXiv 1604.06174; through time:
Gruslys et al. 2016, arXiv 1606.03401.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import checkpoint

from spikekit.errors import InputError, StateError
from spikekit.ops.paths import functorch_active
from spikekit.sequential import FoldTime
from spikekit.state import Session, active


class CheckpointTime(nn.Module):
    """A network run in pieces of time that are computed again in the backward pass; made by `checkpoint_time`."""

    temporal: ClassVar[bool] = True

    def __init__(self, module: nn.Module, chunk: int | None) -> None:
        super().__init__()
        self.module = module
        self.chunk = chunk

    # Traced, the hooks of checkpointing would count the tracer's tensors with the network's own.
    # (torch.compiler.disable would import all of torch._dynamo with spikekit.)
    @torch._disable_dynamo  # type: ignore[attr-defined, untyped-decorator]
    def forward(self, x: Tensor) -> Any:
        """Sequence x [T, B, ...] to what the network returns for it, [T, B, ...]."""
        if not isinstance(x, Tensor) or x.ndim < 2 or x.shape[0] == 0:
            found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise InputError(f"checkpoint_time: the input must have the axes [T, B, ...] with T > 0, got {found}")
        outer = active()
        if outer is None:
            outer = Session({id(module): path for path, module in self.named_modules()}, None)
        # torch.func refuses the hooks that checkpointing is made of.
        again = torch.is_grad_enabled() and not functorch_active()
        calls, old, outputs = Counter(outer._calls), outer.old, list[Any]()
        for x_piece in x.split(self.chunk or math.isqrt(len(x) - 1) + 1):
            piece = _Piece(self.module, outer, calls, old)
            y, session = piece.compute_and_forget(x_piece) if again else piece(x_piece, *piece.state)
            for leaf in pytree.tree_leaves(y):
                self._check_output(leaf, x_piece)
            outputs.append(y)
            # The first piece may be handed states of layers outside; every later one must use all it is handed.
            old = session.finish() if outputs[1:] else session.new
            for name, traces in session.traces.items():
                outer.traces.setdefault(name, []).extend(traces)
        outer.new.update(old or {})
        outer._calls = session._calls
        # A single piece stays as it lies in memory.
        return outputs[0] if len(outputs) == 1 else pytree.tree_map(lambda *pieces: torch.cat(pieces), *outputs)

    def _check_output(self, y: Any, x: Tensor) -> None:
        if not isinstance(y, Tensor) or y.shape[:2] != x.shape[:2]:
            found = list(y.shape) if isinstance(y, Tensor) else repr(y)
            raise InputError(
                f"checkpoint_time: {type(self.module).__name__} must return [T, B, ...] for every piece; for one of "
                f"[T={x.shape[0]}, B={x.shape[1]}, ...] it returned {found}. A mean over time, a loss or anything else "
                "that spans the sequence comes after: checkpoint_time(net)(x).mean(0)"
            )

    def extra_repr(self) -> str:
        """The steps of a piece."""
        return f"chunk={self.chunk}"


def checkpoint_time(net: nn.Module, chunk: int | None = None) -> CheckpointTime:
    """Train `net` on sequences whose activations do not fit in memory.

    net: any module on [T, B, ...] that keeps the two axes; it is `.module` of the result, whose parameters carry the
    same names after "module.". chunk: time steps of a piece; None takes sqrt(T), rounded up, which holds the least.
    T need not be divisible by it.

    Outputs, states, recordings and gradients are those of `net` itself, gradients to rounding. The cost is one more
    forward pass; without gradients there is none, and only the activations of one piece are in memory at a time.
    Inside `run` the state is carried on. Recordings are kept whole, as ever.

    In the backward pass a piece finds random numbers, autocast, train or eval mode, and buffers as they were, and what
    it then writes into buffers is dropped. What differs from the whole sequence: in train mode BatchNorm normalises
    each piece by the statistics of that piece and updates the running ones once a piece, and dropout draws its masks
    piece by piece. Layers that look across time themselves (a convolution or attention over time) see one piece.
    Forward hooks run again, but an ActivityMeter, the Trainer's too, counts each spike once. torch.compile leaves the
    pieces out of its graph. Under torch.func nothing is computed again and no memory saved.

    Raises InputError for a chunk that is not an int > 0, for a net that holds nn.RNN, nn.GRU or nn.LSTM over time, and
    for a net that does not return [T, B, ...]; StateError in the backward pass when a parameter was changed since.
    """
    if not isinstance(net, nn.Module):
        raise InputError(f"checkpoint_time: net must be a module, got {type(net).__name__}")
    if not (chunk is None or (isinstance(chunk, int) and not isinstance(chunk, bool) and chunk > 0)):
        raise InputError(f"checkpoint_time: chunk must be a number of time steps, an int > 0 or None, got {chunk!r}")
    if (layer := _forgetful(net)) is not None:
        raise InputError(
            f"checkpoint_time: {layer} starts from zero at every piece, and would not see the one before. Write the "
            "loop with sk.scan and a cell such as nn.GRUCell, or leave the layer outside"
        )
    return CheckpointTime(net, chunk)


def _forgetful(module: nn.Module) -> nn.Module | None:
    """A layer with a memory that `run` does not carry; within one step, under fold_time, it has none."""
    if isinstance(module, nn.RNNBase):
        return module
    children = () if isinstance(module, FoldTime) else module.children()
    return next((found for child in children if (found := _forgetful(child)) is not None), None)


class _Piece:
    """One piece on its way through the network: in the forward pass, and again when its gradient is due."""

    def __init__(self, net: nn.Module, outer: Session, calls: Counter[str], old: Any) -> None:
        self.net = net
        self.names, self.wanted, self.calls = outer.names, outer.wanted, calls
        self.state, self.structure = pytree.tree_flatten(old)
        self.past: _Past | None = None

    def compute_and_forget(self, x: Tensor) -> tuple[Any, Session]:
        """Output and session of the piece; of its activations nothing is kept."""
        past = _Past(self.net)
        result: tuple[Any, Session] = checkpoint(self, x, *self.state, use_reentrant=False)
        past.keep_what_changed()
        self.past = past
        return result

    def __call__(self, x: Tensor, *state: Any) -> tuple[Any, Session]:
        session = Session(self.names, pytree.tree_unflatten(state, self.structure), self.wanted)
        session._calls = Counter(self.calls)
        session.again = self.past is not None
        with session:
            if self.past is None:
                return self.net(x), session
            with self.past.restored() as tensors:
                return functional_call(self.net, tensors, (x,)), session


class _Past:
    """What a network was before a piece went through it, for a second time that sees the same and leaves no mark."""

    def __init__(self, net: nn.Module) -> None:
        self.modes = [(module, module.training) for module in net.modules()]
        self.tensors: dict[str, Tensor] = {**dict(net.named_parameters()), **dict(net.named_buffers())}
        self.versions = {name: _version(tensor) for name, tensor in self.tensors.items()}
        self.copies = {name: buffer.detach().clone() for name, buffer in net.named_buffers()}

    def keep_what_changed(self) -> None:
        """Keep the copies of buffers that the piece has written to, and of no other."""
        # By value too: batch_norm writes its running statistics behind the version counter. All are compared before
        # the first answer is read, which waits for the device.
        same = {name: (self.tensors[name] == copy).all() for name, copy in self.copies.items()}
        self.copies = {
            name: copy
            for name, copy in self.copies.items()
            if _version(self.tensors[name]) != self.versions[name] or not bool(same[name])
        }

    @contextmanager
    def restored(self) -> Iterator[dict[str, Tensor]]:
        """The modes as they were, and all tensors as they were, those to be written to as copies."""
        for name in self.tensors.keys() - self.copies.keys():
            if _version(self.tensors[name]) != self.versions[name]:
                raise StateError(
                    f"checkpoint_time: {name!r} was changed in place between the forward and the backward pass, which "
                    "computes the pieces again and needs it as it was. Call backward() before the change"
                )
        now = [(module, module.training) for module, _ in self.modes]
        try:
            for module, training in self.modes:
                module.training = training
            yield self.tensors | {name: copy.clone() for name, copy in self.copies.items()}
        finally:
            for module, training in now:
                module.training = training


def _version(tensor: Tensor) -> int | None:
    """How often `tensor` was written to; inference tensors do not count."""
    return None if tensor.is_inference() else tensor._version
