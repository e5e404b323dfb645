"""Rows about threads and life."""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import finermoe

from .rows import Row, code_of, kind, open_model, session_options, start


def in_thread(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call)
    thread.start()
    return thread


@kind
def cancel(row: Row, folder: pathlib.Path) -> Row:
    def at_the_third(phase: str, done: int, total: int) -> None:
        if done == 3:
            flag.request()

    flag = finermoe.Cancel()
    session = open_model(row).session(chunk=1 if row["where"] == "prefill" else 0)
    if row["where"] == "prefill":
        session.set_progress(at_the_third)
    generation = start(session, row, cancel=flag)
    events = []
    try:
        for event in generation:
            events.append(event)
            if row["where"] == "decode" and len(events) == 3:
                in_thread(flag.request).join()
        code = "FINERMOE_OK"
    except finermoe.Cancelled as error:
        code = error.name
    flag.reset()
    session.set_progress(None)
    return {"code": code, "text": "".join(event.text for event in events) + generation.text()}


@kind
def cancelled_before(row: Row, folder: pathlib.Path) -> Row:
    flag = finermoe.Cancel()
    flag.request()
    generation = start(open_model(row).session(), row, cancel=flag)
    code = code_of(lambda: next(generation))
    flag.reset()
    return {"code": code, "text": generation.text()}


def closed_while_running(session: finermoe.Session, close: Callable[[], None]) -> str:
    """What a request that would go on and on ends with when another thread closes after three events."""
    def run() -> None:
        for n, _ in enumerate(session.generate("A ship", max_tokens=0, ignore_eos=True), 1):
            if n == 3:
                threads.append(in_thread(close))

    threads: list[threading.Thread] = []
    code = code_of(run)
    threads[0].join()
    return code


@kind
def close_session(row: Row, folder: pathlib.Path) -> Row:
    model = open_model(row)
    session = model.session()
    code = closed_while_running(session, session.close)
    return {"code": code, "other": start(model.session(), row["request"]).text()}


@kind
def close_model(row: Row, folder: pathlib.Path) -> Row:
    model, other = open_model(row), open_model(row)
    code = closed_while_running(model.session(), model.close)
    return {"code": code, "other": start(other.session(), row["request"]).text()}


@kind
def closed(row: Row, folder: pathlib.Path) -> Row:
    model = open_model(row)
    session = model.session()
    generation = session.generate("A ship")
    batch = model.batch()
    batch.add(generation)
    objects: Row = {"model": model, "session": session, "generation": generation, "batch": batch}
    objects[row["object"]].close()
    use = {"generation": lambda: next(generation), "batch": batch.step}
    return {"code": code_of(use.get(row["object"], lambda: session.append([1])))}


@kind
def close_twice(row: Row, folder: pathlib.Path) -> Row:
    for backwards in (False, True):
        model = open_model(row)
        session = model.session()
        objects: list[Any] = [model, session, session.generate("A ship"), model.batch()]
        for one in (reversed(objects) if backwards else objects):
            one.close()
            one.close()
    return {"closed": True}


@kind
def two_models(row: Row, folder: pathlib.Path) -> Row:
    generations = [start(open_model({"model": name}).session(), row) for name in row["models"]]
    texts = ["" for _ in generations]
    running = list(enumerate(generations))
    while running:
        for i, generation in list(running):
            event = next(generation)
            texts[i] += event.text
            if event.finish_reason:
                running.remove((i, generation))
    return {"texts": texts}


@kind
def many_sessions(row: Row, folder: pathlib.Path) -> Row:
    model = open_model(row)
    sessions = [model.session(**session_options(row)) for _ in range(row["n"])]
    with ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(lambda i: start(sessions[i], row, seed=i).text(), range(row["n"])))
    return {"texts": sorted(set(texts)), "n_distinct": len(set(texts))}


@kind
def busy(row: Row, folder: pathlib.Path) -> Row:
    session = open_model(row).session()
    codes: list[str] = []
    # While the session computes, which is when progress is told, a second thread uses it.
    session.set_progress(lambda *_: in_thread(lambda: codes.append(code_of(lambda: session.append([1])))).join())
    next(session.generate("A ship"))
    return {"busy": "FINERMOE_ERROR_BUSY" in codes}
