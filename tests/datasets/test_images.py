from __future__ import annotations

import gzip
import io
import lzma
import tarfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikekit.datasets import CIFAR10JPEG, MNIST, FashionMNIST, ImageSet, cache_home, holdout
from spikekit.errors import InputError


def idx(array):
    head = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    return head + array.astype(np.uint8).tobytes()


@pytest.fixture
def write_set(tmp_path):
    """Writes a small set in the folder of `kind`: 7 training and 3 test images."""

    def write(kind, change=lambda name, content: content):
        rng = np.random.default_rng(0)
        for prefix, n in (("train", 7), ("t10k", 3)):
            parts = {"images-idx3": rng.integers(0, 256, (n, 28, 28)), "labels-idx1": rng.integers(0, 10, n)}
            for name, array in parts.items():
                path = tmp_path / kind.folder / "raw" / f"{prefix}-{name}-ubyte.gz"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(change(path.name, gzip.compress(idx(array))))
        return tmp_path

    return write


@pytest.mark.parametrize("kind", [MNIST, FashionMNIST])
def test_idx_files_are_read(kind, write_set, monkeypatch):
    root = write_set(kind)
    assert kind.available(root)
    train, test = kind("train", root), kind("test", root)
    rng = np.random.default_rng(0)
    assert torch.equal(train.images[:, 0], torch.from_numpy(rng.integers(0, 256, (7, 28, 28)).astype(np.uint8)))
    assert torch.equal(train.labels, torch.from_numpy(rng.integers(0, 10, 7)))
    assert (len(train), len(test), train.name, train.images.dtype) == (7, 3, kind.title, torch.uint8)
    monkeypatch.setenv("SPIKEKIT_DATA", str(root))
    assert torch.equal(kind("test").images, test.images)


def test_missing_and_wrong_splits(tmp_path):
    assert not MNIST.available(tmp_path)
    with pytest.raises(InputError, match=r"Fashion-MNIST: .*t10k-images-idx3-ubyte.gz is not there. Set SPIKEKIT_DATA"):
        FashionMNIST("test", tmp_path)
    with pytest.raises(InputError, match="split must be 'train' or 'test', got 'all'"):
        MNIST("all", tmp_path)


def only(part, change):
    return lambda name, content: change(content) if part in name else content


DAMAGES = {
    "no sound gzip file": only("train-images", lambda content: content[:-40]),
    "no sound gzip": only("train-labels", lambda content: b"<!doctype html>"),
    "not hold bytes with 3 axes": only("train-images", lambda content: gzip.compress(idx(np.zeros(3)))),
    "its head says": only("train-labels", lambda content: gzip.compress(gzip.decompress(content)[:-1])),
    r"its head says \[4294967295, 4294967295, 4\]": only(
        "train-images", lambda content: gzip.compress(bytes((0, 0, 8, 3)) + b"\xff" * 8 + bytes((0, 0, 0, 4)))
    ),
    "7 images, .* 5 labels": only("train-labels", lambda content: gzip.compress(idx(np.zeros(5)))),
    "another data set": only("train-images", lambda content: gzip.compress(idx(np.zeros((7, 32, 32))))),
    "labels to 61: another data set": only("train-labels", lambda content: gzip.compress(idx(np.full(7, 61)))),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_damaged_files_are_named(message, write_set):
    root = write_set(MNIST, DAMAGES[message])
    with pytest.raises(InputError, match=message):
        MNIST("train", root)


def pack(root, members):
    folder = root / "CIFAR10-jpeg"
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / "cifar10_jpeg.tar.xz", "w:xz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return root


def jpeg(colour, size=(32, 32)):
    image = pytest.importorskip("PIL.Image").new("RGB", size, colour)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95)
    return file.getvalue()


def test_jpeg_archive_is_decoded_once(tmp_path):
    members = [("train/truck/0001.jpg", jpeg("blue")), ("train/truck/0000.jpg", jpeg("red"))]
    members += [("test/cat/0000.jpg", jpeg("red")), ("train/airplane/0000.jpg", jpeg("white")), ("README", b"hi")]
    root = pack(tmp_path, members)
    assert CIFAR10JPEG.available(root)
    train = CIFAR10JPEG("train", root)
    assert train.labels.tolist() == [0, 9, 9]
    means = train.images.float().mean((2, 3)).round()
    torch.testing.assert_close(means, torch.tensor([[255.0, 255, 255], [254, 0, 0], [0, 0, 254]]), rtol=0, atol=2)
    assert len(CIFAR10JPEG("test", root)) == 1
    kept = {path: path.stat().st_mtime_ns for path in cache_home().iterdir()}
    assert len(kept) == 2
    assert torch.equal(CIFAR10JPEG("train", root).images, train.images)
    assert {path: path.stat().st_mtime_ns for path in cache_home().iterdir()} == kept


def test_bad_archives_are_named(tmp_path):
    with pytest.raises(InputError, match=r"CIFAR-10 \(JPEG\): .*cifar10_jpeg.tar.xz is not there"):
        CIFAR10JPEG("train", tmp_path)
    pack(tmp_path, [("train/cat/0.jpg", jpeg("red", (30, 32)))])
    with pytest.raises(InputError, match=r"train/cat/0.jpg has 30 x 32 pixels, .* Fetch"):
        CIFAR10JPEG("train", tmp_path)
    with pytest.raises(InputError, match="holds no test/<class>"):
        CIFAR10JPEG("test", tmp_path)
    (tmp_path / "CIFAR10-jpeg/cifar10_jpeg.tar.xz").write_bytes(lzma.compress(b"nothing")[:-9])
    with pytest.raises(InputError, match="is damaged"):
        CIFAR10JPEG("train", tmp_path)


def headed(width, height):
    """A JPEG whose head says another size than it has."""
    content = bytearray(jpeg("red"))
    at = content.find(b"\xff\xc0")
    content[at + 5 : at + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train/dog/1.jpg", lambda: jpeg("red")[:300], "is no sound picture"),
        ("train/dog/1.jpg", lambda: b"", "is no sound picture"),
        ("train/dog/1.jpg", lambda: b"a text", "is no sound picture"),
        ("train/dog/1.jpg", lambda: headed(60000, 60000), "is no sound picture"),
        ("train/dog/1.jpg", lambda: headed(12000, 12000), "has 12000 x 12000 pixels"),
        ("train/lion/1.jpg", lambda: jpeg("red"), "is of no class of CIFAR-10"),
        ("train/cat/0.jpg", lambda: jpeg("red"), "is there twice"),
    ],
    ids=["cut", "empty", "text", "huge", "large", "lion", "twice"],
)
def test_a_damaged_picture_is_named(tmp_path, name, content, message):
    pack(tmp_path, [("train/cat/0.jpg", jpeg("red")), (name, content())])
    with pytest.raises(InputError, match=rf"cifar10_jpeg.tar.xz: {name} {message}.* Fetch the archive again"):
        CIFAR10JPEG("train", tmp_path)


def test_an_image_set_that_does_not_fit_is_refused():
    images, labels = torch.zeros(4, 3, 2, 2, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)
    ImageSet("x", images, labels, (0, 0, 0), (1, 1, 1))
    for bad in (
        (images.float(), labels, (0, 0, 0), (1, 1, 1)),
        (images, labels[:3], (0, 0, 0), (1, 1, 1)),
        (images, labels, (0,), (1,)),
        (images, labels, (0, 0, 0), (1, 1, 0)),
    ):
        with pytest.raises(InputError, match=r"^x: "):
            ImageSet("x", *bad)


@given(st.lists(st.integers(0, 4), min_size=2, max_size=60), st.data(), st.integers(0, 5))
def test_holdout_is_a_partition_with_every_class_in_proportion(labels, data, seed):
    count = data.draw(st.integers(1, len(labels) - 1))
    stay, out = holdout(labels, count, seed=seed)
    assert sorted([*stay, *out]) == list(range(len(labels)))
    assert len(out) == count
    assert (np.diff(stay) > 0).all()
    assert (np.diff(out) > 0).all()
    for c in set(labels):
        share = count * labels.count(c) / len(labels)
        assert abs((np.array(labels)[out] == c).sum() - share) < 1


def test_holdout_depends_on_its_seed_and_refuses_nonsense():
    labels = np.arange(100) % 10
    one, two = holdout(labels, 20, seed=1)[1], holdout(labels, 20, seed=2)[1]
    assert not np.array_equal(one, two)
    assert np.array_equal(one, holdout(labels, 20, seed=1)[1])
    for count in (0, 100, 2.5):
        with pytest.raises(InputError, match="between 0 and N = 100"):
            holdout(labels, count)
    with pytest.raises(InputError, match="integers"):
        holdout([0.5, 1.0], 1)
