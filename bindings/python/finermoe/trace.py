"""What the router did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from . import _lowlevel as low
from ._values import read
from .errors import ClosedError

if TYPE_CHECKING:
    from typing_extensions import Self

    from .session import Session


@dataclass(frozen=True)
class TraceInfo:
    """What a trace has recorded."""

    what: int
    """Bits: 1 routes, 2 logits, 4 usage."""
    n_moe_layers: int
    n_tokens: int
    """Recorded so far."""
    n_experts: int
    """N"""
    n_experts_per_token: int
    """G_O T_I"""
    n_components: int
    """G_O"""


class Trace:
    """A record of what the router does, made by :meth:`finermoe.Session.trace` or :meth:`finermoe.Model.trace`.

    One thread at a time. `layer` counts the MoE layers from 0; :attr:`layers` has their indices in the model.
    """

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._session: Session | None = None

    @property
    def info(self) -> TraceInfo:
        """Sizes, and what is recorded."""
        return read(TraceInfo, low.trace_get_info(self._handle))

    @property
    def layers(self) -> list[int]:
        """The model's own indices of its MoE layers."""
        return [int(layer) for layer in self._array(low.trace_layers, (self.info.n_moe_layers,), np.uintp)]

    @property
    def positions(self) -> NDArray[np.uintp]:
        """[n_tokens] the position in its session of each token recorded; one computed twice is listed twice."""
        return self._array(low.trace_positions, (self.info.n_tokens,), np.uintp)

    def experts(self, layer: int) -> NDArray[np.int32]:
        """[n_tokens, n_experts_per_token], ascending in each row."""
        return self._array(low.trace_experts, (self.info.n_tokens, self.info.n_experts_per_token), np.int32, layer)

    def weights(self, layer: int) -> NDArray[np.float32]:
        """[n_tokens, n_experts_per_token], in the order of the experts."""
        return self._array(low.trace_weights, (self.info.n_tokens, self.info.n_experts_per_token), np.float32, layer)

    def groups(self, layer: int) -> NDArray[np.int32]:
        """[n_tokens, n_components]: the winning group of each output component."""
        return self._array(low.trace_groups, (self.info.n_tokens, self.info.n_components), np.int32, layer)

    def logits(self, layer: int) -> NDArray[np.float32]:
        """[n_tokens, n_experts] of the router."""
        return self._array(low.trace_logits, (self.info.n_tokens, self.info.n_experts), np.float32, layer)

    def usage(self, layer: int) -> NDArray[np.uint64]:
        """[n_experts]: how often each was chosen."""
        return self._array(low.trace_usage, (self.info.n_experts,), np.uint64, layer)

    def balance_loss(self, layer: int) -> float:
        """Load-balancing loss of Eq. 11 without its factor alpha: 1 when perfectly even."""
        loss: float = low.trace_balance_loss(self._handle, layer)
        return loss

    def _array(self, read_array: Any, shape: tuple[int, ...], dtype: DTypeLike, *layer: int) -> NDArray[Any]:
        array = np.empty(shape, dtype)
        read_array(self._handle, *layer, array)
        return array

    def clear(self) -> None:
        """Forgets what was recorded."""
        low.trace_clear(self._handle)

    def stop(self) -> None:
        """Records no more; what was recorded stays."""
        session, self._session = self._session, None
        if session is not None and session._traced is self:
            try:
                session.set_trace(None)
            except ClosedError:
                pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
