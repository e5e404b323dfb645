"""Quantised models, decoded by a program that knows docs/format.md alone: what is in blocks, how near to the source."""
import json
import os
import shutil
import struct
import subprocess
import sys

try:
    import numpy as np
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

from block_decoder import decode, scales_and_values, type_of
from checkpoint_files import DRIVER, MODELS, SHAPES, opens, read_file, read_json, read_model, read_tree, run, run_tests

INVALID, CANCELLED, UNSUPPORTED, NOT_FINITE = -1, -5, -10, -12
TRAINED = f"{MODELS}/tiny-wordnet-finermoe"
DENSE = f"{MODELS}/tiny-wordnet-dense"
NEVER = ("norm.weight", ".bias", ".mlp.gate.weight", ".concat_gate.weight", ".shared_expert_gate.weight")


def plain(dtype, shape, data):
    """float32 of a tensor that is not in blocks."""
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
    return np.frombuffer(data, {"F16": "<f2", "F32": "<f4"}[dtype]).astype(np.float32).reshape(shape)


def expected_type(name, weights):
    if name.endswith(NEVER):
        return None
    return "Q8" if name in ("model.embed_tokens.weight", "lm_head.weight") else weights


def check_model(source, out, weights):
    """Types by kind of tensor, exact decoding, and for each weight the error that its scale allows."""
    before, after = read_model(source), read_model(out)
    tied = read_json(f"{source}/config.json").get("tie_word_embeddings")
    assert set(after) == {name for name in before if not (tied and name == "lm_head.weight")}
    decoded = []
    for name, (dtype, shape, data) in after.items():
        wanted = expected_type(name, weights)
        if wanted is None:
            assert (dtype, shape, data) == before[name], name
            continue
        original = plain(*before[name])
        assert type_of(dtype, shape) == wanted, name
        rows, columns = original.shape
        assert shape[:2] == [-(-rows // 16), -(-columns // 32)], name
        scales, values = scales_and_values(data, shape)
        ours = decode(data, shape, rows, columns)
        decoded.append((name, ours))
        # Half of the widest gap of the codes, and beyond the ends as far as the search for the scale may go.
        room = np.repeat(np.abs(scales[:rows]), 32, axis=1)[:, :columns] * (0.5001 if wanted == "Q8" else 31)
        assert np.all(np.abs(ours - original) <= room + 1e-12), name
        if wanted == "Q8":
            assert values.min() >= -127, "code 0 is not used"
    return decoded


def check_decoding(decoded, path):
    """The library reads the very same numbers. `decoded` is in the order of the file."""
    done = subprocess.run([DRIVER, "decode", path], capture_output=True, check=True)
    library, at = np.frombuffer(done.stdout, "<f4"), 0
    for name, matrix in decoded:
        assert np.array_equal(library[at:at + matrix.size], matrix.ravel()), name
        at += matrix.size
    assert at == library.size


def test_every_shape(folder):
    for name in sorted(os.listdir(SHAPES)):
        for weights in ("Q8", "Q4"):
            out = f"{folder}/{name}-{weights}"
            run("quantize", f"{SHAPES}/{name}", out, "--dtype", weights)
            assert opens(out)
            check_decoding(check_model(f"{SHAPES}/{name}", out, weights), out)


def write_model(path, columns=35, dtype="bfloat16", rows=152, **changes):
    """A random model of sizes that are no multiples of anything: [rows, 24], [24, columns], [13, 24], …"""
    config = read_json(f"{SHAPES}/finermoe-odd-width/config.json")
    config.update(hidden_size=24, intermediate_size=columns, shared_expert_intermediate_size=columns, vocab_size=rows,
                  moe_intermediate_size=13, num_attention_heads=2, num_key_value_heads=1, torch_dtype=dtype)
    config.update(changes)
    with open(f"{path}.json", "w", encoding="utf-8") as file:
        json.dump(config, file)
    run("synthesize", f"{path}.json", path)
    return path


def test_odd_sizes(folder):
    sizes = ((35, 152), (280, 152), (1, 1), (31, 15), (33, 17), (32, 16))
    for i, (columns, rows) in enumerate(sizes):
        for dtype in ("bfloat16", "float16", "float32"):
            source = write_model(f"{folder}/{i}-{dtype}", columns, dtype, rows)
            for weights in ("Q8", "Q4"):
                run("quantize", source, f"{source}-{weights}", "--dtype", weights)
                check_decoding(check_model(source, f"{source}-{weights}", weights), f"{source}-{weights}")


def test_trained_models(folder):
    for source in (DENSE, TRAINED):
        for weights, most in (("Q8", 4e-5), ("Q4", 0.0058)):
            out = f"{folder}/{os.path.basename(source)}-{weights}"
            run("quantize", source, out, "--dtype", weights)
            before = read_model(source)
            for name, matrix in check_model(source, out, weights):
                original = plain(*before[name])
                error = np.mean((matrix - original).astype(np.float64)**2) / np.mean(original.astype(np.float64)**2)
                assert error < (4e-5 if expected_type(name, weights) == "Q8" else most), (name, error)
            for text in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
                assert open(f"{out}/{text}", "rb").read() == open(f"{source}/{text}", "rb").read()
            config = read_json(f"{out}/config.json")
            told = config.pop("quantization_config")
            assert config == read_json(f"{source}/config.json")
            assert told == {"quant_method": "finermoe", "version": 1, "weights": weights.lower(), "embeddings": "q8"}


def relative_error(values, folder, weights):
    """Mean squared error over mean square of a matrix [4096, 256] that goes through the writer."""
    source = f"{folder}/source"
    if not os.path.exists(source):
        write_model(source, rows=4096, dtype="float32", hidden_size=256)
    place_of(source, "model.embed_tokens.weight", values.astype("<f4").tobytes())
    run("quantize", source, f"{folder}/out", "--dtype", "Q8", "--pattern", "model.embed_tokens.weight", "--type", weights,
        "--force", 1)
    dtype, shape, data = read_model(f"{folder}/out")["model.embed_tokens.weight"]
    assert type_of(dtype, shape) == weights
    ours = decode(data, shape, 4096, 256)
    return np.mean((ours - values)**2) / np.mean(values**2)


def place_of(model, name, data):
    """Overwrites the beginning of a tensor's data in place."""
    with open(f"{model}/model.safetensors", "r+b") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        begin = json.loads(file.read(length))[name]["data_offsets"][0]
        file.seek(8 + length + begin)
        file.write(data)


def test_error_of_known_distributions(folder):
    """Bounds a few per cent above what was measured beside llama.cpp's types (docs/quantisation.md)."""
    random = np.random.default_rng(1)
    for values, q8, q4 in ((random.standard_normal((4096, 256)), 3.1e-5, 0.00548),
                           (random.standard_t(5, (4096, 256)), 5.0e-5, 0.0068),
                           (random.standard_t(3, (4096, 256)), 1.0e-4, 0.0081)):
        values = values.astype(np.float32).astype(np.float64) * 0.02
        found = relative_error(values, folder, "Q8"), relative_error(values, folder, "Q4")
        print("   relative squared error: Q8 %.3g, Q4 %.4f" % found)
        assert 0.5 * q8 < found[0] < q8 and 0.8 * q4 < found[1] < q4, found


def test_extreme_weights(folder):
    """Zeros, rows of one value, outliers, and everything between the smallest and the largest scale."""
    values = np.zeros((4096, 256))
    values[1] = 1
    values[2] = -3.5
    values[3, 77] = 1000
    values[4] = np.linspace(-1, 1, 256)
    for row, exponent in enumerate(range(-60, 23), start=16):
        values[row] = np.random.default_rng(row).standard_normal(256) * 2.0**exponent / 4
    values = values.astype(np.float32).astype(np.float64)
    for weights, fine in (("Q8", 1e-4), ("Q4", 0.01)):
        relative_error(values, folder, weights)
        _, shape, data = read_model(f"{folder}/out")["model.embed_tokens.weight"]
        ours = decode(data, shape, 4096, 256).astype(np.float64)
        assert np.all(ours[0] == 0) and np.all(ours[4095] == 0)
        assert np.all(np.abs(ours[1:3] - values[1:3]) <= 5e-4 * np.abs(values[1:3]))
        if weights == "Q8":
            assert abs(ours[3, 77] / 1000 - 1) < 5e-4 and np.count_nonzero(ours[3]) == 1
        else:  # which has no zero: the block of an outlier becomes 1/127 of it
            assert abs(ours[3, 77] / 1000 - 1) < 3e-3 and np.sum((ours[3] - values[3])**2) < 0.0025 * 1000**2
        for row in range(16, 99):
            error = np.sqrt(np.mean((ours[row] - values[row])**2)), np.sqrt(np.mean(values[row]**2))
            # Near the smallest scale, 2^-24, the values themselves are some tens of it and lose their precision.
            assert error[0]**2 < fine * error[1]**2 or error[0] < 2.0**-19, (weights, row, error)


def test_where_tensors_lie(folder):
    run("quantize", TRAINED, f"{folder}/directory", "--dtype", "Q4")
    run("quantize", TRAINED, f"{folder}/one.safetensors", "--dtype", "Q4")
    for path in (f"{folder}/directory/model.safetensors", f"{folder}/one.safetensors"):
        with open(path, "rb") as file:
            begin = 8 + struct.unpack("<Q", file.read(8))[0]
            header = json.loads(file.read(begin - 8))
        assert begin % 64 == 0
        for name, entry in header.items():
            if name != "__metadata__":
                assert (begin + entry["data_offsets"][0]) % {"U8": 32, "F32": 4}.get(entry["dtype"], 2) == 0
    one, _ = read_file(f"{folder}/one.safetensors")
    assert one == read_model(f"{folder}/directory") and opens(f"{folder}/one.safetensors")
    limit = 1_000_000
    run("quantize", f"{TRAINED}", f"{folder}/shards", "--dtype", "Q4", "--shard-size", limit)
    assert len([name for name in os.listdir(f"{folder}/shards") if name.endswith(".safetensors")]) > 4
    assert read_model(f"{folder}/shards") == one and opens(f"{folder}/shards")


def test_repeatable_and_whole(folder):
    run("quantize", TRAINED, f"{folder}/a", "--dtype", "Q4")
    answer = run("quantize", TRAINED, f"{folder}/b", "--dtype", "Q4")
    assert read_tree(f"{folder}/a") == read_tree(f"{folder}/b")
    assert answer["progress_in_order"] and answer["peak_anonymous"] < 100 << 20
    alone = subprocess.run(["taskset", "-c", "0", DRIVER, "quantize", TRAINED, f"{folder}/c", "--dtype", "Q4"],
                           capture_output=True)
    if alone.returncode == 0:  # one thread
        assert read_tree(f"{folder}/a") == read_tree(f"{folder}/c")
    run("quantize", TRAINED, f"{folder}/d", "--cancel-after", 1, expect=CANCELLED)
    assert not os.path.exists(f"{folder}/d") and not [name for name in os.listdir(folder) if "partial" in name]


def test_synthesized(folder):
    """A random model that is in blocks from the start: types as the quantiser gives, the deviation asked for."""
    config = f"{folder}/source.json"
    write_model(config.removesuffix(".json"), 280, rows=1000, hidden_size=96)
    for weights in ("Q8", "Q4"):
        out = f"{folder}/{weights}"
        run("synthesize", config, out, "--dtype", weights, "--seed", 3)
        run("synthesize", config, f"{out}-again", "--dtype", weights, "--seed", 3)
        assert read_tree(out) == read_tree(f"{out}-again") and opens(out)
        told = read_json(f"{out}/config.json")["quantization_config"]
        assert told == {"quant_method": "finermoe", "version": 1, "weights": weights.lower(), "embeddings": "q8"}
        shapes = {name: tensor[1] for name, tensor in read_model(f"{folder}/source").items()}
        made = read_model(out)
        assert set(made) == set(shapes)
        for name, (dtype, shape, data) in made.items():
            if expected_type(name, weights) is None:
                assert dtype == "BF16", name
                continue
            assert type_of(dtype, shape) == expected_type(name, weights), name
            values = decode(data, shape, *shapes[name])
            assert values.size < 2000 or abs(values.std() / 0.02 - 1) < 0.1, (name, values.std())
        # Such a model's configuration asks for blocks again, unless another type is given.
        run("synthesize", out, f"{out}-like", "--seed", 3)
        assert read_model(f"{out}-like") == made
        run("synthesize", out, f"{out}-plain", "--dtype", "BF16", "--seed", 3)
        assert "quantization_config" not in read_json(f"{out}-plain/config.json")
        assert {name: tensor[1] for name, tensor in read_model(f"{out}-plain").items()} == shapes


def test_overrides(folder):
    def types(*arguments):
        run("quantize", TRAINED, f"{folder}/out", "--force", 1, *arguments)
        assert opens(f"{folder}/out")
        return {name: type_of(dtype, shape) for name, (dtype, shape, _) in read_model(f"{folder}/out").items()}

    found = types("--dtype", "Q4", "--pattern", "*.self_attn.?_proj.weight", "--type", "Q8")
    assert all(found[name] == ("Q8" if ".self_attn." in name else expected_type(name, "Q4")) for name in found
               if not name.endswith(NEVER))
    assert read_json(f"{folder}/out/config.json")["quantization_config"]["overrides"] == [
        {"pattern": "*.self_attn.?_proj.weight", "type": "q8"}]
    found = types("--dtype", "Q8", "--pattern", "lm_head.weight", "--type", "source")
    assert found["lm_head.weight"] == "BF16" and found["model.embed_tokens.weight"] == "Q8"
    found = types("--dtype", "Q8", "--pattern", "*", "--type", "Q4")
    assert found["lm_head.weight"] == "Q4" and found["model.layers.0.mlp.gate.weight"] == "BF16"
    for pattern in ("lm_head", "*.mlp.gate.weight", "model.norm.weight", ""):
        assert f'"{pattern}"' in run("quantize", TRAINED, f"{folder}/none", "--pattern", pattern, expect=INVALID)
    assert not os.path.exists(f"{folder}/none")


def test_what_cannot_be_quantised(folder):
    run("quantize", DENSE, f"{folder}/q8")
    for command in ("quantize", "upcycle"):
        assert "quantised already" in run(command, f"{folder}/q8", f"{folder}/again", expect=UNSUPPORTED)
    source = f"{folder}/source"
    name = "model.layers.0.self_attn.q_proj.weight"
    for value, told in ((float("nan"), "NaN"), (float("inf"), "infinity"), (-float("inf"), "infinity"),
                        (1e8, "1e+08"), (-3e38, "3e+38"), (9e6, "9e+06")):
        write_model(source, dtype="float32", rows=64)
        place_of(source, name, struct.pack("<f", value))
        for weights in ("Q8", "Q4"):
            message = run("quantize", source, f"{folder}/out", "--dtype", weights, expect=NOT_FINITE)
            assert name in message and told in message, message
        # Left as it is, a large weight needs no scale.
        run("quantize", source, f"{folder}/kept", "--pattern", name, expect=0 if np.isfinite(value) else NOT_FINITE)
        shutil.rmtree(source)
        shutil.rmtree(f"{folder}/kept", ignore_errors=True)
    write_model(source, dtype="float32", rows=64)
    place_of(source, "model.norm.weight", struct.pack("<f", float("nan")))
    assert "model.norm.weight" in run("quantize", source, f"{folder}/out", expect=NOT_FINITE)
    place_of(source, name, struct.pack("<f", float("nan")))  # of two, the first in the file is told
    assert name in run("quantize", source, f"{folder}/out", expect=NOT_FINITE)
    assert not os.path.exists(f"{folder}/out")


def test_verify(folder):
    run("quantize", TRAINED, f"{folder}/q4", "--dtype", "Q4")
    assert all(file["n_nan"] + file["n_infinite"] == 0 for file in run("verify", f"{folder}/q4"))
    name = "model.layers.1.mlp.experts.5.up_proj.weight"
    place_of(f"{folder}/q4", name, struct.pack("<HH", 0x7e00, 0xfc00))  # the scales of two rows: NaN, infinity
    bad, = (file for file in run("verify", f"{folder}/q4") if file["first_bad"])
    assert (bad["first_bad"], bad["n_nan"], bad["n_infinite"]) == (name, 1, 1)


if __name__ == "__main__":
    run_tests([value for name, value in list(globals().items()) if name.startswith("test_")])
