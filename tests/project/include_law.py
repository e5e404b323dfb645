"""Who may include whom: the law of CONTRIBUTING.md, over every #include of the tree."""

import re

import tree

# room: the rooms that it may include, besides itself
LAW = {
    "base": set(),
    "format": {"base"},
    "text": {"base"},
    "model": {"base", "format", "backend"},
    "backend": {"base", "format"},
    "cpu": {"base", "format", "backend"},
    "runtime": {"base", "format", "model", "text", "backend"},
    "convert": {"base", "format"},
    "api": {"base", "format", "text", "model", "backend", "runtime", "convert", "cpu"},
}
OUTSIDE = ("tools/", "bindings/", "examples/")  # these include finermoe.h and nothing of src

INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.M)


def check(name, content):
    """Findings in one file."""
    findings = []
    parts = name.split("/")
    room = parts[1] if parts[0] == "src" and len(parts) > 2 else None
    for bracket, target in INCLUDE.findall(content):
        first = target.split("/")[0] if "/" in target else None
        if room is not None:
            if room not in LAW:
                findings.append(f"{name}: the room {room} has no place in the include law")
                break
            if first in LAW and first != room and first not in LAW[room]:
                findings.append(f"{name}: {room} must not include {target}")
            if bracket == '"' and first not in LAW and target != "finermoe.h":
                findings.append(f'{name}: "{target}" is not written from src')
        elif name.startswith(OUTSIDE) and (first in LAW or ".." in target):
            findings.append(f"{name}: only finermoe.h may be included, not {target}")
    if room in ("model", "runtime") and re.search(r"\bcpu[/:_.]", content):
        findings.append(f"{name}: {room} names cpu")
    return findings


if __name__ == "__main__":
    names = [n for n in tree.files(".h", ".cc", ".c", ".inc", ".i", ".cpp", ".hpp") if n.startswith(("src/", *OUTSIDE))]
    tree.finish([finding for name in names for finding in check(name, tree.text(name))], len(names))
