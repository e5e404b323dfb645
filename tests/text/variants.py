"""Variants of tokenizer.json against Hugging Face's `tokenizers`: variants.py TOKENIZE_LINES TOKENIZER_JSON

Each variant is the given file with other components or added tokens, as people's tools write them. Ids, offsets and the
text that comes back are compared, with and without special tokens.
"""
import copy
import itertools
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
try:
    import tokenizers
    from differential import SCRIPTS, Comparison, invalid_bytes, random_text
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
ADDED = [
    {"content": "<word>", "single_word": True},
    {"content": "sea", "single_word": True, "normalized": True},
    {"content": "1", "single_word": True},
    {"content": "_", "single_word": True, "lstrip": True, "rstrip": True},
    {"content": "<left>", "lstrip": True, "special": True},
    {"content": "<right>", "rstrip": True},
    {"content": "<both>", "lstrip": True, "rstrip": True, "normalized": True},
    {"content": "\u00e9t\u00e9", "normalized": True},
    {"content": "e\u0301", "normalized": False},
    {"content": "  x", "normalized": True, "rstrip": True},
]


def sequence(key, *elements):
    return {"type": "Sequence", key: list(elements)}


def template(*single, first_id=4064):
    pieces = [{"Sequence": {"id": "A", "type_id": 0}} if piece == "A" else {"SpecialToken": {"id": piece, "type_id": 0}}
              for piece in single]  # fmt: skip
    pair = [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}]
    names = {"<|endoftext|>": first_id, "<|im_start|>": first_id + 1}
    tokens = {name: {"id": name, "ids": [id], "tokens": [name]} for name, id in names.items()}
    return {"type": "TemplateProcessing", "single": pieces, "pair": pair, "special_tokens": tokens}


def change(base, model={}, added=[], **components):
    """Added tokens are numbered as `tokenizers` numbers them: behind the vocabulary, unless they are in it."""
    json = copy.deepcopy(base) | components
    json["model"].update(model)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    json["added_tokens"] += [flags | token for token in added]
    ids = itertools.count(len(json["model"]["vocab"]))
    for token in json["added_tokens"]:
        known = json["model"]["vocab"].get(token["content"])
        token["id"] = next(ids) if known is None else known
    return json


def variants(base):
    split, byte_level = base["pre_tokenizer"]["pretokenizers"]
    nfc, decoder = base["normalizer"], base["decoder"]
    digits = copy.deepcopy(split)
    assert split["pattern"]["Regex"] == QWEN
    digits["pattern"]["Regex"] = QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
    ignoring = {"ignore_merges": True, "vocab": base["model"]["vocab"] | {"\u65e5": 4064, "zzzz": 4065}}
    bos = template("<|endoftext|>", "A")
    yield "as it is", base
    yield "truncation and padding", change(
        base,
        truncation={"direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0},
        padding={"strategy": "BatchLongest", "direction": "Left", "pad_to_multiple_of": None, "pad_id": 4064, "pad_type_id": 0,
                 "pad_token": "<|endoftext|>"},
    )  # fmt: skip
    yield "null normalizer", change(base, normalizer=None)
    yield "null normalizer, added tokens", change(base, normalizer=None, added=ADDED)
    yield "empty Sequence of normalizers", change(base, normalizer=sequence("normalizers"))
    yield "Sequences of one", change(
        base,
        normalizer=sequence("normalizers", sequence("normalizers", nfc)),
        pre_tokenizer=sequence("pretokenizers", sequence("pretokenizers", split), sequence("pretokenizers", byte_level)),
        decoder=sequence("decoders", decoder),
        post_processor=sequence("processors", template("A")),
    )
    yield "numbers of three digits", change(base, pre_tokenizer=sequence("pretokenizers", digits, byte_level))
    yield "ignore_merges", change(base, model=ignoring)
    yield "like Llama 3", change(
        base,
        normalizer=None,
        pre_tokenizer=sequence("pretokenizers", digits, byte_level),
        model=ignoring,
        post_processor=sequence("processors", {**decoder, "trim_offsets": False}, template("<|endoftext|>", "A", first_id=4066)),
    )
    yield "model options that no text reaches", change(
        base, model={"fuse_unk": True, "byte_fallback": True, "unk_token": "<|endoftext|>", "continuing_subword_prefix": "",
                     "end_of_word_suffix": "", "dropout": 0.0})  # fmt: skip
    yield "TemplateProcessing, nothing added", change(base, post_processor=template("A"))
    yield "TemplateProcessing, BOS", change(base, post_processor=bos)
    yield "TemplateProcessing, several", change(base, post_processor=template("<|im_start|>", "<|endoftext|>", "A", "<|endoftext|>"))
    yield "RobertaProcessing", change(
        base, post_processor={"type": "RobertaProcessing", "sep": ["<|im_end|>", 4066], "cls": ["<|endoftext|>", 4064],
                              "trim_offsets": False, "add_prefix_space": False})  # fmt: skip
    yield "BertProcessing", change(base, post_processor={"type": "BertProcessing", "sep": ["<|im_end|>", 4066], "cls": ["<|im_start|>", 4065]})
    for token in ADDED:
        yield f"added token {token}", change(base, added=[token])
    yield "all added tokens", change(base, added=ADDED)


def texts(all_code_points):
    draw = random.Random(7)
    yield from (text.encode() for text in SCRIPTS)
    yield from (("12345 " + "67" * 9000 + "a1b22c333d4444").encode(), ("0123456789" * 4000).encode())
    pieces = [token["content"] for token in ADDED] + ["<|endoftext|>", "<|im_start|>", " ", "\n", "\u00a0", "\u3000", "\t ", "a", "Z", "\u0301",
              "7", "\u00b2", "\u00bd", "\u2167", "_", "\u203f", "\u200d", "\u24b6", "-", "\u65e5", "zzzz", "sea", "The sea", "e"]  # fmt: skip
    yield from ("".join(draw.choices(pieces, k=draw.randrange(1, 12))).encode() for _ in range(400))
    yield from (random_text(draw).encode() for _ in range(150))
    yield from (invalid_bytes(draw) for _ in range(50))
    if not all_code_points:
        return
    words = [chr(c) for c in range(0x33000) if not 0xD800 <= c <= 0xDFFF]  # beside a token, every one of them
    for start in range(0, len(words), 300):
        yield "".join(f"{c}_{c}<word>.<right>{c}" for c in words[start : start + 300]).encode()


def decoded(program, path, texts, flags):
    given = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    answer = subprocess.run([program, path, "decode", *flags], input=given, stdout=subprocess.PIPE, check=True).stdout
    at = 0
    while at < len(answer):
        (n,) = struct.unpack_from("<I", answer, at)
        yield answer[at + 4 : at + 4 + n].decode()
        at += 4 + n


def main():
    program, path = sys.argv[1:3]
    base = json.loads(pathlib.Path(path).read_text())
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        file = str(pathlib.Path(folder) / "tokenizer.json")
        for name, variant in variants(base):
            pathlib.Path(file).write_text(json.dumps(variant))
            comparison = Comparison(program, file)
            corpus = list(texts(all_code_points=name == "all added tokens"))
            for special, bare in ((True, False), (False, True)):
                comparison.run(corpus, special, bare)
            hf = comparison.tokenizer
            for data, mine in zip(corpus[:300], decoded(program, file, corpus[:300], [])):
                theirs = hf.decode(hf.encode(data.decode(errors="replace")).ids, skip_special_tokens=False)
                if "\u00e9t\u00e9" not in mine and mine != theirs:  # Hugging Face takes the token's letters for bytes
                    comparison.fail(data, "decoded texts", theirs, mine)
            print(f"{name}: {comparison.compared} texts, {comparison.with_offsets} with offsets, {comparison.failures} differences")
            failures += comparison.failures
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
