"""The binding for Rust: builds it and runs its program."""

import glob
import os
import re
import subprocess

import interface

from support import BINDINGS, INCLUDE, Missing, check_program, main, need, run, work_folder


def test(library, compiler):
    work = work_folder("rust")
    need("cargo")
    env = {"FINERMOE_INCLUDE": INCLUDE, "FINERMOE_LIB": library}
    if "LIBCLANG_PATH" not in os.environ:
        folders = sorted({os.path.dirname(path) for path in glob.glob("/usr/lib/llvm-*/lib/libclang*.so*")})
        if not folders:
            raise Missing("libclang, which bindgen reads the header with")
        env["LIBCLANG_PATH"] = folders[-1]
    place = ["--manifest-path", BINDINGS / "rust/Cargo.toml", "--locked"]
    fetched = subprocess.run(["cargo", "fetch", *map(str, place)], capture_output=True, text=True)
    if fetched.returncode != 0:
        why = [line for line in fetched.stderr.splitlines() if line.startswith("error")] or [fetched.stderr.strip()]
        raise Missing(f"the crate bindgen: {why[0]}")
    run("cargo", "build", *place, "--offline", "--target-dir", work, env=env)
    modules = sorted(work.glob("debug/build/define-*/out/finermoe.rs"), key=os.path.getmtime)
    check_rust(modules[-1].read_text())
    check_program([work / "debug/define"], {}, library)


def check_rust(module):
    """What bindgen made has every function, constant, object and struct of the header, the latter with every field."""
    header = interface.Header()
    declared = set(re.findall(r"pub (?:fn|const|struct) (\w+)", module))
    missing = (header.functions | header.constants | header.objects | header.structs.keys()) - declared
    for name, fields in header.structs.items():
        body = re.search(rf"pub struct {name} {{(.*?)}}", module, re.S)
        found = set(re.findall(r"pub (\w+):", body[1])) if body else set()
        missing |= {f"{name}.{field}" for field in fields if field not in found}
    assert not missing, f"bindgen's module lacks {sorted(missing)}"


if __name__ == "__main__":
    main(test)
