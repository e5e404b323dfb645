"""The binding for Go: builds it and runs its program."""

import os
import re
import subprocess

from support import BINDINGS, INCLUDE, MODEL, SOURCE, Missing, check_table, main, need, run, work_folder


def test(library, compiler):
    work = work_folder("go")
    need("go")
    need("pkg-config")
    version = run("go", "env", "GOVERSION", env={"GOTOOLCHAIN": "local"}).strip()
    if tuple(map(int, re.match(r"go(\d+)\.(\d+)", version).groups())) < (1, 24):
        raise Missing(f"Go 1.24 or newer (here: {version})")
    (work / "finermoe.pc").write_text(f"Name: finermoe\nDescription: the library in the build folder\nVersion: 0\n"
                                      f"Libs: -L{library} -lfinermoe\nCflags: -I{INCLUDE}\n")
    env = {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly", "CGO_ENABLED": "1", "CC": " ".join(compiler),
           "PKG_CONFIG_PATH": str(work), "LD_LIBRARY_PATH": library}
    run("go", "vet", "./...", cwd=BINDINGS / "go", env=env)
    programs = work / "programs"
    programs.mkdir(exist_ok=True)
    run("go", "build", "-o", programs, "./examples/...", "./internal/conformance", cwd=BINDINGS / "go", env=env)
    table = work / "conformance.txt"
    with open(table, "w", encoding="utf-8") as file:
        subprocess.run([programs / "conformance", SOURCE], stdout=file, env={**os.environ, **env}, timeout=250)
    check_table(table)
    run(programs / "tour", MODEL, env=env)


if __name__ == "__main__":
    main(test)
