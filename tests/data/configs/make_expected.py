"""Writes expected.json: config.json files, and what the classes of transformers 5.23 make of them.

Needs transformers==5.23.0 and numpy, and no torch: the functions that compute rotary frequencies run as they are, with
the few array operations that they call done by numpy, in float32 as well.

    python tests/data/configs/make_expected.py
"""

import json
import logging
import pathlib
import sys
import tempfile
import types

import numpy
import transformers
from transformers import modeling_rope_utils

logging.disable(logging.WARNING)
assert transformers.__version__ == "5.23.0", transformers.__version__


class Tensor(numpy.ndarray):
    def to(self, *_, dtype=None, **__):
        return self if dtype is None else self.astype(dtype).view(Tensor)


torch = types.SimpleNamespace(
    float=numpy.float32, float32=numpy.float32, int64=numpy.int64,
    arange=lambda *parts, dtype=numpy.int64, **_: numpy.arange(*parts).astype(dtype).view(Tensor),
    clamp=lambda x, low, high: numpy.clip(x, numpy.float32(low), numpy.float32(high)).view(Tensor),
    where=lambda condition, a, b: numpy.where(condition, a, b).view(Tensor))
modeling_rope_utils.torch = torch


def frequencies(config):
    """(frequencies, factor of cosines and sines), as Qwen2RotaryEmbedding has them."""
    config.standardize_rope_params()
    kind = config.rope_parameters["rope_type"]
    if kind == "default":
        dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        exponents = torch.arange(0, dim, 2, dtype=torch.float) / numpy.float32(dim)
        return 1.0 / (numpy.float32(config.rope_parameters["rope_theta"]) ** exponents), 1.0
    return modeling_rope_utils.ROPE_INIT_FUNCTIONS[kind](config)


def describe(config):
    rope, attention_factor = frequencies(config)
    values = {key: getattr(config, key) for key in (
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size",
        "max_position_embeddings", "rms_norm_eps", "initializer_range", "tie_word_embeddings")}
    values["num_key_value_heads"] = config.num_key_value_heads or config.num_attention_heads
    values["head_size"] = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    values["rope_type"] = config.rope_parameters["rope_type"]
    values["rope_theta"] = config.rope_parameters["rope_theta"]
    values["frequencies"] = [float(f"{x:.9g}") for x in rope]
    values["attention_factor"] = attention_factor
    values["windows"] = [config.sliding_window if kind == "sliding_attention" else 0 for kind in config.layer_types]
    if config.model_type == "qwen2":
        return values
    for key in ("num_experts", "num_experts_per_tok", "moe_intermediate_size", "shared_expert_intermediate_size",
                "norm_topk_prob", "qkv_bias"):
        values[key] = getattr(config, key)
    values["is_moe_layer"] = [
        layer not in config.mlp_only_layers and config.num_experts > 0 and (layer + 1) % config.decoder_sparse_step == 0
        for layer in range(config.num_hidden_layers)]
    return values


DENSE = {"model_type": "qwen2", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4,
         "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 320, "max_position_embeddings": 512,
         "rope_theta": 1000000.0}
MOE = {**DENSE, "model_type": "qwen2_moe", "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
       "shared_expert_intermediate_size": 96}
FULL, SLIDING = "full_attention", "sliding_attention"
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 128}


def without(config, *keys):
    return {key: value for key, value in config.items() if key not in keys}


def variants():
    """Configurations, as objects or as texts."""
    for base in (DENSE, MOE):
        yield base
        yield {"model_type": base["model_type"]}
        for key in base:
            if key not in ("model_type", "num_attention_heads", "num_key_value_heads"):  # whose defaults do not fit
                yield without(base, key)
        yield without({**base, "num_attention_heads": 32 if base is DENSE else 16}, "num_key_value_heads")
        yield {**base, "num_key_value_heads": 4, "num_attention_heads": 8}
        yield {**base, "num_key_value_heads": None}
        yield {**base, "rope_scaling": None, "sliding_window": None}
        yield {**base, "tie_word_embeddings": True, "rms_norm_eps": 1e-5, "initializer_range": 0.01}
        yield {**base, "rms_norm_eps": 0.0}
        yield {**base, "hidden_act": "swish"}
        for size in (2, 8, 24, 64, 100):
            yield {**base, "head_dim": size}
        yield {**base, "head_dim": 32, "num_attention_heads": 3, "num_key_value_heads": 1}
        yield {**base, "hidden_size": 66}  # heads of 16, and 2 columns without one

        # Windows
        yield {**base, "use_sliding_window": True}
        for limit in (-1, 0, 1, 2, 3, 4, 28):
            yield {**base, "use_sliding_window": True, "sliding_window": 16, "max_window_layers": limit}
        yield {**base, "use_sliding_window": False, "sliding_window": 16, "max_window_layers": 1}
        yield {**base, "use_sliding_window": True, "max_window_layers": 2}
        if base is DENSE:
            yield {**base, "use_sliding_window": True, "sliding_window": None, "max_window_layers": 1}
        for kinds in ([FULL] * 4, [SLIDING] * 4, [SLIDING, FULL, FULL, SLIDING], ["attention", SLIDING, FULL, "attention"]):
            yield {**base, "use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1, "layer_types": kinds}
        yield {**base, "layer_types": [FULL] * 4, "use_sliding_window": False}

        # Rope
        for head in (16, 64, 128):
            for scaling in (
                    {"type": "default"}, {"rope_type": "default", "factor": 3.0}, {},
                    {"type": "linear", "factor": 4.0}, {"rope_type": "linear", "factor": 2}, {"rope_type": "linear",
                                                                                            "factor": 0.5},
                    YARN, without(YARN, "original_max_position_embeddings"), {**YARN, "factor": None},
                    {**YARN, "attention_factor": 0.7}, {**YARN, "attention_factor": 1},
                    {**YARN, "mscale": 0.7, "mscale_all_dim": 1.2}, {**YARN, "mscale": 0.7},
                    {**YARN, "mscale": 1.0, "mscale_all_dim": 0}, {**YARN, "beta_fast": 8, "beta_slow": 2},
                    {**YARN, "beta_fast": 0, "beta_slow": None}, {**YARN, "truncate": False},
                    {**YARN, "truncate": None}, {**YARN, "factor": 40, "beta_fast": 1, "beta_slow": 1},
                    {**YARN, "factor": 0.5}, {**YARN, "original_max_position_embeddings": 32768},
                    {**YARN, "partial_rotary_factor": 1.0},
                    LLAMA3, without(LLAMA3, "original_max_position_embeddings"),
                    {**LLAMA3, "low_freq_factor": 2, "high_freq_factor": 3, "factor": 32},
                    {**LLAMA3, "original_max_position_embeddings": 8192}):
                yield {**base, "head_dim": head, "rope_scaling": scaling}
        yield {**base, "rope_scaling": {"type": "linear", "rope_type": "yarn", "factor": 4.0}}
        yield {**base, "rope_parameters": {**YARN, "rope_theta": 5000.0}}
        yield {**without(base, "rope_theta"), "rope_parameters": {**LLAMA3, "rope_theta": 5000}}
        yield {**without(base, "rope_theta"), "rope_parameters": {"rope_theta": 5000.0, "rope_type": "default"}}
        yield {**base, "rope_parameters": {"rope_theta": 5000.0, "rope_type": "default"}}  # the inner one counts
        yield {**base, "rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {**YARN, "rope_theta": 7.0}}
        yield {**without(base, "rope_theta"), "rope_scaling": {"type": "linear", "factor": 2.0},
               "rope_parameters": {"rope_type": "default", "rope_theta": 7.0}}
        yield {**base, "rope_scaling": {}, "rope_parameters": {"rope_type": "linear", "factor": 2.0}}
        yield {**base, "rope_scaling": YARN, "original_max_position_embeddings": 64}
        yield {**base, "rope_scaling": {"type": "default"}, "partial_rotary_factor": 0.5}
        yield {**base, "rope_theta": 10000, "max_position_embeddings": 32768,
               "rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"}}

        # What Python's json module reads
        text = json.dumps(base)[:-1]
        yield text + ', "x": NaN, "y": [Infinity, -Infinity, {"z": "NaN"}]}'
        yield text + ', "hidden_size": 32, "hidden_size": 128}'
        yield text + ', "rope_scaling": {"type": "linear", "factor": 2, "factor": 4}}'
        yield text + ', "x": {"__float__": "NaN"}}'
    yield {**MOE, "mlp_only_layers": [0, 3, 9, -1], "decoder_sparse_step": 1}
    yield {**MOE, "mlp_only_layers": None, "decoder_sparse_step": 2}
    yield {**MOE, "norm_topk_prob": True, "qkv_bias": False}
    yield {**MOE, "num_experts": 0}


def main():
    cases = []
    for variant in variants():
        text = variant if isinstance(variant, str) else json.dumps(variant)
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "config.json").write_text(text)
            config = transformers.AutoConfig.from_pretrained(folder)
        cases.append({"config": text, "expected": describe(config)})
    path = pathlib.Path(__file__).with_name("expected.json")
    path.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
    print(f"{len(cases)} configurations, {path.stat().st_size} bytes", file=sys.stderr)


main()
