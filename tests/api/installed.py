"""An installed copy serves: the examples are built against it with pkg-config and with CMake, shared and static library
each, and print what they should. installed.py CC..."""

import os
import pathlib
import shutil
import subprocess
import sys

import examples

SOURCE = pathlib.Path(os.environ["FINERMOE_SOURCE"])
BUILD = pathlib.Path(os.environ["FINERMOE_BUILD"])


def run(*command, env=None):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env={**os.environ, **(env or {})})
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
    return done.stdout


def find_folder(root, name):
    found = [path.parent for path in root.rglob(name)]
    assert len(found) == 1, f"{name} is installed {len(found)} times"
    return found[0]


def with_pkg_config(stage, compiler, folder, static):
    """Compiles every example with the flags that pkg-config gives."""
    # The copy stands under DESTDIR: its paths are taken below that, and so are no paths of other packages. LIBDIR lets
    # pkg-config see this one package alone, as on a machine without development files of what the library uses.
    env = {"PKG_CONFIG_SYSROOT_DIR": str(stage), "PKG_CONFIG_LIBDIR": str(find_folder(stage, "finermoe.pc")),
           "PKG_CONFIG_PATH": ""}
    flags = run("pkg-config", "--cflags", "--libs", *(["--static"] if static else []), "finermoe", env=env).split()
    if static:
        flags = ["-l:libfinermoe.a" if flag == "-lfinermoe" else flag for flag in flags]
    folder.mkdir()
    for name in examples.NAMES:
        run(*compiler, "-std=c99", SOURCE / f"examples/{name}.c", "-o", folder / name, *flags, "-lpthread")
    return [folder / name for name in examples.NAMES]


def with_cmake(stage, folder, library):
    prefix = find_folder(stage, "finermoe.h").parent
    run("cmake", "-S", SOURCE / "tests/api/installed", "-B", folder, f"-DEXAMPLES={SOURCE / 'examples'}",
        f"-DLIBRARY={library}", f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", folder)
    return [folder / name for name in examples.NAMES]


def main(compiler):
    missing = [tool for tool in ("meson", "pkg-config") if shutil.which(tool) is None]
    if missing:
        print(f"skipped: {' and '.join(missing)} not here")
        return 77
    work = BUILD / "installed-copy"
    shutil.rmtree(work, ignore_errors=True)
    stage = work / "stage"
    run("meson", "install", "-C", BUILD, "--no-rebuild", "--destdir", stage)

    libraries = {"LD_LIBRARY_PATH": str(find_folder(stage, "libfinermoe.so"))}
    examples.check(*with_pkg_config(stage, compiler, work / "shared", False), env=libraries)
    examples.check(*with_pkg_config(stage, compiler, work / "static", True), env={"LD_LIBRARY_PATH": "/nowhere"})
    print("pkg-config: shared and static")
    if shutil.which("cmake") is None:
        print("left out: CMake is not here")
    else:
        examples.check(*with_cmake(stage, work / "cmake-shared", "finermoe"), env=libraries)
        examples.check(*with_cmake(stage, work / "cmake-static", "static"), env={"LD_LIBRARY_PATH": "/nowhere"})
        print("CMake: shared and static")
    shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
