"""finermoe.h compiles alone, as C99 and as C++11, with every warning an error: header.py FOLDER_OF_THE_HEADER"""

import shutil
import subprocess
import sys

COMPILERS = [("c99", "c", name) for name in ("gcc", "clang", "clang-14")] + [
    ("c++11", "c++", name) for name in ("g++", "clang++", "clang++-14")]
# Twice: it must guard itself. The use keeps -pedantic from complaining about an empty file.
SOURCE = '#include "finermoe.h"\n#include "finermoe.h"\nconst char* version(void);\n'
SOURCE += "const char* version(void) { return finermoe_version(); }\n"

ran, failed = [], []
for standard, language, compiler in COMPILERS:
    if shutil.which(compiler) is None:
        continue
    ran.append(compiler)
    run = subprocess.run(
        [compiler, f"-std={standard}", "-x", language, "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only",
         "-I", sys.argv[1], "-"], input=SOURCE, capture_output=True, text=True)
    if run.returncode != 0:
        failed.append(f"{compiler} -std={standard}:\n{run.stderr}")

print("\n".join(failed) or f"clean with {', '.join(ran)}")
if not ran:
    print("skipped: none of gcc, g++, clang and clang++ is here")
    sys.exit(77)
sys.exit(1 if failed else 0)
