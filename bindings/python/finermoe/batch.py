"""Many requests, one pass over the weights for all."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from . import _lowlevel as low
from ._closing import Closing
from .errors import Cancelled, ClosedError
from .generation import Event, Generation, GenerationOptions, Options, event_of, in_thread
from .runtime import Cancel
from .tokenizer import Ids, Text

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from .model import Model
    from .session import Session


class Batch(Closing, Iterator[tuple[Any, Event]], AsyncIterator[tuple[Any, Event]]):
    """Generations of one model that advance together: an iterator, and an async iterator, of (tag, event).

    Members may join and leave between any two events; one leaves with its last event, and one that fails has the
    finish_reason "error" while the others go on (:attr:`Generation.error` says why). The iterator ends when no member
    is left, and goes on when another joins. One thread at a time; any thread may call :meth:`cancel` and :meth:`close`.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._handle = low.batch_create(model._open_handle)
        self._flag = Cancel._own()
        self._numbers = itertools.count()
        self._members: dict[int, tuple[Any, Generation]] = {}  # by the number that is the library's tag
        self._undelivered: tuple[Any, Event] | None = None  # computed for a task that was cancelled

    @property
    def _open_handle(self) -> Any:
        if self._handle is None:
            raise ClosedError("the batch was closed")
        return self._handle

    def add(self, prompt: Text | Ids | Generation, *, tag: Any = None, session: Session | None = None,
            options: GenerationOptions | None = None, **more: Unpack[Options]) -> Generation:
        """A new member.

        :param prompt: a text or ids for a request on a session of its own, or a generation that was made already
        :param tag: anything, given with its events
        :param session: where the request is to be made; None: a new one
        """
        if isinstance(prompt, Generation):
            generation = prompt
        else:
            generation = (session or self._model.session()).generate(prompt, options=options, **more)
        number = next(self._numbers)
        low.generation_set_tag(generation._open_handle, number)
        low.batch_add(self._open_handle, generation._open_handle)
        self._members[number] = tag, generation
        return generation

    def remove(self, generation: Generation) -> None:
        """Takes a member out; it can go on by itself."""
        low.batch_remove(self._open_handle, generation._open_handle)
        self._members = {number: member for number, member in self._members.items() if member[1] is not generation}

    def step(self) -> int:
        """One pass over the weights for every member that is not prepared; then ``next()`` of the prepared ones only
        chooses (:attr:`Generation.info`).

        :returns: members that have not finished and can go on
        """
        try:
            n_active: int = low.batch_step(self._open_handle, self._flag._handle)
        except Cancelled:
            self._flag._spent()
            raise
        return n_active

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[Any, Event]:
        """The next event of any member, with its tag. Members take turns."""
        found, self._undelivered = self._undelivered, None
        if found is None:
            found = self._compute()
        if found is None:
            raise StopIteration
        return found

    def _compute(self) -> tuple[Any, Event] | None:
        try:
            number, step = low.batch_next(self._open_handle, self._flag._handle)
        except Cancelled:
            self._flag._spent()
            raise
        event = event_of(step)
        if event.token < 0 and event.finish_reason is None:
            return None
        tag, generation = self._members[number]
        if event.finish_reason is not None:
            generation._finished = event.finish_reason != "error"
            del self._members[number]
        return tag, event

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[Any, Event]:
        """The next event, computed by another thread; where the task is cancelled meanwhile, computing stops."""
        if self._undelivered is None:
            self._undelivered = await in_thread(self._compute, self._flag, self._keep)
        if self._undelivered is None:
            raise StopAsyncIteration
        return next(self)

    def _keep(self, found: tuple[Any, Event] | None) -> None:
        self._undelivered = found

    def cancel(self) -> None:
        """Ends the call that runs, or else the next one, with :class:`finermoe.Cancelled`. Any thread may."""
        self._flag.request()

    def close(self) -> None:
        """Cancels what runs; later calls are a :class:`finermoe.ClosedError`. Any thread may, any number of times."""
        handle, self._handle = self._handle, None
        if handle is not None:
            low.batch_close(handle)
            self._members = {}
