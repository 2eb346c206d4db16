"""What the tests of compiling and of its cache share: a source of their own, a cache of their own, compilers."""

from __future__ import annotations

import ctypes

import pytest

from spikekit.native import compile


@pytest.fixture
def clean(tmp_path, monkeypatch):
    """An empty cache, and nothing set in the environment."""
    monkeypatch.setenv("SPIKEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("SPIKEKIT_CFLAGS", raising=False)
    # One attempt is enough here.
    monkeypatch.setattr(compile, "_EXTRA_FLAGS", ((),))


@pytest.fixture
def source(clean, tmp_path):
    """A C file with one function, that reads its number from an include."""
    source = tmp_path / "number.c"
    source.write_text('#include "number.h"\nREAL number(void) { return NUMBER; }\n')
    (tmp_path / "number.h").write_text("#define NUMBER 7\n")
    return source


@pytest.fixture
def number():
    """What the function in a library returns."""

    def call(library):
        function = ctypes.CDLL(str(library.path)).number
        function.restype = ctypes.c_float
        return function()

    return call


@pytest.fixture
def fake_compiler(tmp_path):
    """Makes a program in the compiler's place of the lines of a shell script."""

    def make(body):
        script = tmp_path / "fakecc"
        script.write_text(f"#!/bin/sh\n{body}\n")
        script.chmod(0o755)
        return str(script)

    return make


@pytest.fixture
def compilations(monkeypatch):
    """A list that grows with every run of a compiler."""
    runs, run = [], compile._run
    monkeypatch.setattr(compile, "_run", lambda command: runs.append(command) or run(command))
    return runs
