"""The binding for Python: builds the package, and runs its tests, the conformance suite, its programs and its checks.

    python_test.py FOLDER_OF_LIBFINERMOE C_COMPILER…            everything but the wheel
    python_test.py --wheel FOLDER_OF_LIBFINERMOE C_COMPILER…    the wheel, which builds the library anew

FINERMOE_ASAN=1 runs tests, suite and programs under the address sanitizer, with a libfinermoe that was built with it.
"""

import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig

from support import (BINDINGS, BUILD, INCLUDE, MODEL, SOURCE, Missing, check_table, main, offer_bench, run, swig,
                     work_folder)

HERE = BINDINGS / "python"
DENSE = MODEL.with_name("tiny-wordnet-dense")
ASAN = bool(os.environ.get("FINERMOE_ASAN"))


class Package:
    """The package in a folder of its own, and programs that use it."""

    def __init__(self, work, library, compiler):
        self.work, self.library, self.compiler, self.site = work, library, compiler, work / "site"
        self.env = {"PYTHONPATH": self.site, "LD_LIBRARY_PATH": library, "PYTHONDONTWRITEBYTECODE": "1",
                    "MYPY_CACHE_DIR": work / "mypy"}
        if ASAN:
            # The interpreter keeps memory to its end, and what a test ends with os._exit is not freed. What is freed is
            # held back for a while, which a test that watches the process's memory would take for a leak.
            self.env |= {"LD_PRELOAD": self.asan_runtime(), "PYTHONMALLOC": "malloc",
                         "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0:quarantine_size_mb=8"}

    def asan_runtime(self):
        """What the interpreter, which was built without it, has to load first."""
        for name in ("libclang_rt.asan-x86_64.so", "libasan.so"):  # Clang's, which knows of GCC's too; GCC's
            found = run(*self.compiler, f"-print-file-name={name}").strip()
            if found != name:
                return found
        raise Missing("the runtime of the address sanitizer")

    def build(self):
        include = pathlib.Path(sysconfig.get_path("include"))
        if not (include / "Python.h").exists():
            raise Missing(f"Python.h ({include})")
        package = self.site / "finermoe"
        shutil.rmtree(package, ignore_errors=True)
        shutil.copytree(HERE / "finermoe", package, ignore=shutil.ignore_patterns("__pycache__"))
        swig(self.work, package, "-python", "-builtin", "-module", "_lowlevel", "-interface", "_finermoe")
        # SWIG's own code uses what newer Pythons call deprecated.
        flags = ["-O2", "-g1", "-Wall", "-Werror", "-Wno-deprecated-declarations", "-shared", "-fPIC",
                 "-fvisibility=hidden", f"-I{INCLUDE}", f"-I{include}"]
        run(*self.compiler, *flags, self.work / "wrap.c", "-o",
            package / f"_finermoe{sysconfig.get_config_var('EXT_SUFFIX')}", f"-L{self.library}", "-lfinermoe")

    def python(self, *command, **kwargs):
        return run(sys.executable, *command, env=self.env, cwd=self.work, timeout=600, **kwargs)


def has(*modules):
    """Whether what a check needs is installed; says so where it is not."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        print(f"skipped: {', '.join(missing)} is not installed")
    return not missing


def check_types(package):
    if has("mypy"):
        package.python("-m", "mypy", "--strict", package.site / "finermoe", HERE / "examples", HERE / "tests",
                       HERE / "bench")


def check_tests(package):
    if has("pytest"):
        # A test that hangs shows where.
        print(package.python("-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-o", "faulthandler_timeout=120",
                             "--basetemp", package.work / "tests", HERE / "tests"))


def check_conformance(package):
    table = package.work / "conformance.txt"
    table.unlink(missing_ok=True)
    subprocess.run([sys.executable, "-m", "conformance", "--table", table], timeout=600, cwd=HERE / "tests",
                   env={**os.environ, **{name: str(value) for name, value in package.env.items()}},
                   stdout=subprocess.DEVNULL)
    check_table(table)


def check_programs(package):
    out = package.work / "programs"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    lines = out / "lines.txt"
    lines.write_text("A ship sails on the sea.\nThe king of Israel.\nA dog is an animal.\n")

    def program(name, *arguments, **kwargs):
        assert "usage" in package.python(HERE / "examples" / name, "--help")
        return package.python(HERE / "examples" / name, *arguments, **kwargs)

    assert program("define.py", MODEL, "compass") == "Navigational instrument for finding directions.\n"
    assert "sued for sale" in program("generate.py", MODEL, "A lighthouse is")
    question = 'Define the noun "lighthouse".\n'
    answer = "A tower with a light that gives warning of shoals to passing ships."
    assert program("chat.py", MODEL, input=2 * question).count(answer) == 2
    assert program("batch.py", MODEL, lines, "--at-once", "2").count("\n") == 3
    assert "4 (0.46), 17 (0.54)" in program("routes.py", MODEL, "A ship")
    assert "32 experts" in program("upcycle.py", DENSE, out / "moe", "--granularity", "8")
    assert "A ship sails" in program("retrieval.py", MODEL, lines, "a boat on the water").splitlines()[0]
    if has("matplotlib"):
        program("usage_figure.py", MODEL, SOURCE / "README.md", out / "figure.png")
        assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")
    (out / "tour").mkdir()
    tour = program("tour.py", MODEL, DENSE, out / "tour")
    assert "FINERMOE_ERROR_CONTEXT_LENGTH at most 2048 1000000000" in tour and "(2, 4096)" in tour
    bench = HERE / "bench/bench.py"
    assert "seconds_per_token" in package.python(bench, MODEL, 5, 1)
    offer_bench("python", [sys.executable, bench], package.env)


def check_pages(package):
    if has("sphinx"):
        package.python("-m", "sphinx", "-q", "-W", "-b", "html", "-d", package.work / "doctrees", HERE / "docs",
                       package.work / "pages")


def check_wheel(package):
    """`pip install` of the source archive gives a package with the library and the command in it."""
    out = package.work / "wheel"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    if not (SOURCE / ".git").exists():
        print("skipped: the source archive is made of a git repository")
        return
    if not has("build"):
        return
    commands = BUILD / "compile_commands.json"  # the same flags as there, so that a compiler cache helps
    strict = ["-Csetup-args=--werror"] if commands.exists() and "-Werror" in commands.read_text() else []
    built = subprocess.run([sys.executable, "-m", "build", *strict, "--outdir", out, SOURCE], capture_output=True,
                           text=True, timeout=1200, cwd=package.work)
    if built.returncode != 0 and "No matching distribution found" in built.stdout + built.stderr:
        print("skipped: what builds the wheel cannot be had")
        return
    assert built.returncode == 0, built.stdout + built.stderr
    wheel, = out.glob("*.whl")
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", out / "site", wheel)
    installed = {"PYTHONPATH": out / "site", "LD_LIBRARY_PATH": ""}
    version = run(sys.executable, "-c", "import finermoe; print(finermoe.__version__)", env=installed, cwd=out).strip()
    assert run(sys.executable, "-m", "finermoe", "--version", env=installed, cwd=out).strip().endswith(version)
    assert run(out / "site/bin/finermoe", "generate", MODEL, "-p", "A ship", "--max-tokens", "2", env=installed,
               cwd=out).strip()
    if shutil.which("patchelf") is None:
        print("skipped: patchelf is not installed")
    elif has("auditwheel"):
        run(sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", out / "repaired", wheel)
        repaired, = (out / "repaired").glob("*.whl")
        assert "manylinux" in repaired.name, repaired


def test(library, compiler):
    package = Package(work_folder("python"), library, compiler)
    package.build()
    if has("numpy"):
        check_conformance(package)
        check_tests(package)
        check_programs(package)
        if not ASAN:
            check_types(package)
            check_pages(package)


def test_wheel(library, compiler):
    check_wheel(Package(work_folder("python-wheel"), library, compiler))


if __name__ == "__main__":
    if "--wheel" in sys.argv:
        sys.argv.remove("--wheel")
        main(test_wheel)
    else:
        main(test)
