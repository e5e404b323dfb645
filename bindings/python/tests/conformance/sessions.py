"""Rows about sessions."""

from __future__ import annotations

import math
import pathlib
from typing import Any

import numpy as np

from .rows import DTYPES, Row, kind, open_model, session_options, start


@kind
def logits(row: Row, folder: pathlib.Path) -> Row:
    keep: Any = row["keep"]
    rows: Any = open_model(row).session(**session_options(row)).append(row["ids"], logits=keep)
    rows = rows.reshape(-1, rows.shape[-1])
    return {"values": rows[:, row["columns"]].tolist(), "argmax": rows.argmax(axis=1).tolist()}


@kind
def hidden(row: Row, folder: pathlib.Path) -> Row:
    session = open_model(row).session(hidden="only" if row.get("only") else "keep")
    session.append(row["ids"], logits=row["rows"])
    return {"values": session.hidden()[:, row["columns"]].tolist(), "n_logits": session.info.n_logits}


@kind
def score(row: Row, folder: pathlib.Path) -> Row:
    scores = open_model(row).session().score(row["ids"])
    return {"logprobs": [None if math.isnan(one) else one for one in scores.logprobs.tolist()],
            "likeliest": scores.likeliest.tolist()}


@kind
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


@kind
def session_info(row: Row, folder: pathlib.Path) -> Row:
    session = open_model(row).session(**session_options(row))
    session.append(row["ids"], logits="last")
    found = vars(session.info)
    return {**found, "kv_dtype": DTYPES.index(found["kv_dtype"]),
            "precision": ["exact", "fast"].index(found["precision"])}


@kind
def routes(row: Row, folder: pathlib.Path) -> Row:
    session, layer = open_model(row).session(), row["moe_layer"]
    with session.trace(logits=True) as trace:
        session.append(row["ids"])
    usage = trace.usage(layer)
    return {"layers": trace.layers, "positions": trace.positions.tolist(), "experts": trace.experts(layer).tolist(),
            "weights": trace.weights(layer).tolist(), "groups": trace.groups(layer).tolist(),
            "usage": [int(usage.sum()), int(usage.max())], "balance_loss": trace.balance_loss(layer),
            "logits_argmax": trace.logits(layer).argmax(axis=1).tolist()}
