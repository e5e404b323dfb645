"""What a row asks for."""

from __future__ import annotations

import hashlib
import os
import pathlib
from collections.abc import Callable
from typing import Any

import finermoe

SOURCE = pathlib.Path(os.environ["FINERMOE_SOURCE"])
DTYPES = ["f32", "f16", "bf16", "q8", "q4"]
Row = dict[str, Any]
KINDS: dict[str, Callable[[Row, pathlib.Path], Row]] = {}


def kind(function: Callable[[Row, pathlib.Path], Row]) -> Callable[[Row, pathlib.Path], Row]:
    """Makes a function what is done for the rows of the kind that it is named after (without the `_` behind a word of
    Python's): it is given a row and an empty folder, and returns the results by their names."""
    KINDS[function.__name__.rstrip("_")] = function
    return function


def model_path(row: Row) -> pathlib.Path:
    if "shape" in row:
        return SOURCE / "tests/data/shapes" / str(row["shape"])
    return SOURCE / "examples/models" / str(row.get("model", "tiny-wordnet-finermoe"))


def open_model(row: Row, **options: Any) -> finermoe.Model:
    return finermoe.Model(model_path(row), **{"threads": 2, **options})


def session_options(row: Row) -> Row:
    return {name: row[name] for name in ("context_length", "kv_dtype", "precision", "chunk") if name in row}


def text_of(row: Row, name: str) -> str:
    if f"{name}_utf16" not in row:
        return str(row[name])
    units = b"".join(unit.to_bytes(2, "little") for unit in row[f"{name}_utf16"])
    return units.decode("utf-16-le", "surrogatepass")


def options_of(row: Row) -> Row:
    options = dict(row.get("options", {}))
    if "logit_bias" in options:
        options["logit_bias"] = dict(map(tuple, options["logit_bias"]))
    if "draft" in options:
        options["draft"] = draft_of(options["draft"])
    return options


def draft_of(named: list[Any]) -> tuple[finermoe.Model, int]:
    folder, n_draft = named
    return open_model({"model": folder}), n_draft


def start(session: finermoe.Session, row: Row, **more: Any) -> finermoe.Generation:
    options = {**options_of(row), **more}
    if "messages" in row:
        return session.chat(row["messages"], continue_last=row.get("continue_last", False), **options)
    if "ids" in row:
        return session.generate(row["ids"], **options)
    return session.generate(text_of(row, "prompt"), parse_special=row.get("parse_special", False),
                            special_tokens=not row.get("no_special_tokens", False), **options)


def code_of(call: Callable[[], object]) -> str:
    try:
        call()
    except finermoe.Error as error:
        return error.name
    return "FINERMOE_OK"


def sha256_of(folder: pathlib.Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


class Phases:
    """A receiver of progress."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.complete = False

    def __call__(self, phase: str, done: int, total: int) -> None:
        if phase not in self.phases:
            self.phases.append(phase)
        self.complete = done == total
