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
    # Set on the instance, once a thread: torch.compile's guards do not hold on a class attribute that it shadows.
    def __init__(self) -> None:
        self.session: Session | None = None


_local = _Local()


def active() -> Session | None:
    """The session of the `run` or `record` that this call happens in, or None."""
    return _local.session


class Session:
    """One pass through a network: hands out the old state, collects the new one and the recordings."""

    def __init__(self, names: dict[int, str], old: State | None, wanted: dict[str, set[str]] | None = None) -> None:
        if not (old is None or isinstance(old, dict)):
            raise StateError(f"the state must be None or what run() returned, got {type(old).__name__}")
        self.names = names
        self.old = old
        self.new: State = {}
        self.wanted = wanted or {}
        self.traces: dict[str, list[Tensor]] = {}
        # A pass whose numbers were seen before, computed again for its gradient: nothing in it is to be counted.
        self.again = False
        self._calls: Counter[str] = Counter()
        self._outer: Session | None = None

    def __enter__(self) -> Session:
        self._outer, _local.session = _local.session, self
        if self._outer is not None:
            self.again = self.again or self._outer.again
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

    def put(self, slot: str, what: str, trace: Tensor) -> None:
        """Add a recorded trace [T, B, ...]; pieces of one slot are joined along time."""
        self.traces.setdefault(f"{slot}.{what}".lstrip("."), []).append(trace)

    def finish(self) -> State:
        """The new state, once every entry of the old one has found its owner."""
        left = sorted(set(self.old or ()) - set(self.new))
        if left:
            raise StateError(
                f"the state given to run() has entries this network did not use: {left}. "
                "It belongs to another network: pass state=None to start at rest."
            )
        return self.new


def _modules(net: nn.Module) -> dict[str, nn.Module]:
    """Path -> module, without the path that torch.compile adds: compiled or not, a network has one state."""
    return {".".join(p for p in path.split(".") if p != "_orig_mod"): m for path, m in net.named_modules()}


def _names(net: nn.Module) -> dict[int, str]:
    return {id(module): path for path, module in _modules(net).items()}


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
    net: nn.Module, x: Any, names: str | Iterable[str] | None = None, state: State | None = None
) -> tuple[Any, dict[str, Tensor]]:
    """Run `net` and keep what happens inside.

    names: one "layer.what" or several, where what is "spikes", "membrane" (before the spike decision) or "drive",
    for example ["1.spikes", "1.membrane"]; None records the spikes of every spiking layer. A network that is itself
    one neuron is recorded as "spikes". Returns the output and {name: tensor [T, B, ...]}, part of the autograd graph. A
    layer called again in the same forward is recorded as "layer#2.what". Raises InputError for a name that the
    network does not have or, when names are given, that its forward did not produce.
    """
    names = [names] if isinstance(names, str) else names
    modules = _modules(net)
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
    if names is not None and (silent := [name for name in chosen if name not in session.traces]):
        raise InputError(f"record: {silent} belong to modules that this forward did not call")
    return y, {name: torch.cat(pieces) for name, pieces in session.traces.items()}


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
        carry, inner_state = _check_carry(saved, slot, x)
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


def _check_carry(saved: Any, slot: str, x: Tensor) -> tuple[Any, State]:
    if not isinstance(saved, dict) or saved.keys() != {"carry", "inner"}:
        raise StateError(
            f"state of {slot!r} (scan): it is not the state of a scan. "
            "It belongs to another network: pass state=None to start at rest."
        )
    for leaf in pytree.tree_leaves(saved["carry"]):
        if isinstance(leaf, Tensor) and leaf.shape[:1] != x.shape[1:2]:
            raise StateError(
                f"state of {slot!r} (scan): the carry has the shape {tuple(leaf.shape)}, the input has "
                f"B = {x.shape[1]} (axis 1). Index the state with sk.map_state, or pass state=None to start at rest."
            )
    return saved["carry"], saved["inner"]


def map_state(function: Callable[[Tensor], Tensor], state: State) -> State:
    """Apply `function` to every tensor of a state: `torch.Tensor.detach`, `lambda v: v[:8]`, `lambda v: v.cuda()`."""
    return pytree.tree_map(function, state)  # type: ignore[no-any-return]
