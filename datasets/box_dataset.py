"""Frames with boxes: what a detector trains on, as a dataset in memory and as time-first batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from spikekit.detect.boxes import check_boxes, pad_boxes
from spikekit.errors import InputError

BoxSample = tuple[Tensor, Tensor]
"""Frames float32 [T, C, H, W] and boxes float32 [n, 5]: see `spikekit.detect.boxes`."""

BoxTransform = Callable[[Tensor, Tensor], BoxSample]
"""Changes frames [T, C, H, W] and boxes [n, 5] of one sample together."""


class BoxDataset(Dataset[BoxSample]):
    """Frames uint8 [N, T, C, H, W] and their boxes: `dataset[i] -> (float32 [steps, C, H, W], float32 [n, 5])`.

    name: as a figure's caption should say it. classes: names of the classes, by number. boxes: [n_i, 5] of each sample.
    steps: with T = 1, how often the one frame is shown; else T. scale: what a byte is divided by, 255 for images.
    Raises InputError, naming the set, for frames of another shape or dtype, for another number of sets of boxes than of
    frames, steps that are not T of frames with T > 1, and boxes that `check_boxes` refuses or whose class has no name.
    """

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        frames: Tensor,
        boxes: Sequence[Tensor],
        steps: int | None = None,
        scale: float = 1.0,
    ) -> None:
        if frames.dtype != torch.uint8 or frames.ndim != 5:
            raise InputError(f"{name}: frames must be uint8 [N, T, C, H, W], got {frames.dtype} {list(frames.shape)}")
        if len(frames) != len(boxes):
            raise InputError(f"{name}: {len(frames)} frames have {len(boxes)} sets of boxes")
        own = frames.shape[1]
        self.steps = own if steps is None else steps
        if own not in (1, self.steps) or self.steps < 1:
            raise InputError(f"{name}: its frames have T = {own} steps; steps must be that, got {steps}")
        self.name, self.classes, self.frames, self.scale = name, tuple(classes), frames, scale
        self.boxes = [check_boxes(found, f"{name}, sample {i}") for i, found in enumerate(boxes)]
        if (most := max((int(b[:, 0].max()) for b in self.boxes if len(b)), default=0)) >= len(self.classes):
            raise InputError(f"{name}: a box has class {most}, the classes are 0 to {len(self.classes) - 1}")

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.boxes)

    def __repr__(self) -> str:
        shape = [self.steps, *self.frames.shape[2:]]
        return f"{type(self).__name__}({self.name}, {len(self)} of {shape}, {sum(map(len, self.boxes))} boxes)"

    def __getitem__(self, index: int) -> BoxSample:
        """Return sample `index` -> (frames, boxes)."""
        frames = self.frames[index].to(torch.float32) / self.scale
        return frames.expand(self.steps, *frames.shape[1:]), self.boxes[index]

    def sizes(self) -> npt.NDArray[np.float32]:
        """Width and height of every box, float32 [n, 2]: what anchors are fitted to."""
        corners = torch.cat(self.boxes)[:, 1:].numpy()
        return np.ascontiguousarray(corners[:, 2:] - corners[:, :2])

    def loader(
        self,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        transform: BoxTransform | None = None,
        mosaic: float = 0.0,
        indices: npt.ArrayLike | None = None,
        workers: int = 0,
    ) -> DataLoader[BoxSample]:
        """Batches x float32 [T, B, C, H, W] and y float32 [B, M, 5], padded as `pad_boxes` does it.

        mosaic: probability that a sample is made of parts of four; transform: applied after that. indices: of the
        samples to take, all of them without. `seed` alone decides the order of every epoch. workers: processes that
        make the batches, 0 for none but this one. A batch of frames of unequal shapes is an InputError.
        """
        part: Dataset[BoxSample] = self if indices is None else Subset(self, np.asarray(indices).tolist())
        if mosaic or transform is not None:
            from spikekit.datasets.box_augment import AugmentedBoxes

            part = AugmentedBoxes(part, transform, mosaic)
        return DataLoader(
            part,
            batch_size=batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            collate_fn=collate_boxes,
            num_workers=workers,
            generator=torch.Generator().manual_seed(seed),
        )


def collate_boxes(samples: Sequence[BoxSample]) -> BoxSample:
    """Stack samples (frames [T, C, H, W], boxes [n, 5]) -> x [T, B, C, H, W], y [B, M, 5].

    Raises InputError for an empty list and for frames of unequal shapes, naming the sample.
    """
    if not samples:
        raise InputError("collate_boxes got no samples; a batch needs at least one.")
    first = samples[0][0]
    for i, (frames, _) in enumerate(samples):
        if frames.shape != first.shape:
            raise InputError(
                f"collate_boxes: sample {i} has frames of shape {list(frames.shape)}, sample 0 has "
                f"{list(first.shape)}; a batch needs one shape [T, C, H, W]."
            )
    return torch.stack([frames for frames, _ in samples], 1), pad_boxes([boxes for _, boxes in samples])


@dataclass(frozen=True)
class Letterbox:
    """How an image of one size lies in a frame of another: scaled alike in both directions, at the top left.

    factor: pixels of the frame per pixel of the image. width, height: of the scaled image inside the frame. image: its
    own width and height.
    """

    factor: float
    width: int
    height: int
    image: tuple[int, int]

    @classmethod
    def fit(cls, image: tuple[int, int], frame: tuple[int, int]) -> Letterbox:
        """The largest that fits; both sizes are (width, height)."""
        factor = min(frame[0] / image[0], frame[1] / image[1])
        return cls(factor, max(1, round(image[0] * factor)), max(1, round(image[1] * factor)), image)

    def boxes(self, boxes: Tensor) -> Tensor:
        """Boxes [n, 5] of the image, in the frame."""
        return torch.cat([boxes[:, :1], boxes[:, 1:] * self.factor], 1)
