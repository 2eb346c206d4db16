"""From C source to a shared library, compiled once for each source, processor, compiler and set of flags.

A source needs nothing but a C compiler: no header of torch or Python, so no ABI ties it to a version of either, and it
compiles in seconds. Each operation has its own library for each floating type, with the same function names.
CC names another compiler, SPIKEKIT_CFLAGS adds flags after all others.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikekit.native import cache

_PACKAGE = Path(__file__).parents[1]
_FLAGS = ("-std=gnu11", "-O3", "-fPIC", "-shared", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
# Tried in this order: a compiler without OpenMP, or one that does not know this processor, still serves.
_EXTRA_FLAGS = (("-march=native", "-fopenmp"), ("-mcpu=native", "-fopenmp"), ("-march=native",), ("-fopenmp",), ())
_COMPILERS = ("cc", "gcc", "clang")
_TIMEOUT = 120.0


class CompileError(Exception):
    """Why there is no library; the text is for `spikekit doctor`."""


@dataclass(frozen=True)
class Compiled:
    """A library as it lies in the cache: what made it, and how long that took."""

    path: Path
    compiler: str
    flags: str
    seconds: float


def compiled(source: Path, real: str) -> Compiled:
    """The library of one C file for `real` ("float" or "double"), compiled if the cache does not hold it.

    Raises CompileError.
    """
    compiler, more = _words("CC") or _found(), _words("SPIKEKIT_CFLAGS")
    try:
        folder = cache.folder()
        target = folder / f"{source.stem}-{real}-{_key(source, compiler, more, real)}.so"
        about = cache.note(target)
        if about is None:
            with cache.locked(folder):
                # Another process may have been first.
                about = cache.note(target)
                if about is None:
                    about = _compile(source, compiler, more, real, target)
    except OSError as error:
        raise CompileError(
            f"no cache for compiled kernels: {error}; set SPIKEKIT_CACHE to a folder of yours"
        ) from error
    return Compiled(target, str(about["compiler"]), str(about["flags"]), float(about["seconds"]))


def _words(variable: str) -> list[str]:
    try:
        return shlex.split(os.environ.get(variable, ""))
    except ValueError as error:
        raise CompileError(f"${variable} cannot be read: {error}") from error


def _found() -> list[str]:
    compiler = next((name for name in _COMPILERS if shutil.which(name)), None)
    if compiler is None:
        raise CompileError("no C compiler (cc, gcc or clang) on PATH")
    return [compiler]


def _key(source: Path, compiler: Sequence[str], more: Sequence[str], real: str) -> str:
    facts = (real, _FLAGS, _EXTRA_FLAGS, [_identity(word) for word in compiler], more, _processor())
    digest = hashlib.sha256(repr(facts).encode())
    for text in _texts(source, set()):
        digest.update(text)
    return digest.hexdigest()[:24]


def _texts(source: Path, seen: set[Path]) -> list[bytes]:
    """The source and all it includes by a name in quotes."""
    seen.add(source)
    text = source.read_bytes()
    texts = [text]
    for name in re.findall(rb'^\s*#\s*include\s*"([^"]+)"', text, re.MULTILINE):
        places = (folder / os.fsdecode(name) for folder in (source.parent, _PACKAGE))
        path = next((place for place in places if place.is_file()), None)
        if path is not None and path not in seen:
            texts += _texts(path, seen)
    return texts


def _identity(word: str) -> object:
    """Path, size and date of a program on the compiler's command line: an upgrade makes libraries anew."""
    found = shutil.which(word)
    if found is None:
        return word
    status = Path(found).resolve().stat()
    return found, status.st_size, status.st_mtime


@functools.cache
def _processor() -> str:
    """What -march=native depends on: a home folder may be shared between machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("model name", "flags", "Features", "CPU part")
    return platform.machine() + "".join(sorted({line for line in lines if line.startswith(wanted)}))


def _compile(source: Path, compiler: Sequence[str], more: Sequence[str], real: str, target: Path) -> dict[str, Any]:
    begin = time.perf_counter()
    with cache.scratch(target.parent) as scratch:
        output = scratch / target.name
        complaint = ""
        for extra in _EXTRA_FLAGS:
            flags = [*_FLAGS, *extra, *more]
            files = [f"-DREAL={real}", f"-I{_PACKAGE}", str(source), "-lm", "-o", str(output)]
            complaint = _run([*compiler, *flags, *files])
            if not complaint and not output.is_file():
                complaint = "it wrote no library"
            if not complaint:
                seconds = time.perf_counter() - begin
                about = {"compiler": shlex.join(compiler), "flags": shlex.join(flags), "seconds": round(seconds, 2)}
                cache.put(output, target, about)
                return about
    raise CompileError(f"{shlex.join(compiler)} failed: {complaint}")


def _run(command: Sequence[str]) -> str:
    """The line that says why the compiler failed, or nothing when it did not."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        # Other flags would meet the same.
        raise CompileError(f"{command[0]} failed: {error}") from error
    if done.returncode == 0:
        return ""
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return next((line for line in lines if "error" in line), lines[0])
