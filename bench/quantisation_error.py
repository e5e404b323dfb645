"""Squared error of the block formats beside llama.cpp's types, against bits per weight.

    python3 bench/quantisation_error.py FINERMOE

FINERMOE is the command. Needs numpy, gguf and llama-cpp-python, whose own quantiser is called. Prints a table in
Markdown: mean squared error over mean square, in 1/1000, of normal and of heavy-tailed numbers (Student's t) and of the
bundled models' matrices. Rows are padded with zeros to whole blocks of 32; for Q6_K, whose blocks have 256, the matrix is
taken as one long row.
"""
import ctypes
import glob
import json
import os
import struct
import subprocess
import sys
import tempfile

import gguf
import llama_cpp
import numpy as np

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
sys.path.insert(0, os.path.join(ROOT, "tests", "convert"))
from block_decoder import decode  # noqa: E402

BITS = {"q8": 8.5, "q4": 4.5, "Q8_0": 8.5, "Q6_K": 6.5625, "IQ4_NL": 4.5, "Q4_0": 4.5}
SHAPE = (8192, 256)


def read(path):
    """{name: (dtype, shape, bytes)} of one safetensors file."""
    with open(path, "rb") as file:
        begin = 8 + struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(begin - 8))
        data = file.read()
    return {name: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])])
            for name, entry in header.items() if name != "__metadata__"}


def bf16(data, shape):
    return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)


def write_model(folder, matrix):
    """The least dense model, whose embedding is `matrix`."""
    rows, h = matrix.shape
    config = {"model_type": "qwen2", "torch_dtype": "float32", "hidden_size": h, "intermediate_size": 2,
              "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1, "vocab_size": rows,
              "max_position_embeddings": 8, "rms_norm_eps": 1e-6, "rope_theta": 1e4, "tie_word_embeddings": True}
    layer = "model.layers.0."
    tensors = {"model.embed_tokens.weight": matrix, "model.norm.weight": np.ones(h),
               layer + "input_layernorm.weight": np.ones(h), layer + "post_attention_layernorm.weight": np.ones(h),
               layer + "mlp.gate_proj.weight": np.ones((2, h)), layer + "mlp.up_proj.weight": np.ones((2, h)),
               layer + "mlp.down_proj.weight": np.ones((h, 2)), layer + "self_attn.o_proj.weight": np.ones((h, h))}
    for name in "qkv":
        tensors[f"{layer}self_attn.{name}_proj.weight"] = np.ones((h, h))
        tensors[f"{layer}self_attn.{name}_proj.bias"] = np.ones(h)
    header, data = {}, b""
    for name, values in tensors.items():
        raw = values.astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": values.shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    os.makedirs(folder)
    with open(f"{folder}/config.json", "w", encoding="utf-8") as file:
        json.dump(config, file)
    with open(f"{folder}/model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def quantize(command, source, out, dtype):
    """Every matrix in blocks, the embedding too."""
    subprocess.run([command, "quantize", source, out, "--dtype", dtype, "--override", f"*={dtype}"], check=True,
                   stderr=subprocess.DEVNULL)
    return read(f"{out}/model.safetensors")


def ours(command, source, names, dtype):
    """{name: decoded matrix}"""
    originals = read(f"{source}/model.safetensors")
    with tempfile.TemporaryDirectory() as folder:
        tensors = quantize(command, source, f"{folder}/out", dtype)
    return {name: decode(tensors[name][2], tensors[name][1], *originals[name][1]) for name in names}


def llama_library():
    folder = os.path.join(os.path.dirname(llama_cpp.__file__), "lib")
    library = ctypes.CDLL(glob.glob(os.path.join(folder, "libggml-base.so"))[0])
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64,
                                            ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
    return library


def theirs(library, matrix, name):
    kind = getattr(gguf.GGMLQuantizationType, name)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    if block == 32:
        rows = np.pad(matrix, ((0, 0), (0, -matrix.shape[1] % 32)))
    else:
        rows = np.pad(matrix.ravel(), (0, -matrix.size % block)).reshape(1, -1)
    rows = np.ascontiguousarray(rows, np.float32)
    out = np.empty(rows.size // block * size, np.uint8)
    library.ggml_quantize_chunk(kind.value, rows.ctypes.data, out.ctypes.data, 0, len(rows), rows.shape[1], None)
    back = gguf.quants.dequantize(out.reshape(len(rows), -1), kind).reshape(rows.shape)
    return back[:, :matrix.shape[1]] if block == 32 else back.ravel()[:matrix.size].reshape(matrix.shape)


def cases(command, library, folder):
    """(what, {type: (squared error, square)})"""
    random = np.random.default_rng(1)
    draws = {"normal": random.standard_normal(SHAPE)}
    draws.update({f"t, ν = {nu}": random.standard_t(nu, SHAPE) for nu in (5, 4, 3)})
    sources = []
    for i, (what, values) in enumerate(draws.items()):
        matrix = (0.02 * values).astype(np.float32)
        write_model(f"{folder}/{i}", matrix)
        sources.append((what, f"{folder}/{i}", {"model.embed_tokens.weight": matrix}))
    for model in ("dense", "finermoe"):
        path = f"{ROOT}/examples/models/tiny-wordnet-{model}"
        matrices = {name: bf16(data, shape) for name, (_, shape, data) in read(f"{path}/model.safetensors").items()
                    if len(shape) == 2 and not name.endswith((".mlp.gate.weight", "shared_expert_gate.weight"))}
        experts = {name: matrix for name, matrix in matrices.items() if ".experts." in name}
        rest = {name: matrix for name, matrix in matrices.items() if name not in experts}
        sources += [(f"{model} model: {what}", path, part)
                    for what, part in (("dense matrices", rest), ("routed experts", experts)) if part]
    for what, path, matrices in sources:
        found = {}
        for name in BITS:
            back = ours(command, path, matrices, name) if name[0] == "q" else {
                key: theirs(library, matrix, name) for key, matrix in matrices.items()}
            error = sum(np.sum((back[key] - matrix.astype(np.float64))**2) for key, matrix in matrices.items())
            found[name] = error / sum(np.sum(matrix.astype(np.float64)**2) for matrix in matrices.values())
        yield what, found


def main():
    command = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        print("| | " + " | ".join(f"{name} ({bits:g} bits)" for name, bits in BITS.items()) + " |")
        print("|---|" + "---|" * len(BITS))
        for what, found in cases(command, llama_library(), folder):
            print(f"| {what} | " + " | ".join(f"{1000 * error:.3g}" for error in found.values()) + " |", flush=True)


if __name__ == "__main__":
    main()
