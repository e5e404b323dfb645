"""Errors: classes, what they carry, and what else they are."""

from __future__ import annotations

import builtins
import copy
import errno
import pickle

import finermoe
import pytest
from finermoe import _values, generation

from conftest import MOE


def test_not_found_is_also_pythons() -> None:
    with pytest.raises(builtins.FileNotFoundError) as caught:
        finermoe.Model("/no/such/model")
    error = caught.value
    assert isinstance(error, finermoe.FileNotFoundError)
    assert (error.code, error.name) == (-30, "FINERMOE_ERROR_FILE_NOT_FOUND")
    assert error.errno == errno.ENOENT
    assert error.expected == "a file that can be read" and error.found == "No such file or directory"
    assert str(error) == error.message and "/no/such/model" in error.message


def test_what_else_they_are(model: finermoe.Model) -> None:
    with pytest.raises(ValueError) as invalid:
        model.session().truncate(5)
    assert isinstance(invalid.value, finermoe.InvalidArgumentError)
    with pytest.raises(MemoryError) as limit:
        finermoe.Model(MOE, memory_limit=1000).session()
    assert isinstance(limit.value, finermoe.MemoryLimitError)
    assert issubclass(finermoe.OutOfMemoryError, MemoryError)
    assert issubclass(finermoe.FileExistsError, builtins.FileExistsError)


def test_they_can_cross_to_another_process() -> None:
    for name in finermoe.errors.__all__:
        error = getattr(finermoe, name)("a message", "this", "that")
        for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(other) is type(error)
            assert (other.code, str(other), other.expected, other.found) == (error.code, "a message", "this", "that")


def test_a_code_of_a_later_library() -> None:
    error = finermoe.errors.make(-999, "a message", "", "")
    assert type(error) is finermoe.Error and error.code == -999 and error.name == "FINERMOE_ERROR_UNKNOWN"


def test_enumerators_of_a_later_library() -> None:
    assert _values.name_of("ISA", 99) == 99
    assert _values.names_in("ISA", 1 << 1 | 1 << 31) == ("portable", 31)
    assert repr(generation.event_of(("", -1, 0.0, 99, ())).finish_reason) == "99"


def test_names_of_enumerators(model: finermoe.Model) -> None:
    with pytest.raises(finermoe.InvalidArgumentError, match="exact, fast") as caught:
        model.session(precision="sloppy")  # type: ignore[arg-type]
    assert caught.value.found == "'sloppy'"
    with pytest.raises(TypeError, match="temprature"):
        model.session().generate("A ship", temprature=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="one of path, fd and data"):
        finermoe.Model()


def test_handles_cannot_be_pickled(model: finermoe.Model) -> None:
    with pytest.raises(TypeError):
        pickle.dumps(model)
    with pytest.raises(TypeError):
        pickle.dumps(model.session())
