#!/usr/bin/env python3
"""Encoding speed beside Hugging Face's `tokenizers`, both on one thread and on the same text.

    tokenizer_speed.py PROGRAM TOKENIZER_JSON [TEXT_FILE]

PROGRAM is the built bench/tokenizer-speed. Without TEXT_FILE a text of 10 MB is made of the sources and documents of
this project, the words of the tokenizer's own vocabulary, and lines in other scripts.
"""
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

try:
    from tokenizers import Tokenizer
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

SIZE = 10_000_000
ROOT = pathlib.Path(__file__).resolve().parent.parent
SCRIPTS = [
    "В начале было Слово, и Слово было у Бога, и Слово было Бог.",
    "太初有道，道與神同在，道就是神。這道太初與神同在。",
    "はじめに言葉があった。言葉は神と共にあった。",
    "태초에 말씀이 계시니라 이 말씀이 하나님과 함께 계셨으니",
    "في البدء كان الكلمة، والكلمة كان عند الله، وكان الكلمة الله.",
    "आदि में वचन था, और वचन परमेश्वर के साथ था।",
    "Au commencement était la Parole, et la Parole était avec Dieu; 1234567890 %$#!",
    "Ἐν ἀρχῇ ἦν ὁ λόγος, καὶ ὁ λόγος ἦν πρὸς τὸν θεόν.",
    "👩‍👩‍👧‍👦 🇩🇪 ❤️ 12:30 → x² ≤ ∑ αβγ",
]


def make_text(tokenizer):
    draw = random.Random(1)
    code = [p.read_text(errors="replace") for d in ("src", "docs", "include") for p in sorted((ROOT / d).rglob("*.*"))
            if p.suffix in (".cc", ".h", ".md")]
    words = [tokenizer.decode([i]) for i in range(tokenizer.get_vocab_size(with_added_tokens=False))]
    words = [w.strip() for w in words if w.strip().isascii() and w.strip().isalpha()]
    parts, size = [], 0
    while size < SIZE:
        kind = draw.random()
        if kind < 0.5:  # English-like prose
            part = " ".join(draw.choices(words[: len(words) // 4], k=60)).capitalize() + ".\n"
        elif kind < 0.8:
            source = draw.choice(code)
            start = draw.randrange(max(1, len(source) - 600))
            part = source[start : start + 600]
        else:
            part = "\n".join(draw.choices(SCRIPTS, k=5)) + "\n"
        parts.append(part)
        size += len(part.encode())
    return "".join(parts)


def best(work):
    times = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def theirs(path, text, tokenizer):
    data = text.encode()
    pieces = [data[i : i + 1000].decode(errors="replace") for i in range(0, len(data), 1000)]
    size = len(data) / 1e6
    return {
        "open_ms": best(lambda: Tokenizer.from_file(path)) * 1e3,
        "whole_mb_s": size / best(lambda: tokenizer.encode_batch_fast([text])),
        "pieces_mb_s": size / best(lambda: [tokenizer.encode_batch_fast([piece]) for piece in pieces]),
        "tokens": len(tokenizer.encode_batch_fast([text])[0].ids),
    }


def main():
    program, path = sys.argv[1:3]
    tokenizer = Tokenizer.from_file(path)
    text = pathlib.Path(sys.argv[3]).read_text(errors="replace") if len(sys.argv) > 3 else make_text(tokenizer)
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        ours = json.loads(subprocess.run([program, path, file.name], check=True, stdout=subprocess.PIPE).stdout)
    other = theirs(path, text, tokenizer)
    print(f"{'':14} {'finermoe':>10} {'tokenizers':>10} {'ratio':>7}")
    for key, mine in ours.items():
        print(f"{key:14} {mine:10.1f} {other[key]:10.1f} {mine / other[key]:7.2f}")


if __name__ == "__main__":
    main()
