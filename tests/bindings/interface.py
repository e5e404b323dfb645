"""finermoe.i takes every object and every struct of the header: interface.py

A `_free` without a %handle would leave an object that no language can free, a struct without a %readout one that none
can read.
"""

import os
import pathlib
import re
import sys

SOURCE = pathlib.Path(os.environ["FINERMOE_SOURCE"])


def without_comments(code):
    return re.sub(r"/\*.*?\*/", "", code, flags=re.S)


def functions_in(code):
    """The functions that code without comments declares, in their order."""
    return re.findall(r"^FINERMOE_API [^;(]*?(finermoe_\w+)\(", code, re.M)


class Header:
    """The names that finermoe.h declares."""

    def __init__(self):
        code = without_comments((SOURCE / "include/finermoe.h").read_text())
        self.functions = set(functions_in(code))
        self.objects = {name[:-len("_free")] for name in self.functions if name.endswith("_free")}
        self.structs = {name: re.findall(r"(\w+);", body)
                        for name, body in re.findall(r"typedef struct (\w+) {(.*?)}", code, re.S)}
        self.constants = {name for body in re.findall(r"enum\s*{(.*?)}", code, re.S)
                          for name in re.findall(r"FINERMOE_\w+", body)}


def findings_in(interface, header):
    handles = {f"finermoe_{name}" for name in re.findall(r"^%handle\((\w+),", interface, re.M)}
    readouts = {f"finermoe_{name}" for name in re.findall(r"^%readout\((\w+),", interface, re.M)}
    objects = header.objects - {"finermoe_error"}  # becomes an exception
    return [*(f"{name}_free is declared, and {name} has no %handle" for name in objects - handles),
            *(f"{name} has a %handle, and {name}_free is not declared" for name in handles - objects),
            *(f"struct {name} has no %readout" for name in header.structs.keys() - readouts),
            *(f"{name} has a %readout, and is not declared" for name in readouts - header.structs.keys())]


def main():
    header = Header()
    interface = (SOURCE / "bindings/finermoe.i").read_text()
    findings = findings_in(interface, header)
    # The check itself can fail: without any one line it has a finding.
    for line in re.findall(r"^%(?:handle|readout)\(.*\n", interface, re.M):
        if not findings_in(interface.replace(line, ""), header):
            findings.append(f"nothing is found where this line is missing: {line.strip()}")
    print("\n".join(sorted(findings)) or f"{len(header.objects)} objects and {len(header.structs)} structs, all there")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
