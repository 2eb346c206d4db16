"""`spikekit detect` on pictures as people have them: odd sizes, modes, damaged files, folders of all that."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

import spikekit as sk
from spikekit.cli import main
from spikekit.datasets.bccd import load_image
from spikekit.detection import DetectionRecipe
from spikekit.detection_commands import _inside
from spikekit.errors import InputError

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("matplotlib")

ANCHORS = [[[10, 14], [23, 27], [37, 58]], [[81, 82], [60, 60], [100, 90]]]
PIXELS = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
PICTURE = Image.fromarray(PIXELS)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An untrained detector of photographs."""
    model = {"name": "ems_res10", "width": 1 / 16}
    recipe = DetectionRecipe(data="bccd", model=model, anchors=ANCHORS, steps=2, size=(96, 64))
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("run") / "last.safetensors"
    sk.train.save(recipe.build(), path, {"detection": asdict(recipe)})
    return path.parent


@pytest.fixture
def detect(run, tmp_path, capsys):
    """Run the command: exit code, entries of boxes.json, what was said on stderr."""

    def call(*arguments):
        out = tmp_path / "found"
        code = main(["detect", str(run), *map(str, arguments), "--out", str(out), "--confidence", "1e-6"])
        file = out / "boxes.json"
        return code, json.loads(file.read_text()) if file.exists() else None, capsys.readouterr().err

    return call


@pytest.mark.parametrize("size", [(64, 48), (301, 77), (1, 1), (3000, 20), (5, 900)], ids=str)
def test_boxes_lie_in_pictures_of_any_size(detect, tmp_path, size):
    PICTURE.resize(size).save(tmp_path / "p.png")
    code, (entry,), _ = detect(tmp_path / "p.png")
    assert code == 0
    for box in entry["boxes"]:
        x0, y0, x1, y1 = box["box"]
        assert 0 <= x0 <= x1 <= size[0] + 0.01
        assert 0 <= y0 <= y1 <= size[1] + 0.01


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_pictures_of_any_mode_are_read(tmp_path, mode):
    file = tmp_path / ("p.jpg" if mode == "CMYK" else "p.png")
    PICTURE.convert(mode).save(file)
    frame, _ = load_image(file, (64, 64))
    assert frame.shape == (3, 64, 64)
    if mode in ("L", "LA"):
        assert torch.equal(frame[0], frame[2])
    if mode == "RGBA":
        assert np.array_equal(frame[:, :48].permute(1, 2, 0), PIXELS)


def test_sixteen_bits_are_eight_and_not_white(tmp_path):
    grey = np.asarray(PICTURE.convert("L"))
    PICTURE.convert("L").save(tmp_path / "8.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "16.png")
    eight, sixteen = (load_image(tmp_path / f"{bits}.png", (64, 64))[0] for bits in (8, 16))
    assert torch.equal(eight, sixteen)


def test_a_picture_is_turned_as_it_is_to_be_seen(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    PICTURE.save(tmp_path / "p.png", exif=exif)
    frame, place = load_image(tmp_path / "p.png", (64, 64))
    assert (place.width, place.height) == (48, 64)
    assert np.array_equal(frame[:, :, :48].permute(1, 2, 0), np.rot90(PIXELS, -1))


def damaged(folder):
    PICTURE.save(folder / "whole.png")
    data = (folder / "whole.png").read_bytes()
    (folder / "cut.png").write_bytes(data[: len(data) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.bmp").write_text("hello")
    Image.fromarray(np.zeros((4, 4), np.float32)).save(folder / "f.tiff")
    (folder / "f.tiff").rename(folder / "float.png")
    return {"cut.png", "empty.jpg", "text.bmp", "float.png"}


def test_damaged_files_are_named(detect, tmp_path):
    for name in damaged(tmp_path):
        code, _, said = detect(tmp_path / name)
        assert code == 1
        assert name in said
        with pytest.raises(InputError, match=name):
            load_image(tmp_path / name, (64, 64))


def test_a_folder_goes_on_behind_a_damaged_file(detect, tmp_path):
    folder = tmp_path / "folder"
    (folder / "sub.png").mkdir(parents=True)
    bad = damaged(folder)
    (folder / "notes.txt").write_text("no picture")
    code, entries, said = detect(folder)
    assert code == 1
    assert all(name in said for name in bad)
    assert {entry["source"].rpartition("/")[2] for entry in entries} == bad | {"whole.png"}
    assert [entry["source"] for entry in entries if "boxes" in entry] == [str(folder / "whole.png")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("p.png", "--stream"), "takes pictures, each of which is a beginning"),
        (("p.png", "--overlap", "2"), "--overlap must be at most 1"),
        (("p.png", "--window", "1e-9"), "--window must be 0.001 milliseconds or more"),
        (("none.png",), "none.png: no such file or folder"),
        (("empty",), "no picture"),
        (("events.dat",), "this detector takes pictures"),
    ],
)
def test_mistakes_are_named(detect, tmp_path, arguments, message):
    PICTURE.save(tmp_path / "p.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "events.dat").write_bytes(b"")
    name, *options = arguments
    code, _, said = detect(tmp_path / name, *options)
    assert code == 1
    assert message in said


def test_the_output_must_be_a_folder(run, tmp_path, capsys):
    PICTURE.save(tmp_path / "p.png")
    assert main(["detect", str(run), str(tmp_path / "p.png"), "--out", str(tmp_path / "p.png")]) == 1
    assert "is a file; name a folder" in capsys.readouterr().err


def test_boxes_are_cut_at_the_edge_of_the_source():
    found = torch.tensor([[0.0, 10, 10, 90, 60, 0.5], [1, 70, 5, 90, 20, 0.4]])
    assert _inside(found, (128, 96), 0.5).tolist() == [[0.0, 10, 10, 64, 48, 0.5]]
    assert _inside(found, None, 1.0) is found
