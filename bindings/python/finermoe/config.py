"""What can be known without weights: a model's shape, and the memory that it will take."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from . import _lowlevel as low
from ._values import Dtype, read
from .runtime import Path, Runtime

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .session import PlanSessionOptions


@dataclass(frozen=True)
class ConfigInfo:
    """The shape of a model, in the terms of the paper (arXiv 2603.13364) and of config.json."""

    dtype: Dtype
    """Of the bulk of the weights."""
    model_type: str
    """"finer_moe", "qwen2" or "qwen2_moe"."""
    hidden_size: int
    """h"""
    intermediate_size: int
    """H: width of a dense FFN."""
    n_layers: int
    n_moe_layers: int
    n_heads: int
    n_kv_heads: int
    head_size: int
    vocab_size: int
    """Rows of the embedding; may exceed the tokenizer's ids."""
    max_positions: int
    granularity_inter: int
    """G_I; 0 in a dense model, as all of the next eight."""
    expansion_inter: int
    """R_I"""
    granularity_output: int
    """G_O"""
    expansion_output: int
    """R_O"""
    n_experts: int
    """N = G_O R_O G_I R_I (Eq. 5)."""
    n_experts_per_token: int
    """G_O T_I"""
    expert_width: int
    """H_e"""
    expert_output_width: int
    """h_e = h / G_O"""
    shared_expert_width: int
    """0: no shared expert."""
    has_concat_proj: bool
    has_separate_router: bool
    norm_topk_prob: bool
    tied_embeddings: bool
    rms_norm_eps: float
    rope_theta: float
    parameters_total: int
    """In the checkpoint: embeddings and head counted as stored."""
    parameters_active: int
    """Of these, the ones that one token uses."""
    rope_scaling: str
    """"none", "linear", "yarn" or "llama3"."""
    rope_factor: float
    rope_original_positions: int
    """Positions that the model was trained for ("yarn", "llama3"), else 0."""
    rope_attention_factor: float
    sliding_window: int
    """Positions that a token sees in some layers, itself included; 0: all layers see all."""
    n_sliding_layers: int


class Config(ConfigInfo):
    """A checked configuration, whose fields are those of :class:`ConfigInfo`. Immutable; any thread may use it.

    :param path: a model directory, a config.json, or a single-file model
    """

    _handle: Any

    def __init__(self, path: Path) -> None:
        self._take(low.config_open(path))

    @classmethod
    def from_json(cls, json: str | bytes) -> Config:
        """From the text of a config.json."""
        self = cls.__new__(cls)
        self._take(low.config_open_memory(json))
        return self

    @classmethod
    def _of_model(cls, model: Any) -> Config:
        self = cls.__new__(cls)
        self._take(low.config_open_model(model._open_handle))
        return self

    def _take(self, handle: Any) -> None:
        info = read(ConfigInfo, low.config_get_info(handle))
        self.__dict__.update({one.name: getattr(info, one.name) for one in fields(info)}, _handle=handle)

    @property
    def json(self) -> str:
        """The config.json that it was read from, as it stands there."""
        text: str = low.config_get_json(self._handle)
        return text


@dataclass(frozen=True)
class Plan:
    """Bytes that a model and its sessions take, before anything is loaded. Weights are mapped, not allocated, except
    those that a device copies."""

    weights_embeddings: int
    """Embedding and, where it is not tied, head."""
    weights_attention: int
    """With biases, and all norms."""
    weights_dense: int
    """FFNs of dense layers."""
    weights_shared: int
    """Shared experts, their gates, and concat projections."""
    weights_routed: int
    """Routed experts."""
    weights_router: int
    """Router matrices, concat gates included."""
    weights_total: int
    kv_cache: int
    """Of all sessions."""
    scratch: int
    """Activations of the largest step, on all threads."""
    allocated_total: int
    """These, device_weights and expert_cache: what a memory limit is compared with."""
    bytes_per_token: int
    """Weight bytes that decoding one token reads."""
    weights_every_token: int
    """Weights that every token reads, which should stay in memory."""
    memory_available: int
    """What this process could use at this moment."""
    device_memory: int
    """Of the device planned for: what was given, or all it has. 0 for one that uses the machine's memory, as are the
    next six, and the last three."""
    device_weights: int
    """Copies on the device: the device_weights of :class:`finermoe.Model`."""
    device_total: int
    """device_weights, expert_cache, and what the device has of kv_cache and scratch; more than device_memory if not even
    one layer fits."""
    device_layers: int
    """Layers on the device, from the last; the CPU computes the others."""
    device_moe_layers: int
    """Of these, MoE layers whose routed experts are there too, from the last."""
    device_routed: int
    """Of weights_routed, the experts of these MoE layers."""
    device_bytes_per_token: int
    """Of bytes_per_token, what the device reads, fetched experts too; the CPU reads the rest."""
    host_weights: int
    """Of weights_total, what is used or fetched where it is mapped."""
    expert_cache: int
    """Bytes of the device for experts that are fetched, in whole slots; 0 if none is."""
    expert_cache_slots: int
    """Experts that it holds."""
    fetched_bytes_per_token: int
    """What decoding one token copies to the device, if experts are chosen evenly."""


def plan(model: Path | Config, *, sessions: int = 1, threads: int = 0, runtime: Runtime | None = None,
         device: str | None = None, device_memory: int = 0, device_module: Path | None = None,
         expert_cache: int = 0, **session: Unpack[PlanSessionOptions]) -> Plan:
    """Plans the memory of a model. Starts no thread and opens no device.

    :param model: a configuration, or what :class:`Config` is made from
    :param sessions: that live at once
    :param threads: that compute; 0: as many processors as this process may use
    :param runtime: plans for its threads and its device instead
    :param device: plans for this device, which need not be here: "cuda:0"
    :param device_memory: bytes of the device that the model and its sessions may take; 0: all it has
    :param device_module: the shared library that has the device; None: it is found
    :param expert_cache: bytes of device_memory into which chosen experts are fetched, as for :class:`finermoe.Model`
    :param session: context_length, kv_dtype and chunk of every session
    """
    from .session import session_options

    options = low.plan_options_create()
    low.plan_options_set_session(options, session_options(**session))
    low.plan_options_set_sessions(options, sessions)
    low.plan_options_set_threads(options, threads)
    if runtime is not None:
        low.plan_options_set_runtime(options, runtime._handle)
    if device is not None:
        low.plan_options_set_device(options, device_module, device, device_memory)
    low.plan_options_set_expert_cache(options, expert_cache)
    config = model if isinstance(model, Config) else Config(model)
    return read(Plan, low.plan_compute(config._handle, options))
