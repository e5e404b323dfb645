"""What the tests of the bindings share: tools that may be missing, and commands that must succeed."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

SOURCE = pathlib.Path(os.environ["FINERMOE_SOURCE"])
BUILD = pathlib.Path(os.environ["FINERMOE_BUILD"])
BINDINGS = SOURCE / "bindings"
INCLUDE = SOURCE / "include"
MODEL = SOURCE / "examples/models/tiny-wordnet-finermoe"


class Missing(Exception):
    """A tool or a package that this machine lacks."""


def need(tool):
    if shutil.which(tool) is None:
        raise Missing(tool)


def run(*command, **kwargs):
    env = {**os.environ, **{name: str(value) for name, value in kwargs.pop("env", {}).items()}}
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, encoding="utf-8", env=env, **kwargs)
    except subprocess.TimeoutExpired as late:  # bytes, whatever the encoding
        said = "".join(part.decode("utf-8", "replace") for part in (late.stdout, late.stderr) if part)
        raise AssertionError(f"{command}: not over after {late.timeout} s:\n{said}") from late
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
    return done.stdout


def swig(work, outputs, *options):
    """Makes wrap.c in `work`, and the language's own files in `outputs`."""
    need("swig")
    outputs.mkdir(parents=True, exist_ok=True)
    run("swig", *options, "-Wall", "-Werror", f"-I{INCLUDE}", f"-I{BINDINGS}", "-outdir", outputs, "-o", work / "wrap.c",
        BINDINGS / "finermoe.i")


def work_folder(language):
    """Where everything that is built for a language goes."""
    work = BUILD / "bindings" / language
    work.mkdir(parents=True, exist_ok=True)
    return work


def offer_bench(language, command, env):
    """Tells bench/bindings.py how the bench program of a language is run."""
    program = {"command": [str(word) for word in command], "env": {name: str(value) for name, value in env.items()}}
    (work_folder(language) / "bench.json").write_text(json.dumps(program), encoding="utf-8")


def conformance_rows():
    """The names of all rows of the conformance suite, in their order."""
    return [f"{path.stem}/{row['name']}" for path in sorted((BINDINGS / "conformance").glob("*.json"))
            for row in json.loads(path.read_text(encoding="utf-8"))]


def check_table(path):
    """The table that a language's runner has written has every row of the suite, and "ok" in each."""
    lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    found = dict(line.split("\t", 1) for line in lines)
    wrong = [f"{name}: {found.get(name, 'missing')}" for name in conformance_rows() if found.get(name) != "ok"]
    wrong += [f"{name}: not a row of the suite" for name in found.keys() - set(conformance_rows())]
    assert not wrong and len(lines) == len(found), "\n".join(wrong) or "a row twice"


def main(test):
    """Runs `test(library, compiler)`, the folder of libfinermoe and the C compiler's command being our arguments; what
    is missing on this machine is named, and the test skipped."""
    library, *compiler = sys.argv[1:]
    try:
        test(library, compiler)
    except Missing as what:
        print(f"skipped: not here: {what}")
        sys.exit(77)
