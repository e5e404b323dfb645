"""Progress: what `progress=True` shows, and what else may be given."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from ._values import Progress


class _Messages:
    """A line for each phase, where tqdm is not installed."""

    def __init__(self) -> None:
        self._phase = ""

    def __call__(self, phase: str, done: int, total: int) -> None:
        if phase != self._phase:
            self._phase = phase
            print(f"finermoe: {phase} …", file=sys.stderr, flush=True)


class _Bars:
    """A bar of tqdm for each phase."""

    def __init__(self) -> None:
        self._make = importlib.import_module("tqdm.auto").tqdm
        self._bar: Any = None
        self._phase = ""

    def __call__(self, phase: str, done: int, total: int) -> None:
        if phase != self._phase or self._bar is None:
            if self._bar is not None:
                self._bar.close()
            unit = "tokens" if phase == "prefill" else "B"
            self._bar = self._make(total=total, desc=phase, unit=unit, unit_scale=True)
            self._phase = phase
        self._bar.update(done - self._bar.n)
        if done >= total:
            self._bar.close()
            self._bar = None


def _silent(phase: str, done: int, total: int) -> None:
    """Nothing to show; that it is called lets Ctrl-C end the call (typemaps.i)."""


def receiver(progress: bool | Progress | None) -> Progress:
    """The callable for a `progress` argument: True shows bars, False and None nothing."""
    if callable(progress):
        return progress
    if not progress:
        return _silent
    try:
        return _Bars()
    except ImportError:
        return _Messages()
