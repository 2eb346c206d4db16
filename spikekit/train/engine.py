"""Device, precision and processes: the few things asked of Lightning Fabric, in one place."""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from spikekit.errors import InputError, require


class Engine:
    """One process of a run: where it computes, in which precision, and how it talks to the others.

    Arguments are Fabric's. Under torchrun the number of processes is torchrun's, whatever `devices` says.
    Raises MissingExtraError without lightning-fabric, InputError for settings this machine cannot satisfy.
    """

    def __init__(
        self, accelerator: str, devices: int | str | list[int], num_nodes: int, precision: str, strategy: str
    ) -> None:
        fabric = require("lightning_fabric", "train")
        if torch.distributed.is_available() and torch.distributed.is_torchelastic_launched():
            local = int(os.environ["LOCAL_WORLD_SIZE"])
            devices, num_nodes = local, int(os.environ["WORLD_SIZE"]) // local
        with _quiet():
            try:
                self._fabric = fabric.Fabric(
                    accelerator=accelerator,
                    devices=devices,
                    num_nodes=num_nodes,
                    precision=precision,
                    strategy=strategy,
                )
            except (ValueError, RuntimeError, ImportError) as error:
                raise InputError(f"Trainer: this machine cannot be used as asked ({error})") from error
            self._launch()
        self.device: torch.device = self._fabric.device
        self.rank: int = self._fabric.global_rank
        self.world: int = self._fabric.world_size

    def _launch(self) -> None:
        before = _has_group()
        self._fabric.launch()
        if _has_group() and not before:
            # Fabric closes groups of NCCL alone: one of gloo that lives until the interpreter ends may abort it.
            atexit.register(_close_group)

    @property
    def scaler_state(self) -> dict[str, Any]:
        """State of the gradient scaler of "16-mixed", empty otherwise."""
        return dict(self._fabric.strategy.precision.state_dict())

    @scaler_state.setter
    def scaler_state(self, state: dict[str, Any]) -> None:
        self._fabric.strategy.precision.load_state_dict(state)

    def setup(self, net: nn.Module) -> nn.Module:
        """`net` moved to the device and wrapped for training; `net` itself holds the same parameters."""
        with _quiet():
            # Fabric only undoes a torch.compile made after its own import; wrap such a network as it is.
            wrapped: nn.Module = self._fabric.setup_module(net, _reapply_compile=False)
            return wrapped

    def setup_optimizer(self, optimizer: Optimizer) -> Optimizer:
        """`optimizer` wrapped for mixed precision."""
        wrapped: Optimizer = self._fabric.setup_optimizers(optimizer)
        return wrapped

    def place(self, net: nn.Module) -> None:
        """Move `net` to the device without wrapping it."""
        self._fabric.to_device(net)

    def to_device(self, tensor: Tensor) -> Tensor:
        """`tensor` on the device; from pinned memory without waiting."""
        moved: Tensor = self._fabric.to_device(tensor)
        return moved

    def infer(self, net: nn.Module, x: Tensor) -> Tensor:
        """The output of net(x) in the run's precision, outside DDP: processes need not run in step."""
        precision = self._fabric.strategy.precision
        with precision.forward_context():
            y: Tensor = precision.convert_output(net(precision.convert_input(x)))
        return y

    def backward(self, loss: Tensor) -> None:
        """Gradients, scaled where the precision needs it."""
        self._fabric.backward(loss)

    def clip(self, net: nn.Module, optimizer: Optimizer, norm: float) -> None:
        """Scale the gradients down to a total 2-norm of `norm`."""
        # With a gradient scaler, infinite gradients are part of finding the scale; the step is then skipped.
        self._fabric.clip_gradients(net, optimizer, max_norm=norm, error_if_nonfinite=False)

    def reduce(self, tensor: Tensor, how: str) -> Tensor:
        """The "sum", "min" or "max" of `tensor` over all processes, in place."""
        if self.world > 1:
            operation = getattr(torch.distributed.ReduceOp, how.upper())
            torch.distributed.all_reduce(tensor, op=operation)
        return tensor

    def gather(self, tensor: Tensor) -> Tensor:
        """Row i is the `tensor` of process i; on the CPU."""
        if self.world == 1:
            return tensor.cpu().unsqueeze(0)
        rows = [torch.empty_like(tensor, device=self.device) for _ in range(self.world)]
        torch.distributed.all_gather(rows, tensor.to(self.device))
        return torch.stack(rows).cpu()

    def agree(self, flag: bool) -> bool:
        """Whether `flag` is true in any process."""
        if self.world == 1:
            return flag
        return bool(self.reduce(torch.tensor(int(flag), device=self.device), "max").item())

    def share_buffers(self, net: nn.Module) -> None:
        """Give all processes the buffers of the first, such as running statistics."""
        if self.world > 1:
            for buffer in net.buffers():
                torch.distributed.broadcast(buffer, src=0)


def _has_group() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _close_group() -> None:
    if _has_group():
        torch.distributed.destroy_process_group()


@contextmanager
def _quiet() -> Iterator[None]:
    # Fabric installs a handler of its own at import and announces devices and process groups at level INFO.
    logger = logging.getLogger("lightning_fabric")
    loggers = [logger, logging.getLogger("lightning.fabric"), logging.getLogger("lightning_utilities")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
