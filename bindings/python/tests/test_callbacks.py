"""What the library calls, and what comes out of it."""

from __future__ import annotations

import builtins
import logging
import pathlib
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import finermoe
import pytest

from conftest import ANSWER, DENSE, MOE, PROMPT


class Mine(Exception):
    pass


def raise_mine(*_: object) -> None:
    raise Mine("from a callback")


def test_progress_that_raises_cancels(model: finermoe.Model, tmp_path: pathlib.Path) -> None:
    session = model.session(chunk=4, progress=raise_mine)
    with pytest.raises(Mine, match="from a callback"):
        session.append(PROMPT)
    assert session.length < len(PROMPT)
    session.set_progress(None)
    session.reset()
    assert session.generate(PROMPT, max_tokens=30).text() == ANSWER
    with pytest.raises(Mine):
        finermoe.Model(MOE, verify=True, progress=raise_mine)
    with pytest.raises(Mine):
        finermoe.verify(MOE, progress=raise_mine)
    with pytest.raises(Mine):
        finermoe.quantize(MOE, tmp_path / "out", progress=raise_mine)
    assert list(tmp_path.iterdir()) == []


def test_progress_that_raises_at_the_very_end(tmp_path: pathlib.Path) -> None:
    def at_the_end(phase: str, done: int, total: int) -> None:
        if done == total:
            raise Mine

    with pytest.raises(Mine):
        finermoe.quantize(MOE, tmp_path / "out", progress=at_the_end)
    with pytest.raises(Mine):
        finermoe.Model(MOE, verify=True, progress=at_the_end)


def test_progress_lives_as_long_as_it_is_called(model: finermoe.Model) -> None:
    seen: list[tuple[str, int, int]] = []
    session = model.session(chunk=4, progress=lambda *step: seen.append(step))
    fork = session.fork()
    del session
    fork.append(PROMPT)
    assert seen[-1] == ("prefill", len(PROMPT), len(PROMPT))


def test_bars(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm")
    finermoe.quantize(MOE, tmp_path / "one", progress=True)
    assert "write: 100%" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    finermoe.quantize(MOE, tmp_path / "two", progress=True)
    assert capsys.readouterr().err == "finermoe: write …\n"


def test_log_goes_to_logging(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "a-model")
    model = finermoe.Model(MOE, threads=1, log=logging.getLogger("a-model").log)
    model.generate("A ship", max_tokens=1)
    assert caplog.records and {record.levelno for record in caplog.records} <= {10, 20, 30}


def test_log_that_raises(tmp_path: pathlib.Path) -> None:
    with pytest.raises(Mine):
        finermoe.Model(MOE, threads=1, log=raise_mine).generate("A ship", max_tokens=1)


def answer_with(executor: finermoe.runtime.Executor, threads: int = 2) -> str:
    model = finermoe.Model(MOE, executor=executor, threads=threads)
    return model.session().generate(PROMPT, max_tokens=30).text()


def test_the_programs_own_threads() -> None:
    names: set[str] = set()

    def named(task: Callable[[int], None], i: int) -> None:
        names.add(threading.current_thread().name)
        task(i)

    with ThreadPoolExecutor(2, "mine") as pool:
        assert answer_with(lambda n, task: list(pool.map(lambda i: named(task, i), range(n)))) == ANSWER
    assert names and all(name.startswith("mine") for name in names)


def test_an_executor_that_does_too_little_or_too_much() -> None:
    kept: list[Any] = []

    def twice(n: int, task: Callable[[int], None]) -> None:
        kept[:] = [task]
        task(0)
        with pytest.raises(RuntimeError, match="has run already"):
            task(0)
        with pytest.raises(IndexError):
            task(n)
        with pytest.raises((OverflowError, ValueError)):
            task(-1)
        with pytest.raises(TypeError):
            task("0")  # type: ignore[arg-type]

    assert answer_with(lambda n, task: None) == ANSWER  # what is left runs all the same
    assert answer_with(twice) == ANSWER
    with pytest.raises(RuntimeError, match="executor has returned"):
        kept[0](0)


def test_an_executor_that_raises() -> None:
    with pytest.raises(Mine):
        answer_with(raise_mine)


def test_things_that_cannot_be_called(model: finermoe.Model) -> None:
    with pytest.raises(TypeError):
        finermoe.Runtime(executor=3, threads=1)  # type: ignore[arg-type]
    session = model.session()
    with pytest.raises(builtins.TypeError):
        finermoe._lowlevel.session_set_progress(session._handle, 3)


def test_a_call_of_the_library_in_a_callback(model: finermoe.Model) -> None:
    other = model.session()
    texts: list[str] = []

    def progress(phase: str, done: int, total: int) -> None:
        if not texts:
            texts.append(other.generate(PROMPT, max_tokens=30).text())

    session = model.session(progress=progress)
    session.append([1, 2, 3])
    assert texts == [ANSWER]


def test_upcycle_tells_how_far_it_is(tmp_path: pathlib.Path) -> None:
    steps: list[tuple[str, int, int]] = []
    finermoe.upcycle(DENSE, tmp_path / "moe", g_i=8, progress=lambda *step: steps.append(step))
    assert steps[-1][1] == steps[-1][2] > 0
    assert finermoe.Config(tmp_path / "moe").granularity_inter == 8
