"""Head sizes, biases, rope scaling and windows of any combination: logits against plain numpy in double precision, and
the writers, which must carry what these keys mean into the config.json that they write."""

import json
import math
import pathlib
import struct
import tempfile
import unittest

from support import main, numpy, run, value

np = numpy()

DENSE = {"model_type": "qwen2", "torch_dtype": "float32", "hidden_size": 32, "intermediate_size": 48,
         "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 80,
         "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "initializer_range": 0.3}
MOE = {**DENSE, "model_type": "qwen2_moe", "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
       "shared_expert_intermediate_size": 24}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}
WINDOW = {"use_sliding_window": True, "sliding_window": 9}
TYPES = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
NONE = (0, 0, 0, 0)

# Keys that are added to a base, and the window of each layer.
CASES = [
    (DENSE, {}, NONE),
    (DENSE, {"head_dim": 32}, NONE),
    (DENSE, {"head_dim": 4}, NONE),
    (DENSE, {"head_dim": 24, "num_attention_heads": 3, "num_key_value_heads": 1}, NONE),
    (DENSE, {"hidden_size": 34, "num_attention_heads": 4}, NONE),  # heads of 8, and 2 columns without one
    (DENSE, {"head_dim": 48, "rope_scaling": YARN, **WINDOW, "max_window_layers": 2}, (0, 0, 9, 9)),
    (DENSE, {**WINDOW, "layer_types": TYPES}, (0, 9, 9, 0)),
    (DENSE, {**WINDOW, "sliding_window": 1, "max_window_layers": 0}, (1, 1, 1, 1)),
    (DENSE, {**WINDOW, "sliding_window": 1000, "max_window_layers": 0}, NONE),
    (DENSE, {"rope_scaling": {"type": "linear", "factor": 4}}, NONE),
    (DENSE, {"rope_parameters": {**LLAMA3, "rope_theta": 500.0}}, NONE),
    (DENSE, {"rope_scaling": {**YARN, "mscale": 0.7, "mscale_all_dim": 1.3, "truncate": False}}, NONE),
    (DENSE, {"rope_scaling": {**YARN, "attention_factor": 0.8, "beta_fast": 16, "beta_slow": 2}}, NONE),
    (MOE, {"head_dim": 16, "qkv_bias": False}, NONE),
    (MOE, {**WINDOW, "max_window_layers": 3, "rope_scaling": YARN}, (9, 0, 9, 0)),
    (MOE, {**WINDOW, "layer_types": TYPES, "mlp_only_layers": [1]}, (0, 9, 9, 0)),
    (MOE, {"num_experts": 0}, NONE),
]
IDS = [(i * 37 + i * i * 11) % 80 for i in range(60)]


def read_tensors(path):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    tensors = {}
    for name, tensor in json.loads(data[8:8 + size]).items():
        if name != "__metadata__":
            begin, end = tensor["data_offsets"]
            array = np.frombuffer(data[8 + size + begin:8 + size + end], "<f4")
            tensors[name] = array.reshape(tensor["shape"]).astype(np.float64)
    return tensors


def frequencies(config, d):
    """(frequencies [d / 2], factor of cosines and sines)"""
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    theta = scaling.get("rope_theta", config["rope_theta"])
    plain = theta ** (-np.arange(0, d, 2) / d)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "default":
        return plain, 1
    factor = scaling["factor"]
    if kind == "linear":
        return plain / factor, 1
    original = scaling["original_max_position_embeddings"]
    if kind == "llama3":
        rotations = original * plain / (2 * math.pi)
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        kept = np.clip((rotations - low) / (high - low), 0, 1)
        return plain * (kept + (1 - kept) / factor), 1
    where = [d * math.log(original / (scaling.get(key, default) * 2 * math.pi)) / (2 * math.log(theta))
             for key, default in (("beta_fast", 32), ("beta_slow", 1))]
    if scaling.get("truncate", True):
        where = [math.floor(where[0]), math.ceil(where[1])]
    low, high = max(where[0], 0), min(where[1], d - 1)
    divided = np.clip((np.arange(d // 2) - low) / (high - low), 0, 1)
    scales = [0.1 * scaling.get(key, 1) * math.log(factor) + 1 for key in ("mscale", "mscale_all_dim")]
    attention = scales[0] / scales[1] if "mscale" in scaling else 0.1 * math.log(factor) + 1
    return plain * (1 - divided + divided / factor), scaling.get("attention_factor", attention)


def silu(x):
    return x / (1 + np.exp(-x))


def ffn(w, prefix, x):
    hidden = silu(x @ w[prefix + "gate_proj.weight"].T) * (x @ w[prefix + "up_proj.weight"].T)
    return hidden @ w[prefix + "down_proj.weight"].T


def moe(w, prefix, config, x):
    logits = x @ w[prefix + "gate.weight"].T
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    out = ffn(w, prefix + "shared_expert.", x) / (1 + np.exp(-x @ w[prefix + "shared_expert_gate.weight"].T))
    for row in range(len(x)):
        for expert in np.argsort(-shares[row], kind="stable")[:config["num_experts_per_tok"]]:
            out[row] += shares[row, expert] * ffn(w, f"{prefix}experts.{expert}.", x[row])
    return out


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    return x * np.concatenate([cos, cos], -1) + np.concatenate([-x[..., half:], x[..., :half]], -1) * np.concatenate(
        [sin, sin], -1)


def attention(w, prefix, config, x, window):
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    d = config.get("head_dim", config["hidden_size"] // heads)
    rope, factor = frequencies(config, d)
    angles = np.arange(len(x))[:, None] * rope
    cos, sin = np.cos(angles) * factor, np.sin(angles) * factor

    def project(name, n):
        projected = x @ w[f"{prefix}{name}_proj.weight"].T + w.get(f"{prefix}{name}_proj.bias", 0)
        return projected.reshape(len(x), n, d).transpose(1, 0, 2)
    q, k, v = rotate(project("q", heads), cos, sin), rotate(project("k", kv_heads), cos, sin), project("v", kv_heads)
    distance = np.arange(len(x))[:, None] - np.arange(len(x))
    seen = (distance >= 0) & (distance < (window or len(x)))
    out = []
    for head in range(heads):
        at = head // (heads // kv_heads)
        scores = np.where(seen, q[head] @ k[at].T / math.sqrt(d), -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        out.append(shares / shares.sum(-1, keepdims=True) @ v[at])
    return np.concatenate(out, -1) @ w[prefix + "o_proj.weight"].T


def forward(w, config, windows):
    def norm(x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + config["rms_norm_eps"]) * w[name + ".weight"]
    x = w["model.embed_tokens.weight"][IDS]
    for layer, window in enumerate(windows):
        prefix = f"model.layers.{layer}."
        x = x + attention(w, prefix + "self_attn.", config, norm(x, prefix + "input_layernorm"), window)
        normed = norm(x, prefix + "post_attention_layernorm")
        has_experts = prefix + "mlp.gate.weight" in w
        x = x + (moe(w, prefix + "mlp.", config, normed) if has_experts else ffn(w, prefix + "mlp.", normed))
    return norm(x, "model.norm") @ w["lm_head.weight"].T


class AttentionVariants(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.addCleanup(self.temporary.cleanup)
        self.folder = pathlib.Path(self.temporary.name)

    def logits(self, model, *flags):
        out = self.folder / "logits.npy"
        run("logits", model, "--ids", ",".join(map(str, IDS)), "--out", out, *flags)
        return np.load(out)

    def synthesize(self, config, name="model"):
        (self.folder / "config.json").write_text(json.dumps(config))
        run("synthesize", self.folder / "config.json", self.folder / name, "--seed", 3)
        return self.folder / name

    def expect_close(self, found, expected, bound=2e-4):
        self.assertEqual(found.shape, expected.shape)
        self.assertLessEqual(np.abs(found - expected).max(), bound * np.abs(expected).max())

    def test_logits(self):
        for number, (base, more, windows) in enumerate(CASES):
            with self.subTest(base["model_type"], **more):
                config = {**base, **more}
                model = self.synthesize(config, str(number))
                weights = read_tensors(model / "model.safetensors")
                expected = forward(weights, config, windows)
                for flags in ([], ["--isa", "portable"]):
                    self.expect_close(self.logits(model, *flags), expected)
                if any(windows):  # and it matters
                    plain = forward(weights, config, NONE)
                    self.assertGreater(np.abs(plain - expected).max(), 0.01 * np.abs(expected).max())

    def test_upcycled_models_mean_the_same(self):
        one_expert = [part for key in ("g-i", "r-i", "g-o", "r-o", "t-i") for part in (f"--{key}", 1)]
        for number, (base, more, _) in enumerate(CASES):
            if base is not DENSE:
                continue
            with self.subTest(**more):
                # Keys that are left out mean something else in a model with experts.
                model = self.synthesize({**base, **more, "num_key_value_heads": more.get("num_key_value_heads", 4)},
                                        str(number))
                out = self.folder / f"{number}-upcycled"
                run("upcycle", model, out, *one_expert, "--shared", "none")
                self.expect_close(self.logits(out), self.logits(model), 1e-5)
                before, after = (value("info", path, "--json")["shape"] for path in (model, out))
                for key in ("head_size", "rope_scaling", "sliding_window", "max_positions", "rope_theta"):
                    self.assertEqual(before[key], after[key])

    def test_quantized_models_mean_the_same(self):
        model = self.synthesize({**DENSE, "head_dim": 32, "rope_scaling": YARN, **WINDOW, "max_window_layers": 2})
        run("quantize", model, self.folder / "q8", "--dtype", "q8")
        before, after = (value("info", path, "--json")["shape"] for path in (model, self.folder / "q8"))
        self.assertEqual(before, after)
        found, expected = self.logits(self.folder / "q8"), self.logits(model)
        self.assertGreater(np.corrcoef(found.ravel(), expected.ravel())[0, 1], 0.99)

    def test_info_and_plan_say_so(self):
        path = self.folder / "config.json"
        path.write_text(json.dumps({**DENSE, "head_dim": 32, "rope_scaling": YARN, **WINDOW, "max_window_layers": 1}))
        shape = value("info", "--config", path, "--json")["shape"]
        attention = value("plan", "--config", path, "--json")["attention"]
        for found in (shape, attention):
            self.assertEqual(found["head_size"], 32)
            self.assertEqual(found["sliding_window"], {"positions": 9, "layers": 3})
            self.assertAlmostEqual(found["rope_scaling"].pop("attention_factor"), 0.1 * math.log(4) + 1)
            self.assertEqual(found["rope_scaling"], {"type": "yarn", "factor": 4.0, "original_positions": 32})
        for command in ("info", "plan"):
            told = run(command, "--config", path)[0].decode()
            self.assertIn("yarn, factor 4.0 of 32 positions", told)
            self.assertIn("9 positions, in 3 layers", told)
        path.write_text(json.dumps(DENSE))
        shape = value("info", "--config", path, "--json")["shape"]
        self.assertIsNone(shape["rope_scaling"])
        self.assertIsNone(shape["sliding_window"])


main()
