"""Runs a test, PROGRAM [ARGUMENT…], that needs OpenBLAS; skipped where the system finds none."""

import ctypes
import os
import sys

try:
    ctypes.CDLL("libopenblas.so.0")
except OSError as error:
    print(f"skipped: {error}")
    sys.exit(77)
os.execv(sys.argv[1], sys.argv[1:])
