from __future__ import annotations

import json
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikekit.datasets import BytePair, CharTokenizer, make_tokenizer, tokenizer_from_config
from spikekit.errors import InputError, MissingExtraError

TEXT = "To be, or not to be:\nthat is the question.\n" * 30


@pytest.fixture(scope="module")
def pairs():
    return BytePair.train(TEXT, 300)


@given(st.text(alphabet="Tobe, rnt:\n"))
def test_characters_come_back(text):
    made = CharTokenizer(TEXT)
    assert made.decode(made.encode(text)) == text
    assert made.encode(text).dtype == torch.int64


def test_a_character_that_was_never_seen_is_the_unknown_one():
    made = CharTokenizer("ab")
    assert (made.size, made.encode("aéb").tolist()) == (3, [1, 0, 2])
    assert made.decode([1, 0]) == "a\ufffd"


@given(st.text())
def test_byte_pairs_know_every_text(pairs, text):
    assert pairs.decode(pairs.encode(text)) == text


def test_byte_pairs_are_fewer_than_characters(pairs):
    assert 256 < pairs.size <= 300
    assert len(pairs.encode(TEXT)) < len(TEXT) / 2


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_a_tokeniser_is_plain_values(kind):
    made = make_tokenizer(kind, TEXT, None if kind == "char" else 280)
    again = tokenizer_from_config(json.loads(json.dumps(made.config())))
    assert torch.equal(made.encode("to be or not"), again.encode("to be or not"))
    assert made.size == again.size
    with pytest.raises(InputError, match=f"{made.size} is no token"):
        made.decode([made.size])


def test_mistakes_are_named():
    for call, message in (
        (lambda: make_tokenizer("word", TEXT), "unknown kind 'word'"),
        (lambda: make_tokenizer("bpe", TEXT), "needs its size"),
        (lambda: make_tokenizer("bpe", TEXT, 280.5), "a whole number of 256 or more"),
        (lambda: make_tokenizer("char", TEXT, 3), "leave size out"),
        (lambda: BytePair.train(TEXT, 100), "at least 256"),
        (lambda: CharTokenizer(""), "no characters"),
        (lambda: tokenizer_from_config({}), "describes no tokeniser"),
        (lambda: tokenizer_from_config({"kind": "bpe", "json": "{"}), "no tokeniser of the library"),
    ):
        with pytest.raises(InputError, match=message):
            call()


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'spikekit\[text\]'"):
        BytePair.train(TEXT, 300)
    with pytest.raises(MissingExtraError, match=r"spikekit\[text\]"):
        tokenizer_from_config({"kind": "bpe", "json": "{}"})
