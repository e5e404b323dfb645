"""The binding for Go: builds it and runs its program."""

import re
import shutil

from support import BINDINGS, INCLUDE, Missing, check_program, main, need, run, swig, work_folder


def test(library, compiler):
    work = work_folder("go")
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
    check_program([work / "define"], {}, library)


if __name__ == "__main__":
    main(test)
