"""Writes the inputs that fuzzing begins with, valid ones, a folder for each target: make_seeds.py OUT STAMP"""

import json
import random
import struct
import sys
from pathlib import Path

import tiny

NUL = b"\0"


def text(value):
    return (value if isinstance(value, str) else tiny.compact(value)).encode()


def configs():
    """The configurations of the models in the tree, those with the same text once."""
    paths = sorted(tiny.ROOT.glob("examples/models/*/config.json")) + sorted(
        tiny.ROOT.glob("tests/data/shapes/*/config.json"))
    return {path.parent.name: path.read_text(encoding="utf-8") for path in paths}


def config():
    numbers = struct.pack(">QQQ", 0, 0, 1), struct.pack(">QQQ", 48, 16, 3), struct.pack(">QQQ", 100, 7, 1000)
    return {name: numbers[i % 3] + text(json.loads(content)) for i, (name, content) in enumerate(configs().items())}


TEXTS = {
    "words": "The quick brown fox, it's 12 years old, jumped; then the thing ran.\n\n  And the end\t.",
    "unicode": "Café cafe\u0301 \u212b ﬁ 日本語 한국어 हिन्दी עברית 🙂🏽‍🚀 \u200b\u00a0x",
    "special": "<|im_start|>user\nthe <tool>x</tool><|im_end|> <|endoftext|><|im_",
    "lines": "a\r\nb\n\n\n c   \n\t\td   ",
    "digits": "1234567890 ١٢٣ 3.14e-5 x1y2",
}


def round_trips():
    seeds = {f"{name}-{flag}": bytes([flag]) + value.encode() for name, value in TEXTS.items() for flag in (0, 1)}
    return seeds | {"not-utf8": b"\0\xff\xc3(\xe2\x82 \xf0\x9f\x99 abc\xed\xa0\x80\xc0\xaf"}


def tokenizers():
    """Each component that the library supports, in the forms in which transformers writes it."""
    bundled = tiny.tokenizer()
    split, byte_level = json.loads(json.dumps(bundled["pre_tokenizer"]["pretokenizers"]))
    split["pattern"]["Regex"] = split["pattern"]["Regex"].replace(r"|\p{N}|", r"|\p{N}{1,3}|")
    sequence = {"Sequence": {"id": "A", "type_id": 0}}
    bos = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}
    nothing = {"type": "TemplateProcessing", "single": [sequence], "pair": [sequence], "special_tokens": {}}
    with_bos = nothing | {"single": [bos, sequence], "special_tokens": {"<|endoftext|>": {
        "id": "<|endoftext|>", "ids": [bundled["added_tokens"][0]["id"]], "tokens": ["<|endoftext|>"]}}}
    variants = {
        "bundled": {}, "no-normalizer": {"normalizer": None}, "ignore-merges": {"ignore_merges": True},
        "digits": {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]}},
        "post-processor": {"post_processor": nothing}, "byte-level": {"post_processor": byte_level},
        "bos": {"post_processor": {"type": "Sequence", "processors": [byte_level, with_bos]}},
        "settings": {"truncation": {"direction": "Right", "max_length": 9, "strategy": "LongestFirst", "stride": 0},
                     "padding": {"strategy": "BatchLongest", "direction": "Left", "pad_to_multiple_of": None, "pad_id": 0,
                                 "pad_type_id": 0, "pad_token": "<|endoftext|>"}},
        "sequences": {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}]},
                      "decoder": {"type": "Sequence", "decoders": [byte_level]}}}
    texts = [value.encode() for value in TEXTS.values()]
    config = text(tiny.tokenizer_config())
    seeds = {name: text(tiny.tokenizer(**changes)) + NUL + config + NUL + texts[i % len(texts)]
             for i, (name, changes) in enumerate(variants.items())}
    flags = ({"lstrip": True}, {"rstrip": True}, {"single_word": True}, {"normalized": True, "rstrip": True})
    for token, changes in zip(bundled["added_tokens"], flags):
        token.update(changes)
    return seeds | {"strips": text(bundled) + NUL + NUL + texts[2]}


def chats():
    bundled = tiny.tokenizer_config()["chat_template"]
    plain = ("{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
             "You are a helpful assistant.<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + "
             "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
             "{{ '<|im_start|>assistant\n' }}{% endif %}")
    user, assistant, system = b"\x05", b"\x01", b"\x02"  # modulo 5: a NUL would end the message
    talks = [[user + b"the thing"], [system + b"Be brief.", user + b"Hi", assistant + b"Hello.", user + b"<|im_end|>12"]]
    return {f"{name}-{i}": text(template) + NUL + NUL.join(talk) for name, template in
            {"bundled": bundled, "plain": plain}.items() for i, talk in enumerate(talks)}


def models():
    texts = {"tokenizer.json": tiny.tokenizer(), "tokenizer_config.json": tiny.tokenizer_config(),
             "generation_config.json": {"eos_token_id": [285, 283], "do_sample": True, "top_k": 20, "top_p": 0.8}}
    blocks = {"quant_method": "finermoe", "version": 1, "weights": "q8", "embeddings": "q8"}
    return {
        "dense": tiny.single_file(tiny.dense_config(16)),
        "dense-f32": tiny.single_file(tiny.dense_config(16, num_hidden_layers=1), dtype="F32"),
        "dense-f16-head": tiny.single_file(tiny.dense_config(16, tie_word_embeddings=False), dtype="F16"),
        "dense-blocks": tiny.single_file(tiny.dense_config(16, num_hidden_layers=1, quantization_config=blocks),
                                         in_blocks=True),
        "with-texts": tiny.single_file(tiny.dense_config(288, num_hidden_layers=1, eos_token_id=285), texts),
        "moe": tiny.single_file(tiny.moe_config(16)),
        "moe-concat": tiny.single_file(tiny.moe_config(9, moe_concat_proj=True, norm_topk_prob=True)),
        "qwen2-moe": tiny.single_file(tiny.dense_config(
            9, model_type="qwen2_moe", num_hidden_layers=1, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=4,
            shared_expert_intermediate_size=6, norm_topk_prob=True, moe_concat_proj=False))}


def generation_defaults():
    config = text(tiny.dense_config(16, num_hidden_layers=1))
    with_ids = text(tiny.dense_config(16, num_hidden_layers=1, eos_token_id=[3, 5], bos_token_id=1))
    bundled = (tiny.BUNDLED / "generation_config.json").read_text(encoding="utf-8")
    several = {
        "sampling": {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.05,
                     "eos_token_id": [3, 2]},
        "more": {"do_sample": True, "min_p": 0.1, "typical_p": 0.9, "max_new_tokens": 3, "min_new_tokens": 2,
                 "eos_token_id": 7},
        "lengths": {"max_length": 9, "min_length": 4, "max_new_tokens": None},
        "off": {"do_sample": False, "temperature": 1.0, "top_k": 50, "top_p": 1.0, "transformers_version": "4.46.3"}}
    seeds = {name: text(value) + NUL + (config if i % 2 else with_ids) for i, (name, value) in enumerate(several.items())}
    return seeds | {"bundled": text(bundled) + NUL + config, "none": text("{}") + NUL + with_ids}


def sessions():
    """Session files without their checksum (docs/format.md, "Session files"), behind the number of the model."""
    seeds = {}
    for number, (name, n_layers, vocab_size) in enumerate((("moe", 1, 16), ("small", 1, 5))):
        for dtype, vector in enumerate((4 * 4, 2 * 4, 2 * 4, 2 + 32)):
            for length in (0, 1, 7):
                cache = bytes((i * 37 + 11) % 60 if i % 2 else 0 for i in range(vector)) * (2 * n_layers * length)
                if dtype == 3:  # a scale, then codes, of which those beyond the head's size are 0
                    cache = (b"\x00\x20\x01\x02\x83\x04" + bytes(28)) * (2 * n_layers * length)
                tokens = struct.pack(f"<{length}i", *(i * 3 % vocab_size for i in range(length)))
                header = b"FRMOESES" + struct.pack("<IiQ", 1, dtype, length) + bytes(64)
                seeds[f"{name}-{dtype}-{length}"] = bytes([number]) + header + tokens + cache
    return seeds


def requests():
    """Saved requests between head and checksum (docs/format.md, "Saved requests")."""
    def sequence(form, values):
        return struct.pack(f"<Q{len(values)}{form}", len(values), *values)

    def string(value):
        return sequence("B", value)

    def request(numbers=(0, 1, 0, 1, 1, 0, 0), biases=None, stops=(), stop_strings=(), limits=(4, 0), seen=None,
                texts=(b"", b"", b""), finish=0, top=0, drafts=0):
        biases, seen = biases or {}, seen or {}
        return b"".join((
            string(bytes(64)), string(bytes(64)), struct.pack("<7d", *numbers), struct.pack("<QQ", 3, 7),
            sequence("i", biases.keys()), sequence("f", biases.values()), struct.pack("<QQ", *limits),
            sequence("i", stops), struct.pack("<Q", len(stop_strings)), *map(string, stop_strings),
            struct.pack("<BBQQQQQ", 0, 1, top, drafts, 0, 0, 0x853c49e6748fea9b), sequence("i", seen.keys()),
            sequence("I", seen.values()), *map(string, texts), struct.pack("<iQQQ", finish, 3, 1, 2)))

    return {"greedy": request(),
            "sampled": request((0.8, 0.95, 0.05, 0.9, 1.2, 0.5, -0.5), {2: 1.5, 5: float("-inf")}, (3, 4), seen={1: 0, 2: 3}),
            "finished": request(finish=3), "top": request(top=3, limits=(0, 2), stops=(1,)), "drafts": request(drafts=4)}


def calls():
    draw = random.Random(1)
    return {f"random-{n}": bytes(draw.randrange(256) for _ in range(40 * n)) for n in range(1, 13)}


TARGETS = {"calls": calls, "chat": chats, "config": config, "defaults": generation_defaults, "model": models,
           "request": requests, "session": sessions, "text": round_trips, "tokenizer": tokenizers}

if __name__ == "__main__":
    out, stamp = map(Path, sys.argv[1:])
    for target, seeds in TARGETS.items():
        folder = out / target
        folder.mkdir(parents=True, exist_ok=True)
        seeds = seeds()
        for old in folder.iterdir():
            if old.name not in seeds:
                old.unlink()
        for name, data in seeds.items():
            (folder / name).write_bytes(data)
    stamp.write_text("")
