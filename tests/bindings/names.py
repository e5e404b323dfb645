"""The table of docs/bindings.md, which names each C function in each language, is made from bindings/*/names.json:
names.py [--write]

Without --write it checks that the table is up to date, and that no language lacks a function.
"""

import json
import re
import sys

import interface

from support import BINDINGS, SOURCE

LANGUAGES = ("python", "java", "go", "rust")
BEGIN, END = "<!-- names: made by tests/bindings/names.py --write -->\n", "<!-- names end -->\n"


def sections():
    """The sections of the header with the functions that each declares, in their order."""
    text = (interface.SOURCE / "include/finermoe.h").read_text(encoding="utf-8")
    parts = re.split(r"^/\* -{20,}\n \* (\d+\. [^\n*]*?)(?: \*/)?\n", text, flags=re.M)
    for title, code in zip(["Version", *parts[1::2]], parts[0::2], strict=True):
        yield title, interface.functions_in(interface.without_comments(code))


def table(names):
    lines = []
    for title, functions in sections():
        lines += [f"### {title}", "", "| C | Python | Java | Go | Rust |", "|---|---|---|---|---|"]
        for function in functions:
            cells = (f"`{names[language][function]}`" for language in LANGUAGES)
            lines.append(f"| `{function}` | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def main(*arguments):
    functions = interface.Header().functions
    assert functions == {name for _, names in sections() for name in names}, "a section of the header was not understood"
    names = {language: json.loads((BINDINGS / language / "names.json").read_text(encoding="utf-8"))
             for language in LANGUAGES}
    findings = [f"{language}: {function} has no name" for language in LANGUAGES
                for function in sorted(functions) if not names[language].get(function)]
    findings += [f"{language}: {function} is not in the header" for language in LANGUAGES
                 for function in sorted(names[language].keys() - functions)]
    if not findings:
        path = SOURCE / "docs/bindings.md"
        text = path.read_text(encoding="utf-8")
        before, rest = text.split(BEGIN)
        wanted = before + BEGIN + table(names) + END + rest.split(END)[1]
        if "--write" in arguments:
            path.write_text(wanted, encoding="utf-8")
        elif text != wanted:
            findings.append("docs/bindings.md: the table is not what names.json say; run tests/bindings/names.py --write")
    print("\n".join(findings) or f"{len(functions)} functions, named in {len(LANGUAGES)} languages")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
