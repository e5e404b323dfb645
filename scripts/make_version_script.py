#!/usr/bin/env python3
"""Turn the list of exported symbols into a linker version script: make_version_script.py SYMBOLS NODE OUT"""
import sys

symbols, node, out = sys.argv[1:]
with open(symbols) as f:
    names = f.read().split()
with open(out, "w") as f:
    f.write(f"{node} {{\n  global:\n" + "".join(f"    {name};\n" for name in names) + "  local: *;\n};\n")
