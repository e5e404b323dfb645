"""Sizes, offsets, constants and prototypes of finermoe.h are those of abi_layout.txt.

    abi_layout.py CC...            compares
    abi_layout.py --write CC...    writes abi_layout.txt, for a change that is meant (docs/abi-stability.md)

Everything is taken from the header itself, so that nothing new can be forgotten; the compiler gives the numbers.
"""

import difflib
import os
import pathlib
import re
import subprocess
import sys
import tempfile

GOLDEN = pathlib.Path(__file__).with_name("abi_layout.txt")
INCLUDE = pathlib.Path(os.environ["FINERMOE_SOURCE"]) / "include"


def contents(header):
    """(constants, {struct: fields}, prototypes and callback types), in the header's order."""
    code = re.sub(r"/\*.*?\*/", "", header, flags=re.S)
    enums = re.findall(r"enum\s*{(.*?)}", code, re.S)
    constants = [name for body in enums for name in re.findall(r"FINERMOE_\w+", body)]
    structs = {name: re.findall(r"(\w+);", body)
               for name, body in re.findall(r"typedef struct (\w+) {(.*?)}", code, re.S)}
    functions = re.findall(r"^FINERMOE_API ([^;]*);|^(typedef [^;{]*\(\*[^;]*);", code, re.M)
    return constants, structs, [" ".join((a or b).split()) for a, b in functions]


def program(constants, structs):
    lines = ['#include <stddef.h>', '#include <stdio.h>', '#include "finermoe.h"', "int main(void) {"]
    lines += [f'printf("{name} = %d\\n", (int){name});' for name in constants]
    for struct, fields in structs.items():
        lines.append(f'printf("{struct}: %zu bytes\\n", sizeof({struct}));')
        for field in fields:
            place = f"offsetof({struct}, {field}), sizeof((({struct}*)0)->{field})"
            lines.append(f'printf("  {field} at %zu, %zu bytes\\n", {place});')
    return "\n".join([*lines, "return 0;", "}", ""])


def layout(compiler):
    constants, structs, prototypes = contents((INCLUDE / "finermoe.h").read_text())
    with tempfile.TemporaryDirectory() as folder:
        source, binary = pathlib.Path(folder, "layout.c"), pathlib.Path(folder, "layout")
        source.write_text(program(constants, structs))
        subprocess.run([*compiler, "-std=c99", "-I", str(INCLUDE), str(source), "-o", str(binary)], check=True)
        numbers = subprocess.run([str(binary)], check=True, capture_output=True, text=True).stdout
    return numbers + "".join(line + "\n" for line in prototypes)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    write = arguments[:1] == ["--write"]
    found = layout(arguments[write:])
    if write:
        GOLDEN.write_text(found)
        sys.exit(0)
    if sys.maxsize < 2**32:
        print("skipped: the layout on record is that of 64-bit machines")
        sys.exit(77)
    difference = list(difflib.unified_diff(GOLDEN.read_text().splitlines(), found.splitlines(), "abi_layout.txt",
                                           "finermoe.h", lineterm="", n=1))
    print("\n".join(difference) or f"{len(found.splitlines())} lines, all as on record")
    sys.exit(1 if difference else 0)
