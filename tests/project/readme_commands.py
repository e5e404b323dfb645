"""The command lines of the README print what the README says: readme_commands.py FINERMOE

Numbers may differ in the last digits, because instruction sets round differently."""

import math
import os
import re
import subprocess
import sys
import tempfile

import tree

NUMBER = re.compile(r"-?\d+\.\d+(?:e[-+]?\d+)?")


def commands(readme):
    """[(command line, what it prints)] of the console blocks."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", readme, re.M | re.S):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            line, _, output = part.partition("\n")
            found.append((line, output))
    return found


def same(told, printed):
    """Equal text, and numbers that are equal within a thousandth."""
    return NUMBER.sub("#", told) == NUMBER.sub("#", printed) and all(
        math.isclose(float(a), float(b), rel_tol=1e-3)
        for a, b in zip(NUMBER.findall(told), NUMBER.findall(printed)))


if __name__ == "__main__":
    findings, checked = [], commands(tree.text("README.md"))
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(os.path.abspath(sys.argv[1]), os.path.join(folder, "finermoe"))
        os.symlink(tree.ROOT / "examples", os.path.join(folder, "examples"))
        environment = {**os.environ, "PATH": folder + os.pathsep + os.environ["PATH"]}
        for line, told in checked:
            result = subprocess.run(line, shell=True, cwd=folder, env=environment, capture_output=True, text=True)
            if result.returncode != 0 or not same(told, result.stdout):
                findings.append(f"$ {line}\n{result.stdout}{result.stderr}but the README says\n{told}")
    tree.finish(findings, len(checked))
