"""Compiling: whatever machine, cache and environment are like, a library or one reason why there is none."""

from __future__ import annotations

import ctypes
import json
import os
import stat
import sys
import threading
import time
from pathlib import Path

import pytest

from spikekit.native import cache, compile
from spikekit.native.compile import CompileError, compiled

ROOT = hasattr(os, "getuid") and os.getuid() == 0


@pytest.fixture(autouse=True)
def clean(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("SPIKEKIT_CFLAGS", raising=False)
    # One attempt is enough here.
    monkeypatch.setattr(compile, "_EXTRA_FLAGS", ((),))


@pytest.fixture
def source(tmp_path):
    source = tmp_path / "number.c"
    source.write_text('#include "number.h"\nREAL number(void) { return NUMBER; }\n')
    (tmp_path / "number.h").write_text("#define NUMBER 7\n")
    return source


def number(library):
    function = ctypes.CDLL(str(library.path)).number
    function.restype = ctypes.c_float
    return function()


def fake_compiler(folder, body):
    """A program in the compiler's place."""
    script = folder / "fakecc"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    return str(script)


def compilations(monkeypatch):
    """A list that grows with every run of a compiler."""
    runs, run = [], compile._run
    monkeypatch.setattr(compile, "_run", lambda command: runs.append(command) or run(command))
    return runs


def test_compiled_once_and_found_again(source, tmp_path, monkeypatch):
    runs = compilations(monkeypatch)
    first = compiled(source, "float")
    assert number(first) == 7
    assert compiled(source, "float") == first
    assert len(runs) == 1
    assert first.compiler in ("cc", "gcc", "clang")
    assert "-ffp-contract=off" in first.flags
    assert 0 < first.seconds < 120
    folder = tmp_path / "cache" / "native"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name for path in folder.iterdir()} == {first.path.name, first.path.stem + ".json", "lock"}


def test_another_type_source_include_compiler_or_flag_is_another_library(source, tmp_path, monkeypatch):
    seen = {compiled(source, "float").path, compiled(source, "double").path}
    (tmp_path / "number.h").write_text("#define NUMBER 8\n")
    changed = compiled(source, "float")
    assert number(changed) == 8
    seen.add(changed.path)
    source.write_text(source.read_text() + "\n")
    seen.add(compiled(source, "float").path)
    monkeypatch.setenv("SPIKEKIT_CFLAGS", "-UNUMBER '-DOTHER=a b'")
    flagged = compiled(source, "float")
    assert flagged.flags.endswith("-UNUMBER '-DOTHER=a b'")
    seen.add(flagged.path)
    monkeypatch.setenv("CC", "gcc")
    seen.add(compiled(source, "float").path)
    assert len(seen) == 6


def test_an_include_that_includes_is_followed(source, tmp_path):
    (tmp_path / "number.h").write_text('#include "deeper.h"\n#include "number.h"\n#define NUMBER DEEPER\n')
    (tmp_path / "deeper.h").write_text("#define DEEPER 3\n")
    with pytest.raises(CompileError, match=r"nested too deeply|depth"):
        compiled(source, "float")
    (tmp_path / "number.h").write_text('#include "deeper.h"\n#define NUMBER DEEPER\n')
    first = compiled(source, "float")
    (tmp_path / "deeper.h").write_text("#define DEEPER 4\n")
    assert (number(first), number(compiled(source, "float"))) == (3, 4)


def test_no_compiler(source, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CompileError, match=r"no C compiler \(cc, gcc or clang\) on PATH"):
        compiled(source, "float")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense-cc", "nonsense-cc failed: .*No such file"),
        ("gcc 'x", r"\$CC cannot be read: No closing quotation"),
        ("true", "true failed: it wrote no library"),
        ("false", "false failed: exit code 1"),
        ("gcc --nonsense", "gcc --nonsense failed: .*error: unrecognized command"),
    ],
)
def test_cc_set_to_what_is_no_compiler(source, tmp_path, monkeypatch, text, message):
    monkeypatch.setenv("CC", text)
    with pytest.raises(CompileError, match=message):
        compiled(source, "float")
    assert not list((tmp_path / "cache" / "native").glob("*.so"))
    assert not list((tmp_path / "cache" / "native").glob("scratch-*"))


@pytest.mark.parametrize("text", ["", "  ", "env gcc", "gcc -pipe"])
def test_cc_of_several_words_or_none(source, monkeypatch, text):
    monkeypatch.setenv("CC", text)
    assert number(compiled(source, "float")) == 7


def test_a_compiler_that_hangs_is_stopped_at_once(source, tmp_path, monkeypatch):
    monkeypatch.setattr(compile, "_TIMEOUT", 0.2)
    monkeypatch.setattr(compile, "_EXTRA_FLAGS", ((), (), ()))
    monkeypatch.setenv("CC", fake_compiler(tmp_path, "exec sleep 20"))
    begin = time.perf_counter()
    with pytest.raises(CompileError, match="timed out"):
        compiled(source, "float")
    assert time.perf_counter() - begin < 10
    assert not list((tmp_path / "cache" / "native").glob("scratch-*"))


def test_flags_that_this_compiler_does_not_know_are_left_out(source, monkeypatch):
    monkeypatch.setattr(compile, "_EXTRA_FLAGS", (("-march=nonsense", "-fopenmp"), ("-O2",), ()))
    made = compiled(source, "float")
    assert number(made) == 7
    assert made.flags.endswith("-O2")
    source.write_text("nonsense")
    with pytest.raises(CompileError, match=r"number\.c:1:1: error"):
        compiled(source, "float")


def test_an_error_in_the_middle_leaves_nothing(source, tmp_path, monkeypatch):
    def stop(command):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(compile, "_run", stop)
        with pytest.raises(KeyboardInterrupt):
            compiled(source, "float")
    assert {path.name for path in (tmp_path / "cache" / "native").iterdir()} == {"lock"}
    assert number(compiled(source, "float")) == 7


def test_what_a_killed_process_left_is_cleared(source, tmp_path):
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
def test_a_damaged_library_is_made_again(source, monkeypatch, damage):
    made = compiled(source, "float")
    whole = made.path.read_bytes()
    damage(made.path)
    runs = compilations(monkeypatch)
    assert compiled(source, "float").path == made.path
    assert len(runs) == 1
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


def test_a_tilde_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SPIKEKIT_CACHE", "~/kept")
    assert cache.folder() == tmp_path / "kept" / "native"


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_cache_that_others_may_write_is_refused(source, tmp_path, mode):
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


def test_a_read_only_cache_serves_what_it_holds(source, monkeypatch):
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


def test_several_at_once_compile_once(source, tmp_path, monkeypatch):
    """Threads here; the lock is one of files, so processes meet it in the same way (tests/native/test_library.py)."""
    pytest.importorskip("fcntl")
    (tmp_path / "count").mkdir()
    monkeypatch.setenv(
        "CC", fake_compiler(tmp_path, f'mktemp -p {tmp_path}/count >/dev/null; sleep 0.3; exec gcc "$@"')
    )
    numbers = []
    threads = [threading.Thread(target=lambda: numbers.append(number(compiled(source, "float")))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert numbers == [7] * 4
    assert len(list((tmp_path / "count").iterdir())) == 1


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_the_lock_is_let_go_although_a_forked_process_has_the_file(tmp_path):
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


def test_a_system_without_file_locks(source, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert number(compiled(source, "float")) == 7
