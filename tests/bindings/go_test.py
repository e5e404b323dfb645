"""The binding for Go: its tests with the race detector, the conformance suite, its examples, its linters."""

import os
import re
import subprocess
import zlib

from support import BINDINGS, INCLUDE, MODEL, SOURCE, Missing, check_table, main, need, offer_bench, run, work_folder

MODULE = BINDINGS / "go"
DENSE = MODEL.parent / "tiny-wordnet-dense"
PROMPTS = ("A ship", "A poem", "A compass")
DEFINITION = "A tower with a light that gives warning of shoals to passing ships."


def environment(work, library, compiler):
    """Go finds the library of this build, and changes nothing in the source tree. Its cache does not look into headers
    of C: the flag makes it compile again where the header has changed. It takes the first word of CC for the compiler
    where it asks what flags that has, and with a ccache there does not find -no-pie, which the race detector needs."""
    compiler = compiler[1:] if compiler[0].endswith("ccache") else compiler
    (work / "finermoe.pc").write_text(f"Name: finermoe\nDescription: the library in the build folder\nVersion: 0\n"
                                      f"Libs: -L{library} -lfinermoe\nCflags: -I{INCLUDE}\n")
    header = zlib.crc32((INCLUDE / "finermoe.h").read_bytes())
    return {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly -p=2", "CGO_ENABLED": "1", "CC": " ".join(compiler),
            "CGO_CFLAGS": f"-O2 -g -DFINERMOE_HEADER={header}", "PKG_CONFIG_PATH": str(work),
            "LD_LIBRARY_PATH": library}


def fetched(folder, env):
    """Whether the modules that a module needs are here; where they cannot be had, what needs them is skipped."""
    done = subprocess.run(["go", "mod", "download"], cwd=folder, env={**os.environ, **env},
                          capture_output=True, text=True)
    if done.returncode != 0:
        print(f"skipped: {folder.name}: its modules are not here: {done.stderr.strip().splitlines()[-1]}")
    return done.returncode == 0


def check_generated(work):
    """The low layer in the repository is what SWIG makes of the header."""
    made_by = re.search(r"Version (\S+)", (MODULE / "internal/low/finermoe.go").read_text())[1]
    try:
        need("swig")
    except Missing:
        print("skipped: the drift of the low layer: no swig")
        return
    here = re.search(r"SWIG Version (\S+)", run("swig", "-version"))[1]
    if here != made_by:
        print(f"skipped: the drift of the low layer: it was made by SWIG {made_by}, and {here} is here")
        return
    run("sh", MODULE / "generate", work / "low")
    for name in ("finermoe.go", "finermoe_wrap.c"):
        assert (work / "low" / name).read_bytes() == (MODULE / "internal/low" / name).read_bytes(), \
            f"internal/low/{name} is not what the header says: run bindings/go/generate"


def check_tests(env):
    unformatted = run("gofmt", "-l", ".", cwd=MODULE)
    assert not unformatted, f"gofmt would change {unformatted}"
    run("go", "vet", "./...", cwd=MODULE, env=env)
    run("go", "doc", "-all", ".", cwd=MODULE, env=env)
    run("go", "test", "-race", "-count=1", "./...", cwd=MODULE, env={**env, "GODEBUG": "cgocheck=1"})


def check_conformance(work, env):
    run("go", "build", "-o", work / "conformance", "./internal/conformance", cwd=MODULE, env=env)
    table = work / "conformance.txt"
    with open(table, "w", encoding="utf-8") as file:
        subprocess.run([work / "conformance", SOURCE], stdout=file, env={**os.environ, **env}, timeout=250)
    check_table(table)


def check_bench(work, env):
    run("go", "build", "-o", work / "bench", "./internal/bench", cwd=MODULE, env=env)
    assert "seconds_per_token" in run(work / "bench", MODEL, 4, 1, env=env)
    offer_bench("go", [work / "bench"], {"LD_LIBRARY_PATH": env["LD_LIBRARY_PATH"]})


def check_examples(work, env):
    folder = MODULE / "examples"
    programs = work / "examples"
    programs.mkdir(exist_ok=True)
    with_bar = fetched(folder, env)
    packages = sorted(path.parent.name for path in folder.glob("*/main.go"))
    packages = [f"./{name}" for name in packages if with_bar or name != "upcycle"]
    run("go", "vet", *packages, cwd=folder, env=env)
    run("go", "build", "-o", programs, *packages, cwd=folder, env=env)
    run("go", "test", "-count=1", "./server", cwd=folder, env=env)
    for package in packages:
        assert "usage: " in subprocess.run([programs / package, "-help"], capture_output=True, text=True,
                                           env={**os.environ, **env}).stderr

    def program(name, *arguments, **kwargs):
        return run(programs / name, *arguments, env=env, timeout=120, **kwargs)

    assert "2 rows of 4096 logits" in program("tour", MODEL)
    assert program("define", MODEL, "compass") == "Navigational instrument for finding directions.\n"
    assert program("generate", "-max-tokens", 20, MODEL, "A ship") == "A ship with a tap.\n"
    chat = program("chat", MODEL, input='Define the noun "lighthouse".\nDefine the verb "gallop".\n')
    assert chat == f"> {DEFINITION}\n> Ride at a galloping pace.\n> \n", chat
    (work / "prompts").write_text("\n".join(PROMPTS))
    answers = program("batch", "-together", 2, MODEL, work / "prompts").splitlines()
    assert sorted(line.split(" on ")[0].split(" with ")[0][:7] for line in answers) == ["1: A sh", "2: A po", "3: A co"]
    assert "1: A ship with a tap." in answers, answers
    table = program("router", MODEL, "A ship").splitlines()
    assert [line.split()[0] for line in table] == ["token", '"A"', '"', "balance"], table
    if with_bar:
        program("upcycle", "-overwrite", DENSE, work / "moe")
        assert (work / "moe/model.safetensors").exists()


def check_linters(env):
    tools = MODULE / "tools"
    if not fetched(tools, env):
        return
    written = [(MODULE, (".", "./internal/conformance", "./internal/bench")), (MODULE / "examples", ("./...",))]
    for module, packages in written:
        for tool in ("staticcheck", "errcheck", "ineffassign"):
            run("go", "tool", f"-modfile={tools / 'go.mod'}", tool, *packages, cwd=module, env=env)


def test(library, compiler):
    work = work_folder("go")
    need("go")
    need("pkg-config")
    version = run("go", "env", "GOVERSION", env={"GOTOOLCHAIN": "local"}).strip()
    if tuple(map(int, re.match(r"go(\d+)\.(\d+)", version).groups())) < (1, 24):
        raise Missing(f"Go 1.24 or newer (here: {version})")
    env = environment(work, library, compiler)
    check_generated(work)
    check_tests(env)
    check_conformance(work, env)
    check_bench(work, env)
    check_examples(work, env)
    check_linters(env)


if __name__ == "__main__":
    main(test)
