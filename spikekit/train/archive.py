"""One file of tensors and JSON, written so that a reader finds the old file or the new one and never half of
one.

The file is a safetensors file; the JSON is in its header, so both are replaced by one rename. Nothing is
pickled.
"""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from spikekit.errors import CheckpointError
from spikekit.files import TEMPORARY, replacing

FORMAT = "spikekit-1"


def write_archive(path: Path, tensors: Mapping[str, Tensor], info: Mapping[str, Any]) -> None:
    """Replace the file at `path`, whose folder exists; on any failure the file that was there stays.

    tensors may live anywhere and share memory. info: plain JSON values. Raises CheckpointError.
    """
    try:
        text = json.dumps(info)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: what is to be stored is not plain JSON ({error})") from error
    flat = _detached(tensors)
    metadata = {"format": FORMAT, "info": text, "crc32": f"{_checksum(text, flat):08x}"}
    with replacing(path, CheckpointError, SafetensorError) as temporary:
        save_file(flat, temporary, metadata=metadata)
        _flush(temporary)
    _flush(path.parent)


def read_archive(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors, on the CPU, and the JSON of a file of `write_archive`; CheckpointError when damaged."""
    tensors: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt", device="cpu") as archive:
            metadata = archive.metadata() or {}
            for name in archive.keys():  # noqa: SIM118  (safe_open is not iterable)
                # The file is mapped into memory; a copy keeps the numbers when the file is replaced.
                tensors[name] = archive.get_tensor(name).clone()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a readable safetensors file, probably cut short or damaged ({error}). "
            "Use an older copy, or start again with resume=False (--fresh)"
        ) from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: its format is {metadata.get('format')!r}, this version of spikekit reads {FORMAT!r}. "
            "Foreign weights are loaded with safetensors.torch.load_file and net.load_state_dict"
        )
    text = metadata.get("info", "")
    if metadata.get("crc32") != f"{_checksum(text, tensors):08x}":
        raise CheckpointError(f"{path}: damaged, its checksum does not match its contents. Use an older copy")
    try:
        info = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{path}: its JSON header cannot be read ({error})") from error
    if not isinstance(info, dict):
        raise CheckpointError(f"{path}: its JSON header is a {type(info).__name__}, expected an object")
    return tensors, info


def remove_leftovers(path: Path) -> None:
    """Delete the temporary files that killed writers of `path` left behind."""
    for leftover in path.parent.glob(f".{path.name}.*{TEMPORARY}"):
        leftover.unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Create `folder` and a file in it, or raise CheckpointError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be written to ({error}). Choose another folder") from error


def _detached(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    flat, seen = {}, set()
    for name, tensor in tensors.items():
        # The format stores dense tensors of separate memory; tied weights are stored twice.
        one = tensor.detach().to("cpu").contiguous()
        address = one.untyped_storage().data_ptr()
        if address in seen and one.numel():
            one = one.clone()
        seen.add(one.untyped_storage().data_ptr())
        flat[name] = one
    return flat


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> int:
    crc = zlib.crc32(text.encode())
    for name in sorted(tensors):
        crc = zlib.crc32(name.encode(), crc)
        tensor = tensors[name]
        if tensor.numel():
            crc = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy(), crc)  # type: ignore[arg-type]
    return crc


def _flush(path: str | Path) -> None:
    """Have the disk hold what was written, so that the rename cannot arrive before the contents."""
    if os.name == "nt" and Path(path).is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
