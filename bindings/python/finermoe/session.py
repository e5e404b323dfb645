"""A sequence of tokens and its KV cache."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict, overload

import numpy as np
from numpy.typing import NDArray

from . import _lowlevel as low
from ._progress import receiver
from ._closing import Closing
from ._values import Dtype, Hidden, KvDtype, Logits, Precision, Progress, number_of, read
from .chat import Chat, Messages, as_chat, chat_flags
from .errors import Cancelled, ClosedError
from .generation import Event, Generation, GenerationOptions, Options, handle_of, in_thread, prompt_handle, request_options
from .runtime import Cancel, Path
from .tokenizer import Ids, Text, text_flags
from .trace import Trace

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .model import Model


class PlanSessionOptions(TypedDict, total=False):
    """What of a session's options counts for its memory."""

    context_length: int
    """Most tokens that the session can hold; 0: the smaller of the model's max_positions and 4096."""
    kv_dtype: KvDtype
    """How the KV cache stores keys and values; "f32" by default."""
    chunk: int
    """Most tokens computed in one pass when a long prompt is appended; 0: 512."""


class SessionOptions(PlanSessionOptions, total=False):
    """The keywords of :meth:`finermoe.Model.session`."""

    precision: Precision
    """"exact" (default): float32 activations; "fast": rounded to the weights' own kind."""
    hidden: Hidden
    """What is kept of the rows that an append names: "none", their logits alone (default); "keep", hidden states too;
    "only", hidden states alone."""
    progress: bool | Progress | None
    """Receives the progress of long prompts, phase "prefill", in tokens; True shows a bar."""


def session_options(*, context_length: int = 0, kv_dtype: KvDtype | int = "f32", chunk: int = 0,
                    precision: Precision | int = "exact", hidden: Hidden | int = "none",
                    progress: bool | Progress | None = None) -> Any:
    """Options of the low layer, whose progress the caller keeps alive."""
    options = low.session_options_create()
    low.session_options_set_context_length(options, context_length)
    low.session_options_set_kv_dtype(options, number_of("DTYPE", kv_dtype))
    low.session_options_set_chunk(options, chunk)
    low.session_options_set_precision(options, number_of("PRECISION", precision))
    low.session_options_set_hidden(options, number_of("HIDDEN", hidden))
    low.session_options_set_progress(options, progress)
    return options


@dataclass(frozen=True)
class SessionInfo:
    """What a session holds."""

    kv_dtype: KvDtype
    length: int
    """Tokens held."""
    context_length: int
    """Most it can hold."""
    n_logits: int
    """Rows of logits kept by the last append."""
    kv_bytes: int
    precision: Precision
    quantized_dtypes: tuple[Dtype, ...]
    """Types of weights whose products use quantized activations; with the others, "fast" is as "exact" here."""
    n_computed: int
    """Of `length`: the others wait for the next call that computes."""
    n_hidden: int
    """Rows of hidden states kept by the last append."""


class Scores(NamedTuple):
    """How likely tokens were."""

    logprobs: NDArray[np.float32]
    """[n] natural logarithm of the probability of each token behind all before it; NaN for the first of a session."""
    likeliest: NDArray[np.int32]
    """[n] the token that was likeliest in its place; -1 for the first of a session."""


class Session(Closing):
    """A sequence of tokens and its KV cache, made by :meth:`finermoe.Model.session`.

    It holds every token that was appended to it, given to it as a prompt, or shown by a generation on it. One thread at
    a time: another one gets a :class:`finermoe.BusyError`. Any thread may call :meth:`cancel` and :meth:`close`. Ctrl-C
    on the main thread ends what runs there at once and leaves the session as a cancel does.
    """

    def __init__(self, model: Model, **options: Unpack[SessionOptions]) -> None:
        progress = options.get("progress")
        called = receiver(progress) if progress else None
        options["progress"] = called
        self._take(model, low.session_create(model._open_handle, session_options(**options)), called)

    def _take(self, model: Model, handle: Any, progress: Progress | None) -> None:
        self._model, self._handle = model, handle
        self._progress = progress  # called for as long as the session lives
        self._flag = Cancel._own()
        self._traced: Trace | None = None

    @property
    def _open_handle(self) -> Any:
        if self._handle is None:
            raise ClosedError("the session was closed")
        return self._handle

    # --- Requests

    def generate(self, prompt: Text | Ids, *, options: GenerationOptions | None = None, parse_special: bool = False,
                 special_tokens: bool = True, cancel: Cancel | None = None, **more: Unpack[Options]) -> Generation:
        """A request whose prompt is appended to what the session holds; nothing is computed yet.

        :param prompt: a text, or token ids; empty ids go on from what the session holds
        :param options: for many requests; None: the model's defaults
        :param parse_special: special tokens in a text become their ids
        :param special_tokens: with those that the tokenizer puts around a text, if it does
        :param cancel: a flag that ends its calls; None: one of its own (:meth:`Generation.cancel`)
        :param more: the fields of :class:`finermoe.Options`
        """
        chosen = request_options(self._model, options, more)
        handle = prompt_handle(self, prompt, chosen, text_flags(parse_special, special_tokens))
        return Generation(self, handle, cancel, chosen)

    def chat(self, messages: Chat | Messages, *, options: GenerationOptions | None = None,
             generation_prompt: bool = True, continue_last: bool = False, cancel: Cancel | None = None,
             **more: Unpack[Options]) -> Generation:
        """A request whose prompt is a chat. What the session already holds of the rendered prompt is kept and not
        computed again; what it holds beyond that is forgotten. The template's end of turn ends it.

        :param messages: ``[{"role": "user", "content": "…"}, …]`` or a :class:`finermoe.Chat`
        :param generation_prompt: open the assistant's turn at the end
        :param continue_last: go on with the last message
        """
        chat = as_chat(messages)
        chosen = request_options(self._model, options, more)
        handle = low.generation_create_chat(self._open_handle, handle_of(chosen), chat._handle,
                                            chat_flags(generation_prompt, continue_last))
        return Generation(self, handle, cancel, chosen)

    async def agenerate(self, prompt: Text | Ids, *, options: GenerationOptions | None = None,
                        parse_special: bool = False, special_tokens: bool = True, cancel: Cancel | None = None,
                        **more: Unpack[Options]) -> AsyncIterator[Event]:
        """:meth:`generate` as an async iterator that never blocks the loop; cancelling the task stops it."""
        generation = await in_thread(
            lambda: self.generate(prompt, options=options, parse_special=parse_special, special_tokens=special_tokens,
                                  cancel=cancel, **more), cancel or self._flag)
        async for event in generation:
            yield event

    async def achat(self, messages: Chat | Messages, *, options: GenerationOptions | None = None,
                    generation_prompt: bool = True, continue_last: bool = False, cancel: Cancel | None = None,
                    **more: Unpack[Options]) -> AsyncIterator[Event]:
        """:meth:`chat` as an async iterator that never blocks the loop; cancelling the task stops it."""
        generation = await in_thread(
            lambda: self.chat(messages, options=options, generation_prompt=generation_prompt,
                              continue_last=continue_last, cancel=cancel, **more), cancel or self._flag)
        async for event in generation:
            yield event

    def restore_generation(self, data: bytes) -> Generation:
        """A request that goes on where one was saved (:meth:`Generation.save_memory`), on a session that holds the same
        tokens as the other did then."""
        return Generation(self, low.generation_restore_memory(self._open_handle, data))

    # --- Tokens and what they compute

    @overload
    def append(self, ids: Ids, logits: None = None, *, cancel: Cancel | None = None) -> None: ...

    @overload
    def append(self, ids: Ids, logits: Logits | Sequence[int], *,
               cancel: Cancel | None = None) -> NDArray[np.float32]: ...

    def append(self, ids: Ids, logits: Logits | Sequence[int] | None = None, *,
               cancel: Cancel | None = None) -> NDArray[np.float32] | None:
        """Appends tokens and computes them.

        After a cancel the session holds the tokens of the chunks that were finished, after another error those that it
        held before.

        :param ids: [n]
        :param logits: rows to keep and return: "last", "all", or strictly ascending indices into `ids`; None: none
        :returns: [n_rows, vocab_size], of "last" [vocab_size]; None where no rows were asked for. A session with
            ``hidden="only"`` computes no logits, and has none to return
        """
        flag = cancel or self._flag
        try:
            if logits is None or isinstance(logits, (str, int)):
                kept = number_of("LOGITS", logits or "none")
                low.session_append(self._open_handle, ids, kept, flag._handle)
            else:
                low.session_append_rows(self._open_handle, ids, logits, flag._handle)
        except Cancelled:
            flag._spent()
            raise
        if logits is None:
            return None
        rows = self.logits()
        return rows[0] if logits == "last" and len(rows) == 1 else rows

    def logits(self, row: int | None = None, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Logits that the last append kept.

        :param row: 0 … kept rows - 1; None: all of them
        :param out: an array to fill, [vocab_size] or [n_rows, vocab_size]; None: a new one
        :returns: [vocab_size], or [n_rows, vocab_size] where no row is named
        """
        return self._rows(low.session_logits, "n_logits", self._model._vocab_size, row, out)

    def hidden(self, row: int | None = None, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Hidden states after the last norm, of the rows that the last append kept; needs ``hidden="keep"`` or "only".

        :returns: [hidden_size], or [n_rows, hidden_size] where no row is named
        """
        return self._rows(low.session_hidden, "n_hidden", self._model._hidden_size, row, out)

    def _rows(self, read_row: Any, count: str, width: int, row: int | None,
              out: NDArray[np.float32] | None) -> NDArray[np.float32]:
        handle = self._open_handle
        if row is not None:
            values = np.empty(width, np.float32) if out is None else out
            read_row(handle, row, values)
            return values
        n_rows: int = getattr(low.session_get_info(handle), count)
        values = np.empty((n_rows, width), np.float32) if out is None else out
        for i in range(n_rows):
            read_row(handle, i, values[i])
        return values

    def score(self, ids: Ids, *, cancel: Cancel | None = None) -> Scores:
        """Appends tokens and gives the log-probability of each, without keeping logits. After any error the session
        holds what it held before."""
        flag = cancel or self._flag
        scores = Scores(np.empty(len(ids), np.float32), np.empty(len(ids), np.int32))
        try:
            low.session_score(self._open_handle, ids, flag._handle, scores)
        except Cancelled:
            flag._spent()
            raise
        return scores

    # --- What it holds

    @property
    def model(self) -> Model:
        """The model that it belongs to."""
        return self._model

    @property
    def info(self) -> SessionInfo:
        """What it holds, and how."""
        return read(SessionInfo, low.session_get_info(self._open_handle))

    @property
    def length(self) -> int:
        """Tokens held."""
        length: int = low.session_get_info(self._open_handle).length
        return length

    @property
    def context_length(self) -> int:
        """Most tokens that it can hold; :meth:`set_context_length` changes it."""
        length: int = low.session_get_info(self._open_handle).context_length
        return length

    @property
    def tokens(self) -> list[int]:
        """The tokens held."""
        ids = np.empty(self.length, np.int32)
        low.session_tokens(self._open_handle, ids)
        tokens: list[int] = ids.tolist()
        return tokens

    def truncate(self, length: int) -> None:
        """Forgets all tokens from `length` on, and gives the memory of kept logits back."""
        low.session_truncate(self._open_handle, length)

    def reset(self) -> None:
        """Forgets all tokens, and gives the memory of kept logits back."""
        low.session_reset(self._open_handle)

    def keep_prefix(self, ids: Ids) -> int:
        """Keeps as many tokens as the session and `ids` have in common from the start, and forgets all others.

        :returns: tokens that the session still holds; then append the ids from there on
        """
        kept: int = low.session_keep_prefix(self._open_handle, ids)
        return kept

    def remove(self, begin: int, end: int) -> None:
        """Removes the tokens [begin, end) and shifts later ones down, which approximates computing them again."""
        low.session_remove(self._open_handle, begin, end)

    def set_context_length(self, n_tokens: int) -> None:
        """Another context length, with the tokens kept; at least the present length, or 0 for the default."""
        low.session_set_context_length(self._open_handle, n_tokens)

    def set_progress(self, progress: bool | Progress | None) -> None:
        """Another receiver of the progress of long prompts; None: none."""
        called = receiver(progress) if progress else None
        low.session_set_progress(self._open_handle, called)
        self._progress = called

    def fork(self) -> Session:
        """A second session that begins as a copy of this one: tokens, cache and options; not the kept rows."""
        fork = Session.__new__(Session)
        fork._take(self._model, low.session_fork(self._open_handle), self._progress)
        return fork

    def save(self, path: Path) -> None:
        """Writes tokens and cache to a file, which appears when it is whole."""
        low.session_save(self._open_handle, path)

    def restore(self, path: Path) -> None:
        """Replaces the session's content by a saved one of the same model and cache type."""
        low.session_restore(self._open_handle, path)

    def save_memory(self) -> bytes:
        """The same bytes as :meth:`save` writes."""
        data: bytes = low.session_save_memory(self._open_handle)
        return data

    def restore_memory(self, data: bytes) -> None:
        """:meth:`restore` from bytes."""
        low.session_restore_memory(self._open_handle, data)

    # --- The router

    def trace(self, *, routes: bool = True, logits: bool = False, usage: bool = True) -> Trace:
        """Records what the router does with tokens that are computed from now on, as :meth:`finermoe.Model.trace` says;
        ``with`` stops it at its end, with what was recorded kept."""
        trace = self._model.trace(routes=routes, logits=logits, usage=usage)
        self.set_trace(trace)
        return trace

    def set_trace(self, trace: Trace | None) -> None:
        """Records with this trace; None: stops."""
        low.session_set_trace(self._open_handle, None if trace is None else trace._handle)
        if trace is not None:
            trace._session = self
        self._traced = trace

    # --- Its end

    def cancel(self) -> None:
        """Ends the call that runs, or else the next one, with :class:`finermoe.Cancelled`. Any thread may."""
        self._flag.request()

    def close(self) -> None:
        """Cancels what runs and gives the memory back; later calls are a :class:`finermoe.ClosedError`. Any thread may,
        any number of times."""
        handle, self._handle = self._handle, None
        if handle is not None:
            low.session_close(handle)
