"""The conformance suite (bindings/conformance/README.md) through the Python package.

    conformance.py [--table FILE] [NAME …]

Prints a line for each row, or for those named; with --table, also writes them to a file. Exit status 1 if one failed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import pathlib
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import finermoe
import numpy as np

SOURCE = pathlib.Path(os.environ["FINERMOE_SOURCE"])
KERNELS = {"portable", "avx2", "avx2-vnni", "avx512"}
DTYPES = ["f32", "f16", "bf16", "q8", "q4"]
LEVELS = [10, 20, 30]  # of logging, for the header's 0, 1 and 2
Row = dict[str, Any]


# --- What a row asks for

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
    return options


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


# --- Text

def encode(row: Row, folder: pathlib.Path) -> Row:
    tokenizer = finermoe.Tokenizer(model_path(row))
    flags = {"parse_special": row.get("parse_special", False),
             "special_tokens": not row.get("no_special_tokens", False)}
    text = text_of(row, "text")
    ids, offsets = tokenizer.encode_with_offsets(text, **flags)
    assert tokenizer.encode(text, **flags) == ids
    return {"ids": ids, "offsets": offsets.tolist(), "count": tokenizer.count(text, **flags)}


def encode_repeated(row: Row, folder: pathlib.Path) -> Row:
    tokenizer = finermoe.Tokenizer(model_path(row))
    text = row["text"] * row["times"]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    return {"count": len(ids), "first": ids[:8], "last": ids[-8:]}


def decode(row: Row, folder: pathlib.Path) -> Row:
    tokenizer = finermoe.Tokenizer(model_path(row))
    return {"text": tokenizer.decode(row["ids"], show_special=row.get("show_special", False))}


def stream_decode(row: Row, folder: pathlib.Path) -> Row:
    decoder = finermoe.Tokenizer(model_path(row)).decoder()
    return {"pieces": [decoder.push(id) for id in row["ids"]] + [decoder.flush()]}


def token(row: Row, folder: pathlib.Path) -> Row:
    tokens = map(finermoe.Tokenizer(model_path(row)).token, row["ids"])
    return {"tokens": [[token.data.hex(), token.kind] for token in tokens]}


def find(row: Row, folder: pathlib.Path) -> Row:
    found = map(finermoe.Tokenizer(model_path(row)).find, map(bytes.fromhex, row["bytes"]))
    return {"ids": [-1 if id is None else id for id in found]}


def chat_prompt(row: Row, folder: pathlib.Path) -> Row:
    tokenizer = finermoe.Tokenizer(model_path(row))
    flags = {"continue_last": row.get("continue_last", False),
             "generation_prompt": not row.get("no_generation_prompt", False)}
    chat = finermoe.Chat(row["messages"])
    return {"ids": chat.encode(tokenizer, **flags), "text": chat.render(tokenizer, **flags)}


def chat_edit(row: Row, folder: pathlib.Path) -> Row:
    chat = finermoe.Chat()
    for what, *arguments in row["edits"]:
        getattr(chat, what)(*arguments)
    return {"messages": [[message.role, message.content] for message in chat]}


def tokenizer_info(row: Row, folder: pathlib.Path) -> Row:
    return vars(finermoe.Tokenizer(model_path(row)).info)


def tokenizer_memory(row: Row, folder: pathlib.Path) -> Row:
    files = [(model_path(row) / name).read_bytes() for name in ("tokenizer.json", "tokenizer_config.json")]
    return {"ids": finermoe.Tokenizer.from_json(*files).encode(row["text"])}


# --- Models

def config(row: Row, folder: pathlib.Path) -> Row:
    found = vars(finermoe.Config(model_path(row)))
    return {**found, "dtype": DTYPES.index(found["dtype"])}


def config_json(row: Row, folder: pathlib.Path) -> Row:
    text = finermoe.Config(model_path(row)).json.encode()
    assert text == (model_path(row) / "config.json").read_bytes()
    return {"bytes": len(text)}


def plan(row: Row, folder: pathlib.Path) -> Row:
    return vars(finermoe.plan(model_path(row), sessions=row["sessions"], context_length=row["context_length"],
                              threads=row["threads"]))


def system(row: Row, folder: pathlib.Path) -> Row:
    return {"devices": finermoe.devices()[0].name, "kernels_known": finermoe.system_info().kernels in KERNELS}


def runtime(row: Row, folder: pathlib.Path) -> Row:
    used = finermoe.Runtime(threads=row["threads"], memory_limit=row["memory_limit"], profile=row["profile"])
    finermoe.Model(model_path(row), runtime=used).session().append(row["ids"])
    operations = [operation.name for operation in used.operations if operation.n_calls]
    info = used.info
    used.reset_profile()
    return {"n_threads": info.n_threads, "memory_limit": info.memory_limit, "device": info.device,
            "operations": sorted(operations), "calls_after_reset": sum(one.n_calls for one in used.operations)}


def single_file(row: Row, folder: pathlib.Path) -> pathlib.Path:
    finermoe.quantize(model_path(row), folder / "q8.safetensors")
    return folder / "q8.safetensors"


def open_memory(row: Row, folder: pathlib.Path) -> Row:
    with finermoe.Model(data=single_file(row, folder).read_bytes(), threads=2) as model:
        return {"text": start(model.session(), row).text()}


def open_fd(row: Row, folder: pathlib.Path) -> Row:
    with single_file(row, folder).open("rb") as file:
        model = finermoe.Model(fd=file.fileno(), threads=2)
    return {"text": start(model.session(), row).text()}


def expert_similarity(row: Row, folder: pathlib.Path) -> Row:
    return {"similarity": open_model(row).expert_similarity(row["layer"])}


def executor(row: Row, folder: pathlib.Path) -> Row:
    ran: list[int] = []
    with ThreadPoolExecutor(2) as pool:
        def run(n_tasks: int, task: Callable[[int], None]) -> None:
            ran.extend(range(n_tasks))
            list(pool.map(task, range(n_tasks)))

        logits = open_model(row, executor=run).session().append(row["ids"], logits="last")
    return {"argmax": int(np.argmax(logits)), "tasks_ran": bool(ran)}


def log(row: Row, folder: pathlib.Path) -> Row:
    broken = folder / "model"
    shutil.copytree(model_path(row), broken)
    (broken / "tokenizer.json").write_text("{")
    levels: list[int] = []
    model = finermoe.Model(broken, log=lambda level, message: levels.append(LEVELS.index(level)))
    next(start(model.session(), row))
    return {"levels": sorted(set(levels))}


def load_progress(row: Row, folder: pathlib.Path) -> Row:
    progress = Phases()
    open_model(row, verify=True, progress=progress)
    return vars(progress)


# --- Sessions

def logits(row: Row, folder: pathlib.Path) -> Row:
    keep: Any = row["keep"]
    rows: Any = open_model(row).session(**session_options(row)).append(row["ids"], logits=keep)
    rows = rows.reshape(-1, rows.shape[-1])
    return {"values": rows[:, row["columns"]].tolist(), "argmax": rows.argmax(axis=1).tolist()}


def hidden(row: Row, folder: pathlib.Path) -> Row:
    session = open_model(row).session(hidden="only" if row.get("only") else "keep")
    session.append(row["ids"], logits=row["rows"])
    return {"values": session.hidden()[:, row["columns"]].tolist(), "n_logits": session.info.n_logits}


def score(row: Row, folder: pathlib.Path) -> Row:
    scores = open_model(row).session().score(row["ids"])
    return {"logprobs": [None if math.isnan(one) else one for one in scores.logprobs.tolist()],
            "likeliest": scores.likeliest.tolist()}


def session(row: Row, folder: pathlib.Path) -> Row:
    sessions = [open_model(row).session(**session_options(row))]  # the last is the one in use
    saved: list[bytes] = []
    results: list[Any] = []
    for what, *arguments in row["steps"]:
        used = sessions[-1]
        if what == "generate":
            results.append(start(used, arguments[0]).text())
            continue
        if what == "keep_prefix":
            results.append([used.keep_prefix(arguments[0])])
            continue
        if what == "fork":
            sessions.append(used.fork())
        elif what in ("save", "restore"):
            getattr(used, what)(folder / "session")
        elif what == "save_memory":
            saved.append(used.save_memory())
        elif what == "restore_memory":
            used.restore_memory(saved[-1])
        else:
            getattr(used, what)(*arguments)
        results.append(sessions[-1].length)
    tokens = sessions[-1].tokens
    row_behind = sessions[-1].append([tokens[-1] if tokens else 0], logits="last")
    return {"results": results, "tokens": tokens, "argmax": int(np.argmax(row_behind))}


def session_info(row: Row, folder: pathlib.Path) -> Row:
    session = open_model(row).session(**session_options(row))
    session.append(row["ids"], logits="last")
    found = vars(session.info)
    return {**found, "kv_dtype": DTYPES.index(found["kv_dtype"]),
            "precision": ["exact", "fast"].index(found["precision"])}


def routes(row: Row, folder: pathlib.Path) -> Row:
    session, layer = open_model(row).session(), row["moe_layer"]
    with session.trace(logits=True) as trace:
        session.append(row["ids"])
    usage = trace.usage(layer)
    return {"layers": trace.layers, "positions": trace.positions.tolist(), "experts": trace.experts(layer).tolist(),
            "weights": trace.weights(layer).tolist(), "groups": trace.groups(layer).tolist(),
            "usage": [int(usage.sum()), int(usage.max())], "balance_loss": trace.balance_loss(layer),
            "logits_argmax": trace.logits(layer).argmax(axis=1).tolist()}


# --- Generation

def generate(row: Row, folder: pathlib.Path) -> Row:
    events = list(start(open_model(row).session(**session_options(row)), row))
    chosen = [event for event in events if event.token >= 0]
    return {"tokens": [event.token for event in chosen], "text": "".join(event.text for event in events),
            "finish_reason": events[-1].finish_reason, "logprobs": [event.logprob for event in chosen],
            "top": [[id for id, _ in event.top] for event in chosen]}


def info(row: Row, folder: pathlib.Path) -> Row:
    generation = start(open_model(row).session(), row)
    generation.text()
    return vars(generation.info)


def options_info(row: Row, folder: pathlib.Path) -> Row:
    return vars(finermoe.GenerationOptions(open_model(row), **options_of(row)).info)


def hook(row: Row, folder: pathlib.Path) -> Row:
    generation = start(open_model(row).session(), row)
    tokens: list[int] = []
    while generation.info.finish_reason is None:
        generation.prepare()
        changed = generation.logits()
        changed[changed.argmax()] = -np.inf
        generation.set_logits(changed)
        tokens.append(next(generation).token)
    return {"tokens": tokens}


def append_in_the_middle(row: Row, folder: pathlib.Path) -> Row:
    generation = start(open_model(row).session(), row)
    events = [next(generation) for _ in range(row["after"])]
    generation.append(row["insert"])
    events += generation
    return {"tokens": [event.token for event in events], "text": "".join(event.text for event in events)}


def finish(row: Row, folder: pathlib.Path) -> Row:
    generation = start(open_model(row).session(), row)
    text = "".join(next(generation).text for _ in range(row["after"]))
    last = generation.finish()
    return {"text": text + last.text, "finish_reason": last.finish_reason}


def resume(row: Row, folder: pathlib.Path) -> Row:
    with open_model(row) as model, model.session() as session:
        generation = start(session, row)
        text = "".join(next(generation).text for _ in range(row["after"]))
        saved = session.save_memory(), generation.save_memory()
    session = open_model(row).session()
    session.restore_memory(saved[0])
    return {"text": text + session.restore_generation(saved[1]).text()}


def go_on(row: Row, folder: pathlib.Path) -> Row:
    session = open_model(row).session()
    first = start(session, row).text()
    second = start(session, {"prompt": row["more"], "no_special_tokens": True, "options": row["options"]}).text()
    return {"texts": [first, second]}


def sampler(row: Row, folder: pathlib.Path) -> Row:
    sampler = finermoe.Sampler(**options_of(row))
    sampler.accept_prompt(row["prompt"])
    tokens = []
    for _ in range(row["n"]):
        tokens.append(sampler.choose(row["logits"]))
        sampler.accept(tokens[-1])
    return {"tokens": tokens}


class Members:
    """The members of a batch, which join and leave as the row says."""

    def __init__(self, row: Row) -> None:
        self.rows = row["members"]
        self.model = open_model(row)
        self.batch = self.model.batch()
        self.generations = {one["tag"]: start(self.model.session(), one) for one in self.rows}
        self.texts = {str(tag): "" for tag in self.generations}
        self.finish = {str(tag): "none" for tag in self.generations}

    def events(self) -> Iterator[int]:
        """How many events there were before each."""
        self._join_and_leave(0)
        n = 0
        while True:
            yield n
            try:
                tag, event = next(self.batch)
            except StopIteration:
                return
            n += 1
            self.texts[str(tag)] += event.text
            self.finish[str(tag)] = event.finish_reason or "none"
            self._join_and_leave(n)

    def _join_and_leave(self, n_events: int) -> None:
        for row in self.rows:
            if row.get("join_after", 0) == n_events:
                self.batch.add(self.generations[row["tag"]], tag=row["tag"])
            if row.get("leave_after") == n_events:
                self.batch.remove(self.generations[row["tag"]])


def batch(row: Row, folder: pathlib.Path) -> Row:
    members = Members(row)
    for _ in members.events():
        pass
    texts = {tag: text for tag, text in members.texts.items() if members.finish[tag] != "none"}
    return {"texts": texts, "finish": members.finish}


def batch_error(row: Row, folder: pathlib.Path) -> Row:
    members = Members(row)
    failing = members.generations[row["closes"]]
    for n in members.events():
        if n == row["close_after"]:
            failing.session.close()
    texts = {tag: text for tag, text in members.texts.items() if tag != str(row["closes"])}
    return {"texts": texts, "code": failing.error and failing.error.name}


# --- Threads and life

def in_thread(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call)
    thread.start()
    return thread


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


def close_session(row: Row, folder: pathlib.Path) -> Row:
    model = open_model(row)
    session = model.session()
    code = closed_while_running(session, session.close)
    return {"code": code, "other": start(model.session(), row["request"]).text()}


def close_model(row: Row, folder: pathlib.Path) -> Row:
    model, other = open_model(row), open_model(row)
    code = closed_while_running(model.session(), model.close)
    return {"code": code, "other": start(other.session(), row["request"]).text()}


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


def close_twice(row: Row, folder: pathlib.Path) -> Row:
    for backwards in (False, True):
        model = open_model(row)
        session = model.session()
        objects: list[Any] = [model, session, session.generate("A ship"), model.batch()]
        for one in (reversed(objects) if backwards else objects):
            one.close()
            one.close()
    return {"closed": True}


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


def many_sessions(row: Row, folder: pathlib.Path) -> Row:
    model = open_model(row)
    sessions = [model.session(**session_options(row)) for _ in range(row["n"])]
    with ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(lambda i: start(sessions[i], row, seed=i).text(), range(row["n"])))
    return {"texts": sorted(set(texts)), "n_distinct": len(set(texts))}


def busy(row: Row, folder: pathlib.Path) -> Row:
    session = open_model(row).session()
    codes: list[str] = []
    # While the session computes, which is when progress is told, a second thread uses it.
    session.set_progress(lambda *_: in_thread(lambda: codes.append(code_of(lambda: session.append([1])))).join())
    next(session.generate("A ship"))
    return {"busy": "FINERMOE_ERROR_BUSY" in codes}


# --- Errors

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
    "option": lambda row, folder: finermoe.GenerationOptions(**{row["option"]: row["value"]}),
    "stop": lambda row, folder: finermoe.GenerationOptions(stop=[row["text"]]),
    "generate": lambda row, folder: start(open_model(row).session(**session_options(row)), row["request"]),
    "trace": lambda row, folder: open_model(row).session().trace(),
    "restore": lambda row, folder: open_model(row).session().restore_memory(bytes.fromhex(row["bytes"])),
    "quantize_existing": quantize_existing,
    "upcycle": lambda row, folder: finermoe.upcycle(model_path(row), folder / "out", g_i=row["g_i"]),
    "device": lambda row, folder: open_model(row, device=row["device"]),
    "isa": lambda row, folder: open_model(row, isa=row["value"]),
    "threads_of_executor": lambda row, folder: finermoe.Runtime(executor=lambda n, task: None, threads=0),
    "similarity": lambda row, folder: open_model(row).expert_similarity(row["layer"]),
    "batch_twice": batch_twice,
    "role": lambda row, folder: finermoe.Chat([(row["role"], "text")]),
    "memory_limit": lambda row, folder: open_model(row, memory_limit=row["bytes"]).session(),
}


def error(row: Row, folder: pathlib.Path) -> Row:
    try:
        ACTIONS[row["do"]](row, folder)
    except finermoe.Error as error:
        assert type(error) is not finermoe.Error and str(error)
        return {"code": error.name, "expected": error.expected, "found": error.found}
    return {"code": "FINERMOE_OK"}


# --- Writers

def upcycle(row: Row, folder: pathlib.Path) -> Row:
    finermoe.upcycle(model_path(row), folder / "out", preset=row["preset"], seed=row["seed"], **row["options"])
    return {"sha256": sha256_of(folder / "out")}


def quantize(row: Row, folder: pathlib.Path) -> Row:
    finermoe.quantize(model_path(row), folder / "out", dtype=row["dtype"], overrides=dict(row.get("overrides", [])))
    return {"sha256": sha256_of(folder / "out")}


def synthesize(row: Row, folder: pathlib.Path) -> Row:
    finermoe.synthesize(model_path(row), folder / "out", dtype=row["dtype"], seed=row["seed"])
    return {"sha256": sha256_of(folder / "out")}


def verify(row: Row, folder: pathlib.Path) -> Row:
    files = finermoe.verify(model_path(row))
    return {"files": [[one.name, one.n_tensors, one.n_nan, one.n_infinite, one.sha256] for one in files]}


def writer_progress(row: Row, folder: pathlib.Path) -> Row:
    progress = Phases()
    finermoe.quantize(model_path(row), folder / "out", progress=progress)
    return vars(progress)


def writer_cancel(row: Row, folder: pathlib.Path) -> Row:
    def stop(phase: str, done: int, total: int) -> None:
        raise finermoe.Cancelled()

    code = code_of(lambda: finermoe.quantize(model_path(row), folder / "out", progress=stop))
    return {"code": code, "left": sorted(path.name for path in folder.iterdir())}


def writer_exists(row: Row, folder: pathlib.Path) -> Row:
    finermoe.quantize(model_path(row), folder / "out")
    code = code_of(lambda: finermoe.quantize(model_path(row), folder / "out"))
    finermoe.quantize(model_path(row), folder / "out", overwrite=True)
    return {"code": code, "replaced": True}


KINDS: dict[str, Callable[[Row, pathlib.Path], Row]] = {kind.__name__: kind for kind in (
    encode, encode_repeated, decode, stream_decode, token, find, chat_prompt, chat_edit, tokenizer_info,
    tokenizer_memory, config, config_json, plan, system, runtime, open_memory, open_fd, expert_similarity, executor,
    log, load_progress, logits, hidden, score, session, session_info, routes, generate, info, options_info, hook,
    append_in_the_middle, finish, resume, sampler, batch, batch_error, cancel, cancelled_before, close_session,
    close_model, closed, close_twice, two_models, many_sessions, busy, error, upcycle, quantize, synthesize, verify,
    writer_progress, writer_cancel, writer_exists)}
KINDS["continue"] = go_on


# --- The walk

def equal(expected: Any, found: Any) -> bool:
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(name in found and equal(one, found[name])
                                               for name, one in expected.items())
    if isinstance(expected, list):
        return isinstance(found, list) and len(expected) == len(found) and all(map(equal, expected, found))
    if isinstance(expected, float):
        return isinstance(found, (int, float)) and abs(expected - found) <= 1e-4
    return bool(expected == found)


def outcome(row: Row) -> str:
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = KINDS[row["kind"]](row, pathlib.Path(folder))
        except Exception as error:
            return f"failed: {type(error).__name__}: {error}"
    for name, expected in row["expect"].items():
        if name not in found or not equal(expected, found[name]):
            return f"failed: {name}: expected {json.dumps(expected)}, found {found.get(name)!r}".replace("\n", " ")
    return "ok"


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs the conformance suite.")
    parser.add_argument("--table", type=pathlib.Path, help="also write the lines to this file")
    parser.add_argument("names", nargs="*", help="of the rows; all by default")
    arguments = parser.parse_args()
    lines = []
    for path in sorted((SOURCE / "bindings/conformance").glob("*.json")):
        for row in json.loads(path.read_text(encoding="utf-8")):
            name = f"{path.stem}/{row['name']}"
            if arguments.names and name not in arguments.names:
                continue
            lines.append(f"{name}\t{outcome(row)}")
            print(lines[-1], flush=True)
    if arguments.table:
        arguments.table.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return 0 if lines and all(line.endswith("\tok") for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
