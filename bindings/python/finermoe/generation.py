"""Requests: options, the stream of events, and the choice of tokens alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _lowlevel as low
from ._closing import Closing
from ._values import FinishReason, name_of, read
from .errors import Cancelled, ClosedError, Error
from .runtime import Cancel
from .tokenizer import Ids, Text

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from .model import Model
    from .session import Session


class Options(TypedDict, total=False):
    """The keywords of a request. What is not given is the model's default (generation_config.json)."""

    max_tokens: int
    """Most tokens to generate; 0: until a stop or the end of the context."""
    min_tokens: int
    """Before this many, stop tokens are never chosen and stop strings are ignored."""
    temperature: float
    """0: greedy; else divides the logits."""
    top_k: int
    """Keep the k largest logits; 0: all."""
    top_p: float
    """In (0, 1]: keep the smallest set whose probability reaches it; 1: all."""
    min_p: float
    """In [0, 1): drop what is less likely than this times the likeliest; 0: nothing."""
    typical_p: float
    """In (0, 1]: locally typical sampling; 1: off."""
    repetition_penalty: float
    """Divides the logits of tokens in prompt or output (multiplies negative ones); 1: off."""
    frequency_penalty: float
    """Subtracted from a token's logit for each time it was generated; 0: off."""
    presence_penalty: float
    """Subtracted once from the logits of generated tokens; 0: off."""
    seed: int
    """Of the random stream, the same on every platform."""
    logit_bias: Mapping[int, float]
    """Added to the tokens' logits; ``-math.inf`` bans a token."""
    banned_tokens: Sequence[int]
    """Never sampled."""
    stop_tokens: Sequence[int]
    """End the generation, beside those of the model."""
    clear_stop_tokens: bool
    """Forget the model's stop tokens, before `stop_tokens` are added."""
    stop: str | Sequence[str]
    """The text ends before the first occurrence of any of these."""
    ignore_eos: bool
    """Stop tokens do not end the generation, nor does a chat's end of turn."""
    top_logprobs: int
    """Alternatives reported with each token."""
    show_special: bool
    """Special tokens appear in the text."""
    lookup: int
    """Most tokens drafted for one pass, from what followed the same tokens before; 0: none. The same tokens, sooner."""
    draft: tuple[Model, int] | None
    """A model of the same vocabulary that drafts tokens, such as the dense one that an upcycled model came from, and how
    many for one pass at most. The same tokens, sooner."""


_SETTERS = {
    "max_tokens": low.generation_options_set_max_tokens,
    "min_tokens": low.generation_options_set_min_tokens,
    "temperature": low.generation_options_set_temperature,
    "top_k": low.generation_options_set_top_k,
    "top_p": low.generation_options_set_top_p,
    "min_p": low.generation_options_set_min_p,
    "typical_p": low.generation_options_set_typical_p,
    "repetition_penalty": low.generation_options_set_repetition_penalty,
    "frequency_penalty": low.generation_options_set_frequency_penalty,
    "presence_penalty": low.generation_options_set_presence_penalty,
    "seed": low.generation_options_set_seed,
    "ignore_eos": low.generation_options_set_ignore_eos,
    "top_logprobs": low.generation_options_set_top_logprobs,
    "show_special": low.generation_options_set_show_special,
    "lookup": low.generation_options_set_lookup,
}
_LISTS: dict[str, Callable[[Any, Any], object]] = {
    "logit_bias": lambda handle, bias: [low.generation_options_add_logit_bias(handle, *pair) for pair in bias.items()],
    "banned_tokens": lambda handle, ids: [low.generation_options_add_banned_token(handle, id) for id in ids],
    "stop_tokens": lambda handle, ids: [low.generation_options_add_stop_token(handle, id) for id in ids],
    "stop": lambda handle, texts: [low.generation_options_add_stop_string(handle, text)
                                   for text in ([texts] if isinstance(texts, (str, bytes)) else texts)],
}


@dataclass(frozen=True)
class GenerationOptionsInfo:
    """Options as they stand."""

    ignore_eos: bool
    max_tokens: int
    min_tokens: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    typical_p: float
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    seed: int
    n_stop_tokens: int


class GenerationOptions:
    """Options that are used for many requests, as their `options`. One thread at a time.

    :param model: begins with the defaults of its generation_config.json, its stop tokens among them. None: neutral
        options, greedy, without penalties, stop tokens or limit
    :param options: the fields of :class:`Options`
    """

    def __init__(self, model: Model | None = None, **options: Unpack[Options]) -> None:
        self._handle = low.generation_options_create(None if model is None else model._open_handle)
        self._draft: Model | None = None
        self.set(**options)

    def set(self, **options: Unpack[Options]) -> None:
        """Changes some; lists are added to."""
        given: dict[str, Any] = dict(options)
        if given.pop("clear_stop_tokens", False):
            low.generation_options_clear_stop_tokens(self._handle)
        for name, value in given.items():
            if name in _SETTERS:
                _SETTERS[name](self._handle, value)
            elif name in _LISTS:
                _LISTS[name](self._handle, value)
            elif name == "draft":
                model, n_draft = value or (None, 0)
                low.generation_options_set_draft(self._handle, None if model is None else model._open_handle, n_draft)
                self._draft = model
            else:
                raise TypeError(f"there is no option {name!r}")

    def copy(self) -> GenerationOptions:
        """A second object with the same options."""
        other = GenerationOptions.__new__(GenerationOptions)
        other._handle = low.generation_options_copy(self._handle)
        other._draft = self._draft
        return other

    @property
    def info(self) -> GenerationOptionsInfo:
        """The options as they stand."""
        return read(GenerationOptionsInfo, low.generation_options_get_info(self._handle))


def request_options(model: Model, options: GenerationOptions | None, more: Options) -> GenerationOptions | None:
    """What a request is made with: None for the model's defaults."""
    if not more:
        return options
    merged = GenerationOptions(model) if options is None else options.copy()
    merged.set(**more)
    return merged


def handle_of(options: GenerationOptions | None) -> Any:
    """The low layer's options."""
    return None if options is None else options._handle


class Event(NamedTuple):
    """One step of a request."""

    text: str
    """Complete characters, often none; what might become a stop string is held back."""
    token: int
    """The token chosen; -1 where none was."""
    logprob: float
    """Of that token, in the model's own distribution."""
    finish_reason: FinishReason | None
    """None: it goes on."""
    top: tuple[tuple[int, float], ...]
    """The likeliest tokens of the same distribution, likeliest first, with their log-probabilities."""


_FINISH = [name_of("FINISH", number) for number in range(low.FINISH_ERROR + 1)]


def event_of(step: tuple[str, int, float, int, tuple[tuple[int, float], ...]]) -> Event:
    """An event of the low layer, whose finish is a number."""
    text, token, logprob, finish, top = step
    return Event(text, token, logprob, _FINISH[finish] if finish < len(_FINISH) else name_of("FINISH", finish), top)


@dataclass(frozen=True)
class GenerationInfo:
    """Where a request stands."""

    finish_reason: FinishReason | None
    prepared: bool
    """The next token's logits are computed, `next` only chooses."""
    status: int
    """0, or the code of the error that the next event would be."""
    n_prompt: int
    """Tokens of the prompt, the part that the session already held included."""
    n_generated: int
    n_kept: int
    """Of n_prompt: those that the session held already."""
    tag: int
    prefill_seconds: float
    """Spent in passes over the prompt and appended tokens, those with others in a batch counted whole."""
    decode_seconds: float
    """The same for passes over generated tokens, and the time of choosing."""
    n_drafted: int
    """Tokens computed ahead (the options `lookup` and `draft`)."""
    n_accepted: int
    """Those of them that were then chosen."""


class Generation(Closing, Iterator[Event], AsyncIterator[Event]):
    """A request on a session: an iterator, and an async iterator, of events; the last one has a `finish_reason`.

    The session is in use only during calls, and may be used otherwise between them. One thread at a time; any thread
    may call :meth:`cancel` and :meth:`close`. Made by :meth:`finermoe.Session.generate` and its like.
    """

    def __init__(self, session: Session, handle: Any, cancel: Cancel | None = None,
                 options: GenerationOptions | None = None) -> None:
        self._session, self._handle = session, handle
        self._draft = None if options is None else options._draft  # whose callables are called for as long
        self._flag = session._flag if cancel is None else cancel
        self._flag_handle = self._flag._handle
        self._finished = False
        self._undelivered: Event | None = None  # computed for a task that was cancelled

    @property
    def session(self) -> Session:
        """The session that it is on."""
        return self._session

    @property
    def _open_handle(self) -> Any:
        if self._handle is None:
            raise ClosedError("the generation was closed")
        return self._handle

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        """The next event, computed now; ends after the one with a finish_reason."""
        if self._finished:
            raise StopIteration
        if self._undelivered is not None:
            event, self._undelivered = self._undelivered, None
        else:
            event = self._compute()
        if event.finish_reason is not None:
            self._finished = True
        return event

    def _compute(self) -> Event:
        try:
            return event_of(low.generation_next(self._handle or self._open_handle, self._flag_handle))
        except Cancelled:
            self._flag._spent()
            raise

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """The next event, computed by another thread; where the task is cancelled meanwhile, computing stops."""
        if self._finished:
            raise StopAsyncIteration
        if self._undelivered is None:
            self._undelivered = await in_thread(self._compute, self._flag, self._keep)
        return next(self)

    def _keep(self, event: Event) -> None:
        self._undelivered = event

    def text(self) -> str:
        """All the text that is still to come, computed now."""
        return "".join(event.text for event in self)

    def append(self, ids: Ids) -> None:
        """Appends tokens that the program chose: a tool's result, a forced beginning. They are no part of any event's
        text, and the request goes on behind them."""
        low.generation_append(self._open_handle, ids)

    def set_draft(self, draft: tuple[Model, int] | None) -> None:
        """Changes the model that drafts, or takes it away: the option `draft`, for a request that was restored and has none.
        The tokens stay the same."""
        model, n_draft = draft or (None, 0)
        low.generation_set_draft(self._open_handle, None if model is None else model._open_handle, n_draft)
        self._draft = model

    def finish(self) -> Event:
        """Ends the request now and gives the text that was held back."""
        event = event_of(low.generation_finish(self._open_handle))
        self._finished = True
        return event

    def prepare(self) -> None:
        """Computes the logits of the next token without choosing it, so that they can be read and changed."""
        try:
            low.generation_prepare(self._open_handle, self._flag_handle)
        except Cancelled:
            self._flag._spent()
            raise

    def logits(self) -> NDArray[np.float32]:
        """[vocab_size] logits that the next token will be chosen from, before any processing. After :meth:`prepare`."""
        logits = np.empty(self._session._model._vocab_size, np.float32)
        low.generation_get_logits(self._open_handle, logits)
        return logits

    def set_logits(self, logits: ArrayLike) -> None:
        """Replaces them for this step; -inf forbids a token. Log-probabilities stay those of the model.

        :param logits: [vocab_size]
        """
        low.generation_set_logits(self._open_handle, np.ascontiguousarray(logits, np.float32))

    def save_memory(self) -> bytes:
        """The state of the request, without its session: it goes on by :meth:`finermoe.Session.restore_generation`."""
        data: bytes = low.generation_save_memory(self._open_handle)
        return data

    @property
    def info(self) -> GenerationInfo:
        """Where it stands: tokens, times, finish."""
        info = read(GenerationInfo, low.generation_get_info(self._open_handle))
        return info

    @property
    def error(self) -> Error | None:
        """The error of its last step, such as one whose event in a batch has the finish_reason "error"; else None."""
        try:
            low.generation_get_error(self._open_handle)
        except Error as error:
            return error
        return None

    def cancel(self) -> None:
        """Ends the call that runs, or else the next one, with :class:`finermoe.Cancelled`; then it can go on. Any
        thread may."""
        self._flag.request()

    def close(self) -> None:
        """Cancels what runs; later calls are a :class:`finermoe.ClosedError`. Any thread may, any number of times."""
        handle, self._handle = self._handle, None
        if handle is not None:
            low.generation_close(handle)


_Result = TypeVar("_Result")


async def in_thread(call: Callable[[], _Result], cancel: Cancel,
                    keep: Callable[[_Result], None] | None = None) -> _Result:
    """Calls in another thread. Where the task is cancelled, the call is too, and the task goes on when it has ended; a
    result that came all the same is kept."""
    job = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        cancel.request()
        while not job.done():
            try:
                await asyncio.wait([job])
            except asyncio.CancelledError:
                pass  # of the same task, once more
        cancel.reset()
        if job.exception() is None and keep is not None:
            keep(job.result())
        raise


class Sampler:
    """The choice of tokens alone, for logits that come from elsewhere. One thread at a time.

    :param options: of a request, copied; None: greedy
    :param more: the fields of :class:`Options`
    """

    def __init__(self, options: GenerationOptions | None = None, **more: Unpack[Options]) -> None:
        merged = GenerationOptions() if options is None else options.copy()
        merged.set(**more)
        self._handle = low.sampler_create(merged._handle)

    def accept_prompt(self, ids: Ids) -> None:
        """Tokens of a prompt: the repetition penalty counts them, frequency and presence penalty do not."""
        low.sampler_accept_prompt(self._handle, ids)

    def accept(self, id: int) -> None:
        """A token that was generated, chosen here or elsewhere."""
        low.sampler_accept(self._handle, id)

    def choose(self, logits: ArrayLike) -> int:
        """Chooses a token and does not accept it.

        :param logits: one for each id of the vocabulary; -inf forbids one
        """
        id: int = low.sampler_choose(self._handle, np.ascontiguousarray(logits, np.float32))
        return id


def prompt_handle(session: Session, prompt: Text | Ids, options: GenerationOptions | None, flags: int) -> Any:
    """A request of the low layer, from a text or from ids."""
    if isinstance(prompt, (str, bytes, bytearray)):
        return low.generation_create_text(session._open_handle, handle_of(options), prompt, flags)
    return low.generation_create(session._open_handle, handle_of(options), prompt)
