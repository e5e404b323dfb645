"""bench/gpu.py from its beginning to the document that it writes: gpu_bench.py FINERMOE MODULE LIMITS, these of the emulated
device; its rates mean nothing. Without arguments there is no emulated device here."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

SOURCE = pathlib.Path(os.environ["FINERMOE_SOURCE"])
BEGIN, END = "<!-- bench/gpu.py writes from here -->\n", "<!-- to here -->\n"


def run(folder, finermoe, *flags):
    """Exit status, and the rows of the table in the document that was written."""
    document = folder / "speed.md"
    document.write_text(f"before\n{BEGIN}an old table\n{END}after\n", encoding="utf-8")
    done = subprocess.run([sys.executable, str(SOURCE / "bench/gpu.py"), str(finermoe.parents[1]), str(folder / "models"),
                           "--tiny", "--runs", "1", "--write", str(document), *map(str, flags)], text=True,
                          stdout=subprocess.PIPE, check=False)
    text = document.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{BEGIN}") and text.endswith(f"{END}after\n") and "old table" not in text, text
    assert done.stdout in text
    return done.returncode, [line.split(" | ") for line in text.splitlines() if line.startswith("| ")][1:], text


def main(finermoe, module, limits):
    finermoe = pathlib.Path(finermoe)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        works = ["decode-7B", "first-token", "prefill-dense-1.5B", "experts-in-memory", "experts-in-cache",
                 "table-6-C32A2", "llama.cpp-dense-7B-Q8", "authors", "transformers"]
        code, rows, text = run(folder, finermoe, "--device", "cuda-emulated:0", "--module", module, "--limits", limits,
                               "--only", *works)
        assert code == 0, text
        assert "Limits of the same run" in text
        assert len(rows) == len(works), text
        missing = [row for row in rows if "not measured" in row[2]]
        assert [row[2] for row in missing] == [f"not measured: {why}" for why in (
            "--torch names no Python with torch and transformers", "--torch names no Python with torch and transformers",
            "--peer names no Python with llama.cpp")], missing
        for row in rows:
            assert row[3].strip(" |") in ("met", "missed", ""), row

        # Beside a peer whose rates are known: our own are never as low, so that the goals are met.
        peer = folder / "peer"
        peer.write_text("#!/bin/sh\necho '{\"prefill_512\": 0.001, \"decode\": 0.002}'\n", encoding="utf-8")
        peer.chmod(0o755)
        works = ["authors", "llama.cpp-dense-7B-Q8"]
        code, rows, text = run(folder, finermoe, "--device", "cuda-emulated:0", "--module", module, "--limits", limits,
                               "--torch", peer, "--peer", peer, "--authors", folder, "--only", *works)
        assert code == 0 and len(rows) == len(works), text
        for row in rows:
            prefill, decode = re.fullmatch(r"prefill ([\d.]+)×, decode ([\d.]+)×", row[2]).groups()
            assert float(prefill) > 10 and float(decode) > 10 and row[3].strip(" |") == "met", row

        code, rows, text = run(folder, finermoe, "--device", "cuda-emulated:9", "--module", module, "--limits", limits)
        assert code == 77 and len(rows) == 24 and all("not measured" in row[2] for row in rows), text


if __name__ == "__main__":
    if len(sys.argv) == 1:
        print("there is no emulated device: this build has a sanitizer")
        sys.exit(77)
    main(*sys.argv[1:])
