"""Values that cross the border: enumerators as names, and the header's read-out structs as dataclasses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, fields
from typing import Any, Literal, TypeVar

from . import _lowlevel as low
from .errors import InvalidArgumentError

Isa = Literal["auto", "portable", "avx2", "avx512", "amx"]
Dtype = Literal["f32", "f16", "bf16", "q8", "q4"]
KvDtype = Literal["f32", "f16", "bf16", "q8"]
Precision = Literal["exact", "fast"]
Hidden = Literal["none", "keep", "only"]
Logits = Literal["none", "last", "all"]
Lock = Literal["none", "every_token", "all"]
Prefetch = Literal["auto", "off", "on"]
DeviceKind = Literal["cpu", "gpu", "other"]
TokenKind = Literal["normal", "added", "special", "unused"]
FinishReason = Literal["stop_token", "stop_string", "max_tokens", "context_full", "host", "error"]
ConcatProj = Literal["none", "normal", "zero"]
RouterInit = Literal["normal", "virtual_group"]

Progress = Callable[[str, int, int], object]
"""Receives phase, done and total. What it returns is ignored; what it raises cancels the call and comes out of it."""


def _enumerators(prefix: str) -> dict[str, int]:
    found = {name.removeprefix(prefix): value for name, value in vars(low).items() if name.startswith(prefix)}
    return {name.lower(): value for name, value in sorted(found.items(), key=lambda pair: pair[1])}


_NUMBERS = {kind: _enumerators(f"{kind}_") for kind in (
    "ISA", "DTYPE", "PRECISION", "HIDDEN", "LOGITS", "LOCK", "PREFETCH", "DEVICE", "TOKEN", "FINISH", "CONCAT_PROJ",
    "ROUTER_INIT")}
_NAMES = {kind: {value: name for name, value in numbers.items()} for kind, numbers in _NUMBERS.items()}


def number_of(kind: str, name: str | int) -> int:
    """The number of an enumerator of FINERMOE_<kind>_…, by its name in lower case; a number is taken as it is."""
    if isinstance(name, int):
        return name
    if name not in _NUMBERS[kind]:
        expected, found = f"one of {', '.join(_NUMBERS[kind])}", repr(name)
        raise InvalidArgumentError(f"{kind.lower()}: expected {expected}, found {found}", expected, found)
    return _NUMBERS[kind][name]


def name_of(kind: str, number: int) -> Any:
    """The name of an enumerator, None for FINISH_NONE; the number itself where this version does not know it."""
    return None if kind == "FINISH" and number == low.FINISH_NONE else _NAMES[kind].get(number, number)


def names_in(kind: str, bits: int) -> tuple[Any, ...]:
    """The names, or numbers as in name_of, of the enumerators whose bits, 1 << value, are set."""
    return tuple(name_of(kind, value) for value in range(bits.bit_length()) if bits >> value & 1)


# Fields of the header's structs that hold an enumerator, and those that hold a set of bits 1 << enumerator.
_ENUMERATORS = {"isa": "ISA", "dtype": "DTYPE", "kv_dtype": "DTYPE", "precision": "PRECISION", "kind": "DEVICE",
                "finish_reason": "FINISH"}
_BITS = {"isas": "ISA", "weight_dtypes": "DTYPE", "kv_dtypes": "DTYPE", "quantized_dtypes": "DTYPE"}

_Info = TypeVar("_Info")


def read(cls: type[_Info], struct: Any) -> _Info:
    """A dataclass from the struct of the header that has its fields."""
    values = {one.name: _converted(one, getattr(struct, one.name)) for one in fields(cls)}  # type: ignore[arg-type]
    return cls(**values)


def _converted(one: Field[Any], value: Any) -> Any:
    if one.name in _ENUMERATORS:
        return name_of(_ENUMERATORS[one.name], value)
    if one.name in _BITS:
        return names_in(_BITS[one.name], value)
    return bool(value) if one.type == "bool" else value
