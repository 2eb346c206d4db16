"""Fetch a published archive and unpack it without trusting it.

HTTPS all the way, a size limit, the publisher's checksum before anything is opened, no member outside the
target folder, and a finished folder that appears by one rename or not at all.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from spikekit.errors import EventError, InputError

_CHUNK = 1 << 20


def fetch_folder(
    url: str,
    folder: Path,
    *,
    md5: str,
    suffix: str,
    max_bytes: int,
    open_url: Callable[..., Any] = urllib.request.urlopen,
) -> None:
    """Make `folder` from the folder of that name in the zip at `url`, with the files that end in `suffix`.

    max_bytes limits the archive and, apart, what it unpacks to. md5 is the checksum that the publisher
    gives: it guards against a page saved as data and a transfer cut short, HTTPS guards against the rest.
    Raises EventError for an archive that is not the published one, InputError where the network or the
    folder cannot be used.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Inside the parent: a rename across disks is a copy, and could be seen half done.
        with tempfile.TemporaryDirectory(prefix=".download-", dir=folder.parent) as work:
            archive = Path(work) / "archive.zip"
            _download(url, archive, md5, max_bytes, open_url)
            unpack_folder(archive, Path(work) / "out", folder.name, suffix=suffix, max_bytes=max_bytes)
            os.replace(Path(work) / "out", folder)
    except (urllib.error.URLError, OSError) as error:
        raise InputError(
            f"could not download {url} into {folder.parent}: {error}. Fetch and unpack it by hand so that "
            f"{folder} holds its files, or set SPIKEKIT_DATA to a folder that can be written."
        ) from error


def _download(url: str, target: Path, md5: str, max_bytes: int, open_url: Callable[..., Any]) -> None:
    digest, size = hashlib.md5(usedforsecurity=False), 0
    request = urllib.request.Request(url, headers={"User-Agent": "spikekit"})
    with open_url(request, timeout=60) as response, target.open("wb") as file:
        if not response.geturl().startswith("https://"):
            raise EventError(f"{url} led to {response.geturl()}, which is not https: refused.")
        while chunk := response.read(_CHUNK):
            size += len(chunk)
            if size > max_bytes:
                raise EventError(f"{url} is larger than {max_bytes} bytes: not the published archive, refused.")
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != md5:
        raise EventError(
            f"{url} gave {size} bytes with md5 {digest.hexdigest()}, expected {md5}: cut short, a web page "
            "or another version. Try again, or fetch it by hand and look at it."
        )


def unpack_folder(archive: Path, target: Path, member_folder: str, *, suffix: str, max_bytes: int) -> None:
    """Unpack `member_folder`/**/*`suffix` of a zip as `target`/**; refuse any path that leads out of it."""
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = [m for m in zipped.infolist() if not m.is_dir() and m.filename.endswith(suffix)]
            if (total := sum(m.file_size for m in members)) > max_bytes:
                raise EventError(f"{archive.name} unpacks to {total} bytes, more than {max_bytes}: refused.")
            # A link in the archive cannot lead out either: its content is written as a plain file.
            for member in members:
                parts = PurePosixPath(member.filename.replace("\\", "/")).parts
                if ".." in parts or parts[0] == "/" or ":" in parts[0]:
                    raise EventError(f"{archive.name} holds {member.filename!r}, which leads outside it: refused.")
                if parts[0] != member_folder:
                    continue
                path = target.joinpath(*parts[1:])
                path.parent.mkdir(parents=True, exist_ok=True)
                with zipped.open(member) as source, path.open("wb") as file:
                    shutil.copyfileobj(source, file, _CHUNK)
    except zipfile.BadZipFile as error:
        raise EventError(f"{archive.name} is not a sound zip archive: {error}. Download it again.") from error
    if not target.is_dir():
        raise EventError(f"{archive.name} holds no {member_folder}/**/*{suffix}: not the published archive.")
