"""llama.cpp on models of the shapes that both can run: writes them as GGUF files, quantises and times them.

    python3 bench/llama_cpp_peer.py write OUT.gguf CONFIG.json        random BF16 weights, normal with deviation 0.02
    python3 bench/llama_cpp_peer.py quantize IN.gguf OUT.gguf TYPE    q8_0, q4_0, iq4_nl, …
    python3 bench/llama_cpp_peer.py time MODEL.gguf [--prompt N …] [--gen N] [--sessions N] [--threads N]

CONFIG.json is a `qwen2` config, or a `finer_moe` one with G_O = R_O = 1 and a shared expert: llama.cpp's qwen2moe does
the same work, but for the place of the router's softmax. `time` prints one JSON object with tokens/s.
Needs llama-cpp-python, built from source for the machine, and gguf.
"""
import argparse
import ctypes
import json
import statistics
import time


def write(path, config_path):
    import gguf
    import numpy

    with open(config_path, encoding="utf-8") as file:
        c = json.load(file)
    is_moe = c["model_type"] == "finer_moe"
    if is_moe and (c["G_O"] != 1 or c["R_O"] != 1):
        raise SystemExit("llama.cpp has no experts that are concatenated: G_O and R_O must be 1")
    h, kv_width = c["hidden_size"], c["hidden_size"] // c["num_attention_heads"] * c["num_key_value_heads"]
    arch = "qwen2moe" if is_moe else "qwen2"
    writer = gguf.GGUFWriter(path, arch)
    writer.add_context_length(c["max_position_embeddings"])
    writer.add_embedding_length(h)
    writer.add_block_count(c["num_hidden_layers"])
    writer.add_feed_forward_length(c["moe_intermediate_size"] if is_moe else c["intermediate_size"])
    writer.add_head_count(c["num_attention_heads"])
    writer.add_head_count_kv(c["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(c["rms_norm_eps"])
    writer.add_rope_freq_base(c["rope_theta"])
    writer.add_vocab_size(c["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    if is_moe:
        writer.add_expert_count(c["num_experts"])
        writer.add_expert_used_count(c["num_experts_per_tok"])
        writer.add_uint32("qwen2moe.expert_feed_forward_length", c["moe_intermediate_size"])
        writer.add_uint32("qwen2moe.expert_shared_feed_forward_length", c["shared_expert_intermediate_size"])
    random = numpy.random.default_rng(0)
    normal = random.standard_normal(1 << 22, dtype=numpy.float32) * numpy.float32(0.02)
    halves = (normal.view(numpy.uint32) >> 16).astype(numpy.uint16)

    def matrix(name, *shape):
        data = numpy.resize(numpy.roll(halves, int(random.integers(0, 1 << 20))), shape)
        writer.add_tensor(name, data.view(numpy.uint8).reshape(*shape[:-1], 2 * shape[-1]),
                          raw_dtype=gguf.GGMLQuantizationType.BF16)

    def floats(name, *shape, ones=False):
        values = numpy.ones(shape) if ones else random.standard_normal(shape) * 0.02
        writer.add_tensor(name, values.astype(numpy.float32))

    matrix("token_embd.weight", c["vocab_size"], h)
    matrix("output.weight", c["vocab_size"], h)
    floats("output_norm.weight", h, ones=True)
    for layer in range(c["num_hidden_layers"]):
        at = f"blk.{layer}."
        floats(at + "attn_norm.weight", h, ones=True)
        floats(at + "ffn_norm.weight", h, ones=True)
        for name, rows in ("q", h), ("k", kv_width), ("v", kv_width):
            matrix(f"{at}attn_{name}.weight", rows, h)
            floats(f"{at}attn_{name}.bias", rows)
        matrix(at + "attn_output.weight", h, h)
        kinds = [("", c["intermediate_size"], ())]
        if is_moe:
            floats(at + "ffn_gate_inp.weight", c["num_experts"], h)
            floats(at + "ffn_gate_inp_shexp.weight", h)
            kinds = [("_exps", c["moe_intermediate_size"], (c["num_experts"],)),
                     ("_shexp", c["shared_expert_intermediate_size"], ())]
        for suffix, width, experts in kinds:
            matrix(f"{at}ffn_gate{suffix}.weight", *experts, width, h)
            matrix(f"{at}ffn_up{suffix}.weight", *experts, width, h)
            matrix(f"{at}ffn_down{suffix}.weight", *experts, h, width)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def start():
    import llama_cpp

    silent = llama_cpp.llama_log_callback(lambda level, text, user: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    return llama_cpp, silent  # the callback must stay alive


def quantize(source, target, type_name, threads):
    llama_cpp, _silent = start()
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama_cpp, "LLAMA_FTYPE_MOSTLY_" + type_name.upper())
    parameters.nthread = threads
    if llama_cpp.llama_model_quantize(source.encode(), target.encode(), parameters):
        raise SystemExit(f"llama.cpp cannot quantise {source} to {type_name}")


class Timer:
    """One model in memory, its matrices repacked by llama.cpp where it has a faster layout for them."""

    def __init__(self, path, threads, sessions, n_tokens, is_on_gpu=False):
        self.lib, self.silent = start()
        if is_on_gpu and not self.lib.llama_supports_gpu_offload():
            raise SystemExit("this llama.cpp was not built for a GPU")
        parameters = self.lib.llama_model_default_params()
        parameters.n_gpu_layers = 1000 if is_on_gpu else 0
        parameters.use_mmap = False  # a mapped model is not repacked
        self.model = self.lib.llama_model_load_from_file(path.encode(), parameters)
        if not self.model:
            raise SystemExit(f"llama.cpp cannot load {path}")
        context = self.lib.llama_context_default_params()
        context.n_ctx = (n_tokens + 8) * sessions
        context.n_batch = context.n_ubatch = max(512, sessions)
        context.n_threads = context.n_threads_batch = threads
        context.n_seq_max = sessions
        self.context = self.lib.llama_init_from_model(self.model, context)
        self.memory = self.lib.llama_get_memory(self.context)
        self.sessions = sessions

    def step(self, tokens, sequences, positions, logits):
        batch = self.lib.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, (token, sequence, position) in enumerate(zip(tokens, sequences, positions)):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = token, position, 1, sequence
            batch.logits[i] = logits == "all" or i == len(tokens) - 1
        if self.lib.llama_decode(self.context, batch):
            raise SystemExit("llama.cpp cannot decode")
        self.lib.llama_synchronize(self.context)
        self.lib.llama_batch_free(batch)

    def prefill(self, n):
        self.step([i * 7919 % 1000 + 5 for i in range(n)], [0] * n, range(n), "last")

    def decode(self, n):
        sequences = list(range(self.sessions))
        for i in range(n):
            self.step([(i * 31 + s) % 1000 + 5 for s in sequences], sequences, [i] * self.sessions, "all")

    def rate(self, n, work, runs):
        rates = []
        for run in range(runs + 1):  # the first does not count
            self.lib.llama_memory_clear(self.memory, True)
            begin = time.perf_counter()
            work()
            if run:
                rates.append(n / (time.perf_counter() - begin))
        return statistics.median(rates)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["write", "quantize", "time"])
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--prompt", type=int, nargs="*", default=[512])
    parser.add_argument("--gen", type=int, default=32)
    parser.add_argument("--sessions", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--gpu", action="store_true", help="all layers on a GPU, by a llama.cpp that was built for one")
    a = parser.parse_args()
    if a.what == "write":
        return write(*a.paths)
    if a.what == "quantize":
        return quantize(*a.paths, a.threads)
    timer = Timer(a.paths[0], a.threads, a.sessions, max([a.gen, *a.prompt]), a.gpu)
    found = {f"prefill_{n}": timer.rate(n, lambda n=n: timer.prefill(n), a.runs) for n in a.prompt}
    found["decode"] = timer.rate(a.gen * a.sessions, lambda: timer.decode(a.gen), a.runs)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
