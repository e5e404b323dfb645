"""A mapped checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import _lowlevel as low
from ._progress import receiver
from ._closing import Closing
from ._values import Lock, Prefetch, Progress, number_of, read
from .batch import Batch
from .chat import Chat, Messages
from .config import Config
from .errors import ClosedError
from .generation import Options
from .runtime import Cancel, Path, Runtime, RuntimeOptions, make_runtime
from .session import Session, SessionOptions
from .tokenizer import Ids, Text, Tokenizer
from .trace import Trace

if TYPE_CHECKING:
    from typing_extensions import Buffer, Unpack


@dataclass(frozen=True)
class ExpertCacheInfo:
    """What became of the experts that a model fetches; all 0 if it fetches none."""

    bytes: int
    """Of the device."""
    n_slots: int
    """Experts that it holds."""
    n_hits: int
    """Chosen experts that were there, each counted once per layer and pass, since the model was opened."""
    n_misses: int
    """Those that were copied."""


class Model(Closing):
    """An open checkpoint. Opening reads headers only; weights are read when they are first used. Any thread may use it.

    :param path: a Hugging Face directory or a single .safetensors file
    :param fd: in place of a path, a file descriptor of one; it is duplicated
    :param data: in place of a path, a single-file model in memory, which is not copied and kept alive (bytes, a buffer)
    :param runtime: shared with other models; None: one of its own, with the keywords of :class:`finermoe.Runtime`
    :param copy: read the weights into memory, so that nothing can happen to the files afterwards
    :param verify: read every weight once and refuse NaN and infinity
    :param lock: weights that stay in memory while the model lives
    :param expert_budget: bytes of mapped routed experts that are in memory at most; 0: no limit
    :param prefetch: reading the chosen experts while the shared expert computes
    :param expert_device: name of the device that holds and computes the routed experts, or what device_weights leaves no
        room for; None: the runtime's, or the CPU
    :param device_weights: bytes of weights on the runtime's device at most, as a :class:`finermoe.Plan` says; 0: no
        limit
    :param expert_cache: bytes of the runtime's device, beside device_weights, into which chosen experts that are not there
        are fetched; 0: none
    :param progress: True shows a bar; or a callable (phase, done, total)
    :param cancel: ends the opening
    """

    def __init__(self, path: Path | None = None, *, fd: int | None = None, data: Buffer | None = None,
                 runtime: Runtime | None = None, copy: bool = False, verify: bool = False, lock: Lock = "none",
                 expert_budget: int = 0, prefetch: Prefetch = "auto", expert_device: str | None = None,
                 device_weights: int = 0, expert_cache: int = 0, progress: bool | Progress | None = None,
                 cancel: Cancel | None = None, **options: Unpack[RuntimeOptions]) -> None:
        if (path is not None) + (fd is not None) + (data is not None) != 1:
            raise TypeError("a model is opened by one of path, fd and data")
        self._runtime = make_runtime(runtime, options)  # whose callables are called for as long as the model lives
        called = receiver(progress)  # for as long as the opening
        settings = low.model_options_create()
        if self._runtime is not None:
            low.model_options_set_runtime(settings, self._runtime._handle)
        low.model_options_set_copy(settings, copy)
        low.model_options_set_verify(settings, verify)
        low.model_options_set_lock(settings, number_of("LOCK", lock))
        low.model_options_set_expert_budget(settings, expert_budget)
        low.model_options_set_prefetch(settings, number_of("PREFETCH", prefetch))
        low.model_options_set_expert_device(settings, expert_device)
        low.model_options_set_device_weights(settings, device_weights)
        low.model_options_set_expert_cache(settings, expert_cache)
        low.model_options_set_progress(settings, called)
        low.model_options_set_cancel(settings, None if cancel is None else cancel._handle)
        self._data = data if data is None else memoryview(data)  # outlives all that is made from the model
        self._handle: Any = (
            low.model_open(path, settings) if path is not None
            else low.model_open_fd(fd, settings) if fd is not None
            else low.model_open_memory(self._data, settings))
        self._config: Config | None = None
        self._tokenizer: Tokenizer | None = None

    @property
    def _open_handle(self) -> Any:
        if self._handle is None:
            raise ClosedError("the model was closed")
        return self._handle

    @property
    def config(self) -> Config:
        """Its shape."""
        if self._config is None:
            self._config = Config._of_model(self)
        return self._config

    @property
    def _vocab_size(self) -> int:
        return self.config.vocab_size

    @property
    def _hidden_size(self) -> int:
        return self.config.hidden_size

    @property
    def tokenizer(self) -> Tokenizer:
        """Its own, parsed at first use. A model without one has a :class:`finermoe.NoTokenizerError`."""
        if self._tokenizer is None:
            self._tokenizer = Tokenizer._of(low.tokenizer_open_model(self._open_handle))
        return self._tokenizer

    @property
    def runtime(self) -> Runtime:
        """The runtime that it computes on."""
        return self._runtime or Runtime._of_model(self)

    def session(self, **options: Unpack[SessionOptions]) -> Session:
        """A new session. Its keywords are the fields of :class:`finermoe.SessionOptions`."""
        return Session(self, **options)

    def batch(self) -> Batch:
        """For many requests at once."""
        return Batch(self)

    def trace(self, *, routes: bool = True, logits: bool = False, usage: bool = True) -> Trace:
        """A record of what the router does, for :meth:`Session.set_trace`. A dense model has none.

        :param routes: record the experts of every token
        :param logits: record the router's logits of every token
        :param usage: count how often each expert was chosen
        """
        what = ((low.TRACE_ROUTES if routes else 0) | (low.TRACE_LOGITS if logits else 0) |
                (low.TRACE_USAGE if usage else 0))
        return Trace(low.trace_create(self._open_handle, what))

    def generate(self, prompt: Text | Ids, **options: Unpack[Options]) -> str:
        """The text that follows a prompt, on a session of its own. Keywords are the fields of :class:`Options`."""
        with self.session() as session:
            return session.generate(prompt, **options).text()

    def chat(self, messages: Chat | Messages, **options: Unpack[Options]) -> str:
        """The answer to a chat, on a session of its own."""
        with self.session() as session:
            return session.chat(messages, **options).text()

    def expert_similarity(self, layer: int, *, cancel: Cancel | None = None) -> float:
        """Mean cosine similarity over all pairs of routed experts of one layer.

        :param layer: the model's own layer index
        """
        flag = cancel or Cancel()
        similarity: float = low.model_expert_similarity(self._open_handle, layer, flag._handle)
        return similarity

    def expert_cache(self) -> ExpertCacheInfo:
        """What became of the experts that the model fetches. Any thread may ask while sessions compute."""
        return read(ExpertCacheInfo, low.model_get_expert_cache(self._open_handle))

    def close(self) -> None:
        """Cancels what runs on the model's sessions, which are closed from then on. Any thread may, any number of
        times."""
        handle, self._handle = self._handle, None
        if handle is not None:
            low.model_close(handle)
