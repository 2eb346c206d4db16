"""Compiling: whatever machine, cache and environment are like, a library or one reason why there is none."""

from __future__ import annotations

import stat
import time

import pytest

from spikekit.native import compile
from spikekit.native.compile import CompileError, compiled


def test_compiled_once_and_found_again(source, tmp_path, compilations, number):
    first = compiled(source, "float")
    assert number(first) == 7
    assert compiled(source, "float") == first
    assert len(compilations) == 1
    assert first.compiler in ("cc", "gcc", "clang")
    assert "-ffp-contract=off" in first.flags
    assert 0 < first.seconds < 120
    folder = tmp_path / "cache" / "native"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name for path in folder.iterdir()} == {first.path.name, first.path.stem + ".json", "lock"}


def test_another_type_source_include_compiler_or_flag_is_another_library(source, tmp_path, monkeypatch, number):
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


def test_an_include_that_includes_is_followed(source, tmp_path, number):
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
def test_cc_of_several_words_or_none(source, monkeypatch, text, number):
    monkeypatch.setenv("CC", text)
    assert number(compiled(source, "float")) == 7


def test_a_compiler_that_hangs_is_stopped_at_once(source, tmp_path, monkeypatch, fake_compiler):
    monkeypatch.setattr(compile, "_TIMEOUT", 0.2)
    monkeypatch.setattr(compile, "_EXTRA_FLAGS", ((), (), ()))
    monkeypatch.setenv("CC", fake_compiler("exec sleep 20"))
    begin = time.perf_counter()
    with pytest.raises(CompileError, match="timed out"):
        compiled(source, "float")
    assert time.perf_counter() - begin < 10
    assert not list((tmp_path / "cache" / "native").glob("scratch-*"))


def test_flags_that_this_compiler_does_not_know_are_left_out(source, monkeypatch, number):
    monkeypatch.setattr(compile, "_EXTRA_FLAGS", (("-march=nonsense", "-fopenmp"), ("-O2",), ()))
    made = compiled(source, "float")
    assert number(made) == 7
    assert made.flags.endswith("-O2")
    source.write_text("nonsense")
    with pytest.raises(CompileError, match=r"number\.c:1:1: error"):
        compiled(source, "float")


def test_an_error_in_the_middle_leaves_nothing(source, tmp_path, monkeypatch, number):
    def stop(command):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(compile, "_run", stop)
        with pytest.raises(KeyboardInterrupt):
            compiled(source, "float")
    assert {path.name for path in (tmp_path / "cache" / "native").iterdir()} == {"lock"}
    assert number(compiled(source, "float")) == 7
