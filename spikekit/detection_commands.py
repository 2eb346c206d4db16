"""What the commands do with detectors: train, evaluate, detect."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikekit.datasets import DatFile
from spikekit.datasets.bccd import load_image
from spikekit.datasets.box_dataset import Letterbox
from spikekit.datasets.nmnist import read_recording
from spikekit.detect import Grid, Stream, detect, recall
from spikekit.detection import DetectionRecipe, judge
from spikekit.errors import CheckpointError, InputError, require
from spikekit.events import EventStream, frames_by_time
from spikekit.export.cost import account
from spikekit.models import EMSYOLO
from spikekit.train import Trainer, load_weights, read_config, seed_all
from spikekit.viz import detections

_PICTURES = (".jpg", ".jpeg", ".png", ".bmp")
_EVENTS = (".dat", ".bin")


def train_detector(recipe: DetectionRecipe, given: Namespace) -> int:
    """Train what a recipe says; the test set is looked at once, with the weights that are judged."""
    recipe = recipe.resolved()
    train, val = recipe.loaders()
    data: Any = recipe.dataset("train")
    fits = recall(data.sizes(), recipe.anchors)
    print(f"{data!r}; anchors {recipe.anchors}, {fits:.1%} of boxes have one", flush=True)
    seed_all(recipe.seed)
    net = recipe.build()
    trainer = Trainer(net, run_dir=given.out, devices=given.devices, **recipe.trainer(net))
    history = trainer.fit(train, val, epochs=recipe.epochs, resume=not given.fresh)
    if trainer.engine.rank == 0:
        judged = trainer.averaged or net
        found = judge(judged, recipe.dataset("test"), recipe.grid(net), recipe.batch)
        (Path(given.out) / "test.json").write_text(json.dumps(asdict(found), indent=1))
        print(f"after epoch {history[-1].epoch}: test {_in_words(found)}; checkpoints in {given.out}")
    return 0


def evaluate_detector(given: Namespace) -> int:
    """Mean average precision on the test set, and the energy of one of its samples against the ANN of equal shape."""
    recipe, net = trained_detector(given.run)
    data = recipe.dataset("test")
    print(f"{data!r}: {_in_words(judge(net, data, recipe.grid(net), recipe.batch))}")
    ann = replace(recipe, model={**recipe.model, "ann": True}).build()
    x = torch.stack([data[i][0] for i in range(min(16, len(data)))], 1)
    print(account(net, x, ann))
    return 0


def detect_boxes(given: Namespace) -> int:
    """Write boxes.json, a list of {source, start_ms, boxes}, and a picture of each entry that was found."""
    recipe, net = trained_detector(given.run)
    given.out.mkdir(parents=True, exist_ok=True)
    grid = recipe.grid(net)
    stream = Stream(net, grid, recipe.steps, given.confidence, given.overlap) if given.stream else None
    classes = recipe.dataset_classes
    entries: list[dict[str, Any]] = []
    source = ""
    for number, view in enumerate(_views(recipe, grid, given)):
        if stream is not None:
            if view.source != source:
                stream.reset()
            source = view.source
            (found,) = stream(view.frames[:, None])
        else:
            with torch.no_grad():
                (found,) = detect(net(view.frames[:, None]), grid, given.confidence, given.overlap)
        picture = given.out / f"{number:04d}-{Path(view.source).stem}.png"
        ax = detections(view.frames, found, classes=classes, truth=view.truth)
        ax.set_title(view.source + ("" if view.start_ms is None else f", from {view.start_ms:.0f} ms"))
        ax.figure.savefig(picture, dpi=110)  # type: ignore[union-attr]
        boxes = [
            {
                "class": classes[int(label)],
                "score": round(score, 4),
                "box": [round(v / view.factor, 2) for v in corners],
            }
            for label, *corners, score in found.tolist()
        ]
        entries.append({"source": view.source, "start_ms": view.start_ms, "picture": picture.name, "boxes": boxes})
    path = given.out / "boxes.json"
    path.write_text(json.dumps(entries, indent=1))
    print(f"{path}: {sum(len(entry['boxes']) for entry in entries)} boxes in {len(entries)} pictures beside it")
    return 0


def trained_detector(run: Path) -> tuple[DetectionRecipe, EMSYOLO]:
    """The recipe and the network, in eval mode, of a run folder's best checkpoint, or of one file."""
    path = _checkpoint(run)
    recipe = DetectionRecipe.from_config(read_config(path), path)
    net = recipe.build()
    load_weights(net, path)
    return recipe, net.eval()


def holds_detector(run: Path) -> bool:
    """Whether there is a checkpoint of a detector."""
    try:
        return "detection" in read_config(_checkpoint(run))
    except CheckpointError:
        return False


def _checkpoint(run: Path) -> Path:
    if not run.is_dir():
        return run
    best = run / "best.safetensors"
    return best if best.exists() else run / "last.safetensors"


@dataclass(frozen=True)
class _View:
    """What is shown to the network at once: frames [T, C, H, W]. factor: pixels of them per pixel of the source."""

    source: str
    frames: Tensor
    factor: float = 1.0
    start_ms: float | None = None
    truth: Tensor | None = None


def _views(recipe: DetectionRecipe, grid: Grid, given: Namespace) -> Iterator[_View]:
    for name in given.input:
        path = Path(name)
        if name == "test" and not path.exists():
            data = recipe.dataset("test")
            for i in range(min(given.samples, len(data))):
                frames, truth = data[i]
                yield _View(f"{data.name} {i}", frames, truth=truth)
            continue
        known = _PICTURES + _EVENTS
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in known) if path.is_dir() else [path]
        if not files or not all(file.is_file() and file.suffix.lower() in known for file in files):
            raise InputError(f"{path}: no picture ({', '.join(_PICTURES)}) or events ({', '.join(_EVENTS)}) there")
        for file in files:
            picture = file.suffix.lower() in _PICTURES
            if picture != (recipe.channels == 3):
                raise InputError(f"{file}: this detector takes {'pictures' if recipe.channels == 3 else 'events'}")
            yield from (_picture(file, recipe, grid),) if picture else _windows(file, recipe, grid, given)


def _picture(file: Path, recipe: DetectionRecipe, grid: Grid) -> _View:
    require("PIL.Image", "images")
    frame, place = load_image(file, grid.size)
    frames = (frame.to(torch.float32) / 255).expand(recipe.steps, *frame.shape)
    return _View(str(file), frames, place.factor)


def _windows(file: Path, recipe: DetectionRecipe, grid: Grid, given: Namespace) -> Iterator[_View]:
    """Windows of events, one after the other, each in as many frames as the network was trained on.

    A sensor larger than the frames is brought down to them, several pixels to one; a smaller one lies at the top left.
    """
    stream = DatFile(file).read() if file.suffix.lower() == ".dat" else read_recording(file)
    place = Letterbox.fit(stream.sensor, grid.size)
    factor = min(place.factor, 1.0)
    x, y = ((a * factor).astype("int32") for a in (stream.x, stream.y))
    small = EventStream(stream.t, x, y, stream.p, grid.size, stream.source)
    span = round(given.window * 1000)
    first = int(stream.t[0]) if len(stream) else 0
    for number in range(given.samples):
        start = first + number * span
        if number and (not len(stream) or start > stream.t[-1]):
            return
        part = small.slice_time(start, start + span, rebase=True)
        frames = torch.from_numpy(frames_by_time(part, recipe.steps, duration=span, binary=True)).to(torch.float32)
        yield _View(str(file), frames, factor, start / 1000)


def _in_words(found: Any) -> str:
    return (
        f"mAP@.5 {found.map50:.4f}, mAP@.5:.95 {found.map:.4f} over {len(found.classes)} classes, "
        f"{found.boxes} boxes in {found.images} samples"
    )
