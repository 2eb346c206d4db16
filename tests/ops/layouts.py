"""How a sequence [T, B, ...] may lie in memory: each gives the same numbers, laid out in one way."""

from __future__ import annotations

import torch


def contiguous(x):
    return x.contiguous()


def channels_last(x):
    """C innermost, as a channels-last convolution leaves it."""
    return x.movedim(2, -1).contiguous().movedim(-1, 2) if x.ndim > 3 else x


def batch_first(x):
    """[B, T, ...] in memory, as a loader leaves it."""
    return x.transpose(0, 1).contiguous().transpose(0, 1)


def batch_innermost(x):
    return x.transpose(1, 2).contiguous().transpose(1, 2)


def time_innermost(x):
    return x.movedim(0, -1).contiguous().movedim(-1, 0)


def every_second_step(x):
    return x.repeat_interleave(2, 0)[::2]


def every_second_neuron(x):
    return x.repeat_interleave(2, -1)[..., ::2]


def offset(x):
    """Not at the start of its storage, so not where a vector register would like it."""
    return torch.cat((x[:1].flatten()[:1], x.flatten()))[1:].view(x.shape)


def expanded(x):
    """One step shown at every time: a static image, stride 0 along T."""
    return x[:1].expand_as(x)
