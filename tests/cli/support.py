"""What the tests of the command share. Each script is called with the command's path as its argument."""

import json
import os
import pathlib
import subprocess
import sys
import unittest

ROOT = pathlib.Path(os.environ["FINERMOE_SOURCE"])
SHAPES = ROOT / "tests/data/shapes"
TRAINED = ROOT / "examples/models/tiny-wordnet-finermoe"
DENSE = ROOT / "examples/models/tiny-wordnet-dense"
COMMAND = sys.argv[1]

LIGHTHOUSE = 'Define the noun "lighthouse".'


def numpy():
    """The module, or a visible skip."""
    try:
        import numpy as module
    except ImportError as error:
        print(f"skipped: {error}")
        sys.exit(77)
    return module


def arguments(*parts):
    return [COMMAND, *map(str, parts)]


def run(*parts, stdin=b"", code=0):
    """Runs the command and returns (stdout, stderr) as bytes; its exit code has to be `code`."""
    result = subprocess.run(arguments(*parts), input=stdin, capture_output=True, timeout=300)
    if result.returncode != code:
        raise AssertionError(f"{parts}: expected exit code {code}, found {result.returncode}\n"
                             f"stdout: {result.stdout[-2000:]!r}\nstderr: {result.stderr[-2000:]!r}")
    return result.stdout, result.stderr


def text(*parts, **options):
    return run(*parts, **options)[0].decode()


def value(*parts, **options):
    """Standard output as JSON."""
    return json.loads(run(*parts, **options)[0])


def error(*parts, code=1, **options):
    """The message of a command that has to fail, and has to print nothing else."""
    out, message = run(*parts, code=code, **options)
    assert out == b"", out
    assert message.startswith(b"finermoe: "), message
    return message.decode()


def ids(numbers):
    return ",".join(map(str, numbers))


def expected(model):
    return json.loads((model / "expected.json").read_text())


def main():
    unittest.main(argv=sys.argv[:1], verbosity=2)
