"""Checkpoints that are written or checked.

A writer asks for the room it needs before it writes, writes beside its destination, and renames when all is whole. The
destination is a directory, or a single file if it ends in ".safetensors". Equal inputs and seed give equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from . import _lowlevel as low
from ._progress import receiver
from ._values import ConcatProj, Dtype, Progress, RouterInit, number_of, read
from .runtime import Cancel, Path

if TYPE_CHECKING:
    from typing_extensions import Unpack

Preset = Literal["finermoe", "c32a2", "s16a4", "drop-upcycling", "nvshard", "no-fg", "inter-fg", "out-fg"]
SourceDtype = Literal["source", "q8", "q4"]


class WriterOptions(TypedDict, total=False):
    """What the writers have in common."""

    seed: int
    """Of every random draw; 0 by default."""
    shard_size: int
    """Most bytes that a shard may hold; 5,000,000,000 by default."""
    overwrite: bool
    """An existing model is replaced when the new one is whole; else it is a :class:`finermoe.FileExistsError`."""
    progress: bool | Progress | None
    """True shows a bar (tqdm's, where it is installed); or a callable (phase, done, total)."""
    cancel: Cancel | None
    """Ends the writing; no file is left behind."""


def _writer_options(progress: Progress, *, seed: int | None = None, shard_size: int | None = None,
                    overwrite: bool = False, cancel: Cancel | None = None) -> Any:
    options = low.writer_options_create()
    if seed is not None:
        low.writer_options_set_seed(options, seed)
    if shard_size is not None:
        low.writer_options_set_shard_size(options, shard_size)
    low.writer_options_set_overwrite(options, overwrite)
    low.writer_options_set_progress(options, progress)
    low.writer_options_set_cancel(options, None if cancel is None else cancel._handle)
    return options


def _split(options: WriterOptions) -> tuple[Progress, Any]:
    """The receiver of progress, which has to live during the call, and the low layer's options."""
    rest: dict[str, Any] = dict(options)
    called = receiver(rest.pop("progress", None))
    return called, _writer_options(called, **rest)


def upcycle(dense: Path, out: Path, *, preset: Preset = "finermoe", g_i: int = 0, r_i: int = 0, g_o: int = 0,
            r_o: int = 0, t_i: int = 0, shared_expert: bool | None = None, concat_proj: ConcatProj | None = None,
            separate_router: bool | None = None, down_scale: float | None = None, drop_ratio: float | None = None,
            router_init: RouterInit | None = None, **writer: Unpack[WriterOptions]) -> None:
    """Makes a Mixture-of-Experts checkpoint from a dense one, by streaming; memory stays small.

    :param preset: what all that is not given here begins with
    :param g_i: granularity of the intermediate dimension, G_I; 0 leaves the preset's, as the next four
    :param r_i: its expansion, R_I
    :param g_o: granularity of the output dimension, G_O
    :param r_o: its expansion, R_O
    :param t_i: experts of the winning group that compute, T_I
    :param shared_expert: whether the dense FFN becomes the shared expert
    :param separate_router: a second router for the output components
    :param down_scale: the experts' down matrices are multiplied by it
    :param drop_ratio: in [0, 1]: share of each expert's intermediate indices that is drawn again
    :param writer: the fields of :class:`WriterOptions`
    """
    options = low.upcycle_options_create(preset)
    low.upcycle_options_set_shape(options, g_i, r_i, g_o, r_o, t_i)
    if shared_expert is not None:
        low.upcycle_options_set_shared_expert(options, shared_expert)
    if concat_proj is not None:
        low.upcycle_options_set_concat_proj(options, number_of("CONCAT_PROJ", concat_proj))
    if separate_router is not None:
        low.upcycle_options_set_separate_router(options, separate_router)
    if down_scale is not None:
        low.upcycle_options_set_down_scale(options, down_scale)
    if drop_ratio is not None:
        low.upcycle_options_set_drop_ratio(options, drop_ratio)
    if router_init is not None:
        low.upcycle_options_set_router_init(options, number_of("ROUTER_INIT", router_init))
    called, settings = _split(writer)
    low.upcycle_run(dense, out, options, settings)


def synthesize(config: Path, out: Path, *, dtype: Dtype | None = None, **writer: Unpack[WriterOptions]) -> None:
    """Writes a random checkpoint of any shape, for tests and benchmarks at real size.

    :param config: a config.json or a directory that holds one; tokenizer files beside it are carried over
    :param dtype: of the weights; None: the configuration's own
    """
    called, settings = _split(writer)
    low.synthesize_run(config, out, -1 if dtype is None else number_of("DTYPE", dtype), settings)


def quantize(path: Path, out: Path, *, dtype: Literal["q8", "q4"] = "q8",
             overrides: Mapping[str, SourceDtype] | None = None, **writer: Unpack[WriterOptions]) -> None:
    """Writes a quantised copy of a model, by streaming; memory stays small.

    :param dtype: of all matrices but embeddings and head, which are "q8"
    :param overrides: another type for the tensors whose names match, by pattern with * and ?; the last one counts
    """
    options = low.quantize_options_create(number_of("DTYPE", dtype))
    for pattern, other in (overrides or {}).items():
        low.quantize_options_add_override(options, pattern, -1 if other == "source" else number_of("DTYPE", other))
    called, settings = _split(writer)
    low.quantize_run(path, out, options, settings)


@dataclass(frozen=True)
class VerifiedFile:
    """What a verification found in one file."""

    name: str
    sha256: str
    first_bad: str
    """The first tensor that holds a NaN or infinity, or ""."""
    size: int
    """Bytes."""
    n_tensors: int
    """0 for files that hold none."""
    n_nan: int
    """Parameters, as the next."""
    n_infinite: int


def verify(path: Path, *, progress: bool | Progress | None = None, cancel: Cancel | None = None) -> list[VerifiedFile]:
    """Reads every file of a model once: structure, SHA-256, NaN and infinity. Bad values are findings, not errors."""
    called, flag = receiver(progress), cancel or Cancel()
    verification = low.verification_run(path, called, flag._handle)
    count = low.verification_count(verification)
    return [read(VerifiedFile, low.verification_get_file(verification, i)) for i in range(count)]
