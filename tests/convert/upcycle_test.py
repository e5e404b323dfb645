"""Every tensor of upcycled models against Eq. 9 and 10 in numpy (docs/finermoe-layer.md, section 6), for all presets and
free parameters."""
import json
import os
import shutil
import sys

try:
    import numpy as np
except ImportError as error:
    print("skipped:", error)
    sys.exit(77)

import random_reference
from checkpoint_files import MODELS, SHAPES, opens, read_json, read_model, read_tree, run, run_tests

PRESETS = {  # G_I, R_I, G_O, R_O, T_I, shared expert
    "finermoe": (32, 1, 2, 2, 1, True),
    "c32a2": (1, 32, 1, 1, 2, False),
    "s16a4": (16, 1, 1, 1, 4, False),
    "drop-upcycling": (1, 8, 1, 1, 2, False),
    "nvshard": (8, 8, 1, 1, 8, False),
    "no-fg": (1, 1, 1, 2, 1, True),
    "inter-fg": (32, 1, 1, 2, 1, True),
    "out-fg": (1, 1, 2, 2, 1, True),
}
DENSE = [f"{SHAPES}/dense-tied", f"{SHAPES}/dense-untied-sharded", f"{MODELS}/tiny-wordnet-dense"]


def to_float(tensor):
    dtype, shape, data = tensor
    if dtype == "BF16":
        bits = np.frombuffer(data, np.uint16).astype(np.uint32) << 16
        return bits.view(np.float32).reshape(shape)
    return np.frombuffer(data, np.float16 if dtype == "F16" else np.float32).astype(np.float32).reshape(shape)


def from_float(values, dtype):
    values = np.ascontiguousarray(values, np.float32)
    if dtype == "BF16":
        bits = values.view(np.uint32)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16).tobytes()
    return values.astype(np.float16).tobytes() if dtype == "F16" else values.tobytes()


def draw(name, seed, count, deviation=0.02, block=0):
    stream = random_reference.Stream(random_reference.stream_key(seed, name), block)
    return np.array([deviation * stream.normal() for _ in range(count)]).astype(np.float32)


def expected_expert(dense, layer, k, shape, down_scale):
    g_i, r_i, g_o, r_o = shape[:4]
    gate, up, down = (to_float(dense[f"model.layers.{layer}.mlp.{p}_proj.weight"]) for p in ("gate", "up", "down"))
    width, part = gate.shape[0] // g_i, down.shape[0] // g_o
    i, j = (k % (g_i * r_i)) % g_i, k // (r_o * g_i * r_i)
    rows = slice(i * width, (i + 1) * width)
    return gate[rows], up[rows], down[j * part:(j + 1) * part, rows] * np.float32(down_scale)


def check_model(dense_path, out, shape, shared=True, down_scale=None, drop=False):
    dense, made = read_model(dense_path), read_model(out)
    config = read_json(f"{dense_path}/config.json")
    g_i, r_i, g_o, r_o = shape[:4]
    n_experts = g_i * r_i * g_o * r_o
    if down_scale is None:
        down_scale = 1 if shared else g_i
    expected = {name: tensor for name, tensor in dense.items() if ".mlp." not in name}
    head = dense.get("lm_head.weight", dense["model.embed_tokens.weight"])
    expected["lm_head.weight"] = head
    random = set()
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}.mlp."
        random |= {prefix + "gate.weight"}
        for k in range(n_experts):
            parts = expected_expert(dense, layer, k, shape, down_scale)
            for part, values in zip(("gate", "up", "down"), parts):
                source = dense[f"{prefix}{part}_proj.weight"][0]
                name = f"{prefix}experts.{k}.{part}_proj.weight"
                expected[name] = (source, list(values.shape), from_float(values, source))
        if shared:
            random |= {prefix + "shared_expert_gate.weight"}
            for part in ("gate", "up", "down"):
                expected[f"{prefix}shared_expert.{part}_proj.weight"] = dense[f"{prefix}{part}_proj.weight"]
    extra = {name for name in made if name.endswith(("concat_proj.weight", "concat_gate.weight"))}
    assert set(made) - extra == set(expected) | random, sorted(set(made) ^ (set(expected) | random))[:5]
    for name, tensor in expected.items():
        if drop and ".experts." in name:
            continue
        assert made[name] == tensor, name
    assert made["model.layers.0.mlp.gate.weight"][1] == [n_experts, config["hidden_size"]]
    return dense, made, config


def test_presets(folder):
    for dense_path in DENSE:
        for name, shape in PRESETS.items():
            out = f"{folder}/{os.path.basename(dense_path)}-{name}"
            run("upcycle", dense_path, out, "--preset", name)
            check_model(dense_path, out, shape, shape[5], drop=name == "drop-upcycling")
            config = read_json(f"{out}/config.json")
            dense_config = read_json(f"{dense_path}/config.json")
            changed = {"architectures", "model_type", "tie_word_embeddings"}
            for key, value in dense_config.items():
                assert key in changed or config[key] == value, key
            g_i, r_i, g_o, r_o, t_i, shared = shape
            width = dense_config["intermediate_size"]
            for key, value in {
                    "architectures": ["FineRMoeForCausalLM"], "model_type": "finer_moe", "tie_word_embeddings": False,
                    "G_I": g_i, "R_I": r_i, "G_O": g_o, "R_O": r_o, "num_experts": g_i * r_i * g_o * r_o,
                    "num_experts_per_tok": g_o * t_i, "moe_intermediate_size": width // g_i,
                    "shared_expert_intermediate_size": width if shared else 0, "moe_concat_proj": False,
                    "norm_topk_prob": False, "decoder_sparse_step": 1, "mlp_only_layers": [],
                    "output_router_logits": False, "router_aux_loss_coef": 0.001
            }.items():
                assert config[key] == value, (name, key, config[key], value)
            assert "router_type" not in config
            assert opens(out), out
            for other in ("generation_config.json", "tokenizer.json", "tokenizer_config.json"):
                if os.path.exists(f"{dense_path}/{other}"):
                    assert open(f"{dense_path}/{other}", "rb").read() == open(f"{out}/{other}", "rb").read(), other
            shutil.rmtree(out)


def test_config_is_the_authors(folder):
    """The authors' own conversion of the same dense model has the same keys and values."""
    out = f"{folder}/out"
    run("upcycle", f"{MODELS}/tiny-wordnet-dense", out, "--g-i", 8)
    ours, theirs = read_json(f"{out}/config.json"), read_json(f"{MODELS}/tiny-wordnet-finermoe/config.json")
    ours.pop("_name_or_path")
    assert ours == theirs, {key: (ours.get(key), theirs.get(key)) for key in {*ours, *theirs}
                            if ours.get(key) != theirs.get(key)}
    theirs = read_model(f"{MODELS}/tiny-wordnet-finermoe")
    for name, (dtype, shape, _) in read_model(out).items():
        assert theirs.pop(name)[:2] == (dtype, shape), name
    assert not theirs


def test_free_parameters(folder):
    dense_path = DENSE[0]
    out = f"{folder}/out"
    shape = (6, 2, 4, 3, 2)
    run("upcycle", dense_path, out, "--g-i", 6, "--r-i", 2, "--g-o", 4, "--r-o", 3, "--t-i", 2, "--shared", "none",
        "--concat-proj", "normal", "--router", "separate", "--down-scale", 1.7, "--seed", 5, "--shard-size", 100000)
    _, made, _ = check_model(dense_path, out, shape, shared=False, down_scale=1.7)
    config = read_json(f"{out}/config.json")
    assert config["moe_concat_proj"] is True and config["router_type"] == "separate"
    assert config["num_experts_per_tok"] == 8 and opens(out)
    for name, rows in (("concat_gate", 12), ("concat_proj", 64), ("gate", 6 * 2 * 4 * 3)):
        full = f"model.layers.1.mlp.{name}.weight"
        assert made[full][1] == [rows, 64]
        assert made[full][2] == from_float(draw(full, 5, rows * 64), "BF16"), name
    run("upcycle", dense_path, f"{folder}/zero", "--concat-proj", "zero")
    assert not any(read_model(f"{folder}/zero")["model.layers.1.mlp.concat_proj.weight"][2])


def test_virtual_group(folder):
    out = f"{folder}/out"
    run("upcycle", DENSE[2], out, "--preset", "nvshard", "--router-init", "virtual-group", "--seed", 3)
    router = to_float(read_model(out)["model.layers.2.mlp.gate.weight"])
    for k in range(64):
        replica = (k % 64) // 8
        name = "model.layers.2.mlp.gate.weight"
        expected = from_float(draw(name, 3, 192, block=replica), "BF16")
        assert from_float(router[k], "BF16") == expected, k
    assert len({row.tobytes() for row in router}) == 8


def check_drop(out, ratio, shape, arguments=()):
    dense_path, seed = DENSE[2], 9
    run("upcycle", dense_path, out, "--preset", "drop-upcycling", "--seed", seed, "--drop-ratio", ratio, *arguments)
    dense, made, _ = check_model(dense_path, out, shape, False, 1, drop=True)
    n_experts = shape[0] * shape[1] * shape[2] * shape[3]
    choices = set()
    for layer in (0, 3):
        for k in range(n_experts):
            prefix = f"model.layers.{layer}.mlp.experts.{k}"
            gate, up, down = expected_expert(dense, layer, k, shape, 1)
            new_gate, new_up, new_down = (to_float(made[f"{prefix}.{part}_proj.weight"])
                                          for part in ("gate", "up", "down"))
            # The choice, by the reference generator: the first places of a shuffle.
            stream = random_reference.Stream(random_reference.stream_key(seed, prefix), 0)
            width = gate.shape[0]
            order, count = list(range(width)), int(ratio * width + 0.5)
            for i in range(count):
                other = i + stream.below(width - i)
                order[i], order[other] = order[other], order[i]
            chosen = np.zeros(width, bool)
            chosen[order[:count]] = True
            choices.add(chosen.tobytes())
            for before, after in ((gate, new_gate), (up, new_up), (down.T, new_down.T)):
                assert (after[~chosen] == before[~chosen]).all(), (layer, k)
                if count == 0:
                    continue
                assert (after[chosen] == before[chosen]).mean() < 0.05, "the chosen entries are redrawn"
                mean, deviation, n = before[chosen].mean(), before[chosen].std(), before[chosen].size
                assert abs(after[chosen].mean() - mean) < 5 * deviation / n**0.5, (layer, k)
                assert abs(after[chosen].std() / deviation - 1) < 5 / (2 * n)**0.5, (layer, k)
    assert len(choices) == (2 * n_experts if 0 < ratio < 1 else 1), "each expert chooses for itself"


def test_drop_upcycling(folder):
    for ratio in (0, 0.25, 0.5, 1):
        check_drop(f"{folder}/{ratio}", ratio, PRESETS["drop-upcycling"])
    check_drop(f"{folder}/parts", 0.5, (2, 2, 2, 1),
               ("--g-i", 2, "--r-i", 2, "--g-o", 2, "--r-o", 1, "--down-scale", 1))


def test_repeatable(folder):
    for preset in ("finermoe", "drop-upcycling"):
        runs = [f"{folder}/{preset}-{i}" for i in range(3)]
        for out, seed in zip(runs, (1, 1, 2)):
            run("upcycle", DENSE[2], out, "--preset", preset, "--seed", seed, "--shard-size", 2000000)
        trees = [read_tree(out) for out in runs]
        assert trees[0] == trees[1] and trees[0] != trees[2], preset
    # On one processor, with one thread, too.
    if hasattr(os, "sched_setaffinity"):
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(allowed)})
        run("upcycle", DENSE[2], f"{folder}/one", "--preset", "drop-upcycling", "--seed", 1, "--shard-size", 2000000)
        os.sched_setaffinity(0, allowed)
        assert read_tree(f"{folder}/one") == read_tree(f"{folder}/drop-upcycling-1")
    else:
        return "no sched_setaffinity"


def test_dtypes(folder):
    """Copies keep their source's type, random tensors take the configuration's; F32 lies in front for its alignment."""
    for dtype in ("F16", "F32"):
        run("synthesize", f"{DENSE[1]}/config.json", f"{folder}/{dtype}", "--dtype", dtype)
        run("upcycle", f"{folder}/{dtype}", f"{folder}/{dtype}-out", "--shared", "none", "--down-scale", 0.3)
        _, made, _ = check_model(f"{folder}/{dtype}", f"{folder}/{dtype}-out", PRESETS["finermoe"], False, 0.3)
        assert {tensor[0] for tensor in made.values()} == {dtype}
    config = read_json(f"{folder}/F16/config.json")
    config["torch_dtype"] = "float32"
    with open(f"{folder}/F16/config.json", "w", encoding="utf-8") as file:
        json.dump(config, file)
    run("upcycle", f"{folder}/F16", f"{folder}/mixed")
    made = read_model(f"{folder}/mixed")
    assert {tensor[0] for tensor in made.values()} == {"F16", "F32"} and opens(f"{folder}/mixed")
    assert made["model.layers.0.mlp.gate.weight"][0] == "F32"


def test_new_transformers_config(folder):
    """What newer versions of transformers write is completed to what the authors' code reads."""
    dense = f"{folder}/dense"
    shutil.copytree(DENSE[0], dense)
    config = read_json(f"{dense}/config.json")
    theta = config.pop("rope_theta")
    config["rope_parameters"] = {"rope_theta": theta, "rope_type": "default"}
    config["dtype"] = config.pop("torch_dtype")
    config.pop("use_sliding_window")
    with open(f"{dense}/config.json", "w", encoding="utf-8") as file:
        json.dump(config, file)
    run("upcycle", dense, f"{folder}/out")
    made = read_json(f"{folder}/out/config.json")
    assert made["rope_theta"] == theta and made["torch_dtype"] == "bfloat16" and made["use_sliding_window"] is False
    assert opens(f"{folder}/out")


def test_synthesize(folder):
    for name in ("finermoe-separate-router", "finermoe-dense-first", "qwen2-moe", "dense-tied"):
        source, out = f"{SHAPES}/{name}", f"{folder}/{name}"
        run("synthesize", source, out, "--seed", 4)
        made, theirs = read_model(out), read_model(source)
        assert {key: value[1] for key, value in made.items()} == {key: value[1] for key, value in theirs.items()}
        for key, tensor in made.items():
            if "norm" in key:
                assert (to_float(tensor) == 1).all(), key
            else:
                assert 0.01 < to_float(tensor).std() < 0.03, key
        assert open(f"{source}/config.json", "rb").read() == open(f"{out}/config.json", "rb").read() and opens(out)
    # A tensor of many blocks, exactly, at a block's boundary; and a config.json alone, its tokenizer beside it.
    run("synthesize", f"{MODELS}/tiny-wordnet-dense/config.json", f"{folder}/big", "--dtype", "F32", "--seed", 4)
    name = "model.embed_tokens.weight"
    values = to_float(read_model(f"{folder}/big")[name]).ravel()
    for block in (0, 65536, 11 * 65536):
        assert (values[block:block + 500] == draw(name, 4, 500, block=block)).all()
    assert os.path.exists(f"{folder}/big/tokenizer.json")
    assert read_json(f"{folder}/big/config.json")["torch_dtype"] == "float32"


def test_refusals(folder):
    inconsistent, invalid = -63, -1
    out = f"{folder}/out"
    for arguments, code, words in (
        (("--g-i", 7), inconsistent, ("96", "7")),
        (("--g-o", 3), inconsistent, ("64", "3")),
        (("--t-i", 33), inconsistent, ("33", "32")),
        (("--r-i", 1 << 62), inconsistent, ("too many",)),
        (("--g-o", 0), invalid, ("1 or more",)),
        (("--preset", "finer"), invalid, ("finermoe", "nvshard")),
        (("--drop-ratio", 1.5), invalid, ("1.5",)),
        (("--down-scale", "nan"), invalid, ("nan",)),
        (("--shard-size", 0), invalid, ("shard",)),
    ):
        message = run("upcycle", DENSE[0], out, *arguments, expect=code)
        assert all(word in message for word in words), message
    assert "finer_moe" in run("upcycle", f"{SHAPES}/s16a4", out, expect=-64)
    assert os.listdir(folder) == []


def test_other_readers(folder):
    """Hugging Face's own reader opens the files and sees the mark that transformers asks for."""
    try:
        from safetensors import safe_open
    except ImportError as error:
        return str(error)
    run("upcycle", DENSE[1], f"{folder}/out", "--shard-size", 200000)
    run("upcycle", DENSE[2], f"{folder}/one.safetensors")
    files = [f"{folder}/out/{name}" for name in os.listdir(f"{folder}/out") if name.endswith(".safetensors")]
    assert len(files) > 1
    for path in [*files, f"{folder}/one.safetensors"]:
        with safe_open(path, "np") as file:
            assert file.metadata()["format"] == "pt" and len(list(file.keys())) > 0


if __name__ == "__main__":
    run_tests([value for name, value in list(globals().items()) if name.startswith("test_")])
