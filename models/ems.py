"""EMS-YOLO: object detection by spikes, on backbones EMS-Res10, 18 and 34.

Model card. Input: images or event frames [T, B, C, H, W], H and W multiples of 32. Output: raw predictions
[T, B, N, 5 + classes], one set a step; their mean over time is what `spikekit.detect.decode` makes boxes of. N counts
the cells of two scales (stride 16, then 32) for three anchors each, in the order anchor, row, column.
Source: Su et al., ICCV 2023, arXiv 2307.11411, and the authors' public code. Parameters for 2 input channels and 2
classes: Res10 6.21 M, Res18 9.34 M, as published.

Not spikes: the stem sees the input itself, and the two 1×1 detection layers see the sums of the last blocks. All other
convolutions see 0 and 1 (`strict=True` looks). In the authors' release the 1×1 convolutions of three blocks of the head
miss the neuron in front and see real numbers as well; here they have it, as in the paper's EMS-Block1: it costs no
parameter. shortcut="ms" gives those, and all others, real input, for comparison.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, cast

import torch
from torch import Tensor, nn

from spikekit import presets
from spikekit.errors import InputError
from spikekit.keys import choose
from spikekit.models.ems_blocks import SHORTCUTS, Activation, EMSBlock, norm, side_by_side, verify_binary
from spikekit.models.neuron import Factory, neuron_factory
from spikekit.models.resnet import scaled
from spikekit.ops.paths import functorch_active
from spikekit.sequential import Sequential, fold_time

STRIDES: Final = (16, 32)
ANCHORS: Final = (((10, 14), (23, 27), (37, 58)), ((81, 82), (135, 169), (344, 319)))
"""Widths and heights in pixels, of the authors' model for COCO; `spikekit.detect.fit_anchors` fits others."""

_BLOCKS: Final = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}

Anchors = Sequence[Sequence[Sequence[float]]]


class EMSYOLO(nn.Module):
    """Stem, backbone in two parts (to stride 16, to stride 32), head of two scales; made by `ems_res10` and its kin.

    anchors: buffer [2, 3, 2] in pixels. strides: (16, 32). classes: their number.
    """

    temporal: ClassVar[bool] = True
    anchors: Tensor

    def __init__(
        self,
        stem: Sequential,
        middle: Sequential,
        deep: Sequential,
        neck: EMSBlock,
        large: EMSBlock,
        lateral: EMSBlock,
        medium: EMSBlock,
        features: tuple[int, int],
        classes: int,
        anchors: Anchors,
    ) -> None:
        super().__init__()
        self.classes, self.strides = classes, STRIDES
        self.stem, self.middle, self.deep = stem, middle, deep
        self.neck, self.large, self.lateral, self.medium = neck, large, lateral, medium
        self.up = fold_time(nn.Upsample(scale_factor=2, mode="nearest"))
        self.register_buffer("anchors", _checked(anchors))
        per_anchor = 5 + classes
        self.detect = nn.ModuleList(Sequential(nn.Conv2d(c, per_anchor * 3, 1)) for c in features)
        for layer, stride in zip(self.detect, STRIDES, strict=True):
            _start_bias(layer, classes, stride)

    def forward(self, x: Tensor) -> Tensor:
        """X [T, B, C, H, W] -> raw predictions [T, B, N, 5 + classes]."""
        if x.ndim != 5 or x.shape[3] % 32 or x.shape[4] % 32 or 0 in x.shape:
            raise InputError(
                f"EMSYOLO: x must be [T, B, C, H, W] with H and W multiples of 32, got {list(x.shape)}; pad the images"
            )
        return torch.cat([self._by_cell(y) for y in self.by_scale(_laid_out(x))], 2)

    def by_scale(self, x: Tensor) -> list[Tensor]:
        """The same as images, one of each scale [T, B, 3·K, H', W'], K = 5 + classes; x is not looked at."""
        p4 = self.middle(self.stem(x))
        p5 = self.neck(self.deep(p4))
        medium = self.medium(side_by_side([self.up(self.lateral(p5)), p4]))
        return [layer(y) for layer, y in zip(self.detect, (medium, self.large(p5)), strict=True)]

    def _by_cell(self, y: Tensor) -> Tensor:
        """[T, B, 3·K, H, W] -> [T, B, 3·H·W, K]."""
        return y.unflatten(2, (3, -1)).movedim(3, -1).flatten(2, 4)


def ems_res10(**settings: Any) -> EMSYOLO:
    """Backbone of four EMS-Block2 in bottleneck form, of 64, 128, 256 and 512 channels. Arguments: see `ems_yolo`."""
    return ems_yolo(10, **settings)


def ems_res18(**settings: Any) -> EMSYOLO:
    """EMS-Res10 with an MS-Block in bottleneck form behind each EMS-Block2. Arguments: see `ems_yolo`."""
    return ems_yolo(18, **settings)


def ems_res34(**settings: Any) -> EMSYOLO:
    """Stages of 3, 4, 6 and 3 blocks, each an EMS-Block2 and then MS-Blocks. Arguments: see `ems_yolo`.

    14.40 M parameters for 2 channels and 2 classes. The authors' file of this depth describes another network, of
    plain blocks and with two convolutions in the head that have SiLU and no spikes (25.3 M).
    """
    return ems_yolo(34, **settings)


def ems_yolo(
    depth: int,
    in_channels: int = 3,
    classes: int = 2,
    width: float = 1.0,
    neuron: Mapping[str, Any] | Factory | None = None,
    shortcut: str = "ems",
    ann: bool = False,
    strict: bool = False,
    anchors: Anchors = ANCHORS,
) -> EMSYOLO:
    """The detector of backbone EMS-Res`depth`, 10, 18 or 34.

    in_channels: of the input. classes: their number. width: factor of all other numbers of channels. neuron: see
    `neuron_factory`; None is `sk.presets.ems()`. shortcut: "ems", or "ms" for shortcuts with real input. ann: nn.ReLU
    in place of every neuron: the conventional network of equal shape. strict: every convolution in the blocks looks at
    its input and refuses what is not 0 or 1; the stem and the detection layers are excepted. anchors: [2, 3, 2] pixels,
    smaller ones first. Raises InputError for an unknown depth or shortcut, in_channels or classes that are no whole
    number from 1, a width that is not above 0, anchors of another shape or not above 0, and a neuron beside ann=True.
    """
    for name, value in (("in_channels", in_channels), ("classes", classes)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"ems_yolo: {name} must be a whole number of 1 or more, got {value!r}")
    choose(shortcut, SHORTCUTS, f"ems_res{depth}: shortcut")
    if depth not in _BLOCKS:
        raise InputError(f"ems_yolo: depth must be one of {sorted(_BLOCKS)}, got {depth}")
    make = _activation(neuron, ann)

    def block(inputs: int, outputs: int, **settings: Any) -> EMSBlock:
        return EMSBlock(inputs, outputs, make, hidden=max(1, outputs // 2), shortcut=shortcut, **settings)

    first, *channels = (scaled(c, width) for c in (32, 64, 128, 256, 512))
    stages: list[Sequential] = []
    inputs = first
    for count, outputs in zip(_BLOCKS[depth], channels, strict=True):
        stage = [block(inputs, outputs, stride=2, concat=True)]
        stage += [block(outputs, outputs) for _ in range(count - 1)]
        stages.append(Sequential(*stage))
        inputs = outputs
    c128, c256, c512 = channels[1:]
    net = EMSYOLO(
        stem=Sequential(nn.Conv2d(in_channels, first, 3, 2, padding=1, bias=False), norm(first)),
        middle=Sequential(*stages[:3]),
        deep=stages[3],
        neck=block(c512, c256),
        large=block(c256, c512, concat=True),
        lateral=block(c256, c128, kernel=1),
        medium=block(c128 + c256, c256),
        features=(c256, c512),
        classes=classes,
        anchors=anchors,
    )
    if strict:
        verify_binary(net)
    return net


def _activation(neuron: Mapping[str, Any] | Factory | None, ann: bool) -> Activation:
    if ann:
        if neuron is not None:
            raise InputError("ems_yolo: ann=True has no neurons; leave neuron out")
        return lambda channels: nn.ReLU()
    return (lambda channels: presets.ems()) if neuron is None else neuron_factory(neuron)


def _laid_out(x: Tensor) -> Tensor:
    """The same with the channels of each image last in memory: on a CPU, convolutions and pooling then take half."""
    if x.device.type != "cpu" or functorch_active():
        return x
    return x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, x.shape[:2])


def _checked(anchors: Anchors) -> Tensor:
    try:
        sizes = torch.tensor(anchors, dtype=torch.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"EMSYOLO: anchors must be numbers [2 scales, 3, (width, height)]: {error}") from error
    if sizes.shape != (2, 3, 2) or not bool((sizes > 0).all()):
        raise InputError(f"EMSYOLO: anchors must be [2 scales, 3, (width, height)] above 0, got {list(sizes.shape)}")
    return sizes


def _start_bias(detect: nn.Module, classes: int, stride: int) -> None:
    """Start from few objects (8 in 640×640 pixels) and no favourite class, as YOLOv5 does after Lin et al. 2017."""
    for bias in (layer.bias for layer in detect.modules() if isinstance(layer, nn.Conv2d)):
        with torch.no_grad():
            rows = cast(Tensor, bias).view(3, -1)
            rows[:, 4] += math.log(8 / (640 / stride) ** 2)
            rows[:, 5:] += math.log(0.6 / max(classes - 0.999999, 0.4))
