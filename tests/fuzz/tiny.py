"""Models and tokenizers of a few kilobytes: what the fuzz targets run on, and what their seeds are made of."""

import json
import random
import struct
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUNDLED = ROOT / "examples/models/tiny-wordnet-dense"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def tokenizer(**changes):
    """The bundled tokenizer.json with the 256 bytes and the first merges alone, and one added token that is not special.
    Changes replace its components."""
    bundled = json.loads((BUNDLED / "tokenizer.json").read_text(encoding="utf-8"))
    model = bundled["model"]
    merges = model["merges"][:24] + [["Ã", "©"], ["s", "t"], ["1", "2"]]
    tokens = [token for token in model["vocab"] if len(token) == 1][:256]
    tokens += [token for token in dict.fromkeys(a + b for a, b in merges) if token not in tokens]
    model.update(vocab={token: id for id, token in enumerate(tokens)}, merges=merges)
    bundled["added_tokens"] = [
        {"id": len(tokens) + i, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": content in SPECIAL} for i, content in enumerate(SPECIAL + ["<tool>"])]
    for name, value in changes.items():
        target = model if name in model else bundled
        target[name] = value
    return bundled


def tokenizer_config(**changes):
    config = json.loads((BUNDLED / "tokenizer_config.json").read_text(encoding="utf-8"))
    config.pop("added_tokens_decoder")
    return config | changes


def dense_config(vocab_size, **changes):
    return {"model_type": "qwen2", "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": vocab_size,
            "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
            "tie_word_embeddings": True, "torch_dtype": "bfloat16"} | changes


def moe_config(vocab_size, **changes):
    return dense_config(vocab_size, model_type="finer_moe", G_I=2, R_I=1, G_O=2, R_O=2, num_experts=8,
                        num_experts_per_tok=2, moe_intermediate_size=4, shared_expert_intermediate_size=6,
                        norm_topk_prob=False, moe_concat_proj=False, num_hidden_layers=1,
                        tie_word_embeddings=False) | changes


def tensor_shapes(config):
    """{name: shape}, as src/format/tensor_table.cc has them."""
    h, kv = config["hidden_size"], config["hidden_size"] // config["num_attention_heads"] * config["num_key_value_heads"]
    shapes = {"model.embed_tokens.weight": [config["vocab_size"], h], "model.norm.weight": [h]}
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = [config["vocab_size"], h]

    def ffn(prefix, width, out=h):
        shapes.update({f"{prefix}.gate_proj.weight": [width, h], f"{prefix}.up_proj.weight": [width, h],
                       f"{prefix}.down_proj.weight": [out, width]})

    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        shapes |= {f"{prefix}.input_layernorm.weight": [h], f"{prefix}.post_attention_layernorm.weight": [h]}
        for name, rows in (("q", h), ("k", kv), ("v", kv)):
            shapes |= {f"{prefix}.self_attn.{name}_proj.weight": [rows, h], f"{prefix}.self_attn.{name}_proj.bias": [rows]}
        shapes[f"{prefix}.self_attn.o_proj.weight"] = [h, h]
        if "num_experts" not in config:
            ffn(f"{prefix}.mlp", config["intermediate_size"])
            continue
        shapes[f"{prefix}.mlp.gate.weight"] = [config["num_experts"], h]
        for expert in range(config["num_experts"]):
            ffn(f"{prefix}.mlp.experts.{expert}", config["moe_intermediate_size"], h // config.get("G_O", 1))
        if config["moe_concat_proj"]:
            shapes[f"{prefix}.mlp.concat_proj.weight"] = [h, h]
        if config["shared_expert_intermediate_size"]:
            ffn(f"{prefix}.mlp.shared_expert", config["shared_expert_intermediate_size"])
            shapes[f"{prefix}.mlp.shared_expert_gate.weight"] = [1, h]
    return shapes


def tensor(shape, dtype, draw):
    """Random bytes of one tensor: matrices normal, vectors about one."""
    n = 1
    for size in shape:
        n *= size
    values = [draw.gauss(0, 0.3) if len(shape) == 2 else draw.gauss(1, 0.1) for _ in range(n)]
    data = struct.pack(f"<{n}f", *values)
    if dtype == "F16":
        return struct.pack(f"<{n}e", *values)
    return data if dtype == "F32" else b"".join(data[i + 2:i + 4] for i in range(0, len(data), 4))  # BF16: cut off


def blocks(shape, draw):
    """The shape and bytes of a matrix in blocks of 8 bits (docs/format.md, "Matrices in blocks")."""
    panels, columns = -(-shape[0] // 16), -(-shape[1] // 32)
    block = lambda: struct.pack("<16e", *[0.01] * 16) + bytes(draw.randrange(1, 256) for _ in range(512))
    return [panels, columns, 544], b"".join(block() for _ in range(panels * columns))


def single_file(config, files=None, dtype="BF16", seed=1, in_blocks=False):
    """A single-file model: random weights of the configuration, and texts such as {"tokenizer.json": {…}}."""
    draw = random.Random(seed)
    header, data = {"__metadata__": {"finermoe." + name: text if isinstance(text, str) else compact(text)
                                     for name, text in ({"config.json": config} | (files or {})).items()}}, b""
    for name, shape in tensor_shapes(config).items():
        if in_blocks and len(shape) == 2 and "gate.weight" not in name:
            shape, values = blocks(shape, draw)
            element = "U8"
        else:
            values, element = tensor(shape, dtype, draw), dtype
        header[name] = {"dtype": element, "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = compact(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
