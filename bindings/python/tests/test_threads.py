"""Threads, tasks and processes."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import finermoe
import pytest

from conftest import ANSWER, MOE, PROMPT

Program = Callable[..., "subprocess.CompletedProcess[str]"]


def test_threads_share_a_model(model: finermoe.Model) -> None:
    def answer(_: int) -> str:
        with model.session(context_length=64) as session:
            return session.generate(PROMPT, max_tokens=30).text()

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(answer, range(12))) == {ANSWER}


def test_python_goes_on_while_a_prompt_is_computed(slow_model: finermoe.Model) -> None:
    session, ticks = slow_model.session(chunk=2000), 0
    thread = threading.Thread(target=session.append, args=([5] * 300,))
    thread.start()
    while thread.is_alive():
        ticks += 1
        time.sleep(0.001)
    assert ticks > 50


def test_a_session_in_use_is_busy(slow_model: finermoe.Model) -> None:
    session = slow_model.session(chunk=2000)
    thread = threading.Thread(target=session.append, args=([5] * 300,))
    thread.start()
    time.sleep(0.1)
    with pytest.raises(finermoe.BusyError):
        session.append([1])
    thread.join()
    session.append([1])
    assert session.length == 301


# --- asyncio

def test_a_task_streams(model: finermoe.Model) -> None:
    async def answer() -> str:
        async with model.session() as session:
            return "".join([event.text async for event in session.agenerate(PROMPT, max_tokens=30)])

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*(answer() for _ in range(5)))

    assert asyncio.run(all_of_them()) == [ANSWER] * 5


def test_a_chat_and_a_batch_stream(model: finermoe.Model) -> None:
    async def run() -> tuple[str, dict[str, str]]:
        session = model.session()
        question = [{"role": "user", "content": 'Define the noun "lighthouse".'}]
        answer = "".join([event.text async for event in session.achat(question)])
        texts = {"one": "", "two": ""}
        with model.batch() as batch:
            for tag in texts:
                batch.add(PROMPT, tag=tag, max_tokens=30)
            async for tag, event in batch:
                texts[tag] += event.text
        return answer, texts

    assert asyncio.run(run()) == (ANSWER, {"one": ANSWER, "two": ANSWER})


def test_the_loop_is_never_blocked(slow_model: finermoe.Model, long_prompt: list[int]) -> None:
    async def run() -> float:
        """The longest time that the loop did nothing, as a part of all the time."""
        begin = time.monotonic()
        longest, last = 0.0, begin

        async def tick() -> None:
            nonlocal longest, last
            while True:
                await asyncio.sleep(0.005)
                longest, last = max(longest, time.monotonic() - last), time.monotonic()

        ticking = asyncio.create_task(tick())
        async for _ in slow_model.session(chunk=2000).agenerate(long_prompt[::4], max_tokens=2,
                                                                     ignore_eos=True):
            pass
        ticking.cancel()
        return longest / (time.monotonic() - begin)

    assert asyncio.run(run()) < 0.3


def test_cancelling_the_task_stops_it(slow_model: finermoe.Model, long_prompt: list[int]) -> None:
    session = slow_model.session(chunk=2000)

    async def stream() -> None:
        async for _ in session.agenerate(long_prompt, max_tokens=1):
            pass

    async def run() -> None:
        task = asyncio.create_task(stream())
        await asyncio.sleep(0.3)
        task.cancel()
        task.cancel()
        begin = time.process_time()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.process_time() - begin < 2
        session.reset()  # it is not in use any more
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(stream(), 0.3)

    asyncio.run(run())
    session.reset()
    session.append([1])
    assert session.tokens == [1]


def test_no_event_is_lost_to_a_cancelled_task(model: finermoe.Model) -> None:
    async def run() -> str:
        generation, text = model.session().generate(PROMPT, max_tokens=30), ""
        while True:
            task = asyncio.ensure_future(anext(generation))
            await asyncio.sleep(0)
            task.cancel()
            try:
                text += (await task).text
            except asyncio.CancelledError:
                pass
            except StopAsyncIteration:
                return text
            event = await anext(generation, None)
            if event is None:
                return text
            text += event.text

    assert asyncio.run(run()) == ANSWER


# --- Processes

def answer_in_a_process(_: int) -> str:
    with finermoe.Model(MOE, threads=1) as model:
        return model.generate(PROMPT, max_tokens=30)


def error_in_a_process(_: int) -> None:
    finermoe.Model("/no/such/model")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_multiprocessing(model: finermoe.Model, method: str) -> None:
    assert model.generate(PROMPT, max_tokens=30) == ANSWER
    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
        assert list(pool.map(answer_in_a_process, range(3))) == [ANSWER] * 3
        with pytest.raises(finermoe.FileNotFoundError) as caught:
            list(pool.map(error_in_a_process, range(1)))
        assert caught.value.found == "No such file or directory"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork(program: Program) -> None:
    done = program("""
        import gc, os, sys, threading, warnings, finermoe
        warnings.simplefilter("ignore")
        model = finermoe.Model(sys.argv[1], threads=2, log=lambda *_: None)
        tokenizer, config = model.tokenizer, model.config
        session = model.session(progress=lambda *_: None)
        session.append([1, 2, 3])
        generation, batch = session.generate("A ship", ignore_eos=True, max_tokens=0), model.batch()
        running = threading.Thread(target=lambda: [None for _ in model.session().generate("A", max_tokens=200,
                                                                                         ignore_eos=True)])
        running.start()
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            for use in (lambda: session.append([1]), lambda: next(generation), batch.step, model.session):
                try:
                    use()
                except finermoe.StateError:
                    pass
                else:
                    os._exit(1)
            assert tokenizer.decode(tokenizer.encode("A ship")) == "A ship" and config.n_layers == 4
            print(finermoe.Model(sys.argv[1]).generate("A ship", max_tokens=2))
            del model, session
            gc.collect()
            sys.exit()  # in good order, with all that was inherited
        assert os.waitpid(child, 0)[1] == 0
        running.join()
        print(session.length)
    """)
    assert done.stdout == " with a\n5\n"  # with the prompt


# --- Other kinds of interpreters

def test_sub_interpreters_are_refused(program: Program) -> None:
    done = program("""
        try:
            import _interpreters as interpreters
        except ImportError:
            try:
                import _xxsubinterpreters as interpreters
            except ImportError:
                print("none here"); raise SystemExit
        import finermoe
        inner = interpreters.create()
        code = "import finermoe"
        try:
            failed = interpreters.run_string(inner, code)
        except interpreters.RunFailedError as error:
            failed = error
        print(failed)
    """)
    if done.stdout == "none here\n":
        pytest.skip("this Python has no module for sub-interpreters")
    assert "ImportError" in done.stdout and "interpreter" in done.stdout


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="not a free-threaded build of Python")
def test_a_free_threaded_build_takes_the_lock() -> None:
    assert sys._is_gil_enabled()  # type: ignore[attr-defined]
