"""State as a value: run a network in pieces, record what happens inside, unroll a loop of your own.

A spiking module is at rest at the start of every call. `run` opens a session in which each module finds the state it
ended the last piece with, and leaves its new one; the module itself keeps nothing. The state is a plain dictionary,
module name -> {tensor name -> tensor}, every tensor with the batch as its first axis.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from spikekit.errors import InputError, StateError

State = dict[str, Any]
Carry = TypeVar("Carry")


class _Local(threading.local):
    session: Session | None = None


_local = _Local()


def active() -> Session | None:
    """The session of the `run` or `record` that this call happens in, or None."""
    return _local.session


class Session:
    """One pass through a network: hands out the old state, collects the new one and the recordings."""

    def __init__(
        self, names: dict[int, str], old: State | None, wanted: dict[str, set[str]] | None = None
    ) -> None:
        self.names = names
        self.old = old
        self.new: State = {}
        self.wanted = wanted or {}
        self.traces: dict[str, list[Tensor]] = {}
        self._calls: Counter[str] = Counter()
        self._outer: Session | None = None

    def __enter__(self) -> Session:
        self._outer, _local.session = _local.session, self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _local.session = self._outer

    def name(self, module: nn.Module) -> str:
        """The path of `module` in the network that is being run."""
        try:
            return self.names[id(module)]
        except KeyError:
            raise StateError(
                f"{type(module).__name__} is used inside run() or record() but is not a submodule of the network. "
                "Assign it as an attribute or keep it in an nn.ModuleList, so that its state has a name."
            ) from None

    def slot(self, module: nn.Module) -> str:
        """A key for this call of `module`; a module called twice in one pass has two states."""
        name = self.name(module)
        self._calls[name] += 1
        return name if self._calls[name] == 1 else f"{name}#{self._calls[name]}"

    def take(self, slot: str) -> Any:
        """The state carried into `slot`, or None when the sequence starts here."""
        if self.old is None:
            return None
        if slot not in self.old:
            raise StateError(
                f"the state given to run() has no entry for {slot!r}; it has {sorted(self.old)}. "
                "It belongs to another network: pass state=None to start at rest."
            )
        return self.old[slot]

    def give(self, slot: str, state: Any) -> None:
        """Leave `state` for the next piece."""
        self.new[slot] = state

    def wants(self, module: nn.Module) -> set[str]:
        """Which traces of `module` are to be recorded."""
        return self.wanted.get(self.name(module), set()) if self.wanted else set()

    def put(self, module: nn.Module, what: str, trace: Tensor) -> None:
        """Add a recorded trace [T, B, ...]; pieces of one module are joined along time."""
        self.traces.setdefault(f"{self.name(module)}.{what}".lstrip("."), []).append(trace)

    def finish(self) -> State:
        """The new state, once every entry of the old one has found its owner."""
        left = sorted(set(self.old or ()) - set(self.new))
        if left:
            raise StateError(
                f"the state given to run() has entries this network did not use: {left}. "
                "It belongs to another network: pass state=None to start at rest."
            )
        return self.new


def _names(net: nn.Module) -> dict[int, str]:
    return {id(module): name for name, module in net.named_modules()}


def run(net: nn.Module, x: Any, state: State | None = None) -> tuple[Any, State]:
    """Run `net` on one piece of a sequence, carrying on from `state`.

    x: what the network takes, [T, B, ...]. state: None starts at rest; otherwise what the last `run` returned.
    Returns the output and the state after the last step. Running a sequence in pieces gives exactly the numbers of
    running it whole. Raises StateError when the state is of another network, batch, device or dtype.
    """
    with Session(_names(net), state) as session:
        y = net(x)
    return y, session.finish()


def record(
    net: nn.Module, x: Any, names: Iterable[str] | None = None, state: State | None = None
) -> tuple[Any, dict[str, Tensor]]:
    """Run `net` and keep what happens inside.

    names: "layer.what" entries, where what is "spikes", "membrane" (before the spike decision) or "drive", for
    example ["1.spikes", "1.membrane"]; None records the spikes of every spiking layer. A network that is itself one
    neuron is recorded as "spikes". Returns the output and {name: tensor [T, B, ...]}, part of the autograd graph.
    """
    modules = dict(net.named_modules())
    known = {
        f"{path}.{what}".lstrip("."): (path, what)
        for path, module in modules.items()
        for what in getattr(module, "records", ())
    }
    chosen = list(names) if names is not None else [name for name in known if name.split(".")[-1] == "spikes"]
    wanted: dict[str, set[str]] = {}
    for name in chosen:
        if name not in known:
            raise InputError(f"record: unknown name {name!r}; this network offers {sorted(known)}")
        path, what = known[name]
        wanted.setdefault(path, set()).add(what)
    with Session(_names(net), state, wanted) as session:
        y = net(x)
    session.finish()
    return y, {name: torch.cat(session.traces[name]) for name in chosen if name in session.traces}


def scan(
    owner: nn.Module,
    step: Callable[[Carry, Tensor], tuple[Carry, Tensor]],
    x: Tensor,
    carry: Carry,
) -> tuple[Tensor, Carry]:
    """Unroll a loop over time of your own, for feedback that no layer offers.

    owner: the module whose forward this is. step(carry, x_t) -> (carry, y_t), with x_t and y_t of shape [1, B, ...];
    the neurons of `owner` that it calls keep their state from step to step. carry: a pytree of tensors whose first
    axis is the batch, at its rest value. Returns y [T, B, ...] and the last carry. Inside `run` the loop is carried
    on like every other state.
    """
    outer = active()
    names = _names(owner) if outer is None else outer.names
    slot, saved = "", None
    if outer is not None:
        slot = outer.slot(owner) + ".scan"
        saved = outer.take(slot)
    inner_state: State | None = None
    if saved is not None:
        carry, inner_state = saved["carry"], saved["inner"]
    outputs = []
    for x_t in x.split(1):
        with Session(names, inner_state, None if outer is None else outer.wanted) as session:
            carry, y_t = step(carry, x_t)
        inner_state = session.finish()
        outputs.append(y_t)
        if outer is not None:
            for name, pieces in session.traces.items():
                outer.traces.setdefault(name, []).extend(pieces)
    if outer is not None:
        outer.give(slot, {"carry": carry, "inner": inner_state})
    return torch.cat(outputs), carry


def map_state(function: Callable[[Tensor], Tensor], state: State) -> State:
    """Apply `function` to every tensor of a state: `torch.Tensor.detach`, `lambda v: v[:8]`, `lambda v: v.cuda()`."""
    return pytree.tree_map(function, state)  # type: ignore[no-any-return]
