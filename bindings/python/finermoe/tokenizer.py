"""Text to token ids and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _lowlevel as low
from ._values import TokenKind, name_of, read
from .runtime import Path

Text = str | bytes | bytearray
"""Bytes are taken as UTF-8; what is not, and a lone surrogate of a str, is U+FFFD."""
Ids = Sequence[int] | NDArray[np.integer[Any]]
"""Token ids: a list, an array, any sequence of integers; an array of numpy.int32 is not copied."""


def text_flags(parse_special: bool, special_tokens: bool) -> int:
    """FINERMOE_TEXT_… of a text that is encoded."""
    flags: int = (low.TEXT_PARSE_SPECIAL if parse_special else 0) | (
        0 if special_tokens else low.TEXT_NO_SPECIAL_TOKENS)
    return flags


def _show_flag(show_special: bool) -> int:
    flag: int = low.TEXT_SHOW_SPECIAL if show_special else low.TEXT_DEFAULT
    return flag


@dataclass(frozen=True)
class TokenizerInfo:
    """What a tokenizer has; an id of -1 is named nowhere."""

    bos_id: int
    eos_id: int
    pad_id: int
    vocab_size: int
    """Largest id with a token, plus one."""
    n_added: int
    """Added tokens, special or not."""
    has_chat: bool
    """Whether chats can be encoded."""
    end_of_turn_id: int
    """The token with which the chat template ends a message."""


class Token(NamedTuple):
    """One token of a vocabulary."""

    data: bytes
    """Need not be whole UTF-8 characters."""
    kind: TokenKind


class Tokenizer:
    """A byte-level BPE tokenizer, equal to Hugging Face's. Immutable; any thread may use it.

    :param path: a directory with tokenizer.json (or vocab.json and merges.txt), that file, or a single-file model
    """

    def __init__(self, path: Path) -> None:
        self._handle = low.tokenizer_open(path)

    @classmethod
    def from_json(cls, json: Text, config_json: Text | None = None) -> Tokenizer:
        """From the text of a tokenizer.json and, for a chat template and special ids, of a tokenizer_config.json."""
        return cls._of(low.tokenizer_open_memory(json, config_json))

    @classmethod
    def _of(cls, handle: Any) -> Tokenizer:
        self = cls.__new__(cls)
        self._handle = handle
        return self

    @property
    def info(self) -> TokenizerInfo:
        """Special ids and sizes."""
        return read(TokenizerInfo, low.tokenizer_get_info(self._handle))

    def encode(self, text: Text, *, parse_special: bool = False, special_tokens: bool = True) -> list[int]:
        """The ids of a text.

        :param parse_special: special tokens in the text become their ids
        :param special_tokens: with those that the tokenizer puts around a text (BOS, EOS), if it does
        """
        ids: list[int] = self._encode(text, parse_special, special_tokens, offsets=False)[0].tolist()
        return ids

    def encode_with_offsets(self, text: Text, *, parse_special: bool = False,
                            special_tokens: bool = True) -> tuple[list[int], NDArray[np.uint64]]:
        """The ids of a text, and [n, 2] begin and end byte of each in its UTF-8; 0 and 0 of one that was put around
        it."""
        ids, offsets = self._encode(text, parse_special, special_tokens, offsets=True)
        return ids.tolist(), offsets

    def _encode(self, text: Text, parse_special: bool, special_tokens: bool,
                offsets: bool) -> tuple[NDArray[np.int32], NDArray[np.uint64]]:
        flags, capacity = text_flags(parse_special, special_tokens), len(text) + 8  # enough for nearly every text
        while True:
            ids = np.empty(capacity, np.int32)
            places = np.empty((capacity if offsets else 0, 2), np.uint64)
            count: int = low.tokenizer_encode(self._handle, text, flags, (ids, places if offsets else None))
            if count <= capacity:
                return ids[:count], places[:count]
            capacity = count

    def count(self, text: Text, *, parse_special: bool = False, special_tokens: bool = True) -> int:
        """How many ids :meth:`encode` would give."""
        count: int = low.tokenizer_count(self._handle, text, text_flags(parse_special, special_tokens))
        return count

    def decode(self, ids: Ids, *, show_special: bool = False) -> str:
        """The text of ids. Ids without a token give nothing, bytes that are not UTF-8 give U+FFFD.

        :param show_special: special tokens are written out instead of left out
        """
        text: str = low.tokenizer_decode(self._handle, ids, _show_flag(show_special))
        return text

    def token(self, id: int) -> Token:
        """The bytes and the kind of one token."""
        data, kind = low.tokenizer_token(self._handle, id)
        return Token(data, name_of("TOKEN", kind))

    def find(self, token: Text) -> int | None:
        """The id of the token with exactly these bytes; None where there is none."""
        id: int = low.tokenizer_find(self._handle, token)
        return None if id < 0 else id

    def decoder(self, *, show_special: bool = False) -> Decoder:
        """For ids that come one by one."""
        return Decoder(self, show_special=show_special)


class Decoder:
    """Ids to text as they come, never a part of a character. One thread at a time."""

    def __init__(self, tokenizer: Tokenizer, *, show_special: bool = False) -> None:
        self._handle = low.decoder_create(tokenizer._handle, _show_flag(show_special))

    def push(self, id: int) -> str:
        """Takes one id and gives the text that became complete by it, often none."""
        text: str = low.decoder_push(self._handle, id)
        return text

    def flush(self) -> str:
        """The end: an unfinished character comes out as U+FFFD, and the decoder begins anew."""
        text: str = low.decoder_flush(self._handle)
        return text
