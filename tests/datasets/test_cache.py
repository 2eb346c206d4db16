"""The cache: what is read back is what was kept, or it is built again."""

from __future__ import annotations

import logging
import os

import numpy as np
import pytest

from spikekit.datasets.cache import load_or_build
from spikekit.errors import InputError

KEY = {"dataset": "d", "n": 3}


class Builder:
    """Counts how often it was asked."""

    calls = 0

    def __call__(self):
        self.calls += 1
        return {"frames": np.arange(400_000).astype(np.uint8).reshape(2, -1), "labels": np.array([1, 2])}


def check(arrays):
    assert sorted(arrays) == ["frames", "labels"]
    assert np.array_equal(arrays["frames"], Builder()()["frames"])
    assert arrays["labels"].tolist() == [1, 2]


def test_built_once_and_read_back(cache_folder, caplog):
    build = Builder()
    for _ in range(3):
        check(load_or_build("x", KEY, build))
    assert build.calls == 1
    [file] = cache_folder.iterdir()
    assert file.name.startswith("x-")
    assert file.suffix == ".npz"
    load_or_build("x", {**KEY, "n": 4}, build)
    assert build.calls == 2
    assert not caplog.records


def test_the_same_arrays_make_the_same_file(tmp_path):
    for folder in ("a", "b"):
        load_or_build("x", KEY, Builder(), tmp_path / folder)
    [a], [b] = ((tmp_path / folder).iterdir() for folder in ("a", "b"))
    assert a.name == b.name
    assert a.read_bytes() == b.read_bytes()


def flip(content, place):
    return content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: b"",
        lambda c: b"<html>not found</html>",
        lambda c: c[: len(c) // 2],
        lambda c: c[:-3],
        lambda c: flip(c, len(c) // 2),
        lambda c: flip(c, 150),
        lambda c: flip(c, len(c) - 200),
        lambda c: bytes(len(c)),
    ],
)
def test_a_damaged_file_is_rebuilt_and_logged(cache_folder, caplog, damage):
    load_or_build("x", KEY, Builder())
    [file] = cache_folder.iterdir()
    sound = file.read_bytes()
    file.write_bytes(damage(sound))
    build = Builder()
    check(load_or_build("x", KEY, build))
    assert build.calls == 1
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "damaged" in record.message
    assert str(file) in record.message
    assert file.read_bytes() == sound


def test_every_flipped_byte_is_found_or_harmless(cache_folder):
    load_or_build("x", KEY, Builder())
    [file] = cache_folder.iterdir()
    sound = file.read_bytes()
    for place in [
        *range(0, 600, 17),
        *range(600, len(sound) - 900, 20_011),
        *range(len(sound) - 900, len(sound), 17),
    ]:
        file.write_bytes(flip(sound, place))
        check(load_or_build("x", KEY, Builder()))


def test_a_file_of_another_key_is_not_believed(cache_folder, caplog):
    load_or_build("x", KEY, Builder())
    [file] = cache_folder.iterdir()
    load_or_build("x", {"other": 1}, lambda: {"frames": np.zeros(1)})
    [other] = set(cache_folder.iterdir()) - {file}
    os.replace(other, file)
    check(load_or_build("x", KEY, Builder()))
    assert "made from something else" in caplog.text


def test_objects_are_never_unpickled(cache_folder, caplog):
    load_or_build("x", KEY, Builder())
    [file] = cache_folder.iterdir()
    with file.open("wb") as opened:
        np.savez(opened, key=np.asarray("k"), frames=np.array([{}, print], dtype=object))
    check(load_or_build("x", KEY, Builder()))
    assert "allow_pickle=False" in caplog.text


def test_an_unwritable_home_is_logged_and_the_work_goes_on(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SPIKEKIT_CACHE", str(tmp_path / "file" / "cache"))
    check(load_or_build("x", KEY, Builder()))
    [record] = caplog.records
    assert "cannot keep x" in record.message
    assert "SPIKEKIT_CACHE" in record.message


def test_an_unwritable_folder_that_was_asked_for_is_an_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    build = Builder()
    with pytest.raises(InputError, match=r"cannot make .*file/cache"):
        load_or_build("x", KEY, build, tmp_path / "file" / "cache")
    assert build.calls == 0


def test_a_full_disk_leaves_no_half_file(tmp_path, monkeypatch, caplog, cache_folder):
    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    check(load_or_build("x", KEY, Builder()))
    assert "No space left" in caplog.text
    assert list(cache_folder.iterdir()) == []
    with pytest.raises(InputError, match="No space left"):
        load_or_build("x", KEY, Builder(), tmp_path / "mine")


def test_false_builds_each_time(cache_folder):
    build = Builder()
    load_or_build("x", KEY, build, cache=False)
    load_or_build("x", KEY, build, cache=False)
    assert build.calls == 2
    assert not cache_folder.exists()
