"""What the commands do with detectors: train, evaluate, detect."""

from __future__ import annotations

import json
import sys
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
from spikekit.errors import CheckpointError, InputError, SpikekitError, require
from spikekit.events import EventStream, frames_by_time
from spikekit.export.cost import account
from spikekit.models import EMSYOLO
from spikekit.train import Trainer, load_weights, read_config, seed_all
from spikekit.viz import detections

_PICTURES = (".jpg", ".jpeg", ".png", ".bmp")
_EVENTS = (".dat", ".bin")
_SHORTEST_MS = 0.001


def train_detector(recipe: DetectionRecipe, given: Namespace) -> int:
    """Train what a recipe says, and judge it by the validation samples; the test set is `spikekit evaluate`'s."""
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
        _, best = trained_detector(Path(given.out))
        found = judge(best, recipe.dataset("val"), recipe.grid(net), recipe.batch)
        (Path(given.out) / "val.json").write_text(json.dumps(asdict(found), indent=1))
        print(
            f"after epoch {history[-1].epoch}: validation {_in_words(found)}; checkpoints in {given.out}; "
            f"on the test set: spikekit evaluate {given.out}"
        )
    return 0


def evaluate_detector(given: Namespace) -> int:
    """Mean average precision on the test set, and the energy of one of its samples against the ANN of equal shape."""
    recipe, net = trained_detector(given.run)
    data = recipe.dataset("test")
    found = judge(net, data, recipe.grid(net), recipe.batch)
    if given.run.is_dir():
        (given.run / "test.json").write_text(json.dumps(asdict(found), indent=1))
    print(f"{data!r}: {_in_words(found)}")
    ann = replace(recipe, model={**recipe.model, "ann": True}).build()
    x = torch.stack([data[i][0] for i in range(min(16, len(data)))], 1)
    print(account(net, x, ann))
    return 0


def detect_boxes(given: Namespace) -> int:
    """Write boxes.json, a list of {source, start_ms, picture, boxes}, and a picture of each entry.

    A file of a folder that cannot be read is named, there ({source, error}) and on the screen, and the rest goes on.
    """
    recipe, net = trained_detector(given.run)
    _check_options(recipe, given)
    try:
        given.out.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise InputError(f"--out {given.out}: is a file; name a folder") from None
    grid = recipe.grid(net)
    stream = Stream(net, grid, recipe.steps, given.confidence, given.overlap) if given.stream else None
    entries: list[dict[str, Any]] = []
    source = ""
    for view in _views(recipe, grid, given):
        if isinstance(view, _Failure):
            print(f"spikekit detect: {view.text}", file=sys.stderr)
            entries.append({"source": view.source, "error": view.text})
            continue
        if stream is not None:
            if view.source != source:
                stream.reset()
            source = view.source
            (found,) = stream(view.frames[:, None])
        else:
            with torch.no_grad():
                (found,) = detect(net(view.frames[:, None]), grid, given.confidence, given.overlap)
        entries.append(
            _written(view, _inside(found, view.size, view.factor), recipe.dataset_classes, len(entries), given.out)
        )
    path = given.out / "boxes.json"
    path.write_text(json.dumps(entries, indent=1))
    whole = [entry for entry in entries if "error" not in entry]
    print(f"{path}: {sum(len(entry['boxes']) for entry in whole)} boxes in {len(whole)} pictures beside it")
    return 0 if len(whole) == len(entries) else 1


def _check_options(recipe: DetectionRecipe, given: Namespace) -> None:
    for name in ("confidence", "overlap"):
        if getattr(given, name) > 1:
            raise InputError(f"--{name} must be at most 1, got {getattr(given, name)}")
    if given.window < _SHORTEST_MS:
        raise InputError(f"--window must be {_SHORTEST_MS} milliseconds or more, got {given.window}")
    if given.stream and recipe.data == "bccd":
        raise InputError(
            "--stream goes on from one window of a recording to the next; this detector takes pictures, each of which "
            "is a beginning: leave it out"
        )


def _inside(found: Tensor, size: tuple[int, int] | None, factor: float) -> Tensor:
    """Boxes cut at the edge of the source, which may fill but a part of the frame; `size` in pixels of its own."""
    if size is None:
        return found
    limit = factor * torch.tensor([*size, *size], dtype=found.dtype)
    corners = torch.minimum(found[:, 1:5], limit)
    cut = torch.cat([found[:, :1], corners, found[:, 5:]], 1)
    return cut[(corners[:, 2:] > corners[:, :2]).all(1)]


def _written(view: _View, found: Tensor, classes: tuple[str, ...], number: int, out: Path) -> dict[str, Any]:
    """The entry of what was found in `view`, whose picture it draws."""
    picture = out / f"{number:04d}-{Path(view.source).stem}.png"
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
    return {"source": view.source, "start_ms": view.start_ms, "picture": picture.name, "boxes": boxes}


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
    path = run
    if run.is_dir():
        best = run / "best.safetensors"
        path = best if best.exists() else run / "last.safetensors"
    if not path.exists():
        folder = run.parent if run.suffix == ".safetensors" else run
        raise CheckpointError(f"{path}: no such checkpoint; train one with: spikekit train ems_mosaic --out {folder}")
    return path


@dataclass(frozen=True)
class _View:
    """What is shown to the network at once: frames [T, C, H, W]. factor: pixels of them per pixel of the source.

    size: width and height of the source, None for that of the frames.
    """

    source: str
    frames: Tensor
    factor: float = 1.0
    size: tuple[int, int] | None = None
    start_ms: float | None = None
    truth: Tensor | None = None


@dataclass(frozen=True)
class _Failure:
    """A file of a folder that could not be read, and why."""

    source: str
    text: str


def _views(recipe: DetectionRecipe, grid: Grid, given: Namespace) -> Iterator[_View | _Failure]:
    for name in given.input:
        path = Path(name)
        if name == "test" and not path.exists():
            data = recipe.dataset("test")
            for i in range(min(given.samples, len(data))):
                frames, truth = data[i]
                yield _View(f"{data.name} {i}", frames, truth=truth)
            continue
        known = _PICTURES + _EVENTS
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in known and p.is_file()) if path.is_dir() else []
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
        if not inside and not (path.is_file() and path.suffix.lower() in known):
            raise InputError(f"{path}: no picture ({', '.join(_PICTURES)}) or events ({', '.join(_EVENTS)}) there")
        for file in inside or [path]:
            try:
                yield from _of_file(file, recipe, grid, given)
            except SpikekitError as error:
                if not inside:
                    raise
                yield _Failure(str(file), str(error))


def _of_file(file: Path, recipe: DetectionRecipe, grid: Grid, given: Namespace) -> Iterator[_View]:
    picture = file.suffix.lower() in _PICTURES
    if picture != (recipe.channels == 3):
        raise InputError(f"{file}: this detector takes {'pictures' if recipe.channels == 3 else 'events'}")
    if not picture:
        yield from _windows(file, recipe, grid, given)
        return
    require("PIL.Image", "images")
    frame, place = load_image(file, grid.size)
    frames = (frame.to(torch.float32) / 255).expand(recipe.steps, *frame.shape)
    yield _View(str(file), frames, place.factor, place.image)


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
        yield _View(str(file), frames, factor, stream.sensor, start / 1000)


def _in_words(found: Any) -> str:
    return (
        f"mAP@.5 {found.map50:.4f}, mAP@.5:.95 {found.map:.4f} over {len(found.classes)} classes, "
        f"{found.boxes} boxes in {found.images} samples"
    )
