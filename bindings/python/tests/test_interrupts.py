"""Ctrl-C, and other ways to stop."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import finermoe
import pytest

from conftest import ANSWER, DENSE, MOE, PROMPT

AT_ONCE = 2.0  # seconds of processor time, which no other process prolongs; `long_prompt` would take five


def press_ctrl_c(after: float = 0.3) -> None:
    threading.Timer(after, os.kill, (os.getpid(), signal.SIGINT)).start()


@pytest.fixture
def handler() -> Iterator[Callable[[Any], object]]:
    """Sets another handler of SIGINT for the time of a test."""
    before = signal.getsignal(signal.SIGINT)
    yield lambda function: signal.signal(signal.SIGINT, function)
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_while_tokens_come(model: finermoe.Model) -> None:
    session = model.session()
    session.append([1])
    press_ctrl_c()
    deadline = time.monotonic() + 60
    with pytest.raises(KeyboardInterrupt):
        while time.monotonic() < deadline:
            session.truncate(1)
            for _ in session.generate("A ship", max_tokens=0, ignore_eos=True):
                pass
    session.reset()
    assert session.generate(PROMPT, max_tokens=30).text() == ANSWER


def test_ctrl_c_in_a_long_prompt(slow_model: finermoe.Model, long_prompt: list[int]) -> None:
    session = slow_model.session(chunk=2000)
    session.append([1, 2, 3])
    generation = session.generate(long_prompt, max_tokens=1)
    press_ctrl_c()
    begin = time.process_time()
    with pytest.raises(KeyboardInterrupt) as caught:
        next(generation)
    assert time.process_time() - begin < AT_ONCE
    assert caught.value.__context__ is None
    assert session.info.n_computed == 3
    session.truncate(3)
    session.append([4])
    assert session.tokens == [1, 2, 3, 4]


@pytest.mark.parametrize("call", [
    lambda session, prompt: session.append(prompt, logits="last"),
    lambda session, prompt: session.append(prompt, logits=[1, len(prompt) - 1]),
    lambda session, prompt: session.score(prompt),
    lambda session, prompt: session.generate(prompt).prepare(),
    lambda session, prompt: batch_of(session, prompt).step(),
    lambda session, prompt: next(batch_of(session, prompt)),
])
def test_ctrl_c_in_every_long_call(slow_model: finermoe.Model, long_prompt: list[int],
                                   call: Callable[[finermoe.Session, list[int]], object]) -> None:
    session = slow_model.session(chunk=2000)
    press_ctrl_c(0.15)
    begin = time.process_time()
    with pytest.raises(KeyboardInterrupt):
        call(session, long_prompt)
    assert time.process_time() - begin < AT_ONCE
    session.reset()
    session.append([4])
    assert session.tokens == [4]


def batch_of(session: finermoe.Session, prompt: list[int]) -> finermoe.Batch:
    batch = session.model.batch()
    batch.add(session.generate(prompt))
    return batch


def test_a_handler_that_returns_changes_nothing(slow_model: finermoe.Model, long_prompt: list[int],
                                                handler: Callable[[Any], object]) -> None:
    pressed: list[int] = []
    prompt = long_prompt[::2]
    handler(lambda number, frame: pressed.append(number))
    session = slow_model.session(chunk=2000)
    session.append([1, 2, 3])
    press_ctrl_c()
    rows = session.append(prompt, logits="all")
    assert pressed == [signal.SIGINT] and rows.shape[0] == len(prompt)
    assert session.tokens == [1, 2, 3, *prompt]
    press_ctrl_c()
    assert session.score(prompt).logprobs.shape == (len(prompt),)
    assert len(pressed) == 2


def test_a_handler_that_raises(slow_model: finermoe.Model, long_prompt: list[int],
                               handler: Callable[[Any], object]) -> None:
    class Stop(Exception):
        pass

    def stop(number: int, frame: object) -> None:
        raise Stop

    handler(stop)
    press_ctrl_c()
    with pytest.raises(Stop):
        slow_model.session(chunk=2000).append(long_prompt)


def test_no_handler_is_left_behind(model: finermoe.Model, handler: Callable[[Any], object]) -> None:
    handler(signal.SIG_IGN)
    os.kill(os.getpid(), signal.SIGINT)
    assert model.generate("A ship", max_tokens=2)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_ctrl_c_while_a_model_is_written(tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    calls: list[int] = []

    def progress(phase: str, done: int, total: int) -> None:
        calls.append(done)
        if len(calls) == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        finermoe.upcycle(DENSE, out, progress=progress)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_in_a_callback_does_not_begin_the_call_again() -> None:
    calls: list[int] = []

    def executor(n: int, task: Callable[[int], None]) -> None:
        calls.append(n)
        if len(calls) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        for i in range(n):
            task(i)

    with finermoe.Model(MOE, executor=executor, threads=2) as model, model.session() as session:
        with pytest.raises(KeyboardInterrupt):
            session.append(PROMPT)
        assert session.info.n_computed == 0
        assert session.generate(PROMPT[session.length:], max_tokens=30).text() == ANSWER


def test_cancel_from_another_thread(slow_model: finermoe.Model, long_prompt: list[int]) -> None:
    session = slow_model.session(chunk=2000)
    generation = session.generate(long_prompt, max_tokens=1)
    threading.Timer(0.3, generation.cancel).start()
    begin = time.process_time()
    with pytest.raises(finermoe.Cancelled):
        next(generation)
    assert time.process_time() - begin < AT_ONCE
    session.reset()
    session.append([1])  # its own flag is down again


def test_a_flag_for_several_calls(model: finermoe.Model) -> None:
    flag = finermoe.Cancel()
    flag.request()
    session = model.session()
    for call in (lambda: session.append([1], cancel=flag), lambda: session.score([1], cancel=flag),
                 lambda: next(session.generate("A ship", cancel=flag)),
                 lambda: model.expert_similarity(0, cancel=flag), lambda: finermoe.verify(DENSE, cancel=flag)):
        with pytest.raises(finermoe.Cancelled):
            call()
    assert flag.requested
    flag.reset()
    session.append([1], cancel=flag)


def test_ctrl_c_beside_a_thread_that_generates(program: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = program("""
        import os, signal, sys, threading, finermoe
        model = finermoe.Model(sys.argv[1], threads=2)
        session = model.session()
        generation = session.generate("A ship", max_tokens=0, ignore_eos=True)
        def run():
            try:
                for event in generation:
                    started.set()
            except finermoe.Cancelled:
                print("cancelled")
        started = threading.Event()
        thread = threading.Thread(target=run)
        thread.start()
        started.wait()
        try:
            os.kill(os.getpid(), signal.SIGINT)
            thread.join()
        except KeyboardInterrupt:
            generation.cancel()
            thread.join()
            session.reset()
            print("interrupted", session.generate("A ship", max_tokens=2).text())
    """)
    assert done.stdout == "cancelled\ninterrupted  with a\n"


def test_ctrl_c_in_asyncio(program: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = program("""
        import asyncio, os, signal, sys, finermoe
        model = finermoe.Model(sys.argv[1], threads=2)
        session = model.session()
        async def run():
            n = 0
            async for event in session.agenerate("A ship", max_tokens=0, ignore_eos=True):
                n += 1
                if n == 3:
                    os.kill(os.getpid(), signal.SIGINT)
        try:
            asyncio.run(run())
        except KeyboardInterrupt:
            session.reset()
            print("interrupted", session.generate("A ship", max_tokens=2).text())
    """)
    assert done.stdout == "interrupted  with a\n"
