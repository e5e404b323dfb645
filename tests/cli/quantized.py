"""finermoe quantize, and what every command makes of a quantised model: types, sizes, perplexity, definitions."""

import json
import os
import pathlib
import struct
import tempfile
import unittest

from support import DENSE, LIGHTHOUSE, TRAINED, error, expected, main, run, text, value

FOLDER = tempfile.TemporaryDirectory()
MODELS = {}  # (source, type) to the quantised copy, made once


def quantized(source, dtype):
    if (source, dtype) not in MODELS:
        out = MODELS[source, dtype] = pathlib.Path(FOLDER.name, f"{source.name}-{dtype}")
        printed, summary = run("quantize", source, out, "--dtype", dtype)
        assert printed == b"" and summary.startswith(b"wrote "), summary
    return MODELS[source, dtype]


def tensors(model):
    """{name: (dtype, shape, bytes)}"""
    with open(model / "model.safetensors", "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    return {name: (entry["dtype"], entry["shape"], entry["data_offsets"][1] - entry["data_offsets"][0])
            for name, entry in header.items() if name != "__metadata__"}


class Quantize(unittest.TestCase):
    def test_info_and_plan_know_the_types(self):
        for source in (DENSE, TRAINED):
            for dtype in ("q8", "q4"):
                model = quantized(source, dtype)
                info = value("info", model, "--json")
                self.assertEqual(info["dtype"], dtype)
                self.assertEqual(info["parameters_total"], value("info", source, "--json")["parameters_total"])
                plan = value("plan", model, "--json")
                self.assertEqual(plan["weights"], info["bytes"]["weights"])
                self.assertEqual(plan["weights"]["total"], sum(size for _, _, size in tensors(model).values()))
                self.assertEqual(plan["weights"], value("plan", "--config", model / "config.json", "--json")["weights"])
                self.assertLess(plan["bytes_per_token"], value("plan", source, "--json")["bytes_per_token"])

    def test_overrides(self):
        out = pathlib.Path(FOLDER.name, "overridden")
        run("quantize", TRAINED, out, "--dtype", "q4", "--override", "*.experts.*=q8", "--override",
            "*.experts.1?.*=source", "--override", "lm_head.weight=q4")
        found = tensors(out)

        def last(name):
            return found[name][1][-1] if found[name][0] == "U8" else found[name][0]

        self.assertEqual(last("model.layers.0.mlp.experts.1.up_proj.weight"), 544)
        self.assertEqual(last("model.layers.0.mlp.experts.11.up_proj.weight"), "BF16")
        self.assertEqual(last("model.layers.0.mlp.shared_expert.up_proj.weight"), 288)
        self.assertEqual(last("model.embed_tokens.weight"), 544)
        self.assertEqual(last("lm_head.weight"), 288)
        plan = value("plan", out, "--json")
        self.assertEqual(plan["weights"]["total"], sum(size for _, _, size in found.values()))
        self.assertEqual(len(value("generate", out, "-p", "x", "-n", 3, "--ignore-eos", "--json")["ids"]), 3)

    def test_refusals(self):
        out = pathlib.Path(FOLDER.name, "refused")
        for bad in ("q8", "*=q5", "*=", "=", "*=bf16"):
            self.assertIn("PATTERN=", error("quantize", TRAINED, out, "--override", bad, code=2))
        self.assertIn("--dtype", error("quantize", TRAINED, out, "--dtype", "q6", code=2))
        self.assertIn("\"*.nothing\"", error("quantize", TRAINED, out, "--override", "*.nothing=q8"))
        self.assertIn("\"*.mlp.gate.*\"", error("quantize", TRAINED, out, "--override", "*.mlp.gate.*=q8"))
        model = quantized(DENSE, "q8")
        self.assertIn("FINERMOE_ERROR_FILE_EXISTS", error("quantize", DENSE, model))
        for command in ("quantize", "upcycle"):
            self.assertIn("quantised already", error(command, model, out))
        self.assertFalse(os.path.exists(out))

    def test_every_command_takes_it(self):
        model = quantized(TRAINED, "q4")
        self.assertTrue(value("verify", model, "--json")["ok"])
        plain = value("stats", TRAINED, "-p", "In the beginning")["mean"]["similarity"]
        self.assertAlmostEqual(value("stats", model, "-p", "In the beginning")["mean"]["similarity"], plain, delta=2e-3)
        self.assertEqual(len(value("route", model, "-p", "In the beginning")["layers"]), 4)
        single = pathlib.Path(FOLDER.name, "one.safetensors")
        run("quantize", TRAINED, single, "--dtype", "q4")
        self.assertEqual(text("generate", single, "--chat", "-p", LIGHTHOUSE),
                         text("generate", model, "--chat", "-p", LIGHTHOUSE))
        self.assertIn("q4", text("info", model))


class Quality(unittest.TestCase):
    """The bounds that docs/quantisation.md gives, which were measured with a margin."""

    def test_perplexity(self):
        for source in (DENSE, TRAINED):
            def perplexity(model, *flags):
                return value("perplexity", model, "--ids-file", source / "heldout-ids.npy", *flags)["perplexity"]

            plain = perplexity(source)
            self.assertAlmostEqual(plain, expected(source)["perplexity"]["perplexity_float32"], delta=1e-3 * plain)
            for dtype, most in (("q8", 1.002), ("q4", 1.03)):
                for precision in ("exact", "fast"):
                    self.assertLess(perplexity(quantized(source, dtype), "--precision", precision) / plain, most,
                                    f"{source.name} {dtype} {precision}")

    def test_definitions(self):
        words = json.loads((TRAINED / "words.json").read_text())[::26]
        lines = "".join(f'Define the {part} "{word}".\n/reset\n' for word, part, _ in words)
        wanted = [definition for _, _, definition in words]

        def recalled(model):
            answers = text("chat", model, "--temp", 0, "--precision", "exact", stdin=lines.encode()).splitlines()
            self.assertEqual(len(answers), len(wanted))
            return sum(answer == definition for answer, definition in zip(answers, wanted))

        plain = recalled(TRAINED)
        self.assertGreaterEqual(plain, 97)
        self.assertGreaterEqual(recalled(quantized(TRAINED, "q8")), plain - 1)
        self.assertGreaterEqual(recalled(quantized(TRAINED, "q4")), 0.95 * plain)


if __name__ == "__main__":
    try:
        main()
    finally:
        FOLDER.cleanup()
