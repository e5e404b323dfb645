"""The files of the project, for the checks beside this file. Standard library only."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(os.environ.get("FINERMOE_SOURCE") or Path(__file__).resolve().parents[2])


def files(*suffixes, under=("",)):
    """Paths relative to the root, sorted, of all files that belong to the project (not what is built in it)."""
    git = subprocess.run(["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                         capture_output=True)
    if git.returncode == 0:
        names = git.stdout.decode().split("\0")
    else:  # an archive without its history
        names = []
        for folder, folders, here in os.walk(ROOT):
            folders[:] = [f for f in folders if f[0] != "." and not f.startswith("build") and f != "__pycache__"]
            names += [os.path.relpath(os.path.join(folder, name), ROOT) for name in here]
    wanted = {name for name in names if name and (not suffixes or name.endswith(suffixes)) and name.startswith(under)}
    return sorted(name for name in wanted if (ROOT / name).is_file())


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def table(content, heading):
    """[[cell, …], …]: the rows of the Markdown table whose first column has this heading."""
    found = re.search(rf"^\| *{re.escape(heading)} *\|.*\n\|[-|: ]+\|\n((?:\|.*\n)+)", content, re.M)
    assert found, f"no table begins with the column {heading}"
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in found[1].splitlines()]


def limits(contributing):
    """{what: lines at most}, as CONTRIBUTING.md says; an exception is a path, or path:function."""
    return {what.partition(",")[0].replace("`", ""): int(most) for what, most in table(contributing, "what")}


def finish(findings, checked):
    """Prints the findings and ends the script. A check that looked at nothing has failed."""
    for finding in findings:
        print(finding)
    if not checked:
        print("nothing was checked")
    print(f"{checked} checked, {len(findings)} findings")
    sys.exit(1 if findings or not checked else 0)
