"""A training step of EMS-Res10 at 128 × 128 beside the same network written with SpikingJelly's layers.

python -m benchmarks.ems_speed -> a table; forward, `DetectionLoss` and backward, without an optimiser

Both have the same weights, and are timed only once their outputs and gradients are equal: in float64, where rounding
moves no membrane over its threshold. "no neurons" is the network with ReLU for every neuron: what the convolutions,
norms and pools cost alone. CPU time at one thread, medians of calls in turn.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.ems_peer import spikingjelly_net
from benchmarks.measure import Timing, alternate, machine
from benchmarks.table import NOTHING, grid
from spikekit.detect import DetectionLoss, Grid, pad_boxes
from spikekit.models import EMSYOLO, ems_res10

OURS, PEER, FLOOR = "spikekit", "spikingjelly", "no neurons"
EQUAL = 1e-4


@dataclass(frozen=True)
class Size:
    """What is timed."""

    steps: int = 4
    batch: int = 8
    side: int = 128
    width: float = 1.0


def data(size: Size, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Events, a twentieth of the pixels a step, and two boxes a sample."""
    draw = torch.Generator().manual_seed(0)
    x = (torch.rand(size.steps, size.batch, 2, size.side, size.side, generator=draw) < 0.05).to(dtype)
    side = size.side
    boxes = torch.tensor([[1.0, side / 8, side / 8, side / 3, side / 3], [7.0, side / 2, side / 3, side * 0.8, side]])
    return x, pad_boxes([boxes] * size.batch)


def network(size: Size, ann: bool = False) -> EMSYOLO:
    torch.manual_seed(0)
    return ems_res10(in_channels=2, classes=10, width=size.width, ann=ann).train()


def step(net: nn.Module, loss: DetectionLoss, x: Tensor, boxes: Tensor) -> Callable[[], object]:
    parameters = list(net.parameters())
    return lambda: torch.autograd.grad(loss(net(x), boxes), parameters)


def difference(net: EMSYOLO, peer: nn.Module, x: Tensor, boxes: Tensor) -> dict[str, float]:
    """Largest difference of the outputs, and of the gradients relative to the largest of each parameter."""
    loss = DetectionLoss(Grid.of(net, (x.shape[-1], x.shape[-2])))
    outputs, gradients = [], []
    for one in (net, peer):
        y = one(x)
        outputs.append(y.detach())
        gradients.append(torch.autograd.grad(loss(y, boxes), list(one.parameters())))
    error = max(float((a - b).abs().max() / a.abs().max().clamp(min=1e-12)) for a, b in zip(*gradients, strict=True))
    return {"output": float((outputs[0] - outputs[1]).abs().max()), "gradient": error}


def run(size: Size, repeats: int, budget: float) -> dict[str, Any]:
    """Times, and whether the peer is the same network; without it where it is not installed or not equal."""
    found: dict[str, Any] = {"size": asdict(size), "absent": None, "difference": None}
    net, (x, boxes) = network(size), data(size)
    loss = DetectionLoss(Grid.of(net, (size.side, size.side)))
    nets: dict[str, nn.Module] = {OURS: net, FLOOR: network(size, ann=True)}
    try:
        exact = network(size).double()
        error = difference(exact, spikingjelly_net(exact), *data(size, torch.float64))
        found["difference"] = error
        if max(error.values()) > EQUAL:
            found["absent"] = f"not timed: it differs by {error}"
        else:
            nets[PEER] = spikingjelly_net(net)
    except ModuleNotFoundError as missing:
        found["absent"] = f"not installed ({missing.name})"
    calls = {name: step(one, loss, x, boxes) for name, one in nets.items()}
    found["results"] = alternate(calls, repeats, budget)
    return found


def table(reports: Sequence[dict[str, Any]]) -> str:
    rows = []
    for report in reports:
        cells = []
        for name in (OURS, PEER, FLOOR):
            timing = report["results"].get(name)
            cells.append(
                f"{timing.cpu * 1e3:.0f} ms" if isinstance(timing, Timing) else report["absent"] or str(timing)
            )
        ours, peer = (report["results"].get(name) for name in (OURS, PEER))
        both = isinstance(ours, Timing) and isinstance(peer, Timing)
        ratio = f"{peer.cpu / ours.cpu:.2f}" if both else NOTHING
        error = report["difference"]
        size = report["size"]
        rows.append(
            [
                f"T={size['steps']} B={size['batch']} {size['side']}² width {size['width']:g}",
                *cells,
                ratio,
                NOTHING if error is None else f"{error['output']:.0e}, {error['gradient']:.0e}",
            ]
        )
    head = ["training step", OURS, PEER, FLOOR, "peer / ours", "outputs, gradients differ by (float64)"]
    return "\n".join(grid(head, rows))


def main(arguments: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser("python -m benchmarks.ems_speed", description=(__doc__ or "").split("\n\n")[0])
    options.add_argument("--quick", action="store_true", help="tiny sizes: does it run?")
    options.add_argument("--repeats", type=int, default=9)
    options.add_argument("--budget", type=float, default=60.0, help="CPU seconds a network")
    options.add_argument("--json", action="store_true", help="print the reports as JSON too")
    asked = options.parse_args(arguments)
    torch.set_num_threads(1)
    sizes = [Size(), Size(width=0.25)]
    if asked.quick:
        sizes, asked.repeats = [Size(2, 1, 64, 1 / 16)], 1
    reports = [run(size, asked.repeats, asked.budget) for size in sizes]
    if asked.json:
        print(json.dumps({"machine": machine(), "reports": reports}, default=vars))
    print(table(reports))


if __name__ == "__main__":
    main()
