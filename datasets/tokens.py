"""Text to whole numbers and back: one a character, or one a piece of a byte-pair code (`tokenizers`, extra `text`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from spikekit.errors import InputError, require

UNKNOWN = "\ufffd"
"""Stands for a character that was not in the text a tokeniser was made from."""


class Tokenizer(Protocol):
    """What turns text into tokens."""

    @property
    def size(self) -> int:
        """Return the number of different tokens, V."""

    def encode(self, text: str) -> Tensor:
        """Return tokens, int64 [N]."""

    def decode(self, tokens: Tensor | Sequence[int]) -> str:
        """Return the text of tokens."""

    def config(self) -> dict[str, Any]:
        """Return plain values for a checkpoint; `tokenizer_from_config` is the inverse."""


class CharTokenizer:
    """One token a character. Token 0 is `UNKNOWN`, for every character that is not in `characters`."""

    def __init__(self, characters: str) -> None:
        chosen = sorted(set(characters) - {UNKNOWN})
        if not chosen:
            raise InputError("CharTokenizer: it was given no characters; pass the text to be learned")
        self._characters = [UNKNOWN, *chosen]
        self._index = {character: index for index, character in enumerate(self._characters)}

    @property
    def size(self) -> int:
        """Return the number of different tokens, `UNKNOWN` among them."""
        return len(self._characters)

    def encode(self, text: str) -> Tensor:
        """Return one token a character, int64 [N]."""
        return torch.tensor([self._index.get(character, 0) for character in text], dtype=torch.int64)

    def decode(self, tokens: Tensor | Sequence[int]) -> str:
        """Return the text; raises InputError for a number that is no token."""
        return "".join(self._characters[token] for token in _checked(tokens, self.size))

    def config(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        return {"kind": "char", "characters": "".join(self._characters[1:])}


class BytePair:
    """Byte-pair code over bytes: it knows every text, and joins what occurs together most often.

    Made by `BytePair.train`; the code itself is Hugging Face's `tokenizers`. Sennrich, Haddow, Birch, "Neural Machine
    Translation of Rare Words with Subword Units", ACL 2016. Raises MissingExtraError without `tokenizers`.
    """

    def __init__(self, text_of_json: str) -> None:
        library = require("tokenizers", "text")
        try:
            self._code = library.Tokenizer.from_str(text_of_json)
        # The library raises bare exceptions.
        except Exception as error:
            raise InputError(f"BytePair: this is no tokeniser of the library `tokenizers` ({error})") from error

    @classmethod
    def train(cls, text: str, size: int) -> BytePair:
        """Return a code of at most `size` tokens learned from `text`: 256, one a byte, and the commonest pairs."""
        if size < 256:
            raise InputError(f"BytePair: size must be at least 256, one token a byte; got {size}")
        library = require("tokenizers", "text")
        code = library.Tokenizer(library.models.BPE())
        code.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        code.decoder = library.decoders.ByteLevel()
        trainer = library.trainers.BpeTrainer(
            vocab_size=size,
            show_progress=False,
            initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
        )
        code.train_from_iterator(text.splitlines(keepends=True), trainer)
        return cls(code.to_str())

    @property
    def size(self) -> int:
        """Return the number of different tokens."""
        return int(self._code.get_vocab_size())

    def encode(self, text: str) -> Tensor:
        """Return tokens, int64 [N]."""
        return torch.tensor(self._code.encode(text).ids, dtype=torch.int64)

    def decode(self, tokens: Tensor | Sequence[int]) -> str:
        """Return the text; raises InputError for a number that is no token."""
        return str(self._code.decode(_checked(tokens, self.size), skip_special_tokens=False))

    def config(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        return {"kind": "bpe", "json": self._code.to_str()}


def make_tokenizer(kind: str, text: str, size: int | None = None) -> Tokenizer:
    """The tokeniser "char" or "bpe" for `text`; size: tokens of a byte-pair code. Raises InputError otherwise."""
    check_kind(kind, size)
    return CharTokenizer(text) if size is None else BytePair.train(text, size)


def check_kind(kind: str, size: Any) -> None:
    """Raise InputError for what `make_tokenizer` could not make of any text."""
    if kind not in ("char", "bpe"):
        raise InputError(f"tokens: unknown kind {kind!r}; choose 'char' or 'bpe'")
    if kind == "char" and size is not None:
        raise InputError("tokens: a character tokeniser takes as many as the text has; leave size out")
    if kind == "bpe" and (not isinstance(size, int) or isinstance(size, bool) or size < 256):
        raise InputError(
            f"tokens: a byte-pair code needs its size, a whole number of 256 or more, such as 2048; got {size!r}"
        )


def tokenizer_from_config(config: Mapping[str, Any]) -> Tokenizer:
    """The tokeniser of `config()`. Raises InputError when it describes none."""
    try:
        if config["kind"] == "char":
            return CharTokenizer(config["characters"])
        if config["kind"] == "bpe":
            return BytePair(config["json"])
        raise InputError(f"tokens: unknown kind {config['kind']!r}; choose 'char' or 'bpe'")
    except (KeyError, TypeError) as error:
        raise InputError(f"tokens: this describes no tokeniser ({error!r})") from error


def _checked(tokens: Tensor | Sequence[int], size: int) -> list[int]:
    numbers = [int(token) for token in (tokens.tolist() if isinstance(tokens, Tensor) else tokens)]
    if bad := [number for number in numbers if not 0 <= number < size]:
        raise InputError(f"decode: {bad[0]} is no token; they are 0 to {size - 1}")
    return numbers
