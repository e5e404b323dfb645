"""Every kind of text and of array gets in, and comes out as it should."""

from __future__ import annotations

import array
import pathlib

import finermoe
import numpy as np
import pytest

from conftest import ANSWER, MOE, PROMPT


@pytest.mark.parametrize("text", ["", "A ship", "naïve 日本 😀", "before\0after", "\uffff", "x" * 70000])
def test_text_goes_through(model: finermoe.Model, text: str) -> None:
    tokenizer = model.tokenizer
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.encode(text.encode()) == ids == tokenizer.encode(bytearray(text.encode()))
    assert tokenizer.count(text) == len(ids)


def test_surrogates(model: finermoe.Model) -> None:
    tokenizer = model.tokenizer
    assert tokenizer.encode("a\ud83db") == tokenizer.encode("a\ufffdb")
    assert tokenizer.encode("\ude00\ud83d") == tokenizer.encode("\ufffd\ufffd")
    assert tokenizer.encode("a\ud83d\ude00b") == tokenizer.encode("a😀b")  # two halves in a str are one character


def test_bytes_that_are_no_text(model: finermoe.Model) -> None:
    ids = model.tokenizer.encode(b"a\xff\xfeb")
    assert model.tokenizer.decode(ids) == "a\ufffd\ufffdb"


def test_names_and_paths(model: finermoe.Model) -> None:
    with pytest.raises(ValueError, match="NUL"):
        finermoe.Chat().add("user\0", "text")
    with pytest.raises(ValueError):
        finermoe.Model("a\0b")
    assert finermoe.Tokenizer(str(MOE)).encode("A ship") == finermoe.Tokenizer(pathlib.Path(MOE)).encode("A ship")
    with pytest.raises(TypeError):
        finermoe.Model(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [
    list, tuple, np.array, lambda ids: np.array(ids, np.int32), lambda ids: array.array("i", ids),
    lambda ids: np.repeat(np.array(ids, np.int32), 2)[::2], lambda ids: np.array(ids, ">i4"),
    lambda ids: memoryview(array.array("i", ids))])
def test_ids_come_as_any_sequence(model: finermoe.Model, make: object) -> None:
    session = model.session()
    session.append(make(PROMPT))  # type: ignore[operator]
    assert session.tokens == PROMPT
    assert session.generate([], max_tokens=30).text() == ANSWER


@pytest.mark.parametrize("ids, error", [
    ([1.5], TypeError), (["1"], TypeError), (None, TypeError), ([2**31], OverflowError),
    (np.array([2**40]), OverflowError), ([[1]], TypeError), (np.array([1.0], np.float32), TypeError)])
def test_ids_that_are_none(model: finermoe.Model, ids: object, error: type[Exception]) -> None:
    session = model.session()
    with pytest.raises(error):
        session.append(ids)  # type: ignore[call-overload]
    assert session.length == 0


def test_logits_are_filled_in_place(model: finermoe.Model) -> None:
    session = model.session()
    rows = session.append(PROMPT, logits="all")
    assert rows.shape == (len(PROMPT), model.config.vocab_size) and rows.dtype == np.float32
    out = np.zeros((3, model.config.vocab_size), np.float32)
    assert session.logits(0, out[1]) is not None
    assert (out[1] == rows[0]).all() and not out[0].any() and not out[2].any()
    assert (session.logits(out=np.empty_like(rows)) == rows).all()
    assert session.append([1]) is None and session.append([1], logits="last").shape == (model.config.vocab_size,)
    assert session.append([1, 2, 3], logits=[0, 2]).shape == (2, model.config.vocab_size)
    with pytest.raises(TypeError, match="4 bytes"):
        session.logits(0, np.zeros(model.config.vocab_size))  # type: ignore[arg-type]
    with pytest.raises(ValueError):  # with gaps
        session.logits(0, np.zeros(2 * model.config.vocab_size, np.float32)[::2])
    frozen = np.zeros(model.config.vocab_size, np.float32)
    frozen.flags.writeable = False
    with pytest.raises(ValueError):
        session.logits(0, frozen)


def test_scores(model: finermoe.Model) -> None:
    scores = model.session().score(np.array([649, 2329, 270]))
    assert np.isnan(scores.logprobs[0]) and scores.likeliest[0] == -1 and (scores.logprobs[1:] < 0).all()


def test_a_model_in_memory_outlives_its_name(tmp_path: pathlib.Path) -> None:
    finermoe.quantize(MOE, tmp_path / "m.safetensors")
    data = bytearray((tmp_path / "m.safetensors").read_bytes())
    session = finermoe.Model(data=data).session()
    with pytest.raises(BufferError):
        data.clear()  # the model is using it
    expected = session.generate(PROMPT, max_tokens=5).text()
    del session
    data.clear()
    assert expected == "A tower with a"


def test_chats(model: finermoe.Model) -> None:
    chat = finermoe.Chat([("user", "one"), {"role": "assistant", "content": "two"}])
    assert list(chat) == [("user", "one"), ("assistant", "two")] and chat[-1].content == "two" and len(chat) == 2
    with pytest.raises(IndexError):
        chat[2]
    session = model.session()
    question = [{"role": "user", "content": 'Define the noun "lighthouse".'}]
    assert session.chat(question).text() == ANSWER
    again = session.chat([*question, {"role": "assistant", "content": ANSWER}, question[0]])
    next(again)
    assert again.info.n_kept > len(PROMPT)
