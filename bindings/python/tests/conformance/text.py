"""Rows about text."""

from __future__ import annotations

import pathlib

import finermoe

from .rows import Row, kind, model_path, text_of


@kind
def encode(row: Row, folder: pathlib.Path) -> Row:
    tokenizer = finermoe.Tokenizer(model_path(row))
    flags = {"parse_special": row.get("parse_special", False),
             "special_tokens": not row.get("no_special_tokens", False)}
    text = text_of(row, "text")
    ids, offsets = tokenizer.encode_with_offsets(text, **flags)
    assert tokenizer.encode(text, **flags) == ids
    return {"ids": ids, "offsets": offsets.tolist(), "count": tokenizer.count(text, **flags)}


@kind
def encode_repeated(row: Row, folder: pathlib.Path) -> Row:
    tokenizer = finermoe.Tokenizer(model_path(row))
    text = row["text"] * row["times"]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    return {"count": len(ids), "first": ids[:8], "last": ids[-8:]}


@kind
def decode(row: Row, folder: pathlib.Path) -> Row:
    tokenizer = finermoe.Tokenizer(model_path(row))
    return {"text": tokenizer.decode(row["ids"], show_special=row.get("show_special", False))}


@kind
def stream_decode(row: Row, folder: pathlib.Path) -> Row:
    decoder = finermoe.Tokenizer(model_path(row)).decoder()
    return {"pieces": [decoder.push(id) for id in row["ids"]] + [decoder.flush()]}


@kind
def token(row: Row, folder: pathlib.Path) -> Row:
    tokens = map(finermoe.Tokenizer(model_path(row)).token, row["ids"])
    return {"tokens": [[token.data.hex(), token.kind] for token in tokens]}


@kind
def find(row: Row, folder: pathlib.Path) -> Row:
    found = map(finermoe.Tokenizer(model_path(row)).find, map(bytes.fromhex, row["bytes"]))
    return {"ids": [-1 if id is None else id for id in found]}


@kind
def chat_prompt(row: Row, folder: pathlib.Path) -> Row:
    tokenizer = finermoe.Tokenizer(model_path(row))
    flags = {"continue_last": row.get("continue_last", False),
             "generation_prompt": not row.get("no_generation_prompt", False)}
    chat = finermoe.Chat(row["messages"])
    return {"ids": chat.encode(tokenizer, **flags), "text": chat.render(tokenizer, **flags)}


@kind
def chat_edit(row: Row, folder: pathlib.Path) -> Row:
    chat = finermoe.Chat()
    for what, *arguments in row["edits"]:
        getattr(chat, what)(*arguments)
    return {"messages": [[message.role, message.content] for message in chat]}


@kind
def tokenizer_info(row: Row, folder: pathlib.Path) -> Row:
    return vars(finermoe.Tokenizer(model_path(row)).info)


@kind
def tokenizer_memory(row: Row, folder: pathlib.Path) -> Row:
    files = [(model_path(row) / name).read_bytes() for name in ("tokenizer.json", "tokenizer_config.json")]
    return {"ids": finermoe.Tokenizer.from_json(*files).encode(row["text"])}
