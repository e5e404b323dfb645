"""Writes the models and tokenizers that targets run on as arrays for C++: make_models.py OUT.h"""

import json
import sys
from pathlib import Path

import tiny

FILES = {
    # Vocabularies of different sizes, so that an id of one can be out of range in another.
    "dense_model": tiny.single_file(
        tiny.dense_config(288, eos_token_id=285),
        {"tokenizer.json": tiny.tokenizer(), "tokenizer_config.json": tiny.tokenizer_config(),
         "generation_config.json": {"eos_token_id": [285, 283], "max_new_tokens": 6}}),
    "moe_model": tiny.single_file(tiny.moe_config(16), {"generation_config.json": {"eos_token_id": 3}}),
    "small_model": tiny.single_file(tiny.dense_config(5, num_hidden_layers=1), dtype="F32"),
    "tokenizer_nfc": tiny.compact(tiny.tokenizer()).encode(),
    "tokenizer_plain": tiny.compact(tiny.tokenizer(normalizer=None)).encode(),
    "tokenizer_config": tiny.compact(tiny.tokenizer_config()).encode(),
}

# A model without its texts: what follows `{"__metadata__":{…}` in its header, and its data.
BARE = tiny.single_file(tiny.dense_config(16, num_hidden_layers=1), dtype="F32")
HEADER_END = 8 + int.from_bytes(BARE[:8], "little")
TENSORS = {name: value for name, value in json.loads(BARE[8:HEADER_END]).items() if name != "__metadata__"}
FILES["bare_header"] = ("," + tiny.compact(TENSORS)[1:]).encode()
FILES["bare_data"] = BARE[HEADER_END:]

if __name__ == "__main__":
    lines = ['// Written by make_models.py.', '#pragma once', '', 'namespace fuzz {']
    for name, data in FILES.items():
        lines += [f"alignas(64) inline constexpr unsigned char {name}[] = {{", ",".join(map(str, data)), "};"]
    Path(sys.argv[1]).write_text("\n".join(lines + ["}  // namespace fuzz", ""]))
