"""Every C and C++ file is as clang-format 14 would write it with the file in the root."""

import re
import shutil
import subprocess
import sys

import tree

if __name__ == "__main__":
    tool = shutil.which("clang-format-14") or shutil.which("clang-format")
    version = subprocess.run([tool, "--version"], capture_output=True, text=True).stdout if tool else ""
    if not re.search(r"version 14\.", version):
        print(f"clang-format 14 is not installed (found: {version.strip() or 'none'})")
        sys.exit(77)
    names = tree.files(".h", ".cc", ".c", ".inc", ".cu", ".cuh")
    result = subprocess.run([tool, "--dry-run", "--Werror", *names], cwd=tree.ROOT, capture_output=True, text=True)
    findings = [line for line in result.stderr.splitlines() if "error:" in line]
    if result.returncode != 0 and not findings:
        findings = [result.stderr]
    tree.finish(findings, len(names))
