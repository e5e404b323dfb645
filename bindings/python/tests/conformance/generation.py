"""Rows about generation."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import finermoe
import numpy as np

from .rows import Row, draft_of, kind, open_model, options_of, session_options, start


@kind
def generate(row: Row, folder: pathlib.Path) -> Row:
    events = list(start(open_model(row).session(**session_options(row)), row))
    chosen = [event for event in events if event.token >= 0]
    return {"tokens": [event.token for event in chosen], "text": "".join(event.text for event in events),
            "finish_reason": events[-1].finish_reason, "logprobs": [event.logprob for event in chosen],
            "top": [[id for id, _ in event.top] for event in chosen]}


@kind
def info(row: Row, folder: pathlib.Path) -> Row:
    generation = start(open_model(row).session(), row)
    generation.text()
    return vars(generation.info)


@kind
def options_info(row: Row, folder: pathlib.Path) -> Row:
    return vars(finermoe.GenerationOptions(open_model(row), **options_of(row)).info)


@kind
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


@kind
def append_in_the_middle(row: Row, folder: pathlib.Path) -> Row:
    generation = start(open_model(row).session(), row)
    events = [next(generation) for _ in range(row["after"])]
    generation.append(row["insert"])
    events += generation
    return {"tokens": [event.token for event in events], "text": "".join(event.text for event in events)}


@kind
def finish(row: Row, folder: pathlib.Path) -> Row:
    generation = start(open_model(row).session(), row)
    text = "".join(next(generation).text for _ in range(row["after"]))
    last = generation.finish()
    return {"text": text + last.text, "finish_reason": last.finish_reason}


@kind
def resume(row: Row, folder: pathlib.Path) -> Row:
    with open_model(row) as model, model.session() as session:
        generation = start(session, row)
        events = [next(generation) for _ in range(row["after"])]
        saved = session.save_memory(), generation.save_memory()
    session = open_model(row).session()
    session.restore_memory(saved[0])
    generation = session.restore_generation(saved[1])
    if "draft" in row:
        generation.set_draft(draft_of(row["draft"]))
    events += generation
    return {"tokens": [event.token for event in events if event.token >= 0],
            "text": "".join(event.text for event in events)}


@kind
def continue_(row: Row, folder: pathlib.Path) -> Row:
    session = open_model(row).session()
    first = start(session, row).text()
    second = start(session, {"prompt": row["more"], "no_special_tokens": True, "options": row["options"]}).text()
    return {"texts": [first, second]}


@kind
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


@kind
def batch(row: Row, folder: pathlib.Path) -> Row:
    members = Members(row)
    for _ in members.events():
        pass
    texts = {tag: text for tag, text in members.texts.items() if members.finish[tag] != "none"}
    return {"texts": texts, "finish": members.finish}


@kind
def batch_error(row: Row, folder: pathlib.Path) -> Row:
    members = Members(row)
    failing = members.generations[row["closes"]]
    for n in members.events():
        if n == row["close_after"]:
            failing.session.close()
    texts = {tag: text for tag, text in members.texts.items() if tag != str(row["closes"])}
    return {"texts": texts, "code": failing.error and failing.error.name}
