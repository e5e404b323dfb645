"""Builds and runs the program of one language under bindings/, and checks what it prints:
program.py LANGUAGE FOLDER_OF_THE_LIBRARY CC...

Everything built stays in the build folder. A missing tool is named, and the test skipped.
"""

import glob
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig

import interface

SOURCE = pathlib.Path(os.environ["FINERMOE_SOURCE"])
BINDINGS = SOURCE / "bindings"
INCLUDE = SOURCE / "include"
MODEL = SOURCE / "examples/models/tiny-wordnet-finermoe"


class Missing(Exception):
    """A tool or a package that this machine lacks."""


def need(tool):
    if shutil.which(tool) is None:
        raise Missing(tool)


def run(*command, **kwargs):
    env = {**os.environ, **{name: str(value) for name, value in kwargs.pop("env", {}).items()}}
    done = subprocess.run([str(word) for word in command], capture_output=True, encoding="utf-8", env=env, **kwargs)
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
    return done.stdout


def swig(work, outputs, *options):
    """Makes wrap.c in `work`, and the language's own files in `outputs`."""
    need("swig")
    outputs.mkdir(parents=True, exist_ok=True)
    run("swig", *options, "-Wall", "-Werror", f"-I{INCLUDE}", f"-I{BINDINGS}", "-outdir", outputs, "-o", work / "wrap.c",
        BINDINGS / "finermoe.i")


def extension(work, name, library, compiler, *includes):
    run(*compiler, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", *(f"-I{folder}" for folder in (INCLUDE, *includes)),
        work / "wrap.c", "-o", work / name, f"-L{library}", "-lfinermoe")


def python(work, library, compiler):
    include = pathlib.Path(sysconfig.get_path("include"))
    if not (include / "Python.h").exists():
        raise Missing(f"Python.h ({include})")
    swig(work, work, "-python")
    extension(work, "_finermoe" + sysconfig.get_config_var("EXT_SUFFIX"), library, compiler, include)
    return [sys.executable, BINDINGS / "python/define.py"], {"PYTHONPATH": work}


def java(work, library, compiler):
    need("javac")
    home = pathlib.Path(shutil.which("javac")).resolve().parents[1]
    if not (home / "include/jni.h").exists():
        raise Missing(f"jni.h ({home}/include)")
    swig(work, work / "finermoe", "-java", "-package", "finermoe")
    platform = next((home / "include").glob("*/jni_md.h")).parent
    extension(work, "libfinermoe_java.so", library, compiler, home / "include", platform)
    sources = [*(work / "finermoe").glob("*.java"), *(BINDINGS / "java").glob("*.java")]
    run(home / "bin/javac", "-d", work / "classes", *sources)
    return [home / "bin/java", "-Xcheck:jni", f"-Djava.library.path={work}", "-cp", work / "classes", "Define"], {}


def go(work, library, compiler):
    need("go")
    version = run("go", "env", "GOVERSION", env={"GOTOOLCHAIN": "local"}).strip()
    if tuple(map(int, re.match(r"go(\d+)\.(\d+)", version).groups())) < (1, 18):
        raise Missing(f"Go 1.18 or newer (here: {version})")
    swig(work / "finermoe", work / "finermoe", "-go", "-cgo", "-intgosize", "64")
    for name in ("go.mod", "define.go"):
        shutil.copy(BINDINGS / "go" / name, work)
    run("go", "build", "-o", work / "define", ".", cwd=work, env={
        "GO111MODULE": "on", "GOFLAGS": "-mod=mod", "GOPROXY": "off", "GOTOOLCHAIN": "local", "GOCACHE": work / "cache",
        "CGO_ENABLED": "1", "CC": " ".join(compiler), "CGO_CFLAGS": f"-O1 -I{INCLUDE}",
        "CGO_LDFLAGS": f"-L{library} -lfinermoe"})
    return [work / "define"], {}


def rust(work, library, compiler):
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
    return [work / "debug/define"], {}


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


def main(language, library, *compiler):
    work = pathlib.Path(os.environ["FINERMOE_BUILD"]) / "bindings" / language
    work.mkdir(parents=True, exist_ok=True)
    try:
        program, env = {"python": python, "java": java, "go": go, "rust": rust}[language](work, library, compiler)
    except Missing as what:
        print(f"skipped: not here: {what}")
        return 77
    with open(MODEL / "expected.json", encoding="utf-8") as file:
        definition = json.load(file)["prompts"][0]["greedy_text"]
    expected = [definition, "error FINERMOE_ERROR_FILE_NOT_FOUND", "cancelled FINERMOE_ERROR_CANCELLED", "closed"]
    found = run(*program, MODEL, env={**env, "LD_LIBRARY_PATH": library}, timeout=120).splitlines()
    assert found == expected, f"expected {expected}, found {found}"
    print(f"{language}: as expected")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
