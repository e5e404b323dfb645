"""The table of docs/performance.md: libfinermoe beside llama.cpp and beside the machine's limits, measured in one run.

    python3 bench/compare.py BUILD FOLDER [--peer PYTHON] [--threads 2] [--runs 2] [--rounds 2] [--only NAME …] [--keep]

BUILD is a build folder made with -Dbench=true. FOLDER needs room for 30 GB; with --keep for 80 GB, and the models stay
for the next run. PYTHON is an interpreter that has llama-cpp-python and gguf (bench/llama_cpp_peer.py); without --peer one
is made in FOLDER/venv, llama.cpp built from source for this machine. Both programs take turns on each model; a figure is
the median of the rounds. The output is Markdown, a section for each question:

    goals     what each kind of work reaches of the machine's limits, beside its goal
    peers     llama.cpp on the shapes that both can run
    own       FineRMoE's own shapes, beside the dense model that each came from
    authors   FineRMoE-0.5B's shape beside what the authors' Python was measured at
    systems   the systems that the paper compares (its Table 6), of one base size
    opening   from opening a model to its first token
    profile   where the time goes
"""
import argparse
import json
import os
import shutil
import statistics
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
SMALL = {**DENSE, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14}


def with_experts(base, g_i, r_i, g_o, r_o, t_i, width=None, shared=True, **changes):
    return {**base, "architectures": ["FineRMoeForCausalLM"], "model_type": "finer_moe", "G_I": g_i, "R_I": r_i,
            "G_O": g_o, "R_O": r_o, "num_experts": g_i * r_i * g_o * r_o, "num_experts_per_tok": g_o * t_i,
            "moe_intermediate_size": width or base["intermediate_size"] // g_i,
            "shared_expert_intermediate_size": base["intermediate_size"] if shared else 0, "norm_topk_prob": False,
            "moe_concat_proj": False, "decoder_sparse_step": 1, "mlp_only_layers": [], **changes}


SHAPES = {
    "dense": DENSE,
    "moe": with_experts(DENSE, 140, 1, 1, 1, 2, 256, num_hidden_layers=10),
    "dense-0.5B": SMALL,
    "finermoe-0.5B": with_experts(SMALL, 32, 1, 2, 2, 1),
    "finermoe-1.5B": with_experts(DENSE, 32, 1, 2, 2, 1),
    "S16A4": with_experts(SMALL, 16, 1, 1, 1, 4, shared=False),
    "DU": with_experts(SMALL, 1, 8, 1, 1, 2, shared=False),
    "NVShard": with_experts(SMALL, 8, 8, 1, 1, 8, shared=False),
    "C32A2": with_experts(SMALL, 1, 32, 1, 1, 2, shared=False),
}
COMPARED = ["dense", "moe"]  # shapes that both can run
FORMATS = {"BF16": None, "Q8": "q8_0", "Q4": "iq4_nl"}  # ours: llama.cpp's
BASE = {"finermoe-0.5B": "dense-0.5B", "finermoe-1.5B": "dense"}
SYSTEMS = ["C32A2", "S16A4", "DU", "NVShard", "finermoe-0.5B"]
AUTHORS = {"prefill 12": 49, "prefill 512": 181, "decode": 7.9}  # tokens/s of their Python code, two threads
PRODUCTS = ["qkv", "linear", "gated_ffn", "moe_ffn"]


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def medians(rounds):
    """Of each key over dictionaries that have the same keys."""
    return {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}


def share_of_reading(found):
    """Of the faster reading, of memory or of the model's file."""
    return min(found["decode"]["share_of_read"], found["decode"]["share_of_mapping"])


class Comparison:
    def __init__(self, options):
        self.o = options
        self.finermoe = os.path.join(options.build, "tools", "finermoe")
        self.kernels = os.path.join(options.build, "bench", "bench-kernels")

    def path(self, name):
        return os.path.join(self.o.folder, name)

    def wants(self, *names):
        return not self.o.only or any(name in self.o.only for name in names)

    # Models, made where they are not there yet

    def ours(self, shape, form):
        config, target = self.path(shape + ".json"), self.path(f"{shape}-{form.lower()}")
        if not os.path.exists(target):
            with open(config, "w", encoding="utf-8") as file:
                json.dump(SHAPES[shape], file)
            run(self.finermoe, "synthesize", config, target, "--dtype", form.lower())
        return target

    def theirs(self, shape, form):
        source = self.path(shape + ".gguf")
        target = source if form == "BF16" else self.path(f"{shape}-{FORMATS[form]}.gguf")
        if not os.path.exists(target):
            if not os.path.exists(source):
                self.peer("write", source, self.path(shape + ".json"))
            if target != source:
                self.peer("quantize", source, target, FORMATS[form])
        return target

    def forget(self, *shapes):
        for shape in shapes if not self.o.keep else ():
            for name in os.listdir(self.o.folder):
                if name.startswith((f"{shape}-bf16", f"{shape}-q", f"{shape}-iq", f"{shape}.gguf")):
                    path = self.path(name)
                    shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)

    # One measurement

    def peer(self, *arguments):
        return run(self.o.peer, os.path.join(HERE, "llama_cpp_peer.py"), *map(str, arguments))

    def bench(self, model, prompt, decoded, *flags, threads=None):
        return json.loads(run(self.finermoe, "bench", model, "-p", str(prompt), "-n", str(decoded), "--runs",
                              str(self.o.runs), "--threads", str(threads or self.o.threads), "--profile", "--json",
                              *flags))

    def limits(self):
        return json.loads(run(self.kernels, str(self.o.threads), "0", "wall", "limits"))

    def arithmetic_limit(self, form):
        """Gop/s of the fastest way to multiply a format, scales of blocks included."""
        limits = self.limits()
        if form == "BF16":
            return max(limits["bf16_gop_per_second"], limits["float32_gop_per_second"])
        return limits["blocks_gop_per_second"]

    def rates(self, shape, form, prompts=(512, 64, 16), sessions=1):
        """tokens/s of each work, and `share …`: of the fastest reading in decoding, in prefill of the arithmetic limit
        of the format, in the products alone; `whole prefill …`: the same of the whole pass."""
        model, rates, limit = self.ours(shape, form), {}, self.arithmetic_limit(form)
        for n in prompts:
            found = self.bench(model, n, 32 if n == prompts[0] else 1)
            rates[f"prefill {n}"] = found["prefill"]["tokens_per_second"]
            products = [one for one in found["prefill"]["profile"] if one["name"] in PRODUCTS]
            gop = sum(one["gop_per_second"] * one["seconds"] for one in products)
            rates[f"share prefill {n}"] = gop / sum(one["seconds"] for one in products) / limit
            rates[f"whole prefill {n}"] = gop / found["prefill"]["seconds"][-1] / limit  # the run of the profile
            if n == prompts[0]:
                rates["decode"] = found["decode"]["tokens_per_second"]
                rates["share decode"] = share_of_reading(found)
        if sessions > 1:
            together = self.bench(model, 16, 32, "--sessions", str(sessions))["together"]
            rates[f"{sessions} sessions"] = together["tokens_per_second"]
            rates["times one"] = together["times_one"]
        return rates

    def rates_of_peer(self, shape, form, sessions=1):
        timed = ["--gen", 32, "--runs", self.o.runs, "--threads", self.o.threads]
        model = self.theirs(shape, form)
        found = json.loads(self.peer("time", model, "--prompt", 512, 64, 16, *timed))
        rates = {name.replace("_", " "): rate for name, rate in found.items()}
        if sessions > 1:
            together = json.loads(self.peer("time", model, "--prompt", "--sessions", sessions, *timed))
            rates[f"{sessions} sessions"] = together["decode"]
        return rates

    # Sections

    def goals(self):
        if not self.wants("goals"):
            return
        print("\n| work | goal | BF16 | Q8 | Q4 |\n|---|---|---|---|---|")
        for shape in "dense", "moe", "finermoe-0.5B":
            rates = {form: self.rounds_of(shape, form) for form in FORMATS}
            self.goal(f"decode, {shape}, 1 thread", "≥ 95 % of the fastest reading", rates, "share alone")
            self.goal(f"decode, {shape}, {self.o.threads} threads", "≥ 95 % of it", rates, "share decode")
            self.goal(f"prefill 512, {shape}, products", "≥ 90 % of the arithmetic limit", rates, "share prefill 512")
            self.goal(f"prefill 512, {shape}, whole passes", "≥ 80 % of it", rates, "whole prefill 512")
            if shape in BASE:
                base = {form: self.rounds_of(BASE[shape], form, alone=False) for form in FORMATS}
                work = "whole prefill 512"
                relative = {form: {work: rates[form][work] / base[form][work]} for form in FORMATS}
                self.goal(f"prefill 512, {shape}, a multiply-add", "≥ 0.95× the dense model's", relative, work, "{:.2f}×")
        exact = {form: self.exact_of("dense", form) for form in FORMATS}
        for work in "prefill 512", "prefill 16", "decode":
            self.goal(f"`fast` over `exact`, dense, {work}", "never slower", exact, work, "{:.2f}×")
        self.kernel_goals()

    def rounds_of(self, shape, form, alone=True):
        rounds = []
        for _ in range(self.o.rounds):
            rounds.append(self.rates(shape, form, prompts=(512,)))
            if alone:
                rounds[-1]["share alone"] = share_of_reading(self.bench(self.ours(shape, form), 16, 16, threads=1))
        return medians(rounds)

    def exact_of(self, shape, form):
        """How much faster `fast` is, in turns."""
        found = {precision: [] for precision in ("fast", "exact")}
        for _ in range(self.o.rounds):
            for precision, rounds in found.items():
                long, short = (self.bench(self.ours(shape, form), n, 16, "--precision", precision) for n in (512, 16))
                rounds.append({"prefill 512": long["prefill"]["tokens_per_second"],
                               "prefill 16": short["prefill"]["tokens_per_second"],
                               "decode": short["decode"]["tokens_per_second"]})
        fast, exact = medians(found["fast"]), medians(found["exact"])
        return {work: fast[work] / exact[work] for work in fast}

    def kernel_goals(self):
        """Operations by themselves, as bench-kernels measures them: shares of whichever limit binds."""
        def shares(part):
            rounds = [{one["name"]: one["share"] for one in map(json.loads, lines.splitlines())}
                      for lines in (run(self.kernels, str(self.o.threads), "0", "wall", part)
                                    for _ in range(self.o.rounds))]
            return medians(rounds)
        products = shares("linear 8960 x 1536")
        for n in 8, 16, 32, 64, 512:
            self.goal(f"8960 × 1536, {n} rows", f"≥ {80 if n < 512 else 90} % of whichever limit binds",
                      {form: {n: products[f"{form} linear 8960 x 1536, n = {n}"]} for form in FORMATS}, n)
        print("\n| attention of one row, `exact` / `fast` | goal | F32 | F16 | BF16 | Q8 |\n|---|---|---|---|---|---|")
        for n in 4096, 32768:
            found = shares(f"attention of 1 rows over {n}")
            cells = (" / ".join(f"{100 * found[f'{cache}{precision} attention of 1 rows over {n}']:.0f} %"
                                for precision in (" exact", "")) for cache in ("F32", "F16", "BF16", "Q8"))
            print(f"| over {n} | ≥ 80 % of whichever limit binds | " + " | ".join(cells) + " |", flush=True)

    @staticmethod
    def goal(work, goal, found, key, form="{:.0%}"):
        cells = (form.format(found[name][key]).replace("%", " %") for name in FORMATS)
        print(f"| {work} | {goal} | " + " | ".join(cells) + " |", flush=True)

    def peers(self):
        if not self.wants("peers", *(f"{shape}:{form}" for shape in COMPARED for form in FORMATS)):
            return
        print("\n| shape | format | work | finermoe, tokens/s | llama.cpp | ratio | of the limit |\n"
              "|---|---|---|---|---|---|---|")
        for shape in COMPARED:
            sessions = 8 if shape == "dense" else 1
            for form in FORMATS:
                if not self.wants("peers", f"{shape}:{form}"):
                    continue
                rounds = [(self.rates(shape, form, sessions=sessions), self.rates_of_peer(shape, form, sessions))
                          for _ in range(self.o.rounds)]
                ours, peer = medians([one for one, _ in rounds]), medians([one for _, one in rounds])
                for work, rate in peer.items():
                    share = ours.get("share " + work)
                    note = (f"{ours['times one']:.1f} times one" if share is None else f"{100 * share:.0f} % of the " +
                            ("fastest reading" if work == "decode" else "arithmetic limit"))
                    print(f"| {shape} | {form} | {work} | {ours[work]:.1f} | {rate:.1f} | {ours[work] / rate:.2f}× | "
                          f"{note} |", flush=True)
        self.forget("moe")

    def own(self):
        if not self.wants("own", *(f"{shape}:{form}" for shape in BASE for form in FORMATS)):
            return
        print("\n| shape | format | work | tokens/s | its dense model | ratio | of the limit |\n"
              "|---|---|---|---|---|---|---|")
        for shape, base in BASE.items():
            for form in FORMATS:
                if not self.wants("own", f"{shape}:{form}"):
                    continue
                rounds = [(self.rates(shape, form), self.rates(base, form)) for _ in range(self.o.rounds)]
                ours, dense = medians([one for one, _ in rounds]), medians([one for _, one in rounds])
                for work in "prefill 512", "prefill 64", "prefill 16", "decode":
                    kind = "fastest reading" if work == "decode" else "arithmetic limit"
                    print(f"| {shape} | {form} | {work} | {ours[work]:.1f} | {dense[work]:.1f} | "
                          f"{ours[work] / dense[work]:.2f}× | {100 * ours['share ' + work]:.0f} % of the {kind} |",
                          flush=True)
        self.forget("finermoe-1.5B", "dense-0.5B")

    def authors(self):
        if self.wants("authors"):
            print("\n| FineRMoE-0.5B, BF16 | tokens/s | authors' Python | ratio | |\n|---|---|---|---|---|")
            rounds = [self.rates("finermoe-0.5B", "BF16", prompts=(12, 512)) for _ in range(self.o.rounds)]
            ours = medians(rounds)
            for work, rate in AUTHORS.items():
                note = f"{100 * ours['share decode']:.0f} % of the fastest reading" if work == "decode" else ""
                print(f"| {work} | {ours[work]:.1f} | {rate} | {ours[work] / rate:.1f}× | {note} |", flush=True)

    def systems(self):
        if not self.wants("systems"):
            return
        print("\n| system, of the 0.5B shape, Q8 | parameters | active | first token of 12, ms | tokens/s |\n"
              "|---|---|---|---|---|")
        for shape in SYSTEMS:
            model = self.ours(shape, "Q8")
            info, found = json.loads(run(self.finermoe, "info", model, "--json")), self.bench(model, 12, 32)
            print(f"| {shape} | {info['parameters_total'] / 1e9:.2f} B | {info['parameters_active'] / 1e9:.2f} B | "
                  f"{1e3 * statistics.median(found['prefill']['seconds']):.0f} | "
                  f"{found['decode']['tokens_per_second']:.1f} |", flush=True)
            if shape not in BASE:
                self.forget(shape)

    def opening(self):
        if not self.wants("opening"):
            return
        print("\n| 1.5B shape, Q8, 12 tokens, files in the page cache | ms |\n|---|---|")
        model = self.ours("dense", "Q8")
        self.bench(model, 12, 1)
        found = [self.bench(model, 12, 1) for _ in range(5)]
        opened = 1e3 * statistics.median(one["open_seconds"] for one in found)
        first = 1e3 * statistics.median(one["first_token_seconds"] for one in found)
        again = 1e3 * statistics.median(statistics.median(one["prefill"]["seconds"]) for one in found)
        print(f"| opening and a session | {opened:.1f} |\n| first prefill | {first:.1f} |\n| later prefills | {again:.1f} |\n"
              f"| opening to first token, over a later prefill | {(opened + first) / again:.2f}× |", flush=True)

    def profile(self):
        if not self.wants("profile"):
            return
        print("\n| shape | format | operation | prefill 512: share | Gop/s | decode: share | GB/s |\n"
              "|---|---|---|---|---|---|---|")
        for shape in "dense", "finermoe-0.5B":
            for form in FORMATS:
                found = self.bench(self.ours(shape, form), 512, 32)
                for prefill, decode in zip(found["prefill"]["profile"], found["decode"]["profile"]):
                    if max(prefill["share"], decode["share"]) >= 0.005:
                        print(f"| {shape} | {form} | {prefill['name']} | {100 * prefill['share']:.1f} % | "
                              f"{prefill['gop_per_second']:.0f} | {100 * decode['share']:.1f} % | "
                              f"{decode['gb_per_second']:.1f} |", flush=True)


def make_peer(folder):
    home = os.path.join(folder, "venv")
    python = os.path.join(home, "bin", "python")
    if not os.path.exists(python):
        venv.create(home, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--no-binary", "llama-cpp-python", "llama-cpp-python", "gguf"],
                       check=True, stdout=sys.stderr, env={**os.environ, "CMAKE_ARGS": "-DGGML_NATIVE=ON"})
    return python


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("folder")
    parser.add_argument("--peer", help="interpreter with llama-cpp-python and gguf")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=2, help="of each measurement, besides one that does not count")
    parser.add_argument("--rounds", type=int, default=2, help="in which both programs take turns")
    parser.add_argument("--only", nargs="*", help="sections, or SHAPE:FORMAT, such as dense:Q8")
    parser.add_argument("--keep", action="store_true", help="leave the models in FOLDER")
    options = parser.parse_args()
    os.makedirs(options.folder, exist_ok=True)
    comparison = Comparison(options)
    if not options.peer and comparison.wants("peers", *(f"{s}:{f}" for s in COMPARED for f in FORMATS)):
        options.peer = make_peer(options.folder)
    print(" · ".join(f"{name.replace('_', ' ')} {value}" for name, value in comparison.limits().items()))
    for section in (comparison.goals, comparison.peers, comparison.own, comparison.authors, comparison.systems,
                    comparison.opening, comparison.profile):
        section()
    comparison.forget(*SHAPES)


if __name__ == "__main__":
    main()
