"""What the block formats lose on the bundled trained models, beside llama.cpp's types where both can run the model.

    python3 bench/quantisation_quality.py FINERMOE [--part perplexity|definitions|experts|divergence]

FINERMOE is the command. Prints tables in Markdown: perplexity of the held-out text; how many of the 2,600 definitions of
words.json come back word for word; how many experts the quantized activations leave the same; mean KL divergence of the
next-token distributions from those of float32, on the dense model. The last needs numpy, gguf and llama-cpp-python: the
model is written as GGUF with the same policy as ours (the tied embedding in 8 bits) by llama.cpp's own quantiser.
"""
import argparse
import ctypes
import json
import os
import subprocess
import tempfile

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
DENSE = f"{ROOT}/examples/models/tiny-wordnet-dense"
TRAINED = f"{ROOT}/examples/models/tiny-wordnet-finermoe"
# name of a row: (type of the copy, None: the source itself; precision)
VARIANTS = {"BF16, exact": (None, "exact"), "BF16, fast": (None, "fast"), "Q8, exact": ("q8", "exact"),
            "Q8, fast": ("q8", "fast"), "Q4, exact": ("q4", "exact"), "Q4, fast": ("q4", "fast")}


class Runner:
    """Calls the command on a model or its quantised copies, which are made once."""

    def __init__(self, command, folder):
        self.command, self.folder = os.path.abspath(command), folder

    def call(self, *arguments, text=None):
        done = subprocess.run([self.command, *map(str, arguments)], input=text, capture_output=True, text=True,
                              check=True)
        return done.stdout

    def model(self, source, dtype):
        out = f"{self.folder}/{os.path.basename(source)}-{dtype}"
        if dtype is not None and not os.path.exists(out):
            self.call("quantize", source, out, "--dtype", dtype)
        return source if dtype is None else out


def perplexity(runner):
    print("| perplexity | dense | | FineRMoE | |\n|---|---|---|---|---|")
    plain = {}
    for name, (dtype, precision) in VARIANTS.items():
        row = []
        for source in (DENSE, TRAINED):
            answer = json.loads(runner.call("perplexity", runner.model(source, dtype), "--precision", precision,
                                            "--ids-file", f"{source}/heldout-ids.npy"))["perplexity"]
            plain.setdefault(source, answer)
            row += [f"{answer:.3f}", f"{100 * (answer / plain[source] - 1):+.3f} %"]
        print(f"| {name} | " + " | ".join(row) + " |", flush=True)


def definitions(runner):
    with open(f"{TRAINED}/words.json", encoding="utf-8") as file:
        words = json.load(file)
    lines = "".join(f'Define the {part} "{word}".\n/reset\n' for word, part, _ in words)
    print(f"| of {len(words)} definitions | word for word |\n|---|---|")
    for name, (dtype, precision) in VARIANTS.items():
        answers = runner.call("chat", runner.model(TRAINED, dtype), "--temp", 0, "--precision", precision, text=lines)
        answers = answers.splitlines()
        assert len(answers) == len(words)
        print(f"| {name} | {sum(a == w[2] for a, w in zip(answers, words))} |", flush=True)


def experts(runner):
    """How many of the experts chosen with float32 activations are chosen with quantized ones too, by the same weights."""
    import numpy as np

    def chosen(dtype, precision):
        routes = []
        for window in np.load(f"{TRAINED}/heldout-ids.npy")[:24]:
            answer = json.loads(runner.call("route", runner.model(TRAINED, dtype), "--precision", precision, "--ids",
                                            ",".join(map(str, window))))
            routes += [token for layer in answer["layers"] for token in layer["experts"]]
        return routes

    print("| FineRMoE, experts of 6144 tokens | the same with fast as with exact |\n|---|---|")
    for name, dtype in ("BF16", None), ("Q8", "q8"), ("Q4", "q4"):
        exact, fast = chosen(dtype, "exact"), chosen(dtype, "fast")
        same = sum(len(set(a) & set(b)) for a, b in zip(exact, fast))
        print(f"| {name} | {100 * same / sum(map(len, exact)):.2f} % |", flush=True)


def our_logits(runner, model, windows, precision):
    import numpy as np
    out = f"{runner.folder}/logits.npy"
    rows = []
    for window in windows:
        runner.call("logits", model, "--ids", ",".join(map(str, window)), "--out", out, "--precision", precision)
        rows.append(np.load(out))
    return np.concatenate(rows)


def write_gguf(path, weights):
    """The dense model as GGUF; `weights` is a type of llama.cpp, or None for float32."""
    import gguf
    import numpy as np
    from quantisation_error import bf16, llama_library, read
    with open(f"{DENSE}/config.json", encoding="utf-8") as file:
        config = json.load(file)
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, config["num_hidden_layers"])
    library = llama_library()
    for name, (_, shape, data) in read(f"{DENSE}/model.safetensors").items():
        values = np.ascontiguousarray(bf16(data, shape))
        key = names.get_name(name, (".weight", ".bias"))
        kind = "Q8_0" if name == "model.embed_tokens.weight" else weights
        if weights is None or len(shape) == 1:
            writer.add_tensor(key, values)
            continue
        kind = getattr(gguf.GGMLQuantizationType, kind)
        block, size = gguf.GGML_QUANT_SIZES[kind]
        coded = np.empty((shape[0], shape[1] // block * size), np.uint8)
        library.ggml_quantize_chunk(kind.value, values.ctypes.data, coded.ctypes.data, 0, shape[0], shape[1], None)
        writer.add_tensor(key, coded, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def their_logits(path, windows):
    import llama_cpp
    import numpy as np
    silent = llama_cpp.llama_log_callback(lambda level, text, user: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
    vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    options = llama_cpp.llama_context_default_params()
    options.n_ctx = options.n_batch = options.n_ubatch = windows.shape[1]
    options.type_k = options.type_v = 0  # float32, as ours
    options.flash_attn_type = 0
    rows = []
    for window in windows:
        context = llama_cpp.llama_init_from_model(model, options)
        batch = llama_cpp.llama_batch_init(len(window), 0, 1)
        batch.n_tokens = len(window)
        for i, token in enumerate(window):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = int(token), i, 1, 1
            batch.seq_id[i][0] = 0
        assert llama_cpp.llama_decode(context, batch) == 0
        logits = llama_cpp.llama_get_logits(context)
        rows.append(np.ctypeslib.as_array(logits, shape=(len(window), vocab)).copy())
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return np.concatenate(rows)


def log_softmax(logits):
    import numpy as np
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def divergence(runner):
    import numpy as np
    windows = np.load(f"{DENSE}/heldout-ids.npy")[:24]
    reference = log_softmax(our_logits(runner, DENSE, windows, "exact"))

    def row(name, logits):
        other = log_softmax(logits)
        mean = np.mean(np.sum(np.exp(reference) * (reference - other), axis=1))
        same = np.mean(reference.argmax(axis=1) == other.argmax(axis=1))
        print(f"| {name} | {mean:.3g} | {100 * same:.2f} % |", flush=True)

    print(f"| {reference.shape[0]} positions | mean KL divergence, nats | same likeliest token |\n|---|---|---|")
    for name, (dtype, precision) in VARIANTS.items():
        if name != "BF16, exact":
            row(name, our_logits(runner, runner.model(DENSE, dtype), windows, precision))
    for kind in (None, "Q8_0", "IQ4_NL"):
        path = f"{runner.folder}/{kind}.gguf"
        write_gguf(path, kind)
        row(f"llama.cpp, {kind or 'F32'}", their_logits(path, windows))


def main():
    parts = {function.__name__: function for function in (perplexity, definitions, experts, divergence)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command")
    parser.add_argument("--part", choices=parts)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(arguments.command, folder)
        for name, part in parts.items():
            if arguments.part in (None, name):
                part(runner)
                print()


if __name__ == "__main__":
    main()
