"""What a generated token and a row of logits cost in each language beside C: bindings.py BUILD [ROUNDS]

Runs the programs that the tests of the bindings have built in BUILD (tests/bindings), and bindings-c (-Dbench=true), in
turns on one thread, and prints a table: time for a token beyond that in C, and for reading one row of logits into the
language's own array. The model is tiny, so that the language can be seen beside it. Where its memory lands makes a
process faster or slower by a third, whatever the language: a figure is the median of the fastest process.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
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


def measure(command, env):
    done = subprocess.run([*command, str(MODEL), str(N_TOKENS), str(REPEATS)], env={**os.environ, **env}, check=True,
                          stdout=subprocess.PIPE, encoding="utf-8")
    return json.loads(done.stdout.splitlines()[-1])


def main(build, rounds="12"):
    programs = commands(pathlib.Path(build).resolve())
    tokens, rows = ({language: [] for language in programs} for _ in range(2))
    for _ in range(int(rounds)):
        for language, (command, env) in programs.items():
            result = measure(command, env)
            # What a just-in-time compiler needs to begin with is no part of the cost of a token.
            tokens[language].append(statistics.median(result["seconds_per_token"][REPEATS // 3:]))
            rows[language].append(statistics.median(result["seconds_per_logits_row"][REPEATS // 3:]))
    in_c = min(tokens["c"])
    print("| language | a token, µs | beyond C, µs | a row of logits, µs |\n|---|---|---|---|")
    for language in programs:
        token, row = min(tokens[language]), min(rows[language])
        print(f"| {language} | {1e6 * token:.1f} | {1e6 * (token - in_c):+.1f} | {1e6 * row:.2f} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
