"""Downloads: only the published archive, only over https, only inside its folder. No network is used."""

from __future__ import annotations

import hashlib
import io
import urllib.error
import zipfile

import pytest

from spikekit.datasets import NMNIST, nmnist
from spikekit.datasets.archive import fetch_folder
from spikekit.errors import EventError, InputError

URL = "https://example.org/train.zip"


def zipped(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


class Response(io.BytesIO):
    url = URL

    def geturl(self):
        return self.url


def fetch(folder, content, *, md5=None, url=URL, max_bytes=10_000):
    def open_url(request, timeout):
        response = Response(content)
        response.url = url
        return response

    md5 = md5 or hashlib.md5(content).hexdigest()
    fetch_folder(URL, folder, md5=md5, suffix=".bin", max_bytes=max_bytes, open_url=open_url)


def test_the_folder_appears_with_its_files_and_nothing_else(tmp_path):
    content = zipped({"Train/0/1.bin": b"one", "Train/notes.txt": b"no", "Other/0/2.bin": b"no"})
    fetch(tmp_path / "data/Train", content)
    files = [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*")) if p.is_file()]
    assert files == ["data/Train/0/1.bin"]
    assert (tmp_path / "data/Train/0/1.bin").read_bytes() == b"one"


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"<html>quota exceeded</html>", {"md5": "0" * 32}, "expected 0000"),
        (b"<html>quota exceeded</html>", {}, "not a sound zip archive"),
        (zipped({"Train/0/1.bin": b"x"}), {"url": "http://example.org/train.zip"}, "not https"),
        (b"x" * 20_000, {}, "larger than 10000 bytes"),
        (zipped({"Train/0/1.bin": b"0" * 20_000}), {}, "unpacks to 20000 bytes"),
        (zipped({"Train/../../evil.bin": b"x"}), {}, "leads outside"),
        (zipped({"/evil.bin": b"x"}), {}, "leads outside"),
        (zipped({"Train/..\\..\\evil.bin": b"x"}), {}, "leads outside"),
        (zipped({"Other/1.bin": b"x"}), {}, "holds no Train/"),
    ],
)
def test_anything_else_is_refused_and_leaves_nothing(tmp_path, content, options, message):
    folder = tmp_path / "data/Train"
    with pytest.raises(EventError, match=message):
        fetch(folder, content, **options)
    assert list(folder.parent.iterdir()) == []
    assert not list(tmp_path.rglob("*evil*"))


def test_no_network_and_no_folder_say_what_to_do(tmp_path):
    def offline(request, timeout):
        raise urllib.error.URLError("no route to host")

    options = {"md5": "", "suffix": ".bin", "max_bytes": 1, "open_url": offline}
    with pytest.raises(InputError, match=r"no route to host.*by hand"):
        fetch_folder(URL, tmp_path / "Train", **options)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="SPIKEKIT_DATA"):
        fetch_folder(URL, tmp_path / "file" / "Train", **options)


def test_nmnist_downloads_the_missing_split_only(partial_nmnist, monkeypatch):
    asked = []

    def publish(url, folder, **options):
        asked.append((url, folder.name, options["md5"]))
        (folder / "3").mkdir(parents=True)
        (folder / "3/00001.bin").write_bytes(bytes(5))

    monkeypatch.setattr(nmnist, "fetch_folder", publish)
    (partial_nmnist / "NMNIST/Test/7/00001.bin").unlink()
    assert NMNIST("all", root=partial_nmnist, download=True).labels.tolist()[-2:] == [4, 3]
    [(url, folder, md5)] = asked
    assert url.startswith("https://")
    assert (folder, len(md5)) == ("Test", 32)
