"""finermoe logits, route, stats, perplexity against the expected outputs."""

import json
import math
import pathlib
import tempfile
import unittest
import xml.dom.minidom

from support import DENSE, SHAPES, TRAINED, error, expected, ids, main, numpy, run, value

np = numpy()


class Logits(unittest.TestCase):
    def test_expected(self):
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder, "logits.npy")
            for model in [TRAINED, DENSE, *sorted(SHAPES.iterdir())]:
                prompts = expected(model)["prompts"]
                golden = np.load(model / "expected_logits.npz")
                for k in {0, len(prompts) - 1}:
                    run("logits", model, "--ids", ids(prompts[k]["ids"]), "--out", out)
                    found = np.load(out)
                    self.assertEqual((found.dtype, found.shape), (np.float32, golden[f"logits_{k}"].shape))
                    self.assertLessEqual(np.abs(found - golden[f"logits_{k}"]).max(), 2e-4, model.name)

    def test_long_input_and_forms_of_ids(self):
        held = np.load(TRAINED / "heldout-ids.npy")[0]
        with tempfile.TemporaryDirectory() as folder:
            out, file = pathlib.Path(folder, "logits.npy"), pathlib.Path(folder, "ids.npy")
            run("logits", TRAINED, "--ids", ids(held), "--out", out)
            whole = np.load(out)
            self.assertEqual(whole.shape, (len(held), 4096))
            for dtype in ("u2", "i2", "i4", "u4", "i8", "u8"):
                np.save(file, held.astype(dtype))
                run("logits", TRAINED, "--ids-file", file, "--out", out)
                self.assertTrue((np.load(out) == whole).all(), dtype)
            np.save(file, held[None])
            run("logits", TRAINED, "--ids-file", file, "--out", out)
            self.assertTrue((np.load(out) == whole).all())

    def test_nothing_is_left_of_a_failure(self):
        with tempfile.TemporaryDirectory() as folder:
            error("logits", TRAINED, "--ids", "1,5000", "--out", pathlib.Path(folder, "logits.npy"))
            self.assertEqual(list(pathlib.Path(folder).iterdir()), [])
            error("logits", TRAINED, "--ids", "1", "--out", pathlib.Path(folder, "no-such-folder", "logits.npy"))

    def test_broken_arrays(self):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, "ids.npy")

            def refused(content, word):
                file.write_bytes(content)
                self.assertIn(word, error("perplexity", TRAINED, "--ids-file", file))

            np.save(file, np.arange(8, dtype="i4"))
            good = file.read_bytes()
            refused(good[:-1], "expected")
            refused(good[:20], "truncated")
            refused(good[:8] + b"\xff\xff" + good[10:], "truncated")
            refused(good.replace(b"(8,)", b"(99999999999999999999,)", 1), "dimension")
            refused(good.replace(b"<i4", b"<f4"), "integers")
            refused(good.replace(b"<i4", b">i4"), "endian")
            np.save(file, np.array([[1, 2], [3, 4]], order="F"))
            self.assertIn("Fortran", error("perplexity", TRAINED, "--ids-file", file))
            np.save(file, np.array([-1, 2]))
            self.assertIn("-1", error("perplexity", TRAINED, "--ids-file", file))
            np.save(file, np.zeros((2, 2, 2), int))
            self.assertIn("dimensions", error("perplexity", TRAINED, "--ids-file", file))
            np.save(file, np.zeros((0,), int))
            self.assertIn("at least two", error("perplexity", TRAINED, "--ids-file", file))


class Route(unittest.TestCase):
    def test_expected(self):
        for model in [TRAINED, *sorted(SHAPES.iterdir())]:
            prompt = expected(model)["prompts"][0]
            if not prompt["layers"]:
                continue
            config = json.loads((model / "config.json").read_text())
            moe_layers = [i for i in range(config["num_hidden_layers"])
                          if i not in config.get("mlp_only_layers", [])
                          and (i + 1) % config.get("decoder_sparse_step", 1) == 0]
            routed = value("route", model, "--ids", ids(prompt["ids"]))
            self.assertEqual([layer["layer"] for layer in routed["layers"]], moe_layers, model.name)
            for found, golden in zip(routed["layers"], prompt["layers"]):
                self.assertEqual(set(found), {"layer", "experts", "weights"})
                self.assertEqual(found["experts"], golden["experts"], model.name)
                self.assertLessEqual(np.abs(np.array(found["weights"]) - golden["weights"]).max(), 1e-5, model.name)

    def test_logits_and_groups(self):
        routed = value("route", TRAINED, "-p", "In the beginning", "--logits", "--groups")
        for layer in routed["layers"]:
            logits = np.array(layer["logits"], np.float32).reshape(-1, 4, 8)
            groups = np.array(layer["groups"])
            # G_O 2, R_O 2: of the two groups of each component the one with the larger sum wins.
            sums = logits.sum(axis=2, dtype=np.float64).reshape(-1, 2, 2)
            self.assertTrue((groups == sums.argmax(axis=2) + [0, 2]).all())
            best = logits.argmax(axis=2)
            chosen = np.take_along_axis(best, groups, 1) + 8 * groups
            self.assertTrue((chosen == layer["experts"]).all())


class Stats(unittest.TestCase):
    def test_counts_and_losses(self):
        held = np.load(TRAINED / "heldout-ids.npy")[:2]
        with tempfile.TemporaryDirectory() as folder:
            file, svg = pathlib.Path(folder, "ids.npy"), pathlib.Path(folder, "usage.svg")
            np.save(file, held)
            stats = value("stats", TRAINED, "--ids-file", file, "--svg", svg)
            routes = [value("route", TRAINED, "--ids", ids(row), "--logits")["layers"] for row in held]
            self.check_picture(svg.read_text(), stats)
            self.assertEqual(sorted(pathlib.Path(folder).iterdir()), [file, svg])
        self.assertEqual(stats["tokens"], held.size)
        for i, layer in enumerate(stats["layers"]):
            chosen = np.concatenate([np.array(route[i]["experts"]) for route in routes])
            usage = np.bincount(chosen.ravel(), minlength=32)
            self.assertEqual(layer["usage"], usage.tolist())
            logits = np.concatenate([np.array(route[i]["logits"]) for route in routes])
            scores = np.exp(logits - logits.max(axis=1, keepdims=True))
            scores /= scores.sum(axis=1, keepdims=True)
            loss = (usage * 32 / (2 * held.size) * scores.mean(axis=0)).sum()
            self.assertAlmostEqual(layer["balance_loss"], loss, places=5)
        for key in ("balance_loss", "similarity"):
            self.assertAlmostEqual(stats["mean"][key], np.mean([layer[key] for layer in stats["layers"]]))

    def check_picture(self, picture, stats):
        root = xml.dom.minidom.parseString(picture).documentElement
        labels = [node.firstChild.data for node in root.getElementsByTagName("text")]
        for label in ("layer", "expert", "0", "× even share"):
            self.assertIn(label, labels)
        self.assertIn("tiny-wordnet-finermoe", root.getElementsByTagName("title")[0].firstChild.data)
        cells = [rectangle for rectangle in root.getElementsByTagName("rect")
                 if rectangle.getElementsByTagName("title")]
        self.assertEqual(len(cells), sum(len(layer["usage"]) for layer in stats["layers"]))
        self.assertGreater(len({cell.getAttribute("fill") for cell in cells}), 10)

    def test_similarity(self):
        """The mean cosine of every pair of experts, computed here from the file."""
        data = (TRAINED / "model.safetensors").read_bytes()
        begin = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:begin])

        def values(name):  # BF16 is the upper half of a float32
            first, last = (begin + offset for offset in header[name]["data_offsets"])
            return (np.frombuffer(data[first:last], "<u2").astype("<u4") << 16).view("<f4").astype(np.float64)

        experts = [np.concatenate([values(f"model.layers.0.mlp.experts.{k}.{part}_proj.weight")
                                   for part in ("gate", "up", "down")]) for k in range(32)]
        unit = np.stack([expert / np.linalg.norm(expert) for expert in experts])
        mean = (np.sum(unit @ unit.T) - 32) / (32 * 31)
        self.assertAlmostEqual(value("stats", TRAINED, "-p", "x")["layers"][0]["similarity"], mean, places=6)


class Perplexity(unittest.TestCase):
    def test_expected(self):
        golden = expected(TRAINED)["perplexity"]
        found = value("perplexity", TRAINED, "--ids-file", TRAINED / "heldout-ids.npy")
        self.assertEqual(set(found), {"nll_per_token", "perplexity", "tokens"})
        self.assertEqual(found["tokens"], golden["tokens_scored"])
        self.assertAlmostEqual(found["nll_per_token"], golden["nll_per_token_float32"], delta=1e-4)
        self.assertAlmostEqual(found["perplexity"], math.exp(found["nll_per_token"]), places=6)

    def test_windows(self):
        held = np.load(TRAINED / "heldout-ids.npy")[0]
        with tempfile.TemporaryDirectory() as folder:
            file, out = pathlib.Path(folder, "ids.npy"), pathlib.Path(folder, "logits.npy")

            def score(window):
                run("logits", TRAINED, "--ids", ids(window), "--out", out)
                logits = np.load(out).astype(np.float64)[:-1]
                logits -= logits.max(axis=1, keepdims=True)
                logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
                return -logs[np.arange(len(window) - 1), window[1:]].sum()

            np.save(file, held[:250])
            found = value("perplexity", TRAINED, "--ids-file", file, "--window", 100)
            self.assertEqual(found["tokens"], 99 + 99 + 49)
            total = score(held[:100]) + score(held[100:200]) + score(held[200:250])
            self.assertAlmostEqual(found["nll_per_token"], total / found["tokens"], places=6)

    def test_what_is_not_finite_is_an_error(self):
        with tempfile.TemporaryDirectory() as folder:
            for file in DENSE.iterdir():
                pathlib.Path(folder, file.name).write_bytes(file.read_bytes())
            weights = pathlib.Path(folder, "model.safetensors")
            data = bytearray(weights.read_bytes())
            begin = 8 + int.from_bytes(data[:8], "little")
            place = begin + json.loads(data[8:begin])["model.norm.weight"]["data_offsets"][0]
            data[place:place + 2] = b"\xc0\x7f"  # BF16: a NaN
            weights.write_bytes(data)
            self.assertIn("FINERMOE_ERROR_NOT_FINITE", error("perplexity", folder, "--ids", "1,2,3"))

    def test_text(self):
        content = "In the beginning God created the heaven and the earth.\n"
        from_text = value("perplexity", TRAINED, stdin=content.encode())
        numbers = value("tokenize", TRAINED, "--json", stdin=content.encode())["ids"]
        self.assertEqual(from_text, value("perplexity", TRAINED, "--ids", ids(numbers)))
        self.assertEqual(from_text["tokens"], len(numbers) - 1)
        self.assertIn("at least two", error("perplexity", TRAINED, "--ids", "1"))


if __name__ == "__main__":
    main()
