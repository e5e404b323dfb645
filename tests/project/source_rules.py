"""The rules of CONTRIBUTING.md that can be read off a file: sizes, calls that a library must not make, leftovers."""

import re

import tree

FILE_LINES, HEADER_LINES, FUNCTION_LINES = 600, 1400, 100

# What nothing in src may do: print, end the process, read the environment, change the locale, install a handler.
CALLS = re.compile(r"(?<![\w.>])(?:std::)?(printf|fprintf|vprintf|puts|fputs|putchar|perror|abort|exit|_exit|_Exit"
                   r"|quick_exit|atexit|terminate|getenv|secure_getenv|setenv|putenv|setlocale|signal|sigaction|assert)"
                   r"\s*\(|std::(cout|cerr|clog)\b")
LEFTOVER = re.compile(r"\b(" + "|".join(("TODO", "FIXME", "XXX", "HACK")) + r")\b")
# A home or a work folder of somebody's machine.
MACHINE_PATH = re.compile(r"(?<![\w.$}])/(?:home|root|Users|work)/\w")
# A function begins where a line ends with "{" after a parameter list, and ends at the brace of the same column.
FUNCTION = re.compile(r"^( *)(?!.*\b(?:if|for|while|switch|do|else|catch|namespace|return)\b)\S.*\)"
                      r"(?: const| noexcept| override| final| requires.*| ->.*| :.*)*\s*\{$")


def without_comments(content):
    """The code with comments and string literals blanked, so that they cannot look like calls."""
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|R"\((?:.|\n)*?\)"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'', re.S)
    return pattern.sub(lambda m: "\n" * m[0].count("\n"), content)


def is_generated(content):
    return re.search(r"(generated|made) by", content[:400], re.I) is not None


def check(name, content):
    """Findings in one C or C++ file."""
    findings = []
    lines = content.splitlines()
    most = HEADER_LINES if name == "include/finermoe.h" else FILE_LINES
    if len(lines) > most and not is_generated(content):
        findings.append(f"{name}: {len(lines)} lines, {most} at most")
    begin = None
    for number, line in enumerate(lines, 1):
        if begin is None:
            if match := FUNCTION.match(line):
                begin, column = number, match[1]
        elif line.startswith(column + "}"):
            if number - begin + 1 > FUNCTION_LINES:
                findings.append(f"{name}:{begin}: a function of {number - begin + 1} lines, {FUNCTION_LINES} at most")
            begin = None
    if name.startswith("src/"):
        for number, line in enumerate(without_comments(content).splitlines(), 1):
            if call := CALLS.search(line):
                findings.append(f"{name}:{number}: {call[1] or call[2]} has no place in the library")
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
    sources = tree.files(".h", ".cc", ".c", ".inc", ".cpp", ".hpp")
    findings = [finding for name in sources for finding in check(name, tree.text(name))]
    texts = tree.files(".h", ".cc", ".c", ".inc", ".i", ".py", ".md", ".build", ".java", ".go", ".rs", ".txt", ".in")
    texts += [name for name in tree.files(under=("scripts/", ".ci/")) if not name.endswith((".py", ".txt"))]
    for name in texts:
        # This folder spells out what it looks for.
        if not name.startswith(("tests/project/", "CONTRIBUTING.md")):
            findings += check_leftovers(name, tree.text(name))
    tree.finish(findings, len(sources) + len(texts))
