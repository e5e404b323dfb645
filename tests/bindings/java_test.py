"""The binding for Java: builds it and runs its program."""

import pathlib
import shutil

from support import BINDINGS, Missing, check_program, extension, main, need, run, swig, work_folder


def test(library, compiler):
    work = work_folder("java")
    need("javac")
    home = pathlib.Path(shutil.which("javac")).resolve().parents[1]
    if not (home / "include/jni.h").exists():
        raise Missing(f"jni.h ({home}/include)")
    swig(work, work / "finermoe", "-java", "-package", "finermoe")
    platform = next((home / "include").glob("*/jni_md.h")).parent
    extension(work, "libfinermoe_java.so", library, compiler, home / "include", platform)
    sources = [*(work / "finermoe").glob("*.java"), *(BINDINGS / "java").glob("*.java")]
    run(home / "bin/javac", "-d", work / "classes", *sources)
    check_program([home / "bin/java", "-Xcheck:jni", f"-Djava.library.path={work}", "-cp", work / "classes", "Define"], {}, library)


if __name__ == "__main__":
    main(test)
