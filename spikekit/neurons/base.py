"""What every neuron shares: [T, B, ...] in and out, state through the session, and loud refusal of bad input."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from spikekit import state as sessions
from spikekit.errors import InputError, StateError
from spikekit.neurons.watch import waits, watch
from spikekit.ops.lif import state_dtype
from spikekit.ops.paths import functorch_active

# Drive, state and names of traces -> output, new state and traces: see `Neuron.integrate`.
Integrate = Callable[
    [Tensor, dict[str, Tensor] | None, Collection[str]], tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]
]


class Neuron(nn.Module):
    """Base of all neurons. A subclass defines `integrate`; this class feeds it state and checks what goes through."""

    temporal: ClassVar[bool] = True
    """Takes [T, B, ...] itself; `sk.Sequential` does not fold time for it."""

    spiking: ClassVar[bool] = True
    """Its output is spikes."""

    graded: ClassVar[bool] = False
    """Its spikes carry a number of either sign: what is not zero is one spike."""

    records: ClassVar[tuple[str, ...]] = ("drive", "membrane", "spikes")
    """What `sk.record` can ask of it."""

    carries: ClassVar[tuple[str, ...]] = ("v",)
    """The tensors of its state, where all are of the shape of the neurons; `_state_shapes` says it otherwise."""

    def integrate(
        self, x: Tensor, state: dict[str, Tensor] | None, keep: Collection[str]
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """The equations: output [T, B, ...], the state after the last step, and the traces named in `keep`."""
        raise NotImplementedError(f"{type(self).__name__} must define integrate(x, state, keep)")

    def forward(self, x: Tensor) -> Tensor:
        """Drive x [T, B, ...], floating point, to the output [T, B, ...] of the whole sequence."""
        self._check_drive(x)
        return self._carry(x, self.integrate)

    def _carry(self, x: Tensor, integrate: Integrate, compute: Callable[[], Tensor] | None = None) -> Tensor:
        """The output of `integrate`, which is given the state that the session holds and whose new state it keeps.

        compute: where x only has the shape, dtype and device of the drive, what gives its numbers, for an error.
        """
        session = sessions.active()
        if session is None:
            y, new, _ = integrate(x, None, ())
            self._check_finite(x, None, new, compute)
            return y
        slot = session.slot(self)
        state = session.take(slot)
        if state is not None:
            self._check_state(x, state, slot)
        y, new, traces = integrate(x, state, session.wants(self))
        self._check_finite(x, state, new, compute)
        session.give(slot, new)
        for what, trace in traces.items():
            session.put(slot, what, trace)
        return y

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Neuron:
        # net.half() halves weights; decay and threshold stay as they are, since the membrane integrates in float32.
        def keep(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            if moved.is_floating_point() and moved.dtype.itemsize < 4 <= tensor.dtype.itemsize:
                return tensor.to(moved.device, torch.float32)
            return moved

        return super()._apply(keep, recurse)

    def __setattr__(self, name: str, value: Any) -> None:
        # A learnable parameter is stored as <name>_raw: an attribute of its own name would hide it, unused.
        if f"{name}_raw" in self.__dict__.get("_parameters", {}):
            raise InputError(
                f"{type(self).__name__}: {name} is learned and cannot be assigned; make a new neuron, or write to "
                f"{name}_raw under torch.no_grad()"
            )
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        # One line, whatever is plugged in: errors begin with it.
        return f"{type(self).__name__}({self.extra_repr()})"

    def _check_drive(self, x: Tensor) -> None:
        if not isinstance(x, Tensor):
            raise InputError(f"{self}: the drive must be a tensor, got {type(x).__name__}; use torch.as_tensor(x)")
        if x.ndim < 2:
            raise InputError(
                f"{self}: the drive must have the axes [T, B, ...], got shape {tuple(x.shape)}. "
                "Add the missing axis, for example x.unsqueeze(1) for a batch of one."
            )
        if not x.is_floating_point():
            raise InputError(f"{self}: the drive must be floating point, got {x.dtype}; use x.float()")
        for axis, what in ((0, "time steps (axis 0, T)"), (1, "samples (axis 1, B)")):
            if x.shape[axis] == 0:
                raise InputError(f"{self}: the drive has no {what}: shape {tuple(x.shape)}")

    def _check_state(self, x: Tensor, state: dict[str, Tensor], slot: str) -> None:
        where = f"state of {slot or 'the network'!r} ({type(self).__name__})"
        entries = state if isinstance(state, dict) else {"": state}
        shapes = self._state_shapes(x)
        if entries.keys() != shapes.keys() or not all(isinstance(v, Tensor) for v in entries.values()):
            found = ", ".join(f"{name} {type(value).__name__}".strip() for name, value in entries.items())
            raise StateError(
                f"{where}: it must hold the tensors {list(shapes)}, got [{found}]. "
                "It belongs to another network: pass state=None to start at rest."
            )
        for name, value in state.items():
            if value.shape[:1] != x.shape[1:2]:
                raise StateError(
                    f"{where}: {name} is of a batch of {value.shape[0]}, the input has B = {x.shape[1]} (axis 1). "
                    "Index the state with sk.map_state, or pass state=None to start at rest."
                )
            if tuple(value.shape) != shapes[name]:
                raise StateError(
                    f"{where}: {name} has the shape {tuple(value.shape)}, the drive needs {shapes[name]}. "
                    "It belongs to another network or input size: pass state=None to start at rest."
                )
            if value.device != x.device or value.dtype != state_dtype(x.dtype):
                raise StateError(
                    f"{where}: {name} is {value.dtype} on {value.device}, the drive needs {state_dtype(x.dtype)} on "
                    f"{x.device}. Move it with sk.map_state(lambda v: v.to(...), state)."
                )

    def _state_shapes(self, x: Tensor) -> dict[str, tuple[int, ...]]:
        """Name -> shape of the tensors of its state for drive `x`, the batch first."""
        return dict.fromkeys(self.carries, tuple(x.shape[1:]))

    def _check_finite(
        self,
        x: Tensor,
        old: dict[str, Tensor] | None,
        new: dict[str, Tensor],
        compute: Callable[[], Tensor] | None = None,
    ) -> None:
        """Find NaN and Inf by the last membrane alone: once in, they never leave it, so T - 1 steps need no look.

        On a GPU they are found by a later call: see `spikekit.neurons.watch`.
        """
        if torch.compiler.is_compiling() or functorch_active():
            return
        if x.is_cuda and not waits():
            # While a CUDA graph is recorded, even a question that does not wait is forbidden.
            if not torch.cuda.is_current_stream_capturing():
                watch.look()
                for value in new.values():
                    watch.ask(value, self)
            return
        for value in new.values():
            # Else autograd would keep a copy for a gradient that nobody asks for.
            value = value.detach()
            # A fake tensor holds no numbers either.
            if (
                value.is_meta
                or hasattr(value, "fake_mode")
                or (value.is_cuda and torch.cuda.is_current_stream_capturing())
            ):
                continue
            # They do not hide in a sum, which takes a twentieth of the time; one that overflows is looked into.
            if math.isfinite(value.sum().item()) or bool(torch.isfinite(value).all()):
                continue
            x = x if compute is None else compute()
            bad = (~torch.isfinite(x)).nonzero()
            if len(bad):
                index = tuple(bad[0].tolist())
                raise InputError(
                    f"{self}: the drive holds {x[index].item()} at [T, B, ...] = {list(index)}, one of {len(bad)} "
                    "values that are not finite. Look at the input data and at the weights of the layer before."
                )
            if not all(bool(torch.isfinite(before).all()) for before in (old or {}).values()):
                raise StateError(f"{self}: the state it was given holds values that are not finite")
            raise InputError(
                f"{self}: the membrane grew beyond {value.dtype}'s range on a finite drive. "
                "Check the scale of the drive, or use beta < 1."
            )
