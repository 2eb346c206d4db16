"""From C source to a shared library in a private cache, once for each source, processor, compiler and set of flags.

A source needs nothing but a C compiler: no header of torch or Python, so no ABI ties it to a version of either, and it
compiles in a second. Each operation has its own library for each floating type, with the same function names.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_FLAGS = ("-std=gnu11", "-O3", "-fPIC", "-shared", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
# Tried in this order: a compiler without OpenMP, or one that does not know this processor, still serves.
_EXTRA_FLAGS = (("-march=native", "-fopenmp"), ("-mcpu=native", "-fopenmp"), ("-march=native",), ("-fopenmp",), ())
_COMPILERS = ("cc", "gcc", "clang")
_TIMEOUT = 120.0


class CompileError(Exception):
    """Why there is no library; the text is for `spikekit doctor`."""


def compiled(source: Path, real: str) -> Path:
    """The library of one C file for `real` ("float" or "double"), compiled if the cache does not hold it.

    Raises CompileError.
    """
    compiler = os.environ.get("CC") or next((c for c in _COMPILERS if shutil.which(c)), None)
    if compiler is None:
        raise CompileError("no C compiler (cc, gcc or clang) on PATH")
    folder = _private(_cache())
    target = folder / f"{source.stem}-{real}-{_key(source, compiler, real)}.so"
    if not target.exists():
        with _lock(folder):
            # Another process may have been first.
            if not target.exists():
                _compile(source, compiler, real, target)
    return target


def _cache() -> Path:
    cache = os.environ.get("SPIKEKIT_CACHE")
    return (Path(cache) if cache else Path.home() / ".cache" / "spikekit") / "native"


def _private(folder: Path) -> Path:
    """The folder, made if need be. What is loaded from it runs as this user: nobody else may write there."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except (OSError, RuntimeError) as error:
        raise CompileError(f"{folder} cannot be made ({error}); set SPIKEKIT_CACHE to a folder of your own") from error
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        raise CompileError(f"{folder} can be written by other users; chmod 700 it, or set SPIKEKIT_CACHE elsewhere")
    return folder


def _key(source: Path, compiler: str, real: str) -> str:
    digest = hashlib.sha256(repr((real, _FLAGS, _EXTRA_FLAGS, _identity(compiler), _processor())).encode())
    for path in (source, *sorted(Path(__file__).parent.glob("*.h"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:24]


def _identity(compiler: str) -> object:
    """Path, size and date of the compiler: an upgrade makes libraries anew."""
    found = shutil.which(compiler)
    if found is None:
        return compiler
    status = Path(found).resolve().stat()
    return found, status.st_size, status.st_mtime


def _processor() -> str:
    """What -march=native depends on: a home folder may be shared between machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("model name", "flags", "Features", "CPU part")
    return platform.machine() + "".join(sorted({line for line in lines if line.startswith(wanted)}))


class _lock:
    """One compilation at a time in a folder, where the system knows file locks; elsewhere the rename decides."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lock"

    def __enter__(self) -> None:
        try:
            import fcntl

            self._file = self._path.open("w")
            fcntl.flock(self._file, fcntl.LOCK_EX)
        except ImportError:
            return
        except OSError as error:
            raise CompileError(f"{self._path.parent} cannot be written ({error}); set SPIKEKIT_CACHE") from error

    def __exit__(self, *error: object) -> None:
        if hasattr(self, "_file"):
            self._file.close()


def _compile(source: Path, compiler: str, real: str, target: Path) -> None:
    try:
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            output = Path(scratch) / "kernels.so"
            last = ""
            for extra in _EXTRA_FLAGS:
                options = [*_FLAGS, *extra, f"-DREAL={real}", f"-I{_PACKAGE}"]
                command = [*shlex.split(compiler), *options, str(source), "-lm", "-o", str(output)]
                last = _run(command)
                if not last:
                    os.replace(output, target)
                    return
    except OSError as error:
        raise CompileError(f"{target.parent} cannot be written ({error}); set SPIKEKIT_CACHE") from error
    raise CompileError(f"{compiler} failed: {last}")


def _run(command: Sequence[str]) -> str:
    """The last line of what the compiler says when it fails, or nothing when it does not."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return ""
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[0]
