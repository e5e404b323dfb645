"""finermoe tokenize and detokenize."""

import json
import pathlib
import shutil
import tempfile
import unittest

from support import TRAINED, error, expected, ids, main, run, text, value

TEXTS = ["", "Hello, world", "  two  spaces\n\n\ttab\r\n", "naïve café", "日本語 и русский", "e\u0301", "👩‍👩‍👧‍👦 12345", "a\0b",
         "<|im_start|>user", "stats", "--not-a-flag"]


class Tokens(unittest.TestCase):
    def test_expected_ids(self):
        for prompt in expected(TRAINED)["prompts"]:
            self.assertEqual(value("tokenize", TRAINED, "--special", "--json", "--", prompt["text"]),
                             {"ids": prompt["ids"]})

    def test_round_trip(self):
        import unicodedata
        for content in TEXTS:
            printed = text("tokenize", TRAINED, stdin=content.encode())
            back, _ = run("detokenize", TRAINED, stdin=printed.encode())
            self.assertEqual(back.decode(), unicodedata.normalize("NFC", content))
            as_json = value("tokenize", TRAINED, "--json", stdin=content.encode())
            self.assertEqual(ids(as_json["ids"]) + "\n", printed)
            count = text("tokenize", TRAINED, "--count", stdin=content.encode())
            self.assertEqual(int(count), len(as_json["ids"]))
            if "\0" not in content:
                self.assertEqual(value("tokenize", TRAINED, "--json", "--", content), as_json)

    def test_bytes_are_taken_as_they_are(self):
        content = b"\xff\xc3 a\r\n\x00\x1a\n"
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, "text")
            file.write_bytes(content)
            from_file = run("tokenize", TRAINED, "--file", file)[0]
        self.assertEqual(from_file, run("tokenize", TRAINED, stdin=content)[0])
        self.assertEqual(from_file, run("tokenize", TRAINED, "--file", "-", stdin=content)[0])
        back = run("detokenize", TRAINED, stdin=from_file)[0]
        self.assertEqual(back.decode(), content.decode(errors="replace"))
        offsets = value("tokenize", TRAINED, "--offsets", "--json", stdin=content)["offsets"]
        self.assertEqual((offsets[0][0], offsets[-1][1]), (0, len(content)))

    def test_offsets(self):
        content = "Hello, world"
        with_offsets = value("tokenize", TRAINED, "--offsets", "--json", content)
        self.assertEqual("".join(content[begin:end] for begin, end in with_offsets["offsets"]), content)
        lines = [line.split("\t") for line in text("tokenize", TRAINED, "--offsets", content).splitlines()]
        self.assertEqual([int(line[0]) for line in lines], with_offsets["ids"])
        self.assertEqual([[int(line[1]), int(line[2])] for line in lines], with_offsets["offsets"])
        self.assertEqual("".join(json.loads(line[3]) for line in lines), content)

    def test_json_lines(self):
        lines = "".join(json.dumps(content) + "\n" for content in TEXTS)
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, "texts.jsonl")
            file.write_text(lines)
            tokenized = text("tokenize", TRAINED, "--jsonl", file)
        results = [json.loads(line) for line in tokenized.splitlines()]
        self.assertEqual(len(results), len(TEXTS))
        for content, result in zip(TEXTS, results):
            self.assertEqual(result, value("tokenize", TRAINED, "--json", stdin=content.encode()))
        back = text("detokenize", TRAINED, "--jsonl", "-", stdin=tokenized.encode())
        self.assertEqual(json.loads(back.splitlines()[1]), TEXTS[1])
        self.assertIn("line 2", error_after_output("tokenize", TRAINED, "--jsonl", "-", stdin=b'"a"\n{oops\n'))
        self.assertIn("line 1", error("tokenize", TRAINED, "--jsonl", "-", stdin=b"[1]\n"))

    def test_special(self):
        self.assertEqual(len(value("tokenize", TRAINED, "--json", "--special", "<|im_start|>")["ids"]), 1)
        self.assertGreater(len(value("tokenize", TRAINED, "--json", "<|im_start|>")["ids"]), 1)
        self.assertEqual(text("detokenize", TRAINED, "4065"), "")
        self.assertEqual(text("detokenize", TRAINED, "4065", "--show-special"), "<|im_start|>")

    def test_tokens_around_a_text(self):
        with tempfile.TemporaryDirectory() as folder:
            tokenizer = json.loads((TRAINED / "tokenizer.json").read_text())
            tokenizer["post_processor"] = {"type": "BertProcessing", "cls": ["<|endoftext|>", 4064], "sep": ["<|im_end|>", 4066]}
            pathlib.Path(folder, "tokenizer.json").write_text(json.dumps(tokenizer))
            plain = value("tokenize", TRAINED, "--json", "Hello")["ids"]
            self.assertEqual(value("tokenize", folder, "--json", "Hello")["ids"], [4064, *plain, 4066])
            self.assertEqual(value("tokenize", folder, "--json", "--no-special-tokens", "Hello")["ids"], plain)
            self.assertEqual(text("tokenize", folder, "--count", "Hello"), f"{len(plain) + 2}\n")
            self.assertEqual(text("tokenize", folder, "--count", "--no-special-tokens", "Hello"), f"{len(plain)}\n")
            self.assertEqual(text("tokenize", folder, "--offsets", "").splitlines(), ['4064\t0\t0\t""', '4066\t0\t0\t""'])

    def test_vocab_and_merges(self):
        with tempfile.TemporaryDirectory() as folder:
            model, copy = pathlib.Path(folder, "model"), pathlib.Path(folder, "copy")
            shutil.copytree(TRAINED, model)
            parts = json.loads((model / "tokenizer.json").read_text())["model"]
            (model / "tokenizer.json").unlink()
            (model / "vocab.json").write_text(json.dumps(parts["vocab"]))
            (model / "merges.txt").write_text("#version: 0.2\n" + "".join(" ".join(merge) + "\n" for merge in parts["merges"]))
            run("quantize", model, copy)  # carries the files along
            for place in (model, copy):
                self.assertEqual(text("tokenize", place, "--special", "Hi <|im_end|>"), text("tokenize", TRAINED, "--special", "Hi <|im_end|>"))

    def test_tokenizer_alone(self):
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(TRAINED / "tokenizer.json", folder)
            for place in (folder, pathlib.Path(folder, "tokenizer.json")):
                self.assertEqual(text("tokenize", place, "Hello"), text("tokenize", TRAINED, "Hello"))

    def test_forms_of_ids(self):
        numbers = value("tokenize", TRAINED, "--json", "Hello, world")["ids"]
        self.assertEqual(text("detokenize", TRAINED, *numbers), "Hello, world")
        self.assertEqual(text("detokenize", TRAINED, "--ids", ids(numbers)), "Hello, world")
        self.assertEqual(value("detokenize", TRAINED, ids(numbers), "--json"), {"text": "Hello, world"})
        for form in (ids(numbers), json.dumps(numbers), json.dumps({"ids": numbers})):
            self.assertEqual(text("detokenize", TRAINED, stdin=form.encode()), "Hello, world")
        for wrong in ("1,x", "1.5", "-1", "99999999999"):
            error("detokenize", TRAINED, stdin=wrong.encode(), code=2)
        for wrong in ('["a"]', "[1.5]", "[-1]", '{"a":[1]}', "[1"):
            error("detokenize", TRAINED, stdin=wrong.encode())


def error_after_output(*parts, stdin):
    return run(*parts, stdin=stdin, code=1)[1].decode()


if __name__ == "__main__":
    main()
