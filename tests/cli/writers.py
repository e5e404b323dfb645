"""finermoe upcycle, synthesize, verify, plan, bench."""

import hashlib
import json
import os
import pathlib
import pty
import signal
import subprocess
import tempfile
import time
import unittest

from support import DENSE, LIGHTHOUSE, SHAPES, TRAINED, arguments, error, main, run, text, value


def content(folder):
    return {file.name: file.read_bytes() for file in pathlib.Path(folder).iterdir()}


def large_config(folder):
    """A configuration of about 250 MB, so that there is time to interrupt its writer."""
    config = json.loads((DENSE / "config.json").read_text())
    config.update(hidden_size=1024, intermediate_size=4096, num_hidden_layers=8, num_attention_heads=16,
                  num_key_value_heads=4)
    file = pathlib.Path(folder, "config.json")
    file.write_text(json.dumps(config))
    return file


class Upcycle(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def test_result_runs(self):
        out = self.folder / "out"
        printed, summary = run("upcycle", DENSE, out, "--g-i", 8)
        self.assertEqual(printed, b"")
        self.assertIn(b"32 experts of which 2 active", summary)
        self.assertNotIn(b"\r", summary)  # no progress bar without a terminal
        shape = value("info", out, "--json")["shape"]
        self.assertEqual((shape["G_I"], shape["R_I"], shape["G_O"], shape["R_O"]), (8, 1, 2, 2))
        self.assertEqual(len(value("generate", out, "--chat", "-p", LIGHTHOUSE, "-n", 4, "--ignore-eos",
                                   "--json")["ids"]), 4)
        again = self.folder / "again"
        run("upcycle", DENSE, again, "--g-i", 8)
        self.assertEqual(content(out), content(again))
        run("upcycle", DENSE, again, "--g-i", 8, "--seed", 1, "--force")
        self.assertNotEqual(content(out), content(again))

    def test_flags(self):
        def shape(*flags):
            run("upcycle", DENSE, self.folder / "out", "--force", *flags)
            return value("info", self.folder / "out", "--json")["shape"]

        free = shape("--g-i", 4, "--r-i", 2, "--g-o", 4, "--r-o", 2, "--t-i", 2)
        self.assertEqual((free["experts"], free["experts_per_token"]), (64, 8))
        presets = {"c32a2": 32, "s16a4": 16, "drop-upcycling": 8, "nvshard": 64, "no-fg": 2, "out-fg": 4}
        for preset, experts in presets.items():
            self.assertEqual(shape("--preset", preset)["experts"], experts, preset)
        self.assertEqual(shape("--preset", "inter-fg", "--g-i", 8)["experts"], 16)
        self.assertEqual(shape("--g-i", 8, "--shared", "none")["shared_expert_width"], 0)
        self.assertGreater(shape("--g-i", 8, "--shared", "copy")["shared_expert_width"], 0)
        self.assertEqual([shape("--g-i", 8, "--concat-proj", how)["concat_proj"] for how in ("none", "zero", "normal")],
                         [False, True, True])
        self.assertEqual([shape("--g-i", 8, "--router", how)["separate_router"] for how in ("single", "separate")],
                         [False, True])

        def weights(*flags):
            shape(*flags)
            return (self.folder / "out/model.safetensors").read_bytes()

        plain = weights("--g-i", 8)
        self.assertNotEqual(plain, weights("--g-i", 8, "--down-scale", 3))
        self.assertNotEqual(plain, weights("--g-i", 8, "--drop-ratio", 0.5))
        plain = weights("--preset", "nvshard")
        self.assertNotEqual(plain, weights("--preset", "nvshard", "--router-init", "virtual-group"))
        shape("--g-i", 8, "--shard-size", "4MB")
        shards = list((self.folder / "out").glob("*.safetensors"))
        self.assertGreater(len(shards), 2)
        self.assertLess(max(shard.stat().st_size for shard in shards), 4.1e6)

    def test_refusals(self):
        out = self.folder / "out"
        self.assertIn("FINERMOE_ERROR_CONFIG_INCONSISTENT", error("upcycle", DENSE, out, "--g-i", 7))
        self.assertEqual(list(self.folder.iterdir()), [])
        out.mkdir()
        (out / "mine").write_text("keep")
        self.assertIn("FINERMOE_ERROR_FILE_EXISTS", error("upcycle", DENSE, out, "--g-i", 8))
        self.assertEqual(content(out), {"mine": b"keep"})
        error("upcycle", DENSE, out, "--preset", "c33", code=2)
        error("upcycle", "/nonexistent-model", self.folder / "other")

    def test_force_replaces_models_alone(self):
        out = self.folder / "out"

        def kept(why, to=out):
            before = content(to) if to.is_dir() else to.read_bytes()
            message = error("upcycle", DENSE, to, "--g-i", 8, "--force")
            self.assertIn("FINERMOE_ERROR_FILE_EXISTS", message)
            self.assertIn(why, message)
            self.assertEqual(content(to) if to.is_dir() else to.read_bytes(), before)

        out.mkdir()
        run("upcycle", DENSE, out, "--g-i", 8, "--force")  # an empty directory
        run("upcycle", DENSE, out, "--g-i", 8, "--force")  # what the writer made
        for name in ("notes.txt", "README.md", ".gitattributes", "training.log", "a.json"):
            (out / name).write_text("mine")
            kept(name)
            (out / name).unlink()
        (out / ".git").mkdir()
        message = error("upcycle", DENSE, out, "--g-i", 8, "--force")
        self.assertIn(".git", message)
        (out / ".git").rmdir()
        for name in ("LICENSE", "chat_template.jinja", "vocab.json"):
            (out / name).write_text("of a model")
        run("quantize", DENSE, out, "--force")
        (out / "config.json").unlink()
        kept("config.json")
        texts = self.folder / "texts"
        texts.mkdir()
        for name in ("a.txt", "b.txt"):
            (texts / name).write_text("mine")
        kept("a.txt", texts)
        kept("it is a file", texts / "a.txt")
        single = self.folder / "one.safetensors"
        run("upcycle", DENSE, single, "--g-i", 8)
        run("upcycle", DENSE, single, "--g-i", 8, "--force")
        (self.folder / "two.safetensors").mkdir()
        self.assertIn("FINERMOE_ERROR_FILE_EXISTS",
                      error("upcycle", DENSE, self.folder / "two.safetensors", "--g-i", 8, "--force"))

    def interrupted(self, *parts, leaves):
        """Sends SIGINT as soon as the writer has begun a file, and sees what is left."""
        process = subprocess.Popen(arguments(*parts), stderr=subprocess.PIPE)
        before = set(leaves)
        while process.poll() is None and set(os.listdir(self.folder)) <= before:
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=120)
        self.assertEqual((process.returncode, message), (130, b"finermoe: cancelled\n"))
        self.assertEqual(set(os.listdir(self.folder)), before)

    def test_interrupt_leaves_nothing(self):
        large_config(self.folder)
        self.interrupted("synthesize", self.folder / "config.json", self.folder / "out", leaves={"config.json"})
        run("synthesize", self.folder / "config.json", self.folder / "dense")
        self.interrupted("upcycle", self.folder / "dense", self.folder / "out", leaves={"config.json", "dense"})
        run("upcycle", self.folder / "dense", self.folder / "out")  # a second run succeeds
        run("info", self.folder / "out")

    def test_progress_on_a_terminal(self):
        large_config(self.folder)
        ours, theirs = pty.openpty()
        process = subprocess.Popen(arguments("synthesize", self.folder / "config.json", self.folder / "out"),
                                   stderr=theirs, stdout=subprocess.PIPE)
        os.close(theirs)
        seen = b""
        while True:
            try:
                seen += os.read(ours, 4096)
            except OSError:  # the terminal's end
                break
        os.close(ours)
        self.assertEqual(process.communicate()[0], b"")
        self.assertEqual(process.returncode, 0)
        self.assertRegex(seen.decode(), r"\[#*-*\] \d+ %  .* of .*B  .*/s  \d+:\d\d left")


class Synthesize(unittest.TestCase):
    def test_every_shape(self):
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder, "out")
            for model in sorted(SHAPES.iterdir()):
                run("synthesize", model / "config.json", out, "--force")
                info = value("info", out, "--json")
                self.assertEqual(info["parameters_total"], value("info", model, "--json")["parameters_total"])
                text("generate", out, "--ids", "1,2,3", "-n", 2)
            for dtype in ("f32", "f16", "bf16"):
                run("synthesize", TRAINED, out, "--force", "--dtype", dtype, "--seed", 3)
                self.assertEqual(value("info", out, "--json")["dtype"], dtype)
            self.assertIn("FINERMOE_ERROR_FILE_EXISTS", error("synthesize", TRAINED, out))
            single = pathlib.Path(folder, "one.safetensors")
            run("synthesize", TRAINED, single)
            text("generate", single, "-p", "x", "-n", 1)


class Verify(unittest.TestCase):
    def test_sums(self):
        lines = text("verify", TRAINED).splitlines()
        sums = {name: digits for digits, name in (line.split("  ") for line in lines)}
        self.assertEqual(sums["model.safetensors"],
                         hashlib.sha256((TRAINED / "model.safetensors").read_bytes()).hexdigest())
        report = value("verify", TRAINED, "--json")
        self.assertTrue(report["ok"])
        self.assertEqual({file["name"]: file["sha256"] for file in report["files"]}, sums)
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, "SHA256SUMS")
            file.write_text("\n".join(lines) + "\n")
            run("verify", TRAINED, "--sha256sums", file)
            self.assertTrue(all(f["sha256_matches"] for f in
                                value("verify", TRAINED, "--sha256sums", file, "--json")["files"]))
            file.write_text("\n".join(lines).replace(sums["config.json"], "0" * 64) + "\n" + "1" * 64 + " *absent\n")
            _, message = run("verify", TRAINED, "--sha256sums", file, code=3)
            self.assertIn(b"config.json: expected SHA-256 0000", message)
            self.assertIn(b"absent", message)
            file.write_text("not a list of sums\n")
            error("verify", TRAINED, "--sha256sums", file)

    def test_bad_values(self):
        with tempfile.TemporaryDirectory() as folder:
            for name, data in content(TRAINED).items():
                pathlib.Path(folder, name).write_bytes(data)
            file = pathlib.Path(folder, "model.safetensors")
            data = bytearray(file.read_bytes())
            begin = 8 + int.from_bytes(data[:8], "little")
            header = json.loads(data[8:begin])
            name = "model.layers.1.mlp.gate.weight"
            place = begin + header[name]["data_offsets"][0]
            data[place:place + 4] = b"\xc0\x7f\x80\x7f"  # BF16: a NaN and an infinity
            file.write_bytes(data)
            out, message = run("verify", folder, "--json", code=3)
            report = json.loads(out)
            self.assertFalse(report["ok"])
            bad = next(f for f in report["files"] if f["name"] == "model.safetensors")
            self.assertEqual((bad["nan"], bad["infinite"], bad["first_bad"]), (1, 1, name))
            self.assertIn(name.encode(), message)
            file.write_bytes(data[:-1])
            self.assertIn("FINERMOE_ERROR_DATA_TRUNCATED", error("verify", folder))


class Plan(unittest.TestCase):
    def test_figures(self):
        config = TRAINED / "config.json"
        one, other = value("plan", TRAINED, "--json"), value("plan", "--config", config, "--json")
        for plan in one, other:
            self.assertGreater(plan.pop("memory_available"), 0)  # changes from one moment to the next
        self.assertEqual(one, other)
        self.assertEqual(one["weights"], value("info", TRAINED, "--json")["bytes"]["weights"])
        self.assertEqual(one["allocated_total"], one["kv_cache"] + one["scratch"])
        # keys and values: 4 layers, 2 heads of 32, float32
        self.assertEqual(one["kv_cache"], 2 * 4 * 2 * 32 * 4 * 2048)
        many = value("plan", TRAINED, "--json", "--sessions", 3, "--context", 1024, "--kv-dtype", "f16")
        self.assertEqual(many["kv_cache"] * 4, one["kv_cache"] * 3)

    def test_limit(self):
        fits = value("plan", TRAINED, "--memory-limit", "24GB", "--json")
        self.assertEqual((fits["memory_limit"], fits["fits"]), (24 * 10**9, True))
        tight = value("plan", TRAINED, "--memory-limit", "1MiB", "--json", code=3)
        self.assertEqual((tight["memory_limit"], tight["fits"]), (2**20, False))
        self.assertIn("does not fit", text("plan", TRAINED, "--memory-limit", "1MB", code=3))
        self.assertIn("\nfits", text("plan", TRAINED, "--memory-limit", "1GB"))
        # What a plan says fits is not refused when it is done. A plan knows sessions alone: the headers of the files
        # and the row of logits of a generation come on top.
        with open(TRAINED / "model.safetensors", "rb") as file:
            header = int.from_bytes(file.read(8), "little")
        need = value("plan", TRAINED, "--json")["allocated_total"] + header + 4 * 4096
        text("generate", TRAINED, "-p", "x", "-n", 1, "--context", 2048, "--memory-limit", need)


class Bench(unittest.TestCase):
    def test_fields(self):
        figures = value("bench", TRAINED, "-p", 32, "-n", 8, "--runs", 2, "--threads", 1, "--json")
        self.assertEqual((figures["threads"], figures["runs"]), (1, 2))
        for part, tokens in (("prefill", 32), ("decode", 8)):
            seconds = sorted(figures[part]["seconds"])
            self.assertEqual(len(seconds), 2)
            self.assertAlmostEqual(figures[part]["tokens_per_second"], tokens / (sum(seconds) / 2), places=3)
        decode = figures["decode"]
        self.assertAlmostEqual(decode["gb_per_second"],
                               decode["tokens_per_second"] * decode["bytes_per_token"] / 1e9, places=6)
        self.assertGreaterEqual(figures["read_bytes"], 2**28)
        once = value("bench", TRAINED, "-p", 8, "-n", 8, "--runs", 1, "--threads", 1, "--json")
        for name in "read", "mapping":
            self.assertAlmostEqual(once["decode"]["share_of_" + name],
                                   once["decode"]["gb_per_second"] / once[name + "_gb_per_second"], places=6)
        for way in figures["read_way"], figures["mapping_way"]:
            self.assertIn(way["streams"], (1, 2, 4, 8))
            self.assertIn(way["bytes_ahead"], (0, 1024, 6144, 12288))
        self.assertIn("tokens/s", text("bench", TRAINED, "-p", 8, "-n", 2, "--runs", 1))


if __name__ == "__main__":
    main()
