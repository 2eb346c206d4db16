"""The cache of compiled kernels: damaged, full, read-only, somebody else's, or used by several at once."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from spikekit.native import cache
from spikekit.native.compile import CompileError, compiled

ROOT = hasattr(os, "getuid") and os.getuid() == 0


def test_what_a_killed_process_left_is_cleared(source):
    made = compiled(source, "float")
    old, new = (made.path.parent / name for name in ("scratch-old", "scratch-new"))
    for folder in (old, new):
        folder.mkdir()
        (folder / "part.o").touch()
    os.utime(old, (0, 0))
    compiled(source, "double")
    assert not old.exists()
    assert new.exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes().replace(b"number", b"bumner")),
        lambda path: path.with_suffix(".json").unlink(),
        lambda path: path.with_suffix(".json").write_text("[1"),
        lambda path: path.with_suffix(".json").write_text("[]"),
        lambda path: path.with_suffix(".json").write_text(json.dumps({"sha256": "0"})),
        lambda path: path.unlink(),
    ],
    ids=["cut", "empty", "changed", "no note", "half a note", "a list", "another hash", "gone"],
)
def test_a_damaged_library_is_made_again(source, damage, compilations):
    made = compiled(source, "float")
    whole = made.path.read_bytes()
    damage(made.path)
    compilations.clear()
    assert compiled(source, "float").path == made.path
    assert len(compilations) == 1
    assert made.path.read_bytes() == whole
    assert cache.note(made.path) is not None


def test_a_cache_that_is_a_file(source, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("SPIKEKIT_CACHE", str(path))
        with pytest.raises(CompileError, match=r"no cache .*file.*set SPIKEKIT_CACHE to a folder of yours"):
            compiled(source, "float")


def test_no_home(source, monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("SPIKEKIT_CACHE")
    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(CompileError, match=r"Could not determine home.*set SPIKEKIT_CACHE"):
        compiled(source, "float")


def test_a_tilde_is_the_home_folder(monkeypatch, tmp_path, clean):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SPIKEKIT_CACHE", "~/kept")
    assert cache.folder() == tmp_path / "kept" / "native"


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_cache_that_others_may_write_is_refused(source, mode):
    made = compiled(source, "float")
    made.path.parent.chmod(mode)
    with pytest.raises(CompileError, match=r"can be written by other users \(chmod 700 it\); set SPIKEKIT_CACHE"):
        compiled(source, "float")


@pytest.mark.skipif(not ROOT, reason="only root can give a folder away")
def test_a_cache_of_another_user_is_refused(source):
    made = compiled(source, "float")
    os.chown(made.path.parent, 12345, -1)
    with pytest.raises(CompileError, match="can be written by other users"):
        compiled(source, "float")


def read_only(monkeypatch, folder):
    """A file system that lets nobody write to `folder`, root included."""

    def refuse(path, mode="r", *rest, **named):
        if "w" in mode and Path(path).parent == folder:
            raise OSError(30, "Read-only file system", str(path))
        return opened(path, mode, *rest, **named)

    opened = Path.open
    monkeypatch.setattr(Path, "open", refuse)


def test_a_read_only_cache_serves_what_it_holds(source, monkeypatch, number):
    made = compiled(source, "float")
    read_only(monkeypatch, made.path.parent)
    assert number(compiled(source, "float")) == 7
    with pytest.raises(CompileError, match="Read-only file system"):
        compiled(source, "double")


def test_old_libraries_make_room(source, tmp_path):
    paths = []
    for value in range(11):
        (tmp_path / "number.h").write_text(f"#define NUMBER {value}\n")
        paths.append(compiled(source, "float").path)
        os.utime(paths[-1], (value + 1, value + 1))
    other = compiled(source, "double").path
    folder = paths[0].parent
    assert set(folder.glob("*.so")) == {*paths[-8:], other}
    assert {path.stem for path in folder.glob("*.json")} == {path.stem for path in folder.glob("*.so")}


def test_several_at_once_compile_once(source, tmp_path, monkeypatch, number, fake_compiler):
    """Threads here; the lock is one of files, so processes meet it in the same way (tests/native/test_library.py)."""
    pytest.importorskip("fcntl")
    (tmp_path / "count").mkdir()
    monkeypatch.setenv("CC", fake_compiler(f'mktemp -p {tmp_path}/count >/dev/null; sleep 0.3; exec gcc "$@"'))
    numbers = []
    threads = [threading.Thread(target=lambda: numbers.append(number(compiled(source, "float")))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert numbers == [7] * 4
    assert len(list((tmp_path / "count").iterdir())) == 1


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_the_lock_is_let_go_although_a_forked_process_has_the_file(clean):
    pytest.importorskip("fcntl")
    folder = cache.folder()
    with cache.locked(folder):
        pid = os.fork()
        if pid == 0:
            time.sleep(20)
            os._exit(0)
    try:
        done = threading.Event()

        def again():
            with cache.locked(folder):
                done.set()

        thread = threading.Thread(target=again, daemon=True)
        thread.start()
        assert done.wait(10)
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_a_system_without_file_locks(source, monkeypatch, number):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert number(compiled(source, "float")) == 7
