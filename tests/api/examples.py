"""The C examples print what the model's authors' code computed: examples.py PROGRAM..., one for each of NAMES."""

import array
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import zipfile

NAMES = ("generate", "routing", "streaming", "chat_window", "batch_worker", "constrained", "scorer")
MODEL = pathlib.Path(os.environ["FINERMOE_SOURCE"]) / "examples/models/tiny-wordnet-finermoe"


def output(program, *arguments, env=None, lines=()):
    """What the program prints for these lines of input. It must succeed, and say nothing on stderr."""
    run = subprocess.run([program, *arguments], input="".join(f"{line}\n" for line in lines), capture_output=True,
                         encoding="utf-8", env=env, timeout=120)
    assert run.returncode == 0 and run.stderr == "", f"{program}: {run.returncode}: {run.stderr}"
    return run.stdout


def expected_logits(index):
    """The expected float32 logits [tokens, vocab] of one prompt."""
    with zipfile.ZipFile(MODEL / "expected_logits.npz") as archive:
        npy = archive.read(f"logits_{index}.npy")
    header = npy[10:10 + int.from_bytes(npy[8:10], "little")].decode()
    rows, columns = map(int, re.search(r"\((\d+), (\d+)\)", header).groups())
    assert "'<f4'" in header and "'fortran_order': False" in header, header
    values = array.array("f", npy[10 + len(header):])
    assert len(values) == rows * columns
    return [values[row * columns:(row + 1) * columns] for row in range(rows)]


def check_generate(program, prompt, env):
    found = output(program, str(MODEL), env=env)
    assert found == prompt["greedy_text"] + "\n", found


def check_routing(program, prompt, env):
    lines = output(program, str(MODEL), *map(str, prompt["ids"]), env=env).splitlines()
    logits = expected_logits(0)[-1]
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


def question(prompt):
    """What was asked in the rendered chat of an expected prompt."""
    return re.fullmatch(r"<\|im_start\|>user\n(.*)<\|im_end\|>\n<\|im_start\|>assistant\n", prompt["text"])[1]


def replies(program, *arguments, env, lines):
    """(answer, tokens kept, tokens of the prompt, context length) for each answer of chat_window."""
    found = output(program, str(MODEL), *map(str, arguments), env=env, lines=lines)
    parts = re.split(r"\n\[(\d+) of (\d+) kept, context (\d+)\]\n", found)
    assert parts[-1] == "", found
    return [(parts[i], *map(int, parts[i + 1:i + 4])) for i in range(0, len(parts) - 1, 4)]


def check_chat_window(program, prompts, env):
    first, second = prompts[0], prompts[1]
    shared = len(os.path.commonprefix([first["ids"], second["ids"]]))
    n = len(second["ids"])

    # An edited question is answered as if it had been the first; what both share is computed once, and a second try
    # computes nothing of its prompt again.
    found = replies(program, env=env, lines=[question(first), f"/edit {question(second)}", "/again", "/again"])
    assert found[0] == (first["greedy_text"], 0, len(first["ids"]), 1024), found
    assert found[1] == (second["greedy_text"], shared, n, 1024), found
    assert [reply[1:] for reply in found[2:]] == [(n, n, 1024)] * 2 and all(reply[0] for reply in found[2:]), found

    # An answer that is cut off every four tokens and gone on with is the whole answer, and nothing is computed twice.
    found = replies(program, 4, env=env, lines=[question(first)] + ["/more"] * 5)
    assert "".join(reply[0] for reply in found) == first["greedy_text"], found
    assert all(kept == held for _, kept, held, _ in found[1:]), found

    text = first["greedy_text"]
    stop = text.split()[-3]
    found = replies(program, env=env, lines=[f"/stop {stop}", question(first)])
    assert found[0][0] == text[:text.index(stop)], found

    # The context grows from 48 to 96; then the oldest turns go, and what stays is not computed again.
    lines = ["/system You are a dictionary."] + [question(prompt) for prompt in prompts[:4]] * 2
    found = replies(program, 24, 48, 96, env=env, lines=lines)
    assert len(found) == 8 and [reply[3] for reply in found] == [96] * 8, found
    assert all(held + 24 <= 96 and kept > held // 2 for _, kept, held, _ in found[1:]), found
    assert all(reply[0] for reply in found), found
    assert output(program, str(MODEL), env=env, lines=["/again", "/nothing"]) == "[not understood]\n" * 2


def check_batch_worker(program, prompts, env):
    """Four requests and more than places: all are answered as if alone, and those that fail harm no other."""
    lines = [question(prompt) for prompt in prompts[:3]] + ["withdraw 1"] + [question(prompts[3]), "word " * 600]
    lines += [question(prompts[0])] * 2
    found = output(program, str(MODEL), env=env, lines=lines).splitlines()
    expected = {f"{tag}: {prompts[index]['greedy_text']}" for tag, index in ((2, 1), (3, 2), (5, 3), (7, 0), (8, 0))}
    failed = {line for line in found if " failed: " in line}
    assert set(found) - failed == expected and len(found) == len(expected) + 2, found
    assert {line.split(":")[0] + line.split(":")[1] for line in failed} == {
        "1 failed FINERMOE_ERROR_CLOSED", "6 failed FINERMOE_ERROR_CONTEXT_LENGTH"}, found
    assert output(program, str(MODEL), env=env) == ""


def check_constrained(program, env):
    for word in ("lighthouse", "gallop", 'a "quoted" one'):
        found = output(program, str(MODEL), word, env=env)
        pairs = json.loads(found, object_pairs_hook=list)
        assert [key for key, _ in pairs] == ["definition", "part"] and found.count("\n") == 1, found
        assert pairs[0][1] and pairs[1][1] in ("noun", "verb", "adjective", "adverb"), found


def scored(index, n_context):
    """Sum and greediness of the tokens of a prompt behind its context, from the expected logits."""
    ids = prompts_of_model()[index]["ids"]
    sum_of_logprobs, is_greedy = 0.0, True
    for row, token in zip(expected_logits(index)[n_context - 1:], ids[n_context:]):
        largest = max(row)
        sum_of_logprobs += row[token] - largest - math.log(sum(math.exp(logit - largest) for logit in row))
        is_greedy = is_greedy and row[token] == largest
    return sum_of_logprobs, len(ids) - n_context, is_greedy


def check_scorer(program, prompts, env):
    def scores(context, *continuations):
        found = output(program, str(MODEL), context, *continuations, env=env).splitlines()
        matches = [re.fullmatch(r"(-?[\d.]+), (\d+) tokens, (\d+) kept(, greedy)?", line) for line in found]
        assert len(found) == len(continuations) and all(matches), found
        return [(float(sum_), int(n), int(kept), greedy is not None) for sum_, n, kept, greedy in
                (match.groups() for match in matches)]

    # Two questions that differ behind their first tokens: the second keeps what they share.
    for indices in ((0, 3), (1, 2)):
        texts = [prompts[index]["text"] for index in indices]
        context = os.path.commonprefix(texts)
        n_context = len(os.path.commonprefix([prompts[index]["ids"] for index in indices]))
        found = scores(context, *(text[len(context):] for text in texts))
        for (sum_, n, _, is_greedy), index in zip(found, indices):
            expected, n_expected, expected_greedy = scored(index, n_context)
            assert abs(sum_ - expected) < 2e-3 and n == n_expected and is_greedy == expected_greedy, (found, expected)
        assert [kept for _, _, kept, _ in found] == [0, n_context], found

    # What the model would have said itself, and the same with another end.
    text = prompts[0]["greedy_text"]
    found = scores(prompts[0]["text"], text, text[:-1] + "!")
    assert [greedy for _, _, _, greedy in found] == [True, False] and found[0][0] > found[1][0], found


def prompts_of_model():
    with open(MODEL / "expected.json", encoding="utf-8") as file:
        return json.load(file)["prompts"]


def check(*programs, env=None):
    """Runs them all, in the order of NAMES."""
    programs = dict(zip(NAMES, programs, strict=True))
    prompts = prompts_of_model()
    check_generate(programs["generate"], prompts[0], env)
    check_routing(programs["routing"], prompts[0], env)
    check_streaming(programs["streaming"], prompts[0], env)
    check_chat_window(programs["chat_window"], prompts, env)
    check_batch_worker(programs["batch_worker"], prompts, env)
    check_constrained(programs["constrained"], env)
    check_scorer(programs["scorer"], prompts, env)


if __name__ == "__main__":
    check(*sys.argv[1:])
