"""Rows about models."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import finermoe
import numpy as np

from .rows import DTYPES, Phases, Row, kind, model_path, open_model, start

KERNELS = {"portable", "avx2", "avx2-vnni", "avx512", "amx"}
LEVELS = [10, 20, 30]  # of logging, for the header's 0, 1 and 2


@kind
def config(row: Row, folder: pathlib.Path) -> Row:
    found = vars(finermoe.Config(model_path(row)))
    return {**found, "dtype": DTYPES.index(found["dtype"])}


@kind
def config_json(row: Row, folder: pathlib.Path) -> Row:
    text = finermoe.Config(model_path(row)).json.encode()
    assert text == (model_path(row) / "config.json").read_bytes()
    return {"bytes": len(text)}


@kind
def plan(row: Row, folder: pathlib.Path) -> Row:
    return vars(finermoe.plan(model_path(row), sessions=row["sessions"], context_length=row["context_length"],
                              threads=row["threads"]))


@kind
def system(row: Row, folder: pathlib.Path) -> Row:
    return {"devices": finermoe.devices()[0].name, "kernels_known": finermoe.system_info().kernels in KERNELS}


@kind
def runtime(row: Row, folder: pathlib.Path) -> Row:
    used = finermoe.Runtime(threads=row["threads"], memory_limit=row["memory_limit"], profile=row["profile"])
    finermoe.Model(model_path(row), runtime=used).session().append(row["ids"])
    operations = [operation.name for operation in used.operations if operation.n_calls]
    info = used.info
    used.reset_profile()
    return {"n_threads": info.n_threads, "memory_limit": info.memory_limit, "device": info.device,
            "uses_blas": info.uses_blas, "blas": info.blas,
            "operations": sorted(operations), "calls_after_reset": sum(one.n_calls for one in used.operations)}


def single_file(row: Row, folder: pathlib.Path) -> pathlib.Path:
    finermoe.quantize(model_path(row), folder / "q8.safetensors")
    return folder / "q8.safetensors"


@kind
def open_memory(row: Row, folder: pathlib.Path) -> Row:
    with finermoe.Model(data=single_file(row, folder).read_bytes(), threads=2) as model:
        return {"text": start(model.session(), row).text()}


@kind
def open_fd(row: Row, folder: pathlib.Path) -> Row:
    with single_file(row, folder).open("rb") as file:
        model = finermoe.Model(fd=file.fileno(), threads=2)
    return {"text": start(model.session(), row).text()}


@kind
def expert_cache(row: Row, folder: pathlib.Path) -> Row:
    return vars(open_model(row).expert_cache())


@kind
def expert_similarity(row: Row, folder: pathlib.Path) -> Row:
    return {"similarity": open_model(row).expert_similarity(row["layer"])}


@kind
def executor(row: Row, folder: pathlib.Path) -> Row:
    ran: list[int] = []
    with ThreadPoolExecutor(2) as pool:
        def run(n_tasks: int, task: Callable[[int], None]) -> None:
            ran.extend(range(n_tasks))
            list(pool.map(task, range(n_tasks)))

        logits = open_model(row, executor=run).session().append(row["ids"], logits="last")
    return {"argmax": int(np.argmax(logits)), "tasks_ran": bool(ran)}


@kind
def log(row: Row, folder: pathlib.Path) -> Row:
    broken = folder / "model"
    shutil.copytree(model_path(row), broken)
    (broken / "tokenizer.json").write_text("{")
    levels: list[int] = []
    model = finermoe.Model(broken, log=lambda level, message: levels.append(LEVELS.index(level)))
    next(start(model.session(), row))
    return {"levels": sorted(set(levels))}


@kind
def load_progress(row: Row, folder: pathlib.Path) -> Row:
    progress = Phases()
    open_model(row, verify=True, progress=progress)
    return vars(progress)
