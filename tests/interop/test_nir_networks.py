"""Random networks: what is written is read again as the same network, whatever it is made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import spikekit as sk

pytest.importorskip("nir", reason="pip install 'spikekit[nir]'")


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), soft=st.sampled_from(["graph", "metadata"]), dt=st.sampled_from([1.0, 1e-3, 3e-5]))
@torch.no_grad()
def test_any_network_comes_back_with_equal_spikes(seed, soft, dt):
    net, x = network(seed)
    again = sk.interop.from_nir(sk.interop.to_nir(net, x, soft=soft, dt=dt), dtype=torch.float64)
    torch.testing.assert_close(again(x.double()), net.double()(x.double()), rtol=1e-9, atol=1e-9)


def network(seed):
    """A random chain of what can be written, and spikes for it."""
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)

    def values(shape, low, high):
        shapes = [(), shape[:1], shape]
        return low + (high - low) * torch.rand(shapes[random.integers(3)])

    def neuron(shape):
        more = {"reset": random.choice(["soft", "hard", "none"]), "inclusive": bool(random.integers(2))}
        if random.random() < 0.4:
            more["reset_quantum"] = values(shape, 0.3, 1.4)
        threshold = values(shape, 0.3, 1.2)
        return (
            sk.IF(threshold, **more) if random.random() < 0.3 else sk.LIF(values(shape, 0.1, 0.99), threshold, **more)
        )

    layers, shape = [], (int(random.integers(1, 4)), *random.integers(4, 8, 2).tolist())
    x = (torch.rand(12, 3, *shape) < 0.5).float()
    for _ in range(random.integers(3)):
        groups = int(random.choice([1, shape[0]]))
        kernel = tuple(random.integers(1, 3, 2).tolist())
        conv = nn.Conv2d(
            shape[0], groups * 2, kernel, stride=(1, 2), padding=1, groups=groups, bias=random.random() < 0.5
        )
        shape = tuple(conv(x[0, :, : shape[0]] if not layers else torch.zeros(1, *shape)).shape[1:])
        norm = [nn.BatchNorm2d(shape[0])] if random.random() < 0.3 else []
        layers += [conv, *norm, neuron(shape)]
    layers.append(nn.Flatten())
    shape = (int(np.prod(shape)),)
    for width in random.integers(1, 8, random.integers(1, 3)).tolist():
        layers += [nn.Linear(shape[0], width, bias=random.random() < 0.5), neuron((width,))]
        shape = (width,)
    if random.random() < 0.5:
        layers += [nn.Linear(shape[0], 3), sk.LI(values((3,), 0.2, 0.9))]
    for layer in layers:
        if hasattr(layer, "weight") and layer.weight.ndim > 1:
            layer.weight.mul_(3)
    return sk.Sequential(*layers).eval(), x
