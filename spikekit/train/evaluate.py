"""One pass over a loader without learning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spikekit.errors import InputError
from spikekit.measure.activity import ActivityMeter
from spikekit.train.engine import Engine
from spikekit.train.guard import check_batch, check_output
from spikekit.train.loss import decode
from spikekit.train.metrics import Metrics, Tally
from spikekit.train.seeding import borrowed_rng
from spikekit.train.shard import begin_epoch, shard

Loss = Callable[[Tensor, Tensor], Tensor]

# A stream of random numbers that no training epoch uses.
_EVALUATION = 2**32 - 1


def correct(loss: Loss, output: Tensor, target: Tensor) -> Tensor:
    """How many samples of a batch are right.

    A loss with a `score(output, target)` says for each of them, [B] in [0, 1]. Else those count whose class is the
    target's; classes [B] are the loss's own `decode` of output [T, B, C], or those of the mean over time.
    """
    score = getattr(loss, "score", None)
    if score is not None:
        return score(output, target).sum()
    return (getattr(loss, "decode", decode)(output) == target).sum()


def evaluate(engine: Engine, net: nn.Module, loss: Loss, loader: Any, seed: int) -> Metrics:
    """Loss, accuracy and activity of `net` in eval mode; every sample of every process counts once.

    Random augmentation in the loader is the same in every call. Modes of the modules and random generators
    are left as they were found.
    """
    share = shard(loader, engine.rank, engine.world, even=False)
    tally, meter = Tally(engine.device), ActivityMeter(net, allow_none=True)
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        with borrowed_rng(share, engine.device), meter, torch.no_grad():
            begin_epoch(share, seed, _EVALUATION, engine.rank)
            for number, batch in enumerate(share, start=1):
                where = f"evaluation, batch {number}"
                x, y = check_batch(batch, where, loss)
                try:
                    output = engine.infer(net, engine.to_device(x))
                except InputError as error:
                    raise InputError(f"{where}: {error}") from error
                check_output(output, y, where, loss)
                target = engine.to_device(y)
                tally.add(loss(output, target), correct(loss, output, target), len(target))
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
