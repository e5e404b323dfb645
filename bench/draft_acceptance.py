#!/usr/bin/env python3
"""How many drafted tokens are chosen: draft_acceptance.py FINERMOE MODEL DRAFT_MODEL [--words N] [--windows N], as JSON.

Both models compute the same text, token by token: definitions of the words in MODEL/words.json as MODEL writes them, and
the held-out text MODEL/heldout-ids.npy. For each position and temperature: `drafts`, the probability that the token
drafted with the request's random number is the one chosen with it, over all random numbers; `optimum`, 1 minus the total
variation of the two distributions, what speculative sampling (arXiv 2211.17192) reaches; `independent`, the same for a
draft with a random number of its own. At temperature 0 all three are whether the likeliest tokens are the same.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

import numpy as np

TEMPERATURES = (0.0, 0.5, 0.8, 1.0)
MEASURES = ("drafts", "optimum", "independent")


def run(*command):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout


def logits_of(finermoe, model, ids, folder):
    """[len(ids), vocab]"""
    out = folder / "logits.npy"
    out.unlink(missing_ok=True)
    run(finermoe, "logits", model, "--ids", ",".join(map(str, ids)), "--out", out)
    return np.load(out)


def softmax(logits, temperature):
    if temperature == 0:
        return np.eye(logits.shape[1])[logits.argmax(axis=1)]
    weights = np.exp((logits - logits.max(axis=1, keepdims=True)).astype(np.float64) / temperature)
    return weights / weights.sum(axis=1, keepdims=True)


def same_interval(p, q):
    """The length of the random numbers u in [0, 1) for which the first id whose cumulative probability exceeds u is the
    same in both."""
    end_p, end_q = p.cumsum(axis=1), q.cumsum(axis=1)
    return np.maximum(np.minimum(end_p, end_q) - np.maximum(end_p - p, end_q - q), 0).sum(axis=1)


def measure(rows, drafted_rows, sums):
    for temperature in TEMPERATURES:
        p, q = softmax(rows, temperature), softmax(drafted_rows, temperature)
        found = same_interval(p, q), np.minimum(p, q).sum(axis=1), (p * q).sum(axis=1)
        for measure, values in zip(MEASURES, found):
            sums[str(temperature)][measure] += values.sum()
    return len(rows)


def shares(sums, n):
    return {"tokens": n} | {t: {name: round(x / n, 4) for name, x in found.items()} for t, found in sums.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("finermoe", "model", "draft_model"):
        parser.add_argument(name, type=pathlib.Path)
    parser.add_argument("--words", type=int, default=12)
    parser.add_argument("--windows", type=int, default=8)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        def both(ids):
            return [logits_of(args.finermoe, model, ids, pathlib.Path(folder))
                    for model in (args.model, args.draft_model)]

        def new_sums():
            return {str(temperature): dict.fromkeys(MEASURES, 0.0) for temperature in TEMPERATURES}

        words = json.loads((args.model / "words.json").read_text())
        sums, n = new_sums(), 0
        for word, kind, _ in words[::len(words) // args.words][:args.words]:
            done = json.loads(run(args.finermoe, "generate", args.model, "--chat", "-p", f'Define the {kind} "{word}".',
                                  "--temp", 0, "--json"))
            rows = slice(len(done["prompt_ids"]) - 1, -1)
            n += measure(*(logits[rows] for logits in both(done["prompt_ids"] + done["ids"])), sums)
        out = {"definitions": shares(sums, n)}

        sums, n = new_sums(), 0
        for window in np.load(args.model / "heldout-ids.npy")[:args.windows]:
            n += measure(*both(window.tolist()), sums)
        out["heldout text"] = shares(sums, n)
    print(json.dumps(out, indent=2))


if __name__ == "__main__":
    main()
