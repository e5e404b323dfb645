"""Rows about errors."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import finermoe

from .rows import Row, kind, model_path, open_model, options_of, session_options, start


def batch_twice(row: Row, folder: pathlib.Path) -> None:
    model = open_model(row)
    session, batch = model.session(), model.batch()
    for _ in range(2):
        batch.add(session.generate("A ship"))


def open_file(row: Row, folder: pathlib.Path) -> None:
    (folder / "m.safetensors").write_bytes(bytes.fromhex(row["bytes"]))
    finermoe.Model(folder / "m.safetensors")


def quantize_existing(row: Row, folder: pathlib.Path) -> None:
    (folder / "notes.txt").write_text("mine")
    finermoe.quantize(model_path(row), folder)


ACTIONS: dict[str, Callable[[Row, pathlib.Path], object]] = {
    "open": lambda row, folder: finermoe.Model(folder / row["path"]),
    "open_file": open_file,
    "config": lambda row, folder: finermoe.Config.from_json(row["json"]),
    "tokenizer": lambda row, folder: finermoe.Tokenizer.from_json(row["json"]),
    "session": lambda row, folder: open_model(row).session(context_length=row["context_length"]),
    "append": lambda row, folder: open_model(row).session(**session_options(row)).append(row["ids"]),
    "truncate": lambda row, folder: open_model(row).session().truncate(row["length"]),
    "remove": lambda row, folder: open_model(row).session().remove(row["begin"], row["end"]),
    "logits": lambda row, folder: open_model(row).session().logits(row["row"]),
    "encode_without_tokenizer": lambda row, folder: open_model(row).tokenizer.encode("text"),
    "chat_without_template": lambda row, folder: open_model(row).chat([{"role": "user", "content": "text"}]),
    "option": lambda row, folder: finermoe.GenerationOptions(**options_of({"options": {row["option"]: row["value"]}})),
    "stop": lambda row, folder: finermoe.GenerationOptions(stop=[row["text"]]),
    "generate": lambda row, folder: start(open_model(row).session(**session_options(row)), row["request"]),
    "trace": lambda row, folder: open_model(row).session().trace(),
    "restore": lambda row, folder: open_model(row).session().restore_memory(bytes.fromhex(row["bytes"])),
    "quantize_existing": quantize_existing,
    "upcycle": lambda row, folder: finermoe.upcycle(model_path(row), folder / "out", g_i=row["g_i"]),
    "device": lambda row, folder: open_model(row, device=row["device"]),
    "plan_device": lambda row, folder: finermoe.plan(model_path(row), device=row["device"], device_memory=row["bytes"]),
    "plan_expert_cache": lambda row, folder: finermoe.plan(model_path(row), expert_cache=row["bytes"]),
    "device_weights": lambda row, folder: open_model(row, device_weights=row["bytes"]),
    "expert_cache": lambda row, folder: open_model(row, expert_cache=row["bytes"]),
    "isa": lambda row, folder: open_model(row, isa=row["value"]),
    "blas": lambda row, folder: finermoe.Runtime(blas=folder / row["path"]),
    "threads_of_executor": lambda row, folder: finermoe.Runtime(executor=lambda n, task: None, threads=0),
    "similarity": lambda row, folder: open_model(row).expert_similarity(row["layer"]),
    "batch_twice": batch_twice,
    "role": lambda row, folder: finermoe.Chat([(row["role"], "text")]),
    "memory_limit": lambda row, folder: open_model(row, memory_limit=row["bytes"]).session(),
}


@kind
def error(row: Row, folder: pathlib.Path) -> Row:
    try:
        ACTIONS[row["do"]](row, folder)
    except finermoe.Error as error:
        assert type(error) is not finermoe.Error and str(error)
        return {"code": error.name, "expected": error.expected, "found": error.found}
    return {"code": "FINERMOE_OK"}
