"""The shared library exports what src/api/symbols.txt lists and nothing else, under its own version and soname:
symbols.py LIBRARY"""

import ctypes
import os
import pathlib
import re
import shutil
import subprocess
import sys


def tool(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"}).stdout


for name in ("nm", "readelf"):
    if shutil.which(name) is None:
        print(f"skipped: {name} (binutils) is not here")
        sys.exit(77)

library = sys.argv[1]
source = pathlib.Path(os.environ["FINERMOE_SOURCE"])
listed = set((source / "src/api/symbols.txt").read_text().split())
header = (source / "include/finermoe.h").read_text()
declared = set(re.findall(r"^FINERMOE_API [^;(]*?(finermoe_\w+)\(", header, re.M))
exported = {}
for line in tool("nm", "-D", "--defined-only", library).splitlines():
    name, _, version = line.split()[-1].replace("@@", "@").partition("@")
    exported[name] = version

loaded = ctypes.CDLL(library)
loaded.finermoe_abi_version.restype = ctypes.c_uint32
abi = loaded.finermoe_abi_version()
node = f"FINERMOE_{abi}"
exported.pop(node, None)  # the version itself is a symbol too

findings = [f"{name} is exported and not listed" for name in exported.keys() - listed]
findings += [f"{name} is listed and not exported" for name in listed - exported.keys()]
findings += [f"{name} is declared and not exported" for name in declared - exported.keys()]
findings += [f"{name} has the version {version!r}, not {node}" for name, version in exported.items() if version != node]
soname = re.search(r"soname: \[(.*)\]", tool("readelf", "-d", library))
if soname is None or soname[1] != f"libfinermoe.so.{abi}":
    findings.append(f"the soname is {soname and soname[1]}, and finermoe_abi_version() is {abi}")

print("\n".join(sorted(findings)) or f"{len(exported)} symbols, all listed, version {node}")
sys.exit(1 if findings or not exported else 0)
