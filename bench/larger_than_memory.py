"""Decoding a model whose file is larger than the memory that the process may use.

usage: larger_than_memory.py FINERMOE MODEL --memory SIZE [--tokens N] [--runs N] [--json]
Each way of reading the weights runs in a control group of its own, limited to SIZE bytes, after the page cache has
dropped the model's files: pages read when a fault asks for them; chosen experts read ahead; that with the weights of every
token locked; and that with a budget for experts. The ways take turns RUNS times, and the medians are compared. Tokens are
drawn with temperature 1, so that they differ and reach many experts; each way must draw the same ones. Exits with 77
where no control group can be made.
"""
import argparse
import contextlib
import glob
import json
import os
import statistics
import subprocess
import sys

ROOT = "/sys/fs/cgroup"


def own_group():
    """Directory of this process's memory group, and the name of the file that limits one. None where there is none."""
    with open("/proc/self/cgroup", encoding="ascii") as file:
        groups = [line.rstrip("\n").split(":", 2) for line in file]
    for _, controllers, path in groups:
        if "memory" in controllers.split(","):
            return f"{ROOT}/memory{path}", "memory.limit_in_bytes"
    for _, controllers, path in groups:
        if not controllers and os.path.exists(f"{ROOT}{path}/cgroup.subtree_control"):
            return f"{ROOT}{path}", "memory.max"
    return None


@contextlib.contextmanager
def limited_group(size):
    """A memory group inside of this process's own, removed afterwards."""
    own = own_group()
    if own is None:
        print("skipped: there is no memory group here")
        sys.exit(77)
    path, limit = f"{own[0]}/finermoe-{os.getpid()}", own[1]
    try:
        os.mkdir(path)
    except OSError as error:
        print(f"skipped: {error} (try as the superuser, or under systemd-run --user --scope)")
        sys.exit(77)
    try:
        with open(f"{path}/{limit}", "w", encoding="ascii") as file:
            file.write(str(size))
        yield path
    except OSError as error:
        print(f"skipped: {error}")
        sys.exit(77)
    finally:
        os.rmdir(path)


def drop_from_cache(model):
    for path in glob.glob(f"{model}/*.safetensors") if os.path.isdir(model) else [model]:
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def decode(arguments, flags):
    """One generation in a limited group: the command's JSON."""
    drop_from_cache(arguments.model)
    command = [arguments.finermoe, "generate", arguments.model, "--ids", "1,2,3,4", "-n", str(arguments.tokens),
               "--temp", "1", "--seed", "7", "--ignore-eos", "--json", *flags]
    with limited_group(arguments.memory) as group:
        def join():
            with open(f"{group}/cgroup.procs", "w", encoding="ascii") as file:
                file.write(str(os.getpid()))
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, preexec_fn=join)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("finermoe")
    parser.add_argument("model")
    parser.add_argument("--memory", type=lambda text: int(float(text)), required=True, help="bytes, such as 5e9")
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    plan = json.loads(subprocess.run([arguments.finermoe, "plan", arguments.model, "--context", "128", "--json"],
                                     stdout=subprocess.PIPE, check=True).stdout)
    # What the weights of every token and the allocations leave, and a little less for the rest of the process.
    budget = int(0.9 * (arguments.memory - plan["resident"]["every_token"] - plan["allocated_total"]))
    locked = ["--prefetch", "on", "--lock", "every-token"]
    ways = {"page faults": ["--prefetch", "off"], "experts read ahead": ["--prefetch", "on"],
            "and the rest locked": locked, "and a budget": [*locked, "--expert-budget", str(budget)]}
    rates, ids = {way: [] for way in ways}, set()
    for _ in range(arguments.runs):
        for way, flags in ways.items():
            done = decode(arguments, flags)
            rates[way].append(done["decode_tokens_per_second"])
            ids.add(tuple(done["ids"]))
    assert len(ids) == 1, "the ways drew different tokens"

    faults = statistics.median(rates["page faults"])
    result = {"model_bytes": plan["weights"]["total"], "memory": arguments.memory, "expert_budget": budget,
              "ways": {way: {"tokens_per_second": statistics.median(values), "runs": values,
                             "ratio": statistics.median(values) / faults} for way, values in rates.items()}}
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    print(f"{plan['weights']['total'] / 1e9:.1f} GB of weights in {arguments.memory / 1e9:.1f} GB of memory, "
          f"{arguments.tokens} tokens, {arguments.runs} runs")
    for way, values in result["ways"].items():
        print(f"{way:22}{values['tokens_per_second']:6.2f} tokens/s {values['ratio']:6.2f}x")


if __name__ == "__main__":
    main()
