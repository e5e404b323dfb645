"""libfinermoe beside llama.cpp on the same shapes, and FineRMoE's own shapes beside the dense model, in one run.

    python3 bench/compare.py FINERMOE FOLDER [--peer PYTHON] [--threads 2] [--runs 2] [--only NAME …]

FINERMOE is the built command, FOLDER has room for 60 GB and keeps the models for the next run. PYTHON is an interpreter
that has llama-cpp-python and gguf (bench/llama_cpp_peer.py); without --peer one is made in FOLDER/venv, llama.cpp built
from source for this machine. For each model both programs run in turns, and the table, in Markdown, has medians and
their ratio. Shares are of the read bandwidth of the model's own mapping, measured beside each run.
"""
import argparse
import json
import os
import subprocess
import sys
import venv

HERE = os.path.dirname(os.path.abspath(__file__))
DENSE = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu", "hidden_size": 1536,
    "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2,
    "max_position_embeddings": 32768, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "initializer_range": 0.02,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "use_sliding_window": False, "vocab_size": 151936
}


def with_experts(base, g_i, r_i, g_o, r_o, t_i, width, **changes):
    n = g_i * r_i * g_o * r_o
    return {**base, "architectures": ["FineRMoeForCausalLM"], "model_type": "finer_moe", "G_I": g_i, "R_I": r_i,
            "G_O": g_o, "R_O": r_o, "num_experts": n, "num_experts_per_tok": g_o * t_i, "moe_intermediate_size": width,
            "shared_expert_intermediate_size": base["intermediate_size"], "norm_topk_prob": False,
            "moe_concat_proj": False, "decoder_sparse_step": 1, "mlp_only_layers": [], **changes}


SMALL = {**DENSE, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
         "tie_word_embeddings": False}
SHAPES = {
    "dense": DENSE,
    "moe": with_experts(DENSE, 140, 1, 1, 1, 2, 256, num_hidden_layers=10),
    "finermoe-0.5B": with_experts(SMALL, 32, 1, 2, 2, 1, 152),
    "finermoe-1.5B": with_experts(DENSE, 32, 1, 2, 2, 1, 280),
}
COMPARED = ["dense", "moe"]  # shapes that both can run
FORMATS = {"BF16": None, "Q8": "q8_0", "Q4": "iq4_nl"}  # ours: llama.cpp's


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


class Comparison:
    def __init__(self, options):
        self.o = options

    def path(self, name):
        return os.path.join(self.o.folder, name)

    def peer(self, *arguments):
        return run(self.o.peer, os.path.join(HERE, "llama_cpp_peer.py"), *map(str, arguments))

    def ours(self, shape, form):
        """The directory of our model; made where it is not there yet."""
        config, source = self.path(shape + ".json"), self.path(shape)
        target = source if form == "BF16" else f"{source}-{form.lower()}"
        if not os.path.exists(config):
            with open(config, "w", encoding="utf-8") as file:
                json.dump(SHAPES[shape], file)
        if not os.path.exists(source):
            run(self.o.finermoe, "synthesize", config, source)
        if not os.path.exists(target):
            run(self.o.finermoe, "quantize", source, target, "--dtype", form.lower())
        return target

    def theirs(self, shape, form):
        source = self.path(shape + ".gguf")
        target = source if form == "BF16" else self.path(f"{shape}-{FORMATS[form]}.gguf")
        if not os.path.exists(source):
            self.peer("write", source, self.path(shape + ".json"))
        if not os.path.exists(target):
            self.peer("quantize", source, target, FORMATS[form])
        return target

    def time_ours(self, model, prompt, decoded, sessions=1):
        return json.loads(run(self.o.finermoe, "bench", model, "-p", str(prompt), "-n", str(decoded), "--runs",
                              str(self.o.runs), "--threads", str(self.o.threads), "--sessions", str(sessions),
                              "--json"))

    def rates_of_ours(self, model):
        """tokens/s of each work, and the share of the mapping's bandwidth that decoding reached."""
        first = self.time_ours(model, 512, 32)
        rates = {"prefill_512": first["prefill"]["tokens_per_second"], "decode": first["decode"]["tokens_per_second"]}
        for n in 64, 16:
            rates[f"prefill_{n}"] = self.time_ours(model, n, 1)["prefill"]["tokens_per_second"]
        return rates, first["decode"]["share_of_mapping"]

    def compare(self, shape, form):
        ours, theirs = self.ours(shape, form), self.theirs(shape, form)
        rates, share = self.rates_of_ours(ours)
        peer = json.loads(self.peer("time", theirs, "--prompt", 512, 64, 16, "--gen", 32, "--runs", self.o.runs,
                                    "--threads", self.o.threads))
        for work in "prefill_512", "prefill_64", "prefill_16", "decode":
            note = f"{100 * share:.0f} % of the mapping's bandwidth" if work == "decode" else ""
            yield shape, form, work.replace("_", " "), rates[work], peer[work], note
        if shape != "dense":
            return
        together = self.time_ours(ours, 16, 32, sessions=8)["together"]
        peer = json.loads(self.peer("time", theirs, "--prompt", "--gen", 32, "--runs", self.o.runs, "--threads",
                                    self.o.threads, "--sessions", 8))
        yield (shape, form, "8 sessions", together["tokens_per_second"], peer["decode"],
               f"{together['times_one']:.1f} times one")

    def own(self, shape, form):
        rates, share = self.rates_of_ours(self.ours(shape, form))
        for work in "prefill_512", "prefill_64", "prefill_16", "decode":
            note = f"{100 * share:.0f} % of the mapping's bandwidth" if work == "decode" else ""
            yield shape, form, work.replace("_", " "), rates[work], None, note

    def rows(self):
        for shape in SHAPES:
            for form in FORMATS:
                if self.o.only and f"{shape}:{form}" not in self.o.only:
                    continue
                yield from self.compare(shape, form) if shape in COMPARED else self.own(shape, form)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("finermoe")
    parser.add_argument("folder")
    parser.add_argument("--peer", help="interpreter with llama-cpp-python and gguf")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="SHAPE:FORMAT, such as dense:Q8")
    options = parser.parse_args()
    os.makedirs(options.folder, exist_ok=True)
    if not options.peer:
        home = os.path.join(options.folder, "venv")
        options.peer = os.path.join(home, "bin", "python")
        if not os.path.exists(options.peer):
            venv.create(home, with_pip=True)
            subprocess.run([options.peer, "-m", "pip", "install", "--no-binary", "llama-cpp-python", "llama-cpp-python",
                            "gguf"], check=True, stdout=sys.stderr,
                           env={**os.environ, "CMAKE_ARGS": "-DGGML_NATIVE=ON"})
    print("| shape | format | work | finermoe, tokens/s | llama.cpp | ratio | |\n|---|---|---|---|---|---|---|")
    for shape, form, work, ours, peer, note in Comparison(options).rows():
        beside = f"{peer:.1f} | {ours / peer:.2f}×" if peer else "– | –"
        print(f"| {shape} | {form} | {work} | {ours:.1f} | {beside} | {note} |", flush=True)


if __name__ == "__main__":
    main()
