"""Objects end in any order, at any time, on any thread."""

from __future__ import annotations

import gc
import itertools
import subprocess
import threading
import time
import weakref
from collections.abc import Callable

import finermoe
import pytest

from conftest import ANSWER, MOE, PROMPT

Program = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize("order", list(itertools.permutations(range(5)))[::7])
def test_any_order_of_deletion(order: tuple[int, ...]) -> None:
    model = finermoe.Model(MOE, threads=1)
    session = model.session(context_length=64)
    generation = session.generate("A ship")
    batch = model.batch()
    batch.add(generation)
    objects: list[object] = [model, session, generation, batch, session.trace()]
    next(batch)
    del model, session, generation, batch
    for i in order:
        objects[i] = None
    gc.collect()


def test_what_is_made_from_a_model_keeps_it(model: finermoe.Model) -> None:
    session = finermoe.Model(MOE, threads=1).session()
    gc.collect()
    generation = session.generate(PROMPT, max_tokens=30)
    del session
    gc.collect()
    assert generation.text() == ANSWER


def test_use_after_close() -> None:
    with finermoe.Model(MOE, threads=1) as model, model.session() as session, model.batch() as batch:
        generation = session.generate("A ship")
    uses: list[Callable[[], object]] = [
        model.session, model.batch, lambda: model.generate("A ship"), lambda: session.append([1]),
        lambda: session.length, session.fork, lambda: session.generate("A ship"), lambda: next(generation), generation.prepare, batch.step,
        lambda: next(batch), lambda: batch.add("A ship")]
    for use in uses:
        with pytest.raises(finermoe.ClosedError, match="closed"):
            use()
    closes: list[Callable[[], None]] = [model.close, session.close, batch.close, generation.close]
    for close in closes * 2:
        close()


@pytest.mark.parametrize("what", ["model", "session", "generation"])
def test_closing_while_another_thread_generates(what: str) -> None:
    model = finermoe.Model(MOE, threads=1)
    session = model.session()
    generation = session.generate("A ship", max_tokens=0, ignore_eos=True)
    started, caught = threading.Event(), []

    def run() -> None:
        try:
            for _ in generation:
                started.set()
        except finermoe.ClosedError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(10)
    closes = {"model": model.close, "session": session.close, "generation": generation.close}
    closes[what]()
    thread.join(10)
    assert not thread.is_alive() and len(caught) == 1


def test_deletion_while_another_thread_generates() -> None:
    generation = finermoe.Model(MOE, threads=1).session().generate("A ship", max_tokens=50, ignore_eos=True)
    events = []
    thread = threading.Thread(target=lambda running: events.extend(running), args=(generation,))
    thread.start()
    del generation
    gc.collect()
    thread.join(30)
    assert len(events) == 50


def test_collection_in_the_middle_of_a_stream(model: finermoe.Model) -> None:
    class Holder:
        pass

    holder = Holder()  # a cycle with everything in it
    holder.session = model.session(progress=lambda *_: gc.collect())  # type: ignore[attr-defined]
    holder.generation = holder.session.generate(PROMPT, max_tokens=30)  # type: ignore[attr-defined]
    holder.itself = holder  # type: ignore[attr-defined]
    text = ""
    for event in holder.generation:  # type: ignore[attr-defined]
        text += event.text
        gc.collect()
    assert text == ANSWER
    gone = weakref.ref(holder.session)  # type: ignore[attr-defined]
    del holder
    gc.collect()
    assert gone() is None


def test_memory_is_given_back(model: finermoe.Model) -> None:
    before = model.runtime.info.memory_used
    for _ in range(20):
        model.generate("A ship", max_tokens=2)
        model.session().append(PROMPT, logits="all")
    with model.batch() as batch:
        for i in range(4):
            batch.add("A ship", tag=i, max_tokens=3)
        assert len(list(batch)) >= 4 and len(batch) == 0
    gc.collect()
    assert model.runtime.info.memory_used <= before + 2**20


@pytest.mark.parametrize("daemon", [False, True])
@pytest.mark.parametrize("progress", [False, True])
def test_the_interpreter_ends_while_a_thread_generates(program: Program, daemon: bool, progress: bool) -> None:
    program("""
        import sys, threading, finermoe
        daemon, progress = (word == "True" for word in sys.argv[2:])
        model = finermoe.Model(sys.argv[1], threads=2)
        session = model.session(chunk=1, progress=(lambda *_: None) if progress else None)
        started = threading.Event()
        def run():
            for _ in range(1000 if daemon else 3):
                session.reset()
                session.append([260] * 100)
                for event in session.generate("A ship", max_tokens=20, ignore_eos=True):
                    started.set()
        threading.Thread(target=run, daemon=daemon).start()
        started.wait()
    """, daemon, progress)


def test_objects_that_live_to_the_end(program: Program) -> None:
    program("""
        import sys, finermoe
        class Late:
            def __del__(self):
                for _ in generation:
                    pass
                model.close()
        model = finermoe.Model(sys.argv[1], threads=2, log=lambda *_: None)
        session = model.session(progress=lambda *_: None)
        generation = session.generate("A ship", max_tokens=3)
        late = Late()
        keep = [model, session, generation]
        keep.append(keep)
        next(generation)
    """)


def test_many_cycles_of_opening_and_closing() -> None:
    def resident() -> int:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * 4096

    for i in range(300):
        if i == 100:
            before = resident()
        with finermoe.Model(MOE, threads=1) as model, model.session(context_length=16) as session:
            session.append([1])
    assert resident() - before < 16 * 2**20


def test_a_session_that_is_closed_while_it_computes_a_prompt(slow_model: finermoe.Model,
                                                             long_prompt: list[int]) -> None:
    session = slow_model.session(chunk=2000)
    threading.Timer(0.3, session.close).start()
    begin = time.process_time()
    with pytest.raises(finermoe.ClosedError):
        session.append(long_prompt)
    assert time.process_time() - begin < 2.5
