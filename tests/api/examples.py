"""The three C examples print what the model's authors' code computed: examples.py GENERATE ROUTING STREAMING."""

import array
import json
import os
import pathlib
import re
import subprocess
import sys
import zipfile

MODEL = pathlib.Path(os.environ["FINERMOE_SOURCE"]) / "examples/models/tiny-wordnet-finermoe"


def output(program, *arguments, env=None):
    """What the program prints. It must succeed, and say nothing on stderr."""
    run = subprocess.run([program, *arguments], capture_output=True, encoding="utf-8", env=env, timeout=120)
    assert run.returncode == 0 and run.stderr == "", f"{program}: {run.returncode}: {run.stderr}"
    return run.stdout


def last_logits(index):
    """The last row of the expected float32 logits [tokens, vocab] of one prompt."""
    with zipfile.ZipFile(MODEL / "expected_logits.npz") as archive:
        npy = archive.read(f"logits_{index}.npy")
    header = npy[10:10 + int.from_bytes(npy[8:10], "little")].decode()
    rows, columns = map(int, re.search(r"\((\d+), (\d+)\)", header).groups())
    assert "'<f4'" in header and "'fortran_order': False" in header, header
    values = array.array("f", npy[10 + len(header):])
    assert len(values) == rows * columns
    return values[-columns:]


def check_generate(program, prompt, env):
    found = output(program, str(MODEL), env=env)
    assert found == prompt["greedy_text"] + "\n", found


def check_routing(program, prompt, env):
    lines = output(program, str(MODEL), *map(str, prompt["ids"]), env=env).splitlines()
    logits = last_logits(0)
    likeliest = sorted(range(len(logits)), key=lambda token: -logits[token])[:5]
    for line, token in zip(lines, likeliest):
        found, logit = line.split()
        assert int(found) == token and abs(float(logit) - logits[token]) < 3e-4, f"{line}: expected {token}"
    assert len(lines) == 5 + len(prompt["layers"]), lines
    for line, layer in zip(lines[5:], prompt["layers"]):
        chosen = re.findall(r"expert (\d+) \(([\d.]+)\)", line)
        assert [int(expert) for expert, _ in chosen] == layer["experts"][-1], f"{line}: expected {layer['experts'][-1]}"
        for (_, found), weight in zip(chosen, layer["weights"][-1]):
            assert abs(float(found) - weight) < 1e-4, f"{line}: expected the weight {weight}"


def check_streaming(program, prompt, env):
    text = prompt["greedy_text"]
    stop = text.split()[-3]
    lines = output(program, str(MODEL), stop, env=env).splitlines()
    assert lines[:2] == [text[:text.index(stop)], "stopped"], lines
    assert re.fullmatch(r"cancelled, then went on with token \d+", lines[2]) and len(lines) == 3, lines


def check(generate, routing, streaming, env=None):
    with open(MODEL / "expected.json", encoding="utf-8") as file:
        prompt = json.load(file)["prompts"][0]
    check_generate(generate, prompt, env)
    check_routing(routing, prompt, env)
    check_streaming(streaming, prompt, env)


if __name__ == "__main__":
    check(*sys.argv[1:])
