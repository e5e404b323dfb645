"""The rules of CONTRIBUTING.md that can be read off a file: its length, calls that no library makes, addresses of a
device's memory, leftovers."""

import re

import tree

# What nothing in src may do: print, end the process, read the environment, change the locale, install a handler.
CALLS = re.compile(r"(?<![\w.>])(?:std::)?(printf|fprintf|vprintf|puts|fputs|putchar|perror|abort|exit|_exit|_Exit"
                   r"|quick_exit|atexit|terminate|getenv|secure_getenv|setenv|putenv|setlocale|signal|sigaction|assert)"
                   r"\s*\(|std::(cout|cerr|clog)\b")
LEFTOVER = re.compile(r"\b(" + "|".join(("TODO", "FIXME", "XXX", "HACK")) + r")\b")
# A home or a work folder of somebody's machine.
MACHINE_PATH = re.compile(r"(?<![\w.$}])/(?:home|root|Users|work)/\w")

# Where a device's own code is: nobody else may follow a pointer into a device's memory.
DEVICE_CODE = ("src/cpu/", "src/cuda/", "src/backend/device_ptr.h")
ADDRESS = re.compile(r"\.address\(\)")


def without_comments(content):
    """The code with comments and string literals blanked, so that they cannot look like calls."""
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|R"\((?:.|\n)*?\)"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'', re.S)
    return pattern.sub(lambda m: "\n" * m[0].count("\n"), content)


def is_generated(content):
    return re.search(r"(generated|made) by", content[:400], re.I) is not None


def check(name, content, limits):
    """Findings in one C or C++ file; `limits` as tree.limits() reads them."""
    findings = []
    lines = content.splitlines()
    most = limits.get(name, limits["a source file"])
    if len(lines) > most and not is_generated(content):
        findings.append(f"{name}: {len(lines)} lines, {most} at most")
    if name.startswith("src/"):
        for number, line in enumerate(without_comments(content).splitlines(), 1):
            if call := CALLS.search(line):
                findings.append(f"{name}:{number}: {call[1] or call[2]} has no place in the library")
            if ADDRESS.search(line) and not name.startswith(DEVICE_CODE):
                findings.append(f"{name}:{number}: the address of a device's memory, outside of a device's code")
    return findings


def check_exceptions(limits, lines_of):
    """An exception that nothing needs any more goes; lines_of(name) is None where there is no such file."""
    findings = []
    for what in limits:
        name, _, function = what.partition(":")
        lines = lines_of(name) if "/" in name else None
        if "/" in name and lines is None:
            findings.append(f"CONTRIBUTING.md: a limit for {name}, which does not exist")
        elif lines is not None and not function and lines <= limits["a source file"]:
            findings.append(f"CONTRIBUTING.md: {name} needs no limit of its own")
    return findings


def check_leftovers(name, content):
    """Findings in any text file."""
    findings = []
    for number, line in enumerate(content.splitlines(), 1):
        for pattern, what in ((LEFTOVER, "left over"), (MACHINE_PATH, "a path of some machine")):
            if found := pattern.search(line):
                findings.append(f"{name}:{number}: {what}: {found[0]}")
    return findings


if __name__ == "__main__":
    sources = tree.files(".h", ".cc", ".c", ".inc", ".cpp", ".hpp", ".cu", ".cuh")
    limits = tree.limits(tree.text("CONTRIBUTING.md"))
    findings = [finding for name in sources for finding in check(name, tree.text(name), limits)]
    findings += check_exceptions(limits, lambda name: tree.text(name).count("\n") if name in sources else None)
    texts = tree.files(".h", ".cc", ".c", ".inc", ".cu", ".cuh", ".i", ".py", ".md", ".build", ".java", ".go", ".rs", ".txt", ".in")
    texts += [name for name in tree.files(under=("scripts/", ".ci/")) if not name.endswith((".py", ".txt"))]
    for name in texts:
        # This folder spells out what it looks for.
        if not name.startswith(("tests/project/", "CONTRIBUTING.md")):
            findings += check_leftovers(name, tree.text(name))
    tree.finish(findings, len(sources) + len(texts))
