"""A file of `to_netx`, run from what is in it alone, by the equations of lava-dl's netx and of Lava's LIF.

Not our simulator: whatever the file says wrong, this computes wrong, and the record of netx itself tells.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch.nn import functional as F


def run(path: Path, x: torch.Tensor) -> np.ndarray:
    """Spikes of the last layer, or membranes of a readout [T, B, n], for x [T, B, ...]."""
    sent = x.numpy().astype(np.int64)
    with h5py.File(path) as file:
        layers = [file["layer"][str(number)] for number in range(len(file["layer"]))]
        for layer in layers[1:]:
            kind = layer["type"][0].decode()
            if kind == "flatten":
                sent = sent.reshape(*sent.shape[:2], -1)
                assert tuple(layer["shape"][()]) == sent.shape[2:]
                continue
            sums = _dense(layer, sent) if kind == "dense" else _conv(layer, sent)
            assert sums.shape[2:] == tuple(layer["shape"][()])
            spikes, membranes = _neuron(layer["neuron"], sums, _bias(layer, sums.ndim - 2))
            sent = spikes
        fires = layers[-1]["neuron"]["vThMant"][()] < 2**17
    return (spikes if fires else membranes).reshape(*x.shape[:2], -1)


def _dense(layer: Any, sent: np.ndarray) -> np.ndarray:
    return sent @ layer["weight"][()].T


def _conv(layer: Any, sent: np.ndarray) -> np.ndarray:
    images, weight = (torch.from_numpy(a.astype(np.float64)) for a in (sent, layer["weight"][()]))
    stride, padding, dilation = (tuple(layer[key][()].tolist()) for key in ("stride", "padding", "dilation"))
    sums = F.conv2d(images.flatten(0, 1), weight, None, stride, padding, dilation, int(layer["groups"][()]))
    return sums.unflatten(0, sent.shape[:2]).long().numpy()


def _bias(layer: Any, axes: int) -> np.ndarray:
    bias = layer["bias"][()] if "bias" in layer else np.zeros(1, np.int64)
    return bias.reshape(-1, *[1] * (axes - 1)) << 6


def _neuron(neuron: Any, sums: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    def decayed(value: np.ndarray, decay: int) -> np.ndarray:
        return np.sign(value) * (np.abs(value) * (4096 - decay) >> 12)

    u = v = np.zeros_like(sums[0])
    spikes, membranes = [], []
    for a in sums:
        u = decayed(u, int(neuron["iDecay"][()])) + (a << 6)
        v = decayed(v, int(neuron["vDecay"][()])) + u + bias
        spikes.append((v > int(neuron["vThMant"][()]) << 6).astype(np.int64))
        v = np.where(spikes[-1] > 0, 0, v)
        membranes.append(v)
    return np.stack(spikes), np.stack(membranes)
