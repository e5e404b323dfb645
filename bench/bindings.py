"""What a generated token and a row of logits cost in each language beside C: bindings.py BUILD [ROUNDS]

Runs the programs that the tests of the bindings have built in BUILD (tests/bindings), and bindings-c (-Dbench=true), in
turns on one thread, and prints a table: time for a token, the median of all processes; how much that is beyond C in the
same turn, its median and its quartiles; and time for reading one row of 4096 logits into the language's own array. Tokens
are those of a model of a few kilobytes, since where a larger one's memory lands makes a process faster or slower by more
than a language does.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/fuzz"))
import tiny

MODEL = ROOT / "examples/models/tiny-wordnet-dense"
LANGUAGES = ("python", "java", "go", "rust")
N_TOKENS, REPEATS = 200, 9


def commands(build):
    """The bench program of each language that was built, as a command with its environment."""
    found = {"c": ([str(build / "bench/bindings-c")], {})}
    for language in LANGUAGES:
        path = build / "bindings" / language / "bench.json"
        if path.exists():
            program = json.loads(path.read_text(encoding="utf-8"))
            found[language] = (program["command"], program["env"])
        else:
            print(f"{language}: not built", file=sys.stderr)
    return found


def measure(command, env, model):
    """Medians of the seconds per token and per row of logits, but for what a just-in-time compiler needs to begin with."""
    done = subprocess.run([*command, str(model), str(N_TOKENS), str(REPEATS)], env={**os.environ, **env}, check=True,
                          stdout=subprocess.PIPE, encoding="utf-8")
    result = json.loads(done.stdout.splitlines()[-1])
    return [statistics.median(result[name][REPEATS // 3:]) for name in ("seconds_per_token", "seconds_per_logits_row")]


def small_model(folder):
    path = folder / "model.safetensors"
    config = tiny.dense_config(288, max_position_embeddings=512)
    path.write_bytes(tiny.single_file(config, {"tokenizer.json": tiny.tokenizer(),
                                               "tokenizer_config.json": tiny.tokenizer_config()}))
    return path


def main(build, rounds="20"):
    programs = commands(pathlib.Path(build).resolve())
    tokens, rows = ({language: [] for language in programs} for _ in range(2))
    with tempfile.TemporaryDirectory() as folder:
        small = small_model(pathlib.Path(folder))
        for _ in range(int(rounds)):
            for language, (command, env) in programs.items():
                tokens[language].append(1e6 * measure(command, env, small)[0])
                rows[language].append(1e6 * measure(command, env, MODEL)[1])
    print("| language | a token, µs | beyond C, µs | quartiles | a row of logits, µs |\n|---|---|---|---|---|")
    for language in programs:
        beyond = [found - in_c for found, in_c in zip(tokens[language], tokens["c"])]
        low, middle, high = statistics.quantiles(beyond, n=4)
        print(f"| {language} | {statistics.median(tokens[language]):.1f} | {middle:+.1f} | {low:+.1f} to {high:+.1f} "
              f"| {statistics.median(rows[language]):.2f} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
