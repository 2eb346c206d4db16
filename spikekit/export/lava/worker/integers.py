"""Loihi's integers, which the fixed-point models of all our processes share: states of 24 bits."""

from __future__ import annotations

import numpy as np

STATE_LIMIT = 2**23
CURRENT_LIMIT = 2**25


def clipped(state: np.ndarray) -> np.ndarray:
    """A state of 24 bits."""
    return np.clip(state, 1 - STATE_LIMIT, STATE_LIMIT - 1)


def wrapped(current: np.ndarray) -> np.ndarray:
    """A current in 24 bits. Lava wraps once, at 2^24, and keeps +2^23 but not -2^23: not two's complement."""
    below = np.where(current <= -STATE_LIMIT, current + 2 * STATE_LIMIT, current)
    return np.where(current > STATE_LIMIT, current - 2 * STATE_LIMIT, below)


def checked(current: np.ndarray) -> np.ndarray:
    """What arrived in a step, as int64. Raises OverflowError for what Lava's LIF, which shifts it by 6, cannot hold."""
    current = current.astype(np.int64)
    reached = int(np.abs(current).max())
    if reached >= CURRENT_LIMIT:
        raise OverflowError(
            f"an input current of {reached} does not fit Lava's 32-bit arithmetic, which holds up to "
            f"{CURRENT_LIMIT - 1} before its shift by 6 bits: lower weight_exp or the weights"
        )
    return current
