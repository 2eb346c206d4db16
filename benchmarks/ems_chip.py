"""A trained EMS-YOLO in the chip's integers: its mean average precision beside the network's own, and the proof.

python -m benchmarks.ems_chip runs/small [--bits 8 6 4] [--scenes 2]

The whole detector is exported, head included, with scales from training scenes; test scenes are judged in floating
point and in integers. `--scenes` of them then run on Lava, every spike and every number compared, in both arithmetics.
Prints a line of JSON for each.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spikekit.datasets.box_dataset import BoxDataset
from spikekit.detect import ChipDetector, Grid
from spikekit.detection import judge
from spikekit.detection_commands import trained_detector
from spikekit.export import LoihiNet, to_loihi

CALIBRATION = 32


class InIntegers(nn.Module):
    """The exported detector where `judge` expects the network: x [T, B, C, H, W] -> [1, B, N, 5 + classes]."""

    def __init__(self, on_chip: ChipDetector, chip: LoihiNet, grid: Grid) -> None:
        super().__init__()
        self.on_chip, self.chip, self.grid = on_chip, chip, grid

    def forward(self, x: Tensor) -> Tensor:
        return self.on_chip.raw(self.chip.simulate(x), self.grid)


def frames(data: BoxDataset, count: int) -> Tensor:
    """The first scenes of a data set [T, B, C, H, W]."""
    return torch.stack([data[i][0] for i in range(min(count, len(data)))], 1)


def measure(net: nn.Module, data: BoxDataset, grid: Grid) -> dict[str, Any]:
    began = time.process_time()
    found = judge(net, data, grid)
    return {"map50": found.map50, "map": found.map, "scenes": found.images, "seconds": time.process_time() - began}


def proof(chip: LoihiNet, x: Tensor, backend: str) -> dict[str, Any]:
    found = chip.verify(x, backend, timeout=3600)
    return {
        "backend": backend,
        "scenes": x.shape[1],
        "decisions": sum(layer.spikes for layer in found.layers if not layer.graded),
        "numbers": sum(layer.spikes for layer in found.layers if layer.graded),
        "states": sum(layer.membranes for layer in found.layers),
        "different": sum(found.mismatches.values()),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 6, 4])
    parser.add_argument("--scenes", type=int, default=2)
    given = parser.parse_args(arguments)
    recipe, net = trained_detector(given.run)
    grid, test = recipe.grid(net), recipe.dataset("test")
    print(json.dumps({"bits": None, **measure(net, test, grid)}), flush=True)
    on_chip, calibration = ChipDetector(net), frames(recipe.dataset("train"), CALIBRATION)
    for bits in given.bits:
        chip = to_loihi(on_chip, calibration, weight_bits=bits)
        size = {"neurons": sum(len(layer.bias) for layer in chip.layers), "layers": len(chip.layers)}
        print(json.dumps({"bits": bits, **size, **measure(InIntegers(on_chip, chip, grid), test, grid)}), flush=True)
        if bits == given.bits[0] and given.scenes:
            for backend in ("lava-fixed", "lava-float"):
                print(json.dumps(proof(chip, frames(test, given.scenes), backend)), flush=True)


if __name__ == "__main__":
    main()
