"""The binding for Rust: builds it, and runs its tests, its conformance runner, its examples and its checks.

    rust_test.py FOLDER_OF_LIBFINERMOE CC…          everything, but what only --asan does
    rust_test.py --asan FOLDER_OF_LIBFINERMOE CC…   the tests and the conformance suite with the address sanitizer
"""

import glob
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import interface

from support import (BINDINGS, INCLUDE, MODEL, SOURCE, Missing, check_table, main, need, offer_bench, run, work_folder)

RUST = BINDINGS / "rust"
FEATURES = ["--features", "finermoe/serde,finermoe/futures"]
# What the messages in misuse/cases are those of.
MESSAGES_OF = "rustc 1.95."


class Cargo:
    """cargo with the environment that finds the library, offline, in a target folder of the build."""

    def __init__(self, library, target, **env):
        self.env = {"FINERMOE_INCLUDE_DIR": INCLUDE, "FINERMOE_LIB_DIR": library, "LD_LIBRARY_PATH": library,
                    "LIBCLANG_PATH": libclang(), "CARGO_TARGET_DIR": target, "CARGO_TERM_COLOR": "never",
                    "FINERMOE_SOURCE": SOURCE, **env}
        fetch = subprocess.run(["cargo", "fetch", "--locked", "--manifest-path", RUST / "Cargo.toml"],
                               capture_output=True, text=True, env=self.whole_env())
        if fetch.returncode != 0:
            why = [line for line in fetch.stderr.splitlines() if line.startswith("error")] or [fetch.stderr.strip()]
            raise Missing(f"the crates: {why[0]}")
        self.env["CARGO_NET_OFFLINE"] = "true"

    def whole_env(self):
        return {**os.environ, **{name: str(value) for name, value in self.env.items()}}

    def run(self, *arguments, **env):
        return run("cargo", *arguments, env={**self.env, **env}, cwd=RUST)


def libclang():
    """Where bindgen finds what it reads the header with."""
    if "LIBCLANG_PATH" in os.environ:
        return os.environ["LIBCLANG_PATH"]
    folders = sorted({os.path.dirname(path) for path in glob.glob("/usr/lib/llvm-*/lib/libclang*.so*")})
    if not folders:
        raise Missing("libclang, which bindgen reads the header with")
    return folders[-1]


def test(library, compiler):
    need("cargo")
    work = work_folder("rust")
    cargo = Cargo(library, work / "target")
    # The whole workspace with the same features each time: so nothing is compiled for one step and again for another.
    print(cargo.run("test", "--locked", "--workspace", *FEATURES))
    cargo.run("build", "--locked", "--workspace", "--lib", "--bins", "--examples", *FEATURES)
    check_module(work)
    check_names(cargo, work)
    check_misuse(cargo)
    check_conformance(cargo, work)
    check_examples(cargo, work)
    check_style(cargo)
    check_without_features(cargo)
    check_other_libraries(cargo, work)
    check_miri(cargo)


def check_module(work):
    """What bindgen made has every function, constant, object and struct of the header, the latter with every field; and
    the safe crate uses every function."""
    modules = glob.glob(str(work / "target/debug/build/finermoe-sys-*/out/finermoe.rs"))
    with open(max(modules, key=os.path.getmtime), encoding="utf-8") as file:
        module = file.read()
    header = interface.Header()
    declared = set(re.findall(r"pub (?:fn|const|struct) (\w+)", module))
    missing = (header.functions | header.constants | header.objects | header.structs.keys()) - declared
    for name, fields in header.structs.items():
        body = re.search(rf"pub struct {name} {{(.*?)}}", module, re.S)
        found = set(re.findall(r"pub (\w+):", body[1])) if body else set()
        missing |= {f"{name}.{field}" for field in fields if field not in found}
    assert not missing, f"bindgen's module lacks {sorted(missing)}"

    source = "\n".join(path.read_text(encoding="utf-8") for path in (RUST / "finermoe/src").rglob("*.rs"))
    unused = header.functions - set(re.findall(r"\bfinermoe_\w+", source))
    unused |= header.constants - set(re.findall(r"\bFINERMOE_\w+", source)) - WITHOUT_A_NAME
    assert not unused, f"the crate finermoe does not use {sorted(unused)}"


# Constants that Rust has other words for: nothing set.
WITHOUT_A_NAME = {"FINERMOE_TEXT_DEFAULT"}


def check_names(cargo, work):
    """The documentation builds without a warning, and has every name of names.json."""
    cargo.run("doc", "--locked", "--no-deps", "--workspace", "--lib", *FEATURES, RUSTDOCFLAGS="-D warnings")
    doc = work / "target/doc/finermoe"
    names = json.loads((RUST / "names.json").read_text(encoding="utf-8"))
    wrong = interface.Header().functions ^ names.keys()
    for name in set(names.values()) - {"drop"}:
        owner, _, method = name.rpartition("::")
        page = doc / (f"struct.{owner}.html" if owner else f"fn.{name}.html")
        if owner and not page.exists():
            page = doc / f"enum.{owner}.html"
        if not page.exists() or owner and f'id="method.{method}"' not in page.read_text(encoding="utf-8"):
            wrong.add(name)
    assert not wrong, f"names.json and the crate differ in {sorted(wrong)}"


def check_misuse(cargo):
    if not run("rustc", "--version").startswith(MESSAGES_OF):
        print(f"skipped: what must not compile: the messages expected are those of {MESSAGES_OF}x")
        return
    cargo.run("test", "--locked", "-p", "misuse", *FEATURES, "--", "--include-ignored")
    print("misuse: nothing compiles that must not")


def check_conformance(cargo, work):
    table = run(work / "target/debug/conformance", env=cargo.env)
    (work / "conformance.txt").write_text(table, encoding="utf-8")
    check_table(work / "conformance.txt")
    print(f"conformance: {len(table.splitlines())} rows")


def check_examples(cargo, work):
    """Each example says how it is used, and does what it is for."""
    examples = work / "target/debug/examples"
    dense = MODEL.parent / "tiny-wordnet-dense"

    def example(name, *arguments, **kwargs):
        return run(examples / name, *arguments, env=cargo.env, **kwargs)

    for path in (RUST / "finermoe/examples").glob("*.rs"):
        if path.stem not in ("tour", "bench"):
            assert "Usage:" in example(path.stem, "--help"), path.stem
    assert "2 rows of 4096 logits" in example("tour", MODEL)
    assert example("define", MODEL, "compass") == "Navigational instrument for finding directions.\n"
    assert example("generate", MODEL, "A ship", "--max-tokens", "8").startswith("A ship")
    shown = example("chat", MODEL, input='Define the noun "lighthouse".\nDefine the noun "compass".\n\n')
    assert "A tower with a light" in shown and "direction" in shown, shown
    prompts = work / "prompts.txt"
    prompts.write_text("A ship\nA poem\nA compass\nthe capital of\n", encoding="utf-8")
    lines = example("batch", MODEL, prompts, "--at-once", "2", "--max-tokens", "6").splitlines()
    begun = sorted(prompt for line in lines for prompt in prompts.read_text(encoding="utf-8").splitlines()
                   if line.startswith(prompt))
    assert begun == sorted(prompts.read_text(encoding="utf-8").splitlines()), lines
    table = example("router", MODEL, "A ship at sea").splitlines()
    assert len(table) == 7 and table[0].split()[-2:] == ["layer", "3"], table
    out = work / "upcycled"
    shutil.rmtree(out, ignore_errors=True)
    assert "32 experts in each of" in example("upcycle", dense, out, "--granularity-inter", "8")
    shutil.rmtree(out)

    # The bench measures the crate itself, beside a library that is optimised: it alone is compiled so.
    cargo.run("build", "--locked", "--workspace", "--example", "bench", *FEATURES,
              "--config", "profile.dev.package.finermoe.opt-level=2")
    seconds = json.loads(example("bench", dense, "4", "2"))
    assert all(len(values) == 2 and min(values) > 0 for values in seconds.values()), seconds
    offer_bench("rust", [examples / "bench"], {"LD_LIBRARY_PATH": cargo.env["LD_LIBRARY_PATH"]})


def check_style(cargo):
    if shutil.which("cargo-fmt") is None or shutil.which("cargo-clippy") is None:
        print("skipped: rustfmt and clippy, which are not here")
        return
    cargo.run("fmt", "--all", "--check")
    cargo.run("clippy", "--locked", "--workspace", "--all-targets", *FEATURES, "--", "-D", "warnings")
    print("rustfmt and clippy: nothing")


def check_without_features(cargo):
    """The crate alone compiles too."""
    cargo.run("check", "--locked", "-p", "finermoe")


def check_other_libraries(cargo, work):
    """The library's other ways in: linked statically, and found by pkg-config."""
    library = cargo.env["LD_LIBRARY_PATH"]
    (work / "finermoe.pc").write_text(f"Name: finermoe\nDescription: the library in the build folder\nVersion: 99\n"
                                      f"Libs: -L{library} -lfinermoe\nCflags: -I{INCLUDE}\n", encoding="utf-8")
    ways = {"pkg-config": {"FINERMOE_LIB_DIR": "", "FINERMOE_INCLUDE_DIR": "", "PKG_CONFIG_PATH": work},
            "a static library": {"FINERMOE_STATIC": "1", "LD_LIBRARY_PATH": ""}}
    for name, env in ways.items():
        here = shutil.which(name) if name == "pkg-config" else pathlib.Path(library, "libfinermoe.a").exists()
        if not here:
            print(f"skipped: {name}, which is not here")
            continue
        cargo.run("build", "--locked", "--workspace", "--lib", "--bins", "--examples", *FEATURES, **env)
        told = run(work / "target/debug/examples/define", MODEL, "compass", env={**cargo.env, **env})
        assert told == "Navigational instrument for finding directions.\n", (name, told)


def has_nightly(*command):
    return subprocess.run(["cargo", "+nightly", *command], capture_output=True, check=False).returncode == 0


def check_miri(cargo):
    """The unit tests call no C: Miri can run them."""
    if not has_nightly("miri", "--version"):
        print("skipped: Miri, a component of a nightly Rust")
        return
    print(run("cargo", "+nightly", "miri", "test", "--locked", "-p", "finermoe", "--lib", *FEATURES, cwd=RUST,
              env={**cargo.env, "CARGO_TARGET_DIR": cargo.env["CARGO_TARGET_DIR"] / "miri"}))


def test_with_asan(library, compiler):
    """The tests and the conformance suite in programs that the address sanitizer watches: what they do, and what is
    allocated, freed and copied in the library. The compiler's flag for it is a nightly one, which RUSTC_BOOTSTRAP lets
    a stable compiler take. Rust has the runtime of this sanitizer alone, so the library is built with no other one."""
    need("cargo")
    host = re.search(r"host: (\S+)", run("rustc", "-vV"))[1]
    target = work_folder("rust") / "target-asan"
    cargo = Cargo(library, target, RUSTC_BOOTSTRAP=1, RUSTFLAGS="-Zsanitizer=address",
                  ASAN_OPTIONS="detect_stack_use_after_return=0")
    print(cargo.run("test", "--locked", "--target", host, "-p", "finermoe", "--lib", "--tests", *FEATURES, "--",
                    "--skip", "forgotten"))  # what is forgotten on purpose is a leak
    cargo.run("build", "--locked", "--target", host, "-p", "conformance")
    table = target / "conformance.txt"
    table.write_text(run(target / host / "debug/conformance", env=cargo.env), encoding="utf-8")
    check_table(table)


if __name__ == "__main__":
    if "--asan" in sys.argv:
        sys.argv.remove("--asan")
        main(test_with_asan)
    else:
        main(test)
