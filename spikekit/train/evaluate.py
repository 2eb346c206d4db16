"""One pass over a loader without learning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spikekit.errors import InputError
from spikekit.measure.activity import ActivityMeter
from spikekit.train.engine import Engine
from spikekit.train.guard import check_batch, check_classes
from spikekit.train.loss import decode
from spikekit.train.metrics import Metrics, Tally
from spikekit.train.seeding import borrowed_rng
from spikekit.train.shard import begin_epoch, shard

Loss = Callable[[Tensor, Tensor], Tensor]

# A stream of random numbers that no training epoch uses.
_EVALUATION = 2**32 - 1


def decoder(loss: Loss) -> Callable[[Tensor], Tensor]:
    """How `loss` turns an output [T, B, C] into classes [B]: its own `decode`, or the mean over time."""
    return getattr(loss, "decode", decode)


def evaluate(engine: Engine, net: nn.Module, loss: Loss, loader: Any, seed: int) -> Metrics:
    """Loss, accuracy and activity of `net` in eval mode; every sample of every process counts once.

    Random augmentation in the loader is the same in every call. Modes of the modules and random generators
    are left as they were found.
    """
    share = shard(loader, engine.rank, engine.world, even=False)
    tally, meter, predict = Tally(engine.device), ActivityMeter(net, allow_none=True), decoder(loss)
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        with borrowed_rng(share, engine.device), meter, torch.no_grad():
            begin_epoch(share, seed, _EVALUATION, engine.rank)
            for number, batch in enumerate(share, start=1):
                where = f"evaluation, batch {number}"
                x, y = check_batch(batch, where)
                try:
                    output = engine.infer(net, engine.to_device(x))
                except InputError as error:
                    raise InputError(f"{where}: {error}") from error
                check_classes(output, y, where)
                target = engine.to_device(y)
                tally.add(loss(output, target), predict(output), target)
    finally:
        for module, mode in modes:
            module.training = mode
    tally.merge(engine.reduce)
    if engine.world > 1:
        meter.merge(engine.reduce, engine.device)
    metrics = tally.result(meter.summary())
    if metrics.samples == 0:
        raise InputError("evaluate: the loader yielded no batches")
    return metrics
