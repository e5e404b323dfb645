"""Puts the conformance tables of a build side by side: tables.py BUILD

A cell is "ok", "failed", or empty where the row is missing or the language's test was skipped.
"""

import pathlib
import sys

import support

LANGUAGES = ("c", "python", "java", "go", "rust")


def main(build):
    tables = {}
    for language in LANGUAGES:
        path = pathlib.Path(build) / "bindings" / language / "conformance.txt"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        tables[language] = {name: result.split(":")[0] for name, result in (line.split("\t", 1) for line in lines)}
    width = max(map(len, support.conformance_rows()))
    print(f"{'':{width}}", *(f"{language:8}" for language in LANGUAGES))
    for name in support.conformance_rows():
        print(f"{name:{width}}", *(f"{tables[language].get(name, ''):8}" for language in LANGUAGES))
    counts = [f"{sum(result == 'ok' for result in tables[language].values())}" for language in LANGUAGES]
    print(f"{'ok':{width}}", *(f"{count:8}" for count in counts))


if __name__ == "__main__":
    main(*sys.argv[1:])
