"""Astrocytes written out once more: one domain, one number at a time, in Python's own numbers."""

from __future__ import annotations

import numpy as np

from spikekit.export.lava import LavaLayer

Array = np.ndarray


def factors(layer: LavaLayer, c: Array) -> Array:
    """What multiplies the drive or the threshold of each neuron, of the calcium [domains, K] before the step."""
    own, found = layer.astrocyte, []
    for domain, calcium in enumerate(c.tolist()):
        weights = own.weight[domain].tolist()
        if layer.bias.dtype == np.float64:
            z = float(own.bias[domain])
            for weight, level in zip(weights, calcium, strict=True):
                z += weight * level
            g = 1 + float(own.strength[domain]) * (z / (1 + abs(z)))
            found.append(g if own.acts_on == "gain" else 2 - g)
        else:
            weighed = [weight * (level // 1024) for weight, level in zip(weights, calcium, strict=True)]
            z = max(0, min(4095, (int(own.offset[domain]) + sum(weighed)) // 4096))
            low, high = own.table[domain, z // 16 : z // 16 + 2].tolist()
            found.append((low * (16 - z % 16) + high * (z % 16)) // 16)
    return np.repeat(np.array(found), layer.n // len(c))


def followed(layer: LavaLayer, c: Array, fired: Array, heard: Array) -> Array:
    """Calcium after a step in which the neurons `fired` [n] and so many presynaptic spikes were `heard` [domains]."""
    own, out = layer.astrocyte, np.empty_like(c)
    rows = fired.reshape(len(c), -1)
    for domain, k in np.ndindex(c.shape):
        level, spikes, arrived = c[domain, k], int(rows[domain].sum()), heard[domain]
        decay = own.decay[domain, k]
        if layer.bias.dtype == np.float64:
            mean = spikes * (1 / rows.shape[1])
            if own.own == 0:
                mean = arrived * (1 / own.heard)
            elif own.heard:
                mean = own.own * mean + (1 - own.own) * (arrived * (1 / own.heard))
            out[domain, k] = decay * level + (1 - decay) * mean
        else:
            mean = max(0, min(2**22, own.share * spikes + own.heard_share * int(arrived)))
            out[domain, k] = (int(level) * (4096 - int(decay)) + mean * int(decay)) // 4096
    return out
