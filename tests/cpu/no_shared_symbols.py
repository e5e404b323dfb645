"""No object of an instruction set may define a symbol that other units could use in its place (weak, unique or common):
the linker would keep one of them, perhaps the AVX-512 one, for the whole program.

    no_shared_symbols.py NM LIBRARY ...
"""
import pathlib
import subprocess
import sys

nm, *libraries = sys.argv[1:]
if not libraries:
    print("this processor family has no kernels but the portable ones")
    sys.exit(77)

bad = []
for library in libraries:
    text = subprocess.run([nm, "-C", library], check=True, capture_output=True, text=True).stdout
    symbols = [line.split(maxsplit=2) for line in text.splitlines() if len(line.split(maxsplit=2)) == 3]
    defined = [(kind, name) for address, kind, name in symbols if len(address) == 16]
    assert any(kind == "T" and "matmul" in name for kind, name in defined), f"{library}: no kernels found"
    bad += [f"{library}: {kind} {name}" for kind, name in defined if kind in "WVuC"]
    # What is defined for all the program to see lies in the namespace of its instruction set: libcpu_avx2.a, avx2.
    namespace = pathlib.Path(library).stem.removeprefix("libcpu_")
    bad += [f"{library}: {kind} {name}" for kind, name in defined
            if kind.isupper() and not name.startswith(f"finermoe::{namespace}::")]
print("\n".join(bad) or "no shared symbols")
sys.exit(bool(bad))
