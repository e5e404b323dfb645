"""Rows about writers."""

from __future__ import annotations

import pathlib

import finermoe

from .rows import Phases, Row, code_of, kind, model_path, sha256_of


@kind
def upcycle(row: Row, folder: pathlib.Path) -> Row:
    finermoe.upcycle(model_path(row), folder / "out", preset=row["preset"], seed=row["seed"], **row["options"])
    return {"sha256": sha256_of(folder / "out")}


@kind
def quantize(row: Row, folder: pathlib.Path) -> Row:
    finermoe.quantize(model_path(row), folder / "out", dtype=row["dtype"], overrides=dict(row.get("overrides", [])))
    return {"sha256": sha256_of(folder / "out")}


@kind
def synthesize(row: Row, folder: pathlib.Path) -> Row:
    finermoe.synthesize(model_path(row), folder / "out", dtype=row["dtype"], seed=row["seed"])
    return {"sha256": sha256_of(folder / "out")}


@kind
def verify(row: Row, folder: pathlib.Path) -> Row:
    files = finermoe.verify(model_path(row))
    return {"files": [[one.name, one.n_tensors, one.n_nan, one.n_infinite, one.sha256] for one in files]}


@kind
def writer_progress(row: Row, folder: pathlib.Path) -> Row:
    progress = Phases()
    finermoe.quantize(model_path(row), folder / "out", progress=progress)
    return vars(progress)


@kind
def writer_cancel(row: Row, folder: pathlib.Path) -> Row:
    def stop(phase: str, done: int, total: int) -> None:
        raise finermoe.Cancelled()

    code = code_of(lambda: finermoe.quantize(model_path(row), folder / "out", progress=stop))
    return {"code": code, "left": sorted(path.name for path in folder.iterdir())}


@kind
def writer_exists(row: Row, folder: pathlib.Path) -> Row:
    finermoe.quantize(model_path(row), folder / "out")
    code = code_of(lambda: finermoe.quantize(model_path(row), folder / "out"))
    finermoe.quantize(model_path(row), folder / "out", overwrite=True)
    return {"code": code, "replaced": True}
