"""Folders without tokenizer.json against Hugging Face's ids: folders.py TOKENIZE_LINES TOKENIZER_JSON [write]

The folders have vocab.json and merges.txt, made of the given tokenizer.json, and what tests/data/tokenizer-folders says
of their other files. The expected ids stand there too; "write" computes them anew with transformers' Qwen2Tokenizer.
"""
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

DATA = pathlib.Path(__file__).parents[1] / "data" / "tokenizer-folders" / "folders.json"
TEXTS = [
    "", "A lighthouse by the sea", "Hi  <|im_end|> x <|im_start|>  <plain> <x>y <extra>\n", "<|endoftext|><|im_end|>12345 it's",
    "e\u0301te\u0301 \u00e9t\u00e9 \u212b <\u00e9> <e\u0301>", "<|im_start|>user\nhi<|im_end|>", "  sea <s> </s>sea", "\u65e5\u672c \U0001f600 \u00a0x",
]  # fmt: skip


def make_folder(folder, tokenizer, case):
    """Writes vocab.json, merges.txt and the case's files."""
    model = tokenizer["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    lines = case["merges_head"] + [" ".join(merge) for merge in model["merges"]]
    (folder / "merges.txt").write_bytes("".join(line + case["line_end"] for line in lines).encode())
    for name, content in case["files"].items():
        (folder / name).write_text(json.dumps(content))


def expected(folder):
    from transformers import Qwen2Tokenizer

    tokenizer = Qwen2Tokenizer.from_pretrained(folder)
    return [tokenizer(text).input_ids for text in TEXTS]


def found(program, folder):
    given = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in TEXTS)
    answer = subprocess.run([program, folder, "special"], input=given, stdout=subprocess.PIPE, check=True).stdout
    numbers = [number for (number,) in struct.iter_unpack("<I", answer)]
    ids, at = [], 0
    for _ in TEXTS:
        n = numbers[at]
        ids.append(numbers[at + 1 : at + 1 + 3 * n : 3])
        at += 1 + 3 * n
    return ids


def main():
    program, path = sys.argv[1:3]
    tokenizer = json.loads(pathlib.Path(path).read_text())
    cases = json.loads(DATA.read_text())
    failures = 0
    for case in cases:
        with tempfile.TemporaryDirectory() as name:
            make_folder(pathlib.Path(name), tokenizer, case)
            if sys.argv[3:] == ["write"]:
                case["ids"] = expected(name)
                continue
            for text, wanted, ids in zip(TEXTS, case["ids"], found(program, name)):
                if ids != wanted:
                    failures += 1
                    print(f"{case['name']}: ids differ for {text!r}\n  expected {wanted}\n  found    {ids}")
    if sys.argv[3:] == ["write"]:
        DATA.write_text("[\n" + ",\n".join(json.dumps(case, ensure_ascii=True) for case in cases) + "\n]\n")
    print(f"{len(cases)} folders, {len(TEXTS)} texts each: {failures} differences")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
