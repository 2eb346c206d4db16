"""Five sets in one shape, 28 x 28 a step, T = 6, in the manner of 5-Datasets: digits to sounds.

MNIST and Fashion-MNIST as they are. CIFAR-10 (JPEG): the middle 28 x 28 pixels, in grey. N-MNIST: event frames, both
polarities in one, the middle 28 x 28 pixels: the one set that moves. FSDD, spoken digits: 28 stretches of a recording,
28 bands of frequency, logarithms; its official split. Of each set `count` training samples are drawn; a smaller set is
gone through several times.
"""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from spikekit import datasets
from spikekit.continual import Samples

SIZE = 28


def five(steps: int, count: int = 6000) -> dict[str, tuple[Samples, Samples]]:
    """Name -> training and test samples."""
    made: dict[str, Callable[[str], Samples]] = {
        "MNIST": lambda split: Samples.still(datasets.MNIST(split), steps),  # type: ignore[arg-type]
        "Fashion-MNIST": lambda split: Samples.still(datasets.FashionMNIST(split), steps),  # type: ignore[arg-type]
        "CIFAR-10 (JPEG), grey": lambda split: Samples.still(grey(datasets.CIFAR10JPEG(split)), steps),  # type: ignore[arg-type]
        "N-MNIST": lambda split: events(split, steps),
        "FSDD spectrograms": lambda split: Samples.still(spoken(split), steps),
    }
    found = {}
    for name, make in made.items():
        train, test = make("train"), make("test")
        drawn = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
        found[name] = train.part(drawn[torch.arange(count) % len(drawn)]), test
    return found


def grey(images: datasets.ImageSet) -> datasets.ImageSet:
    """The middle of coloured images, the mean of their channels."""
    middle = images.images[..., 2:-2, 2:-2].float().mean(1, keepdim=True)
    mean, std = (sum(values) / len(values) for values in (images.mean, images.std))
    return datasets.ImageSet(images.name, middle.round().to(torch.uint8), images.labels, (mean,), (std,))


def events(split: str, steps: int) -> Samples:
    """The middle of N-MNIST's frames [N, T, 1, 28, 28]."""
    whole = datasets.FrameDataset(datasets.NMNIST(split), n_bins=steps)  # type: ignore[arg-type]
    frames = whole.frames[..., 3:-3, 3:-3].sum(2, keepdim=True, dtype=torch.uint8)
    return Samples(frames, whole.labels, None)


def spoken(split: str, root: Path | None = None) -> datasets.ImageSet:
    """Spectrograms of FSDD: recordings 0 to 4 of each speaker and digit are the test set."""
    folder = (datasets.data_home() if root is None else root) / "FSDD" / "recordings"
    files = [f for f in sorted(folder.glob("*.wav")) if (int(f.stem.split("_")[2]) < 5) == (split == "test")]
    if not files:
        raise FileNotFoundError(f"{folder} holds no recordings of FSDD; set SPIKEKIT_DATA to the folder above FSDD")
    images = torch.from_numpy(np.stack([_spectrogram(f) for f in files]))[:, None]
    labels = torch.tensor([int(f.stem.split("_")[0]) for f in files])
    return datasets.ImageSet("FSDD spectrograms", images, labels, (0.5,), (0.25,))


def _spectrogram(file: Path) -> npt.NDArray[np.uint8]:
    """Power of 28 bands to 4 kHz in 28 stretches, 60 dB below its largest to 255 at it."""
    with wave.open(str(file)) as sound:
        samples = np.frombuffer(sound.readframes(sound.getnframes()), np.int16).astype(np.float64)
    window = 256
    starts = np.linspace(0, len(samples) - window, SIZE).astype(int)
    power = np.abs(np.fft.rfft(samples[starts[:, None] + np.arange(window)] * np.hanning(window))) ** 2
    bands = np.stack([part.mean(1) for part in np.array_split(power[:, 1:], SIZE, 1)])
    level = 10 * np.log10(bands / bands.max() + 1e-6)
    return np.round((level + 60) / 60 * 255).clip(0, 255).astype(np.uint8)
