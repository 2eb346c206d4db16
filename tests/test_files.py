"""Files replaced in one step, whatever goes wrong on the way."""

from __future__ import annotations

import os
import stat

import pytest

from spikekit.errors import CheckpointError, ExportError
from spikekit.files import TEMPORARY, replacing


def test_the_file_takes_its_place_when_all_is_written(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with replacing(path, ExportError) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == path.parent
        assert temporary.name.endswith(TEMPORARY)
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("failure", [OSError("full"), KeyError("a fault"), KeyboardInterrupt()], ids=repr)
def test_a_failure_leaves_what_was_there(tmp_path, failure):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write():
        with replacing(path, ExportError) as temporary:
            temporary.write_text("half")
            raise failure

    with pytest.raises((ExportError, type(failure))):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_failures_are_named_with_the_file_and_the_way_out(tmp_path):
    with (
        pytest.raises(ExportError, match=r"a\.txt: cannot be written \(full\)\. Free space, or choose another"),
        replacing(tmp_path / "a.txt", ExportError),
    ):
        raise OSError("full")
    with pytest.raises(RuntimeError, match="full"), replacing(tmp_path / "a.txt", ExportError):
        raise RuntimeError("full")
    with pytest.raises(CheckpointError, match="full"), replacing(tmp_path / "a.txt", CheckpointError, RuntimeError):
        raise RuntimeError("full")


def test_a_folder_and_a_place_inside_a_file_are_refused(tmp_path):
    with pytest.raises(ExportError, match="is a folder; give the name"), replacing(tmp_path, ExportError):
        pass
    (tmp_path / "file").touch()
    with (
        pytest.raises(ExportError, match=r"file.a\.txt: cannot be written"),
        replacing(tmp_path / "file" / "a.txt", ExportError),
    ):
        pass


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps permissions in another way")
def test_it_has_the_permissions_of_any_new_file(tmp_path):
    path = tmp_path / "a.txt"
    before = os.umask(0o027)
    try:
        with replacing(path, ExportError):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
