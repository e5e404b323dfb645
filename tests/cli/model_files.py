"""Models in files as people have them: a head beside tied embeddings, files that cannot be used."""

import json
import pathlib
import shutil
import struct
import tempfile
import unittest

import support

TIED = support.SHAPES / "dense-tied"


def read_safetensors(path):
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8:8 + size]), data[8 + size:]


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def copy(self, source):
        return pathlib.Path(shutil.copytree(source, self.folder / source.name))


class TiedHead(Case):
    def setUp(self):
        super().setUp()
        self.model = self.copy(TIED)

    def store_head(self, data):
        """Puts a head into a file of its own, beside the weights."""
        header, _ = read_safetensors(self.model / "model.safetensors")
        shutil.move(self.model / "model.safetensors", self.model / "a.safetensors")
        text = json.dumps({"lm_head.weight": {"dtype": "BF16", "shape": [320, 64], "data_offsets": [0, len(data)]}})
        (self.model / "b.safetensors").write_bytes(struct.pack("<Q", len(text)) + text.encode() + data)
        names = {name: "a.safetensors" for name in header if name != "__metadata__"}
        names["lm_head.weight"] = "b.safetensors"
        (self.model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))

    def test_one_that_differs(self):
        _, head = read_safetensors(support.ROOT / "tests/data/stray-head/lm_head.safetensors")
        self.store_head(head)
        info = support.value("info", self.model, "--json")
        self.assertIs(info["unties_head"], True)
        self.assertIs(info["shape"]["tied_embeddings"], False)
        self.assertIn("lm_head.weight differs", support.text("info", self.model))
        lines, note = support.run("verify", self.model)
        self.assertIn(b"note: lm_head.weight differs", note)
        self.assertIn(b"b.safetensors", lines)
        self.assertIs(support.value("verify", self.model, "--json")["unties_head"], True)
        of_config = support.value("plan", "--config", self.model / "config.json", "--json")["weights"]
        of_model = support.value("plan", self.model, "--json")["weights"]
        self.assertEqual(of_model["embeddings"], 2 * of_config["embeddings"])
        generated = support.value("generate", self.model, "--ids", "5,6,7", "-n", "1", "--json", "--ignore-eos")
        self.assertEqual(generated["ids"], [125])  # what transformers finds likeliest

    def test_one_that_is_equal(self):
        header, data = read_safetensors(self.model / "model.safetensors")
        begin, end = header["model.embed_tokens.weight"]["data_offsets"]
        self.store_head(data[begin:end])
        info = support.value("info", self.model, "--json")
        self.assertIs(info["unties_head"], False)
        self.assertIs(info["shape"]["tied_embeddings"], True)
        self.assertEqual(support.run("verify", self.model)[1], b"")


class OptionalFiles(Case):
    def test_generation_config_that_makes_no_sense(self):
        model = self.copy(support.DENSE)
        (model / "generation_config.json").write_text('{"top_p": 1.1}')
        prompt = ["--ids", "5,6,7", "-n", "2"]
        message = support.error("generate", model, *prompt)
        self.assertIn("generation_config.json", message)
        self.assertIn("top_p", message)
        self.assertIn("1.1", message)
        support.run("generate", model, *prompt, "--no-generation-config")
        self.assertIn("top_p", support.value("info", model, "--json")["generation"]["error"])
        self.assertIn("top_p", support.text("info", model))
        support.run("quantize", model, self.folder / "q8")

    def test_no_generation_config(self):
        """Greedy, and the tokenizer's end of text still ends it."""
        model = self.copy(support.DENSE)
        (model / "generation_config.json").write_text(
            '{"do_sample": true, "temperature": 100, "eos_token_id": -1, "max_new_tokens": 3}')
        prompt = ["--chat", "-p", support.LIGHTHOUSE, "--json"]
        plain = support.value("generate", support.DENSE, *prompt)
        without = support.value("generate", model, *prompt, "--no-generation-config")
        self.assertEqual(without["finish_reason"], "stop_token")
        self.assertEqual(without["ids"], plain["ids"])

    def test_tokenizer_that_cannot_be_used(self):
        model = self.copy(support.DENSE)
        (model / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
        out, message = support.run("generate", model, "--ids", "5,6,7", "-n", "2")
        self.assertRegex(out, rb"^\d+,\d+\n$")
        self.assertIn(b"git lfs pull", message)
        self.assertIn("git lfs pull", support.error("generate", model, "-p", "a word"))
        self.assertIn("git lfs pull", support.value("info", model, "--json")["tokenizer"]["error"])
        self.assertIn("git lfs pull", support.text("info", model))
        support.run("plan", model)


if __name__ == "__main__":
    support.main()
