"""Text as it is read: two corpora of plain files, and contiguous streams of tokens for training with carried state.

tinyshakespeare: A. Karpathy's char-rnn, 1,115,394 characters of Shakespeare's plays (public domain).
WikiText-2: Merity, Xiong, Bradbury, Socher, "Pointer Sentinel Mixture Models", 2016 (CC BY-SA).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from spikekit.datasets.home import data_home
from spikekit.errors import InputError

CORPORA: Final = ("tinyshakespeare", "wikitext-2")
"""The names that `read_corpus` knows."""

_SPLITS: Final = {
    "tinyshakespeare": "the first 90 % of the characters are trained on, the next 5 % judged on, the last 5 % the test",
    "wikitext-2": "trained on the official validation split but its last 10 %, on which is judged; tested on the "
    "official test split. The official training split is not used: figures do not compare with the literature's",
}


@dataclass(frozen=True)
class Corpus:
    """A text in three parts.

    name: as a figure's caption should say it. split: what the parts are, in words. train: what is learned; valid: what
    settings are chosen on; test: for one look, at the end.
    """

    name: str
    split: str
    train: str
    valid: str
    test: str


def read_corpus(name: str, root: str | os.PathLike[str] | None = None) -> Corpus:
    """The corpus "tinyshakespeare" or "wikitext-2"; `Corpus.split` says what is trained on.

    root: the folder that holds `text/`; None means `data_home()`. The files are `text/tinyshakespeare/input.txt`, and
    `text/wikitext-2/valid.txt` and `test.txt`. Raises InputError for an unknown name and naming a file that is missing
    or no UTF-8 text.
    """
    if name not in CORPORA:
        raise InputError(f"read_corpus: unknown text {name!r}; choose one of {', '.join(CORPORA)}")
    folder = (data_home() if root is None else Path(root).expanduser().absolute()) / "text" / name
    if name == "tinyshakespeare":
        text = _read(folder / "input.txt", name)
        first, second = len(text) * 90 // 100, len(text) * 95 // 100
        return Corpus(name, _SPLITS[name], text[:first], text[first:second], text[second:])
    seen = _read(folder / "valid.txt", name)
    cut = len(seen) * 90 // 100
    return Corpus("WikiText-2", _SPLITS[name], seen[:cut], seen[cut:], _read(folder / "test.txt", name))


def _read(path: Path, name: str) -> str:
    try:
        # As the bytes are: no line ending is changed, since each character counts in bits per character.
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError as error:
        raise InputError(
            f"{name}: {path} is not there. Set SPIKEKIT_DATA (or root=) to the folder that holds text/{name}."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no UTF-8 text ({error}). Fetch it again.") from error
    if len(text) < 100:
        raise InputError(f"{path} holds {len(text)} characters: it was cut short. Fetch it again.")
    return text


class TokenStreams:
    """A text as B streams that are read side by side, T tokens at a time, each from its start to its end.

    Piece i is (x, y), both int64 [T, B]: y is the token after x. Piece i + 1 goes on where piece i ended, so that
    the state of `sk.run` is carried from one to the next. The last piece may be shorter; what is left of N tokens after
    B equal streams, fewer than B, is not read.

    tokens: int64 [N]. Raises InputError unless there are at least two tokens a stream.
    """

    def __init__(self, tokens: Tensor, batch: int, steps: int) -> None:
        if tokens.ndim != 1 or tokens.dtype != torch.int64:
            raise InputError(f"TokenStreams: tokens must be int64 [N], got {tokens.dtype} {list(tokens.shape)}")
        if batch < 1 or steps < 1:
            raise InputError(f"TokenStreams: batch and steps must be at least 1, got {batch} and {steps}")
        length = (len(tokens) - 1) // batch
        if length < 1:
            raise InputError(f"TokenStreams: {len(tokens)} tokens are too few for {batch} streams; lower batch")
        used = length * batch
        self._x = tokens[:used].view(batch, length).t()
        self._y = tokens[1 : used + 1].view(batch, length).t()
        self.batch, self.steps, self.length = batch, steps, length

    def __len__(self) -> int:
        """Return the number of pieces."""
        return -(-self.length // self.steps)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return piece `index`, contiguous."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        at = slice(index * self.steps, (index + 1) * self.steps)
        return self._x[at].contiguous(), self._y[at].contiguous()

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return (self[index] for index in range(len(self)))
