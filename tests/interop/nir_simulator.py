"""NIR's own equations, step by step, on any graph: an Euler step of dt, and spikes that come back a step later.

Written from NIR's definitions alone (nir 1.0.8), to say what a graph means without our reader.
"""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import torch
from torch.nn import functional as F

SPIKING = (nir.LIF, nir.IF, nir.CubaLIF, nir.Threshold)


def simulate(graph: Any, x: np.ndarray, dt: float) -> np.ndarray:
    """The output [T, B, ...] for x [T, B, ...]."""
    names = list(graph.nodes)
    reach = {name: _reachable(graph, name) for name in names}
    # What a spiking node sends to a node that leads back to it arrives in the next step.
    late = {(a, b) for a, b in graph.edges if isinstance(graph.nodes[a], SPIKING) and a in reach[b]}
    order: list[str] = []
    while len(order) < len(names):
        order += [
            name
            for name in names
            if name not in order and all(a in order for a, b in graph.edges if b == name and (a, b) not in late)
        ]
    states: dict[str, np.ndarray] = {}
    sent: dict[str, np.ndarray] = {}
    outputs = []
    for frame in x:
        before = dict(sent)
        for name in order:
            node = graph.nodes[name]
            if isinstance(node, nir.Input):
                sent[name] = frame
                continue
            given = [before.get(a) if (a, b) in late else sent.get(a) for a, b in graph.edges if b == name]
            arrived = [value for value in given if value is not None]
            # In the first step nothing has come back yet.
            if arrived:
                sent[name] = _step(name, node, sum(arrived[1:], arrived[0]), states, dt)
        outputs.append(sent["output"])
    return np.stack(outputs)


def _reachable(graph: Any, start: str) -> set[str]:
    found, pending = set(), [start]
    while pending:
        name = pending.pop()
        following = [b for a, b in graph.edges if a == name and b not in found]
        found.update(following)
        pending += following
    return found


def _step(name: str, node: Any, a: np.ndarray, states: dict[str, np.ndarray], dt: float) -> np.ndarray:
    if isinstance(node, (nir.Affine, nir.Linear)):
        return a @ node.weight.T + getattr(node, "bias", 0)
    if isinstance(node, nir.Conv2d):
        weight, bias = (torch.from_numpy(np.asarray(v, np.float64)) for v in (node.weight, node.bias))
        images = torch.from_numpy(a)
        padding = node.padding if isinstance(node.padding, str) else tuple(node.padding)
        return F.conv2d(images, weight, bias, tuple(node.stride), padding, tuple(node.dilation), node.groups).numpy()
    if isinstance(node, nir.Flatten):
        return a.reshape(len(a), -1)
    if isinstance(node, nir.Scale):
        return a * node.scale
    if isinstance(node, nir.Threshold):
        return (a > node.threshold).astype(float)
    if isinstance(node, nir.Output):
        return a
    v = states.get(name, np.zeros_like(a))
    leaks = not isinstance(node, (nir.I, nir.IF))
    v = v + (dt / node.tau * ((node.v_leak - v) + node.r * a) if leaks else dt * node.r * a)
    if isinstance(node, (nir.LIF, nir.IF)):
        fired = v > node.v_threshold
        states[name] = np.where(fired, node.v_reset, v)
        return fired.astype(float)
    states[name] = v
    return v
