"""The conformance suite through the C API: c_test.py PROGRAM"""

import subprocess
import sys

from support import check_table, work_folder


def main(program):
    table = work_folder("c") / "conformance.txt"
    with open(table, "w", encoding="utf-8") as file:
        subprocess.run([program], stdout=file, timeout=250)
    check_table(table)


if __name__ == "__main__":
    main(*sys.argv[1:])
