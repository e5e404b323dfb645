"""The conformance suite (bindings/conformance/README.md) through the Python package.

    python3 -m conformance [--table FILE] [NAME …]

Prints a line for each row, or for those named; with --table, also writes them to a file. Exit status 1 if one failed.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import tempfile
from typing import Any

# Each has the functions for its kinds of rows.
from . import errors, generation, models, sessions, text, threads, writers  # noqa: F401
from .rows import KINDS, SOURCE, Row


def equal(expected: Any, found: Any) -> bool:
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(name in found and equal(one, found[name])
                                               for name, one in expected.items())
    if isinstance(expected, list):
        return isinstance(found, list) and len(expected) == len(found) and all(map(equal, expected, found))
    if isinstance(expected, float):
        return isinstance(found, (int, float)) and abs(expected - found) <= 1e-4
    return bool(expected == found)


def outcome(row: Row) -> str:
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = KINDS[row["kind"]](row, pathlib.Path(folder))
        except Exception as error:
            return f"failed: {type(error).__name__}: {error}"
    for name, expected in row["expect"].items():
        if name not in found or not equal(expected, found[name]):
            return f"failed: {name}: expected {json.dumps(expected)}, found {found.get(name)!r}".replace("\n", " ")
    return "ok"


def main() -> int:
    parser = argparse.ArgumentParser("python3 -m conformance", description="Runs the conformance suite.")
    parser.add_argument("--table", type=pathlib.Path, help="also write the lines to this file")
    parser.add_argument("names", nargs="*", help="of the rows; all by default")
    arguments = parser.parse_args()
    lines = []
    for path in sorted((SOURCE / "bindings/conformance").glob("*.json")):
        for row in json.loads(path.read_text(encoding="utf-8")):
            name = f"{path.stem}/{row['name']}"
            if arguments.names and name not in arguments.names:
                continue
            lines.append(f"{name}\t{outcome(row)}")
            print(lines[-1], flush=True)
    if arguments.table:
        arguments.table.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return 0 if lines and all(line.endswith("\tok") for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
