from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikekit.datasets import TokenStreams, read_corpus
from spikekit.errors import InputError


@pytest.fixture
def home(tmp_path):
    plays = "".join(chr(97 + i % 26) for i in range(1000))
    for path, text in {
        "tinyshakespeare/input.txt": plays,
        "wikitext-2/valid.txt": " seen <unk> \n" * 20,
        "wikitext-2/test.txt": " tested é \r\n" * 20,
    }.items():
        file = tmp_path / "text" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode())
    return tmp_path


def test_shakespeare_is_split_in_order(home):
    corpus = read_corpus("tinyshakespeare", home)
    assert [len(part) for part in (corpus.train, corpus.valid, corpus.test)] == [900, 50, 50]
    assert corpus.train + corpus.valid + corpus.test == (home / "text/tinyshakespeare/input.txt").read_text()
    assert "90 %" in corpus.split


def test_wikitext_never_trains_on_its_test(home, monkeypatch):
    monkeypatch.setenv("SPIKEKIT_DATA", str(home))
    corpus = read_corpus("wikitext-2")
    assert corpus.train + corpus.valid == " seen <unk> \n" * 20
    assert len(corpus.valid) == 26
    assert corpus.test == " tested é \r\n" * 20
    assert "The official training split is not used" in corpus.split


def test_what_is_missing_or_damaged_is_named(home):
    with pytest.raises(InputError, match="unknown text 'shakespear'; choose one of tinyshakespeare, wikitext-2"):
        read_corpus("shakespear", home)
    file = home / "text/tinyshakespeare/input.txt"
    file.write_bytes(b"\xff" * 200)
    with pytest.raises(InputError, match=r"input\.txt is no UTF-8 text"):
        read_corpus("tinyshakespeare", home)
    file.write_bytes(b"short")
    with pytest.raises(InputError, match="5 characters: it was cut short"):
        read_corpus("tinyshakespeare", home)
    file.unlink()
    with pytest.raises(InputError, match=r"input\.txt is not there. Set SPIKEKIT_DATA"):
        read_corpus("tinyshakespeare", home)


@given(st.integers(2, 60), st.integers(1, 7), st.integers(1, 9))
def test_streams_are_contiguous(count, batch, steps):
    tokens = torch.arange(count)
    if (count - 1) // batch < 1:
        with pytest.raises(InputError, match="too few"):
            TokenStreams(tokens, batch, steps)
        return
    streams = TokenStreams(tokens, batch, steps)
    pieces = list(streams)
    assert len(pieces) == len(streams)
    x, y = (torch.cat([piece[i] for piece in pieces]) for i in (0, 1))
    assert torch.equal(y, x + 1)
    assert torch.equal(x[1:], y[:-1])
    assert torch.equal(x.t().flatten(), torch.arange(streams.length * batch))
    assert all(len(piece[0]) == steps for piece in pieces[:-1])


def test_streams_refuse_what_is_no_text():
    with pytest.raises(InputError, match=r"int64 \[N\], got torch.float32"):
        TokenStreams(torch.rand(9), 2, 2)
    with pytest.raises(InputError, match="batch and steps must be at least 1"):
        TokenStreams(torch.arange(9), 0, 2)
    with pytest.raises(IndexError):
        TokenStreams(torch.arange(9), 2, 2)[2]
