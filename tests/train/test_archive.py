from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from spikekit.errors import CheckpointError
from spikekit.train.archive import check_writable, read_archive, remove_leftovers, write_archive

TENSORS = {
    "a": torch.arange(6.0).reshape(2, 3).T,
    "b": torch.tensor(7),
    "c": torch.ones(3, dtype=torch.bfloat16),
    "d": torch.empty(0),
    "e": torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last),
}
INFO = {"text": "é", "numbers": [1, 0.1, None]}


def test_round_trip_is_exact(tmp_path):
    path = tmp_path / "x.safetensors"
    write_archive(path, {**TENSORS, "tied": TENSORS["a"]}, INFO)
    tensors, info = read_archive(path)
    assert info == INFO
    for name, value in {**TENSORS, "tied": TENSORS["a"]}.items():
        assert tensors[name].dtype == value.dtype
        assert torch.equal(tensors[name], value)
    assert torch.equal(load_file(path)["b"], TENSORS["b"])
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_tensors_that_share_their_memory_are_stored_twice(tmp_path):
    weight = torch.rand(4, 3)
    write_archive(tmp_path / "x", {"a": weight, "b": weight, "part": weight[0]}, {})
    tensors, _ = read_archive(tmp_path / "x")
    assert torch.equal(tensors["a"], weight)
    assert torch.equal(tensors["b"], weight)
    assert torch.equal(tensors["part"], weight[0])


def test_what_was_read_does_not_change_with_the_file(tmp_path):
    path = tmp_path / "x.safetensors"
    write_archive(path, {"a": torch.zeros(1000)}, {})
    tensors, _ = read_archive(path)
    path.write_bytes(b"\xff" * path.stat().st_size)
    assert tensors["a"].abs().sum() == 0


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, -1])
def test_truncation_is_noticed(tmp_path, keep):
    path = tmp_path / "x.safetensors"
    write_archive(path, TENSORS, INFO)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(CheckpointError, match=r"x\.safetensors.*(cut short|damaged)"):
        read_archive(path)


def test_one_flipped_bit_anywhere_is_noticed(tmp_path):
    path = tmp_path / "x.safetensors"
    write_archive(path, {"a": torch.rand(16)}, {"text": "abc"})
    data = path.read_bytes()
    unnoticed = []
    for position in range(len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :])
        try:
            tensors, info = read_archive(path)
        except CheckpointError:
            continue
        # Blanks that pad the header carry nothing.
        if data[position : position + 1] != b" " or info != {"text": "abc"} or tensors.keys() != {"a"}:
            unnoticed.append(position)
    assert unnoticed == []


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        (None, "format is None"),
        ({"format": "spikekit-99"}, "'spikekit-99'"),
        ({"format": "spikekit-1", "info": "{", "crc32": "0"}, "checksum"),
        ({"format": "spikekit-1", "info": "{garbage", "crc32": None}, "JSON header cannot be read"),
        ({"format": "spikekit-1", "info": "[1]", "crc32": None}, "expected an object"),
    ],
)
def test_foreign_and_garbage_headers(tmp_path, metadata, words):
    import zlib

    path = tmp_path / "x.safetensors"
    if metadata and metadata.get("crc32", "") is None:
        metadata = {**metadata, "crc32": f"{zlib.crc32(metadata['info'].encode()):08x}"}
    save_file({}, path, metadata=metadata)
    with pytest.raises(CheckpointError, match=words):
        read_archive(path)


def test_not_a_safetensors_file(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_text(json.dumps({"a": 1}))
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        read_archive(path)
    with pytest.raises(CheckpointError, match="no such file"):
        read_archive(tmp_path / "y.safetensors")
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        read_archive(tmp_path)


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    write_archive(path, {"a": torch.zeros(1)}, {})

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("spikekit.train.archive.save_file", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        write_archive(path, {"a": torch.ones(1)}, {})
    assert read_archive(path)[0]["a"] == 0
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_only_json_is_stored(tmp_path):
    with pytest.raises(CheckpointError, match="not plain JSON"):
        write_archive(tmp_path / "x", {}, {"net": object()})


def test_leftovers_of_this_file_alone_are_removed(tmp_path):
    for name in (".x.abc.tmp", ".y.abc.tmp", "x.tmp"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path / "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".y.abc.tmp", "x.tmp"]


def test_check_writable(tmp_path):
    check_writable(tmp_path / "new" / "folder")
    assert not list((tmp_path / "new" / "folder").iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot be written to"):
        check_writable(tmp_path / "file" / "folder")
