"""The closing of a test run: what was skipped and why, what failed, and the line "N passed, N failed, N skipped".

    summary.py [BUILD_FOLDER[=LABEL] | NAME:passed | NAME:failed] ...

Reads the log that `meson test` leaves in each folder. A GoogleTest program counts as many tests as it ran cases,
any other program as one. Exit status 1 if anything failed, or if nothing ran."""

import json
import re
import sys
from pathlib import Path

CASES = re.compile(r"^\[==========\] (\d+) tests? from \d+ test (?:suites?|cases?) ran\.", re.M)
SKIPPED_CASE = re.compile(r"^\[  SKIPPED \] (\S+) \(\d+ ms\)", re.M)
FAILED_CASE = re.compile(r"^\[  FAILED  \] (\S+?),? (?:where .*)?\(\d+ ms\)", re.M)
SKIP_REASON = re.compile(r": Skipped\n(.*?)\n*^\[  SKIPPED \] (\S+)", re.M | re.S)


class Summary:
    def __init__(self):
        self.passed, self.failed, self.skipped = 0, [], []

    def add(self, test):
        """One line of meson's testlog.json."""
        # A test in several suites is "libfinermoe:first+second / name".
        name, result = re.sub(r"libfinermoe:([^+ ]*)\S*", r"\1", test["name"]), test["result"]
        output = test.get("stdout") or ""
        ran = CASES.findall(output)
        if ran:
            reasons = {case: " ".join(reason.split()) for reason, case in SKIP_REASON.findall(output)}
            skipped, failed = SKIPPED_CASE.findall(output), FAILED_CASE.findall(output)
            self.skipped += [(f"{name}: {case}", reasons.get(case, "")) for case in skipped]
            self.failed += [f"{name}: {case}" for case in failed]
            self.passed += int(ran[-1]) - len(skipped) - len(failed)
            if failed or result in ("OK", "SKIP"):
                return
        if result == "SKIP":
            lines = (output + "\n" + (test.get("stderr") or "")).strip().splitlines()
            self.skipped.append((name, lines[-1] if lines else ""))
        elif result in ("OK", "EXPECTEDFAIL"):
            self.passed += 1
            # What a program of many checks left out, each in a line.
            self.skipped += [(name, line.removeprefix("skipped: ")) for line in output.splitlines()
                             if line.startswith("skipped: ")]
        else:  # FAIL, ERROR, TIMEOUT, INTERRUPT, UNEXPECTEDPASS; or a GoogleTest program that broke outside its cases
            self.failed.append(f"{name} ({result.lower()})")

    def add_folder(self, folder, label=""):
        log = Path(folder) / "meson-logs" / "testlog.json"
        if not log.exists():
            self.failed.append(f"{folder}: no test ran")
            return
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            test = json.loads(line)
            if label:
                test["name"] = f"{label}: {test['name']}"
            self.add(test)

    def text(self):
        lines = [f"skipped  {name}" + (f": {reason}" if reason else "") for name, reason in self.skipped]
        lines += [f"FAILED   {name}" for name in self.failed]
        return "\n".join(lines + [f"{self.passed} passed, {len(self.failed)} failed, {len(self.skipped)} skipped"])


if __name__ == "__main__":
    summary = Summary()
    for argument in sys.argv[1:]:
        if argument.endswith(":passed"):
            summary.passed += 1
        elif argument.endswith(":failed"):
            summary.failed.append(argument.removesuffix(":failed"))
        else:
            summary.add_folder(*argument.split("=", 1))
    print("\n" + summary.text())
    sys.exit(1 if summary.failed or summary.passed == 0 else 0)
