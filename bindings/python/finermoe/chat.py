"""Conversations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from . import _lowlevel as low
from .tokenizer import Text, Tokenizer


class Message(NamedTuple):
    """One message of a chat."""

    role: str
    """"system", "user" or "assistant"."""
    content: str


Messages = Iterable[Mapping[str, str] | tuple[str, Text]]
"""``{"role": …, "content": …}`` or (role, content) each."""


def chat_flags(generation_prompt: bool, continue_last: bool) -> int:
    """FINERMOE_TEXT_… of a chat."""
    flags: int = (0 if generation_prompt else low.TEXT_NO_GENERATION_PROMPT) | (
        low.TEXT_CONTINUE_LAST if continue_last else 0)
    return flags


class Chat:
    """A conversation that can be edited. One thread at a time."""

    def __init__(self, messages: Messages = ()) -> None:
        self._handle = low.chat_create()
        for message in messages:
            role, content = (message["role"], message["content"]) if isinstance(message, Mapping) else message
            self.add(role, content)

    def add(self, role: str, content: Text) -> None:
        """Appends a message; `role` is "system", "user" or "assistant"."""
        low.chat_add(self._handle, role, content)

    def __len__(self) -> int:
        count: int = low.chat_count(self._handle)
        return count

    def __getitem__(self, index: int) -> Message:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        message = low.chat_get(self._handle, index % len(self))
        return Message(message.role, message.text)

    def __iter__(self) -> Iterator[Message]:
        return (self[i] for i in range(len(self)))

    def set(self, index: int, content: Text) -> None:
        """Another text for a message, which keeps its role."""
        low.chat_set(self._handle, index, content)

    def truncate(self, n: int) -> None:
        """Forgets all messages from `n` on."""
        low.chat_truncate(self._handle, n)

    def remove(self, begin: int, end: int) -> None:
        """Forgets the messages [begin, end)."""
        low.chat_remove(self._handle, begin, end)

    def encode(self, tokenizer: Tokenizer, *, generation_prompt: bool = True,
               continue_last: bool = False) -> list[int]:
        """Prompt ids, as the tokenizer's own chat template renders the messages.

        :param generation_prompt: open the assistant's turn at the end
        :param continue_last: leave the last message open at its end, to be gone on with, and open no turn behind it
        """
        flags = chat_flags(generation_prompt, continue_last)
        ids = np.empty(low.chat_encode(self._handle, tokenizer._handle, flags, None), np.int32)
        low.chat_encode(self._handle, tokenizer._handle, flags, ids)
        tokens: list[int] = ids.tolist()
        return tokens

    def render(self, tokenizer: Tokenizer, *, generation_prompt: bool = True, continue_last: bool = False) -> str:
        """The same as text, for a person to read."""
        text: str = low.chat_render(self._handle, tokenizer._handle, chat_flags(generation_prompt, continue_last))
        return text


def as_chat(messages: Chat | Messages) -> Chat:
    """The chat itself, or one of these messages."""
    return messages if isinstance(messages, Chat) else Chat(messages)
