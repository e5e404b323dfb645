"""Every function of the header is reachable, and nothing of the low layer is idle."""

from __future__ import annotations

import json
import pathlib
import re

import finermoe
import numpy as np
import pytest
from finermoe import _lowlevel as low
from finermoe import errors

from conftest import SOURCE

HEADER = re.sub(r"/\*.*?\*/", "", (SOURCE / "include/finermoe.h").read_text(), flags=re.S)
FUNCTIONS = set(re.findall(r"^FINERMOE_API [^;(]*?(finermoe_\w+)\(", HEADER, re.M))
NAMES: dict[str, str] = json.loads((SOURCE / "bindings/python/names.json").read_text())
PACKAGE = "".join(path.read_text() for path in pathlib.Path(finermoe.__file__).parent.glob("*.py")
                  if path.name != "_lowlevel.py")


def test_every_function_has_a_name() -> None:
    assert NAMES.keys() == FUNCTIONS


@pytest.mark.parametrize("name", sorted(set(NAMES.values())))
def test_a_name_is_there(name: str) -> None:
    name, _, keyword = name.removesuffix(")").partition("(")
    found: object = finermoe
    for part in name.split("."):
        if part in getattr(found, "__annotations__", {}):
            return  # a field
        found = getattr(found, part)
    assert not keyword or f"{keyword}:" in PACKAGE


def test_every_function_of_the_low_layer_is_used() -> None:
    made = {name for name in vars(low) if name.islower() and callable(getattr(low, name))}
    used = set(re.findall(r"\b(?:low|_lowlevel)\.(\w+)", PACKAGE))
    assert made - used == set()
    assert {name for name in used if name.islower()} - made == set()


def test_the_low_layer_has_every_function() -> None:
    by_swig = {f"finermoe_{name}" for name in vars(low)}
    by_typemaps = {name for name in FUNCTIONS if name.endswith("_free") or name.startswith("finermoe_error")}
    assert FUNCTIONS - by_swig - by_typemaps == set()


def test_every_struct_is_read_whole() -> None:
    """A dataclass, or an event, has each field of its struct."""
    structs = dict(re.findall(r"typedef struct finermoe_(\w+) {(.*?)}", HEADER, re.S))
    renamed = {"runtime_operation": "Operation", "event": "Event", "chat_message": "Message",
               "verification_file": "VerifiedFile"}
    implied = {"struct_size", "reserved", "text_length", "n_top"}
    for struct, body in structs.items():
        name = renamed.get(struct) or "".join(word.capitalize() for word in struct.split("_"))
        fields = set(re.findall(r"(\w+)(?:\[\d+\])?;", body)) - implied
        if struct == "event":
            fields = fields - {"top_ids", "top_logprobs"} | {"top"}
        if struct == "chat_message":
            fields = fields - {"text"} | {"content"}
        assert set(getattr(finermoe, name).__annotations__) == fields, struct


def test_every_code_has_a_class() -> None:
    codes = {name: int(code) for name, code in re.findall(r"(FINERMOE_ERROR_\w+) = (-\d+)", HEADER)}
    classes = {name: getattr(errors, name) for name in errors.__all__ if name != "Error"}
    assert {cls().name: cls.code for cls in classes.values()} == codes
    assert all(issubclass(cls, finermoe.Error) and cls.__doc__ for cls in classes.values())


def test_versions() -> None:
    assert finermoe.__version__ == finermoe.version()
    assert finermoe.abi_version() >= 0
    assert np.__version__  # the one package that is needed at run time
