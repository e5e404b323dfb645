"""The binding for Python: builds it and runs its program."""

import pathlib
import sys
import sysconfig

from support import BINDINGS, Missing, check_program, extension, main, swig, work_folder


def test(library, compiler):
    work = work_folder("python")
    include = pathlib.Path(sysconfig.get_path("include"))
    if not (include / "Python.h").exists():
        raise Missing(f"Python.h ({include})")
    swig(work, work, "-python")
    extension(work, "_finermoe" + sysconfig.get_config_var("EXT_SUFFIX"), library, compiler, include)
    check_program([sys.executable, BINDINGS / "python/define.py"], {"PYTHONPATH": work}, library)


if __name__ == "__main__":
    main(test)
