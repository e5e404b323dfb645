"""finermoe embed against hidden states worked out from the expected logits: the output head's matrix, which is known,
maps one to the other, and has more rows than columns."""

import functools
import json
import pathlib
import tempfile
import unittest

from support import DENSE, SHAPES, TRAINED, error, expected, ids, main, numpy, run, value

np = numpy()


@functools.cache
def head_of(model):
    """The head's matrix [vocab, hidden], tied or not, of a BF16 file: each value is the upper half of a float32."""
    data = (model / "model.safetensors").read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    entry = header.get("lm_head.weight") or header["model.embed_tokens.weight"]
    assert entry["dtype"] == "BF16"
    first, last = (begin + offset for offset in entry["data_offsets"])
    values = (np.frombuffer(data[first:last], "<u2").astype("<u4") << 16).view("<f4")
    return values.reshape(entry["shape"]).astype(np.float64)


def hidden_states(model, logits):
    """[tokens, hidden]"""
    head = head_of(model)  # least squares, by the normal equations
    return np.linalg.solve(head.T @ head, head.T @ logits.T.astype(np.float64)).T


def embed(model, *parts, stdin=b""):
    out, message = run("embed", model, *parts, stdin=stdin)
    assert message == b"", message
    return [json.loads(line) for line in out.decode().splitlines()]


class Vectors(unittest.TestCase):
    def near(self, found, wanted):
        difference = np.abs(np.array(found) - wanted).max() / np.abs(wanted).max()
        self.assertLessEqual(difference, 2e-5)

    def test_expected(self):
        for model in (TRAINED, DENSE):
            golden = np.load(model / "expected_logits.npz")
            prompts = expected(model)["prompts"]
            stdin = "\n".join(json.dumps(prompt["ids"]) for prompt in prompts).encode()
            for pooling, pooled in (("last", lambda states: states[-1]), ("mean", lambda states: states.mean(axis=0))):
                found = embed(model, "--jsonl", "-", "--pooling", pooling, stdin=stdin)
                unit = embed(model, "--jsonl", "-", "--pooling", pooling, "--normalize", stdin=stdin)
                self.assertEqual(len(found), len(prompts))
                for k, prompt in enumerate(prompts):
                    wanted = pooled(hidden_states(model, golden[f"logits_{k}"]))
                    self.assertEqual(set(found[k]), {"embedding", "tokens"})
                    self.assertEqual(found[k]["tokens"], len(prompt["ids"]))
                    self.near(found[k]["embedding"], wanted)
                    self.near(unit[k]["embedding"], wanted / np.linalg.norm(wanted))
        self.assertEqual(embed(TRAINED, "--ids", "1,2"), embed(TRAINED, "--ids", "1,2", "--pooling", "last"))

    def test_long_text(self):
        """Longer than what is computed at a time."""
        held = np.load(TRAINED / "heldout-ids.npy").ravel()[:700]
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder, "logits.npy")
            run("logits", TRAINED, "--ids", ids(held), "--out", out)
            wanted = hidden_states(TRAINED, np.load(out))
        self.near(embed(TRAINED, "--ids", ids(held), "--pooling", "mean")[0]["embedding"], wanted.mean(axis=0))
        self.near(embed(TRAINED, "--ids", ids(held))[0]["embedding"], wanted[-1])

    def test_forms_of_input(self):
        texts = ["A tower with a light", "naïve 日本", "x"]
        numbers = [value("tokenize", TRAINED, "--json", text)["ids"] for text in texts]
        wanted = [embed(TRAINED, "--ids", ids(row))[0] for row in numbers]
        self.assertEqual(embed(TRAINED, "-p", texts[0]), wanted[:1])
        self.assertEqual(embed(TRAINED, stdin=texts[1].encode()), wanted[1:2])
        with tempfile.TemporaryDirectory() as folder:
            file, out = pathlib.Path(folder, "texts"), pathlib.Path(folder, "vectors.npy")
            file.write_text("\n".join(texts))
            self.assertEqual(embed(TRAINED, "--lines", file), wanted)
            self.assertEqual(run("embed", TRAINED, "--lines", file, "--out", out), (b"", b""))
            found = np.load(out)
            self.assertEqual((found.dtype, found.shape), (np.float32, (3, 192)))
            self.assertEqual(found.tolist(), np.array([row["embedding"] for row in wanted], np.float32).tolist())
            self.assertEqual(run("embed", TRAINED, "--lines", file, "--out", "-")[0], out.read_bytes())
            file.write_text("\n\n".join(map(json.dumps, [texts[0], numbers[1], {"ids": numbers[2]}])))
            self.assertEqual(embed(TRAINED, "--jsonl", file), wanted)
            rows = np.array([numbers[0][:3], numbers[0][1:4]])
            np.save(file.with_suffix(".npy"), rows)
            self.assertEqual(embed(TRAINED, "--ids-file", file.with_suffix(".npy")),
                             [embed(TRAINED, "--ids", ids(row))[0] for row in rows])
        self.assertEqual(len(embed(SHAPES / "c32a2", "--ids", "1,2,3")), 1)  # without tokenizer
        self.assertEqual(len(embed(SHAPES / "dense-tied", "--ids", "1,2,3", "--pooling", "mean")), 1)

    def test_errors(self):
        self.assertIn("text 1: no token", error("embed", TRAINED))
        self.assertIn("text 1: no token", error("embed", TRAINED, "-p", ""))
        self.assertIn("no text to embed", error("embed", TRAINED, "--lines", "-"))
        self.assertIn("line 2: no token", error("embed", TRAINED, "--lines", "-", stdin=b"a\n\nb\n"))
        self.assertIn("line 3: no token", error("embed", TRAINED, "--jsonl", "-", stdin=b'"a"\n\n""\n'))
        for bad in (b"{", b"3", b"{}", b'{"text":"a"}', b'[1,"a"]', b'[[1]]', b'{"ids":3}'):
            self.assertIn("line 2: ", error("embed", TRAINED, "--jsonl", "-", stdin=b'"a"\n' + bad))
        self.assertIn("line 2: 3 tokens do not fit into the context of 2",
                      error("embed", TRAINED, "--jsonl", "-", "--context", 2, stdin=b"[1,2]\n[1,2,3]\n"))
        self.assertIn("do not fit into the context of 2048", error("embed", TRAINED, "--ids", ids([1] * 2049)))
        self.assertIn("cannot open", error("embed", TRAINED, "--lines", "/nonexistent"))
        self.assertIn("FINERMOE_ERROR_NO_TOKENIZER", error("embed", SHAPES / "c32a2", "-p", "x"))
        self.assertIn("FINERMOE_ERROR_TOKEN_OUT_OF_RANGE", error("embed", TRAINED, "--ids", "4096"))
        error("embed", TRAINED, "--lines", "x", "--jsonl", "y", code=2)
        error("embed", TRAINED, "-p", "x", "--lines", "y", code=2)
        error("embed", TRAINED, "-p", "x", "--pooling", "max", code=2)
        with tempfile.TemporaryDirectory() as folder:
            error("embed", TRAINED, "--ids", "4096", "--out", pathlib.Path(folder, "out.npy"))
            self.assertEqual(list(pathlib.Path(folder).iterdir()), [])


if __name__ == "__main__":
    main()
