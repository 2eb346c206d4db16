"""Recipes and commands of detectors, on scenes made of a few written recordings."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

import spikekit as sk
from spikekit.cli import main
from spikekit.datasets import NMNIST, nmnist_mosaic
from spikekit.detection import DetectionRecipe, judge
from spikekit.detection_commands import trained_detector
from spikekit.errors import CheckpointError, InputError
from spikekit.recipe import Recipe, read_recipe
from spikekit.rematerialise import CheckpointTime

pytest.importorskip("faster_coco_eval")
SMALL = {
    "task": "detection",
    "data": "nmnist-mosaic",
    "model": {"name": "ems_res10", "width": 1 / 16},
    "steps": 2,
    "scenes": 4,
    "epochs": 1,
    "batch": 2,
    "augment": {"mosaic": 0.5, "scale": 0.2},
}


def block(path, digit, number):
    """A recording of N-MNIST's format in which a rectangle fires thrice, of a size that is the digit's."""
    xs, ys = (a.ravel() for a in np.meshgrid(np.arange(5, 15 + digit), np.arange(4 + number % 3, 24)))
    xs, ys = np.tile(xs, 3), np.tile(ys, 3)
    t = np.arange(len(xs)) * 300
    rows = [xs, ys, (np.arange(len(xs)) % 2) << 7 | t >> 16, t >> 8 & 255, t & 255]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.stack(rows, 1).astype(np.uint8).tobytes())


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A partial N-MNIST of 20 training and 10 test recordings, and a cache."""
    folder = tmp_path_factory.mktemp("home")
    for split, count in (("Train", 20), ("Test", 10)):
        for number in range(count):
            block(folder / f"NMNIST/{split}/{number % 10}/{number + 1:05d}.bin", number % 10, number)
    return folder


@pytest.fixture(scope="module", autouse=True)
def places(home):
    """The data, a cache, and six scenes to judge by in place of 200."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPIKEKIT_DATA", str(home))
        patch.setenv("SPIKEKIT_CACHE", str(home / "cache"))
        patch.setattr(nmnist_mosaic, "COUNTS", {"train": 4, "val": 6, "test": 6})
        yield


@pytest.fixture(scope="module")
def run(home, places):
    path = home / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    assert main(["train", str(path), "--out", str(home / "run")]) == 0
    return home / "run"


def test_training_leaves_a_run_and_the_test_set_alone(run):
    found = json.loads((run / "val.json").read_text())
    assert set(found) == {"map50", "map", "classes", "images", "boxes"}
    recipe, net = trained_detector(run)
    assert np.asarray(recipe.anchors).shape == (2, 3, 2)
    assert torch.allclose(net.anchors, torch.tensor(recipe.anchors))
    assert not net.training
    again = judge(net, recipe.dataset("val"), recipe.grid(net))
    assert again.map50 == pytest.approx(found["map50"], abs=1e-6)


def test_evaluate_gives_precision_and_energy(run, capsys):
    assert main(["evaluate", str(run)]) == 0
    text = capsys.readouterr().out
    assert "mAP@.5" in text
    assert "4.6 pJ a multiply-accumulate" in text
    assert "ANN of equal shape" in text
    assert json.loads((run / "test.json").read_text())["images"] == 6


@pytest.mark.parametrize("options", [(), ("--stream",)])
def test_detect_writes_boxes_and_pictures(run, home, tmp_path, options, capsys):
    pytest.importorskip("matplotlib")
    events = home / "NMNIST/Test/3/00004.bin"
    out = tmp_path / "found"
    arguments = ["detect", str(run), str(events), "test", "--out", str(out), "--samples", "2", "--confidence", "1e-6"]
    assert main([*arguments, "--window", "100", *options]) == 0
    entries = json.loads((out / "boxes.json").read_text())
    assert [entry["start_ms"] for entry in entries] == [0.0, 100.0, None, None]
    assert all((out / entry["picture"]).stat().st_size > 1000 for entry in entries)
    assert sum(len(entry["boxes"]) for entry in entries) > 0
    for entry in entries:
        for box in entry["boxes"]:
            x0, y0, x1, y1 = box["box"]
            assert 0 <= x0 <= x1 <= 128
            assert 0 <= y0 <= y1 <= 128
            assert box["class"] in "0123456789"


def test_what_cannot_be_looked_at_is_named(run, tmp_path, capsys):
    (tmp_path / "picture.png").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("picture.png", "this detector takes events"),
        ("empty", "no picture"),
        ("none.dat", "no such file or folder"),
    ):
        assert main(["detect", str(run), str(tmp_path / name), "--out", str(tmp_path / "out")]) == 1
        assert message in capsys.readouterr().err


def test_a_run_of_another_kind_is_refused(tmp_path):
    sk.train.save(torch.nn.Linear(1, 1), tmp_path / "best.safetensors", {"task": {}})
    with pytest.raises(CheckpointError, match=r"describes no detector .* spikekit train ems_mosaic --out RUN"):
        trained_detector(tmp_path)


@pytest.mark.parametrize("name", ["nowhere", "nowhere/best.safetensors"])
def test_a_run_that_is_not_there_is_named(name, tmp_path, capsys):
    assert main(["detect", str(tmp_path / name), "test", "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert f"{tmp_path / name}: no such checkpoint" in error
    assert f"train one with: spikekit train ems_mosaic --out {tmp_path / 'nowhere'}" in error


def test_the_recipe_that_comes_with_spikekit():
    recipe = read_recipe("ems_mosaic")
    assert isinstance(recipe, DetectionRecipe)
    assert isinstance(read_recipe("nmnist_conv"), Recipe)
    assert sum(p.numel() for p in recipe.build(None).parameters()) > 6e6
    plain = json.loads(json.dumps(recipe.trainer(recipe.build(None))["config"]))
    assert DetectionRecipe.from_config(plain, "here") == recipe


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"task": "segmentation"}, "task: unknown value 'segmentation'"),
        ({"data": "coco"}, "data: unknown value 'coco'"),
        ({"colour": 1}, "unknown key 'colour'"),
        ({"augment": {"mozaic": 1}}, "did you mean 'mosaic'"),
        ({"augment": {"flip": 3}}, "BoxFlip: p must be between"),
        ({"model": {"name": "ems_res10", "classes": 3}}, "classes comes from the data"),
        ({"model": {"name": "ems_res11"}}, "did you mean 'ems_res"),
        ({"model": {"name": "ems_res10", "deep": 3}}, "unknown key 'deep'"),
        ({"model": {"name": "ems_res10", "shortcut": "sew"}}, "shortcut"),
        ({"steps": 0}, "steps must be a whole number"),
        ({"size": [100, 64]}, "multiples of 32"),
        ({"anchors": [[1, 2]]}, "anchors must be"),
        ({"size": 320}, r"size must be \[width, height\], multiples of 32, got 320"),
        ({"augment": {"mosaic": 3}}, "augment: mosaic must be between 0 and 1, got 3"),
        ({"augment": {"mosaic": "yes"}}, "augment: mosaic must be a number, got 'yes'"),
        ({"clip_norm": 0}, "clip_norm must be above 0, or null for none, got 0"),
        ({"loss": {"cls": -1}}, "loss: cls must be 0 or more"),
        ({"loss": {"iou": 1}}, "unknown key 'iou'"),
        ({"ema": 2}, "ema must be between"),
        ({"size": [128, 128]}, "size is not a setting of the data 'nmnist-mosaic'; leave it out"),
        ({"data": "bccd"}, "scenes is not a setting of the data 'bccd'; leave it out"),
        ({"checkpoint": 4}, "checkpoint must be true or false"),
    ],
)
def test_mistakes_are_named(values, message, tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(SMALL | values))
    with pytest.raises(InputError, match=message):
        read_recipe(path)


def test_a_recipe_may_save_memory(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(SMALL | {"checkpoint": True}))
    net = read_recipe(path).build(None)
    assert sum(isinstance(module, CheckpointTime) for module in net.modules()) == 8


def test_validation_has_recordings_of_its_own(home):
    assert NMNIST.available()
    recipe = replace(read_recipe("ems_mosaic"), scenes=60)
    sizes = {split: set(map(tuple, recipe.dataset(split).sizes().tolist())) for split in ("train", "val")}
    # Of 20 recordings the 10th and the last, both nines, are kept apart.
    assert {width for width, _ in sizes["val"]} == {19.0}
    assert 19.0 not in {width for width, _ in sizes["train"]}
