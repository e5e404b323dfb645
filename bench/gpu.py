"""The table of docs/gpu-speed.md: libfinermoe on a GPU, beside what the GPU allows, measured in one run.

    python3 bench/gpu.py BUILD FOLDER [--device cuda:0] [--write docs/gpu-speed.md] [--peer PYTHON] [--only WORK …]

BUILD is a build folder made with -Dbench=true and -Dcuda=enabled (scripts/with-cuda meson setup …). FOLDER gets the models,
random ones of the paper's shapes, the largest of 53 GB, or 115 GB for C32A2: one at a time, or all with --keep. What has no room there or on the
device is "not measured", with the reason, as everything is on a machine without a GPU (then the exit status is 77). PYTHON
has a llama-cpp-python that was built for the GPU, and gguf (bench/llama_cpp_peer.py); that of --torch has torch and
transformers (bench/transformers_peer.py), and --authors names a folder with the authors' modelling code for it. --tiny takes
models of a few kilobytes and short prompts, to try the command itself.
"""
import argparse
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys

from compare import DENSE, HERE, with_experts

SEVEN = {**DENSE, "hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28, "num_key_value_heads": 4,
         "vocab_size": 152064}
TINY = {**DENSE, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 320, "max_position_embeddings": 512}
SYSTEMS = {"C32A2": (1, 32, 1, 1, 2), "S16A4": (16, 1, 1, 1, 4), "DU": (1, 8, 1, 1, 2), "NVShard": (8, 8, 1, 1, 8)}
PAPER = {"first token": 0.178, "decode": 27.3}  # its Table 6, FineRMoE of the 7B shape; the GPU is not named
GIGA = 1e9


class NotMeasured(Exception):
    pass


def run(*command, **environment):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, env={**os.environ, **environment})
    if done.returncode:
        raise NotMeasured((done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1])
    return done.stdout


def shapes(is_tiny):
    small, large = (TINY, TINY) if is_tiny else (DENSE, SEVEN)
    found = {"dense-1.5B": small, "dense-7B": large, "finermoe-1.5B": with_experts(small, 32, 1, 2, 2, 1),
             "finermoe-7B": with_experts(large, 32, 1, 2, 2, 1)}
    found.update({name: with_experts(large, *shape, shared=False) for name, shape in SYSTEMS.items()})
    return found


class Gpu:
    def __init__(self, options):
        self.o = options
        self.shapes = shapes(options.tiny)
        self.finermoe = os.path.join(options.build, "tools", "finermoe")
        self.module = options.module or os.path.join(options.build, "src", "cuda", "libfinermoe_cuda.so")
        self.limits_command = options.limits or os.path.join(options.build, "bench", "bench-gpu-limits")
        self.limits, self.why_not = None, None
        for program in self.finermoe, self.module, self.limits_command:
            if not os.path.exists(program):
                raise SystemExit(f"{program} is not there: BUILD has to be made with -Dbench=true and -Dcuda=enabled")
        try:
            sizes = (1 << 16, 64) if options.tiny else ()
            self.limits = json.loads(run(self.limits_command, options.device.rpartition(":")[2], *sizes))
        except NotMeasured as reason:
            self.why_not = str(reason)

    def path(self, name):
        return os.path.join(self.o.folder, name)

    def model(self, shape, form):
        """A folder with a random model of this shape; other models make room for it."""
        target = self.path(f"{shape}-{form.lower()}")
        if os.path.exists(target):
            return target
        if not self.o.keep:
            for name in os.listdir(self.o.folder):
                if os.path.isdir(self.path(name)) and name.rpartition("-")[0] in self.shapes:
                    shutil.rmtree(self.path(name))
                elif name.endswith(".gguf") and not name.startswith(shape):
                    os.remove(self.path(name))
        config = self.path(shape + ".json")
        with open(config, "w", encoding="utf-8") as file:
            json.dump(self.shapes[shape], file)
        bits = {"BF16": 16, "Q8": 8.5, "Q4": 5}[form]  # Q4 has embeddings in Q8
        size = json.loads(run(self.finermoe, "plan", "--config", config, "--json"))["weights"]["total"] * bits / 16
        free = shutil.disk_usage(self.o.folder).free
        if size > 0.95 * free:
            raise NotMeasured(f"the model takes {size / GIGA:.0f} GB of disk, and {free / GIGA:.0f} are free")
        run(self.finermoe, "synthesize", config, target, "--dtype", form.lower())
        return target

    def bench(self, shape, form, prompt, decoded, *flags):
        if self.why_not:
            raise NotMeasured(self.why_not)
        scale = 16 if self.o.tiny else 1
        return json.loads(run(self.finermoe, "bench", self.model(shape, form), "-p", max(2, prompt // scale), "-n",
                              max(2, decoded // scale), "--runs", self.o.runs, "--generate", "--json", "--device",
                              self.o.device, "--device-module", self.module, *flags))

    # What is measured: (text of the figure, whether it meets its goal)

    def decode(self, shape, form, least):
        found = self.bench(shape, form, 16, 64)
        rate = found["generate"]["tokens_per_second"]
        read = rate * found["decode"]["bytes_per_token"] / GIGA
        share = read / self.limits["read_gb_per_second"]
        return f"{rate:.1f} tokens/s, {read:.0f} GB/s: {100 * share:.0f} %", share >= least

    def first_token(self, shape, form, n_tokens, most):
        found = statistics.median(self.bench(shape, form, n_tokens, 2)["prefill"]["seconds"])
        return f"{1000 * found:.1f} ms (the paper: {1000 * PAPER['first token']:.0f} ms)", found <= most

    def prefill(self, shape, form, n_tokens, least):
        if self.limits and not self.limits["bf16_gop_per_second"]:
            raise NotMeasured("cuBLASLt is not here to compare with")
        found = self.bench(shape, form, n_tokens, 2)["prefill"]
        info = json.loads(run(self.finermoe, "info", self.model(shape, form), "--json"))
        tables = info["shape"]["vocab_size"] * info["shape"]["hidden_size"] * (2 - info["shape"]["tied_embeddings"])
        rate = 2 * (info["parameters_active"] - tables) * found["tokens_per_second"] / GIGA
        share = rate / self.limits["bf16_gop_per_second"]
        return f"{found['tokens_per_second']:.0f} tokens/s, {rate / 1000:.0f} Top/s: {100 * share:.0f} %", share >= least

    def sessions(self, shape, form, n_sessions, least):
        found = self.bench(shape, form, 16, 32, "--sessions", n_sessions)
        rate = found["together"]["tokens_per_second"]
        times = rate / found["generate"]["tokens_per_second"]
        return f"{rate:.0f} tokens/s, {times:.1f}× one", times >= least

    def system(self, shape, form, *flags):
        found = self.bench(shape, form, 12, 64, *flags)
        return (f"first token of 12 {1000 * statistics.median(found['prefill']['seconds']):.1f} ms, "
                f"{found['generate']['tokens_per_second']:.1f} tokens/s", None)

    def experts_in_memory(self, shape, form, least, *where):
        rates = [self.bench(shape, form, 16, 64, *flags)["generate"]["tokens_per_second"] for flags in ((), where)]
        return f"{rates[1]:.1f} of {rates[0]:.1f} tokens/s: {100 * rates[1] / rates[0]:.0f} %", rates[1] >= least * rates[0]

    def beside_paper(self, shape, form, least):
        found = self.bench(shape, form, 16, 64)["generate"]["tokens_per_second"]
        return f"{found:.1f} and {PAPER['decode']} tokens/s: {found / PAPER['decode']:.1f}×", found >= least * PAPER["decode"]

    def beside(self, command, shape, form):
        """Beside what a peer's program measures on the same GPU: the figure, and how many times as fast we are."""
        theirs = json.loads(run(*command, CUDA_VISIBLE_DEVICES=self.o.device.rpartition(":")[2]))
        ours = self.bench(shape, form, 512, 64)
        prefill, decode = (ours["prefill"]["tokens_per_second"] / theirs["prefill_512"],
                           ours["generate"]["tokens_per_second"] / theirs["decode"])
        return f"prefill {prefill:.2f}×, decode {decode:.2f}×", prefill, decode

    def beside_llama_cpp(self, shape, form):
        if self.why_not:
            raise NotMeasured(self.why_not)
        if not self.o.peer:
            raise NotMeasured("--peer names no Python with llama.cpp")
        peer = (self.o.peer, os.path.join(HERE, "llama_cpp_peer.py"))
        model, source, type_name = self.model(shape, form), self.path(f"{shape}.gguf"), {"Q8": "q8_0", "Q4": "iq4_nl"}
        if not os.path.exists(source):
            run(*peer, "write", source, self.path(shape + ".json"))
        target = source
        if form in type_name:
            target = self.path(f"{shape}-{form}.gguf")
            if not os.path.exists(target):
                run(*peer, "quantize", source, target, type_name[form])
        command = (*peer, "time", target, "--prompt", 512, "--gen", 64, "--runs", self.o.runs, "--gpu")
        assert os.path.exists(model)
        figure, prefill, decode = self.beside(command, shape, form)
        return figure, min(prefill, decode) >= 1

    def beside_python(self, shape, code, least):
        """Beside transformers, or the authors' modelling code in it."""
        if self.why_not:
            raise NotMeasured(self.why_not)
        if not self.o.torch:
            raise NotMeasured("--torch names no Python with torch and transformers")
        if code is None:
            raise NotMeasured("--authors names no folder with their modelling code")
        command = [self.o.torch, os.path.join(HERE, "transformers_peer.py"), self.model(shape, "BF16"), "--runs",
                   self.o.runs, *(("--code", code) if code else ())]
        figure, _, decode = self.beside(command, shape, "BF16")
        return figure, decode >= least

    def works(self):
        """(name, work, goal, figure) of each row."""
        read, matrix = "of what a read kernel gets", "of cuBLASLt's rate, whole passes"
        yield ("decode-7B", "decode, FineRMoE-7B, BF16, one session", f"≥ 90 % {read}",
               lambda: self.decode("finermoe-7B", "BF16", 0.9))
        for form in "BF16", "Q4":
            yield (f"decode-1.5B-{form}", f"decode, FineRMoE-1.5B, {form}", f"≥ 80 % {read}",
                   lambda form=form: self.decode("finermoe-1.5B", form, 0.8))
        yield ("first-token", "first token of 12, FineRMoE-7B, BF16", "≤ 10 ms",
               lambda: self.first_token("finermoe-7B", "BF16", 12, 0.01))
        yield ("prefill-7B", "prefill 4096, FineRMoE-7B, BF16", f"≥ 60 % {matrix}",
               lambda: self.prefill("finermoe-7B", "BF16", 4096, 0.6))
        for shape in "dense-1.5B", "dense-7B":
            yield (f"prefill-{shape}", f"prefill 512, {shape}, BF16", f"≥ 60 % {matrix}",
                   lambda shape=shape: self.prefill(shape, "BF16", 512, 0.6))
        yield ("sessions", "64 sessions, FineRMoE-1.5B, BF16", "≥ 20× one session",
               lambda: self.sessions("finermoe-1.5B", "BF16", 64, 20))
        yield ("experts-in-memory", "FineRMoE-1.5B, BF16, routed experts on the CPU", "≥ 70 % of all on the GPU",
               lambda: self.experts_in_memory("finermoe-1.5B", "BF16", 0.7, "--expert-device", "cpu"))
        size = "1MB" if self.o.tiny else "2GB"
        yield ("experts-in-cache", f"FineRMoE-1.5B, BF16, routed experts fetched into a cache of {size}",
               "≥ 70 % of all on the GPU",
               lambda: self.experts_in_memory("finermoe-1.5B", "BF16", 0.7, "--expert-cache", size))
        yield ("paper", "decode, FineRMoE-7B, BF16, beside the paper's Python on a GPU it does not name", "≥ 10×",
               lambda: self.beside_paper("finermoe-7B", "BF16", 10))
        yield ("authors", "FineRMoE-7B, BF16, prefill 512 and decode beside the authors' Python", "decode ≥ 10×",
               lambda: self.beside_python("finermoe-7B", self.o.authors, 10))
        yield ("transformers", "dense-1.5B, BF16, prefill 512 and decode beside transformers", "decode ≥ 10×",
               lambda: self.beside_python("dense-1.5B", "", 10))
        for shape in "dense-1.5B", "dense-7B":
            for form in "BF16", "Q8", "Q4":
                yield (f"llama.cpp-{shape}-{form}", f"{shape}, {form}, prefill 512 and decode beside llama.cpp", "≥ 1×",
                       lambda shape=shape, form=form: self.beside_llama_cpp(shape, form))
        yield ("table-6-FineRMoE", "Table 6: FineRMoE, 7B shape, BF16", "",
               lambda: self.system("finermoe-7B", "BF16"))
        for shape, form, flags in (("S16A4", "BF16", ()), ("DU", "Q4", ()), ("NVShard", "Q4", ()),
                                   ("C32A2", "Q4", ("--expert-device", "cpu"))):
            note = ", experts in RAM" if flags else ""
            yield (f"table-6-{shape}", f"Table 6: {shape}, 7B shape, {form}{note}", "",
                   lambda shape=shape, form=form, flags=flags: self.system(shape, form, *flags))

    def table(self):
        yield "| work | goal | measured | |\n|---|---|---|---|\n"
        for name, work, goal, measure in self.works():
            if self.o.only and name not in self.o.only:
                continue
            try:
                figure, is_met = measure()
                yield f"| {work} | {goal} | {figure} | {'' if is_met is None else 'met' if is_met else 'missed'} |\n"
            except NotMeasured as reason:
                why = "" if self.why_not else f": {reason}"  # which the heading has for all
                yield f"| {work} | {goal} | not measured{why} | |\n"

    def heading(self):
        if self.why_not:
            return f"Nothing is measured: {self.why_not}.\n\n"
        size, rate = self.limits["size"], self.limits["bf16_gop_per_second"] / 1000
        products = f"cuBLASLt {rate:.0f} Top/s from BF16 matrices of {size} × {size}" if rate else "cuBLASLt is not here"
        return (f"{self.limits['name']}, beside {processor()}, {datetime.date.today()}. Limits of the same run: a read kernel "
                f"gets {self.limits['read_gb_per_second']:.0f} GB/s, {products}.\n\n")


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()} ({len(os.sched_getaffinity(0))} threads)"


BEGIN, END = "<!-- bench/gpu.py writes from here -->\n", "<!-- to here -->\n"


def write(path, text):
    """Replaces what stands between the two marks of a document."""
    with open(path, encoding="utf-8") as file:
        old = file.read()
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{path}: expected the lines\n{BEGIN}{END}")
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(before + begin + text + end + after)
    os.replace(path + ".new", path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("folder")
    parser.add_argument("--device", default="cuda:0", metavar="cuda:N")
    parser.add_argument("--module", help="the device's module (default: the build's libfinermoe_cuda.so)")
    parser.add_argument("--limits", help="the program that measures the limits (default: the build's bench-gpu-limits)")
    parser.add_argument("--write", metavar="FILE", help="a document whose table is replaced, between its two marks")
    parser.add_argument("--peer", metavar="PYTHON", help="interpreter with llama-cpp-python for the GPU, and gguf")
    parser.add_argument("--torch", metavar="PYTHON", help="interpreter with torch for the GPU, and transformers")
    parser.add_argument("--authors", metavar="FOLDER", help="the authors' modelling code, beside a config.json")
    parser.add_argument("--runs", type=int, default=3, help="of each measurement, besides one that does not count")
    parser.add_argument("--only", nargs="*", metavar="WORK", help="names such as decode-7B")
    parser.add_argument("--keep", action="store_true", help="leave the models in FOLDER")
    parser.add_argument("--tiny", action="store_true", help="tiny models, to try the command")
    options = parser.parse_args()
    if options.tiny:
        options.folder = os.path.join(options.folder, "tiny")
    os.makedirs(options.folder, exist_ok=True)
    gpu = Gpu(options)
    lines = [gpu.heading()]
    sys.stdout.write(lines[0])
    for line in gpu.table():
        sys.stdout.write(line)
        sys.stdout.flush()
        lines.append(line)
    if options.write:
        write(options.write, "".join(lines))
    return 77 if gpu.why_not else 0


if __name__ == "__main__":
    sys.exit(main())
