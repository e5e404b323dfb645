"""Opening a checkpoint of 11,000 tensors: ours against Python's safetensors, which opens it and lists its keys.

usage: open_checkpoint.py OPEN_CHECKPOINT [--limit 2]
Both in processor time of one thread, which the rest of the machine does not change. Prints JSON; exits with 1 where
ours takes more than LIMIT times as long, in one file or in five shards.
"""
import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import time

try:
    from safetensors import safe_open
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

LAYERS, EXPERTS, HIDDEN, WIDTH, EXPERT_WIDTH, VOCAB = 28, 128, 16, 64, 2, 8  # the published layout at a tiny width

CONFIG = {
    "model_type": "finer_moe", "torch_dtype": "bfloat16", "hidden_size": HIDDEN, "intermediate_size": WIDTH,
    "num_hidden_layers": LAYERS, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": VOCAB,
    "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": False,
    "G_I": 32, "R_I": 1, "G_O": 2, "R_O": 2, "num_experts": EXPERTS, "num_experts_per_tok": 2,
    "moe_intermediate_size": EXPERT_WIDTH, "shared_expert_intermediate_size": WIDTH,
}


def shapes():
    yield "model.embed_tokens.weight", [VOCAB, HIDDEN]
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        kv = HIDDEN // 2
        yield prefix + "input_layernorm.weight", [HIDDEN]
        for name, rows in (("q", HIDDEN), ("k", kv), ("v", kv)):
            yield prefix + f"self_attn.{name}_proj.weight", [rows, HIDDEN]
            yield prefix + f"self_attn.{name}_proj.bias", [rows]
        yield prefix + "self_attn.o_proj.weight", [HIDDEN, HIDDEN]
        yield prefix + "post_attention_layernorm.weight", [HIDDEN]
        yield prefix + "mlp.gate.weight", [EXPERTS, HIDDEN]
        for expert in range(EXPERTS):
            yield prefix + f"mlp.experts.{expert}.gate_proj.weight", [EXPERT_WIDTH, HIDDEN]
            yield prefix + f"mlp.experts.{expert}.up_proj.weight", [EXPERT_WIDTH, HIDDEN]
            yield prefix + f"mlp.experts.{expert}.down_proj.weight", [HIDDEN // 2, EXPERT_WIDTH]
        yield prefix + "mlp.shared_expert.gate_proj.weight", [WIDTH, HIDDEN]
        yield prefix + "mlp.shared_expert.up_proj.weight", [WIDTH, HIDDEN]
        yield prefix + "mlp.shared_expert.down_proj.weight", [HIDDEN, WIDTH]
        yield prefix + "mlp.shared_expert_gate.weight", [1, HIDDEN]
    yield "model.norm.weight", [HIDDEN]
    yield "lm_head.weight", [VOCAB, HIDDEN]


def write_file(path, tensors):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors:
        size = 2
        for dimension in shape:
            size *= dimension
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + bytes(offset))


def write_model(directory, n_shards):
    os.mkdir(directory)
    with open(os.path.join(directory, "config.json"), "w") as file:
        json.dump(CONFIG, file)
    tensors = list(shapes())
    if n_shards == 1:
        write_file(os.path.join(directory, "model.safetensors"), tensors)
        return
    weight_map = {}
    for shard in range(n_shards):
        name = f"model-{shard + 1:05}-of-{n_shards:05}.safetensors"
        part = tensors[len(tensors) * shard // n_shards:len(tensors) * (shard + 1) // n_shards]
        write_file(os.path.join(directory, name), part)
        weight_map.update((tensor, name) for tensor, _ in part)
    with open(os.path.join(directory, "model.safetensors.index.json"), "w") as file:
        json.dump({"metadata": {}, "weight_map": weight_map}, file)


def time_safetensors(directory, repetitions):
    files = sorted(name for name in os.listdir(directory) if name.endswith(".safetensors"))
    times = []
    for _ in range(repetitions):
        begin = time.process_time()
        n_tensors = 0
        for name in files:
            with safe_open(os.path.join(directory, name), "np") as file:
                n_tensors += len(file.keys())
        times.append((time.process_time() - begin) * 1e3)
    times.sort()
    return {"tensors": n_tensors, "best_ms": round(times[0], 3), "median_ms": round(times[len(times) // 2], 3)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("--limit", type=float, default=2)
    parser.add_argument("--repetitions", type=int, default=20)
    arguments = parser.parse_args()
    results, good = {}, True
    with tempfile.TemporaryDirectory() as scratch:
        for n_shards in (1, 5):
            directory = os.path.join(scratch, str(n_shards))
            write_model(directory, n_shards)
            command = [arguments.program, directory, str(arguments.repetitions)]
            ours, theirs = None, None
            for _ in range(3):  # in turn, and the best of each: what else the machine does hits both
                run = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                ours = min(ours or run, run, key=lambda result: result["best_ms"])
                run = time_safetensors(directory, arguments.repetitions)
                theirs = min(theirs or run, run, key=lambda result: result["best_ms"])
            if ours["tensors"] != theirs["tensors"]:
                sys.exit(f"{ours['tensors']} tensors here, {theirs['tensors']} there")
            ratio = ours["best_ms"] / theirs["best_ms"]
            good = good and ratio <= arguments.limit
            results[f"{n_shards} file{'s' * (n_shards > 1)}"] = {
                "finermoe": ours, "safetensors": theirs, "ratio": round(ratio, 3), "limit": arguments.limit}
    print(json.dumps(results, indent=1))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
