"""finermoe score against the expected logits, and with token ids as lm-evaluation-harness makes them."""

import json
import math
import pathlib
import random
import re
import signal
import subprocess
import tempfile
import time
import unittest

from support import DENSE, SHAPES, TRAINED, arguments, error, expected, main, numpy, run, value

np = numpy()
BOS = 4064


def lines(requests):
    return "\n".join(map(json.dumps, requests)).encode()


def score(model, requests, *flags):
    """The results, and what was said on standard error."""
    out, message = run("score", model, *flags, stdin=lines(requests))
    return [json.loads(line) for line in out.decode().splitlines()], message.decode()


def of_ids(context, continuation):
    return {"context_ids": [int(i) for i in context], "continuation_ids": [int(i) for i in continuation]}


def counts(message):
    """Requests, and tokens computed and shared, from --stats."""
    return tuple(map(int, re.search(r"requests: (\d+); tokens: (\d+) computed, (\d+) shared", message).groups()))


class Scores(unittest.TestCase):
    def test_expected(self):
        for model in (TRAINED, DENSE, SHAPES / "c32a2", SHAPES / "dense-tied"):
            golden = np.load(model / "expected_logits.npz")
            requests, wanted = [], []
            for k, prompt in enumerate(expected(model)["prompts"]):
                numbers = prompt["ids"]
                if len(numbers) == 1:
                    continue
                logits = golden[f"logits_{k}"].astype(np.float64)[:-1]
                logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
                each = logs[np.arange(len(numbers) - 1), numbers[1:]]
                likeliest = logs.argmax(axis=1) == numbers[1:]
                for cut in range(1, len(numbers)):
                    requests.append(of_ids(numbers[:cut], numbers[cut:]))
                    wanted.append((each[cut - 1:], likeliest[cut - 1:].all(), numbers[cut:]))
                best = int(logs[-1].argmax())  # and one that is the likeliest
                requests.append(of_ids(numbers[:-1], [best]))
                wanted.append((logs[-1:, best], True, [best]))
            order = list(range(len(requests)))
            random.Random(5).shuffle(order)
            found, _ = score(model, [requests[i] for i in order], "--tokens")
            self.assertEqual(len(found), len(order))
            for i, result in zip(order, found):
                each, greedy, numbers = wanted[i]
                self.assertEqual((result["greedy"], result["tokens"], result["ids"]), (greedy, len(each), numbers))
                self.assertLessEqual(np.abs(np.array(result["logprobs"]) - each).max(), 3e-4, model.name)
                self.assertLessEqual(abs(result["logprob"] - sum(result["logprobs"])), 1e-6 * abs(result["logprob"]))

    def test_fields(self):
        found, message = score(TRAINED, [{"context": "A tower with a", "continuation": " light", "id": 7}])
        self.assertEqual(set(found[0]), {"logprob", "greedy", "tokens"})
        self.assertEqual((found[0]["greedy"], found[0]["tokens"], message), (True, 1, ""))

    def test_ids_of_texts(self):
        """As lm-evaluation-harness encodes a pair, with Hugging Face's tokenizer."""
        try:
            from tokenizers import Tokenizer
        except ImportError as missing:
            self.skipTest(str(missing))
        tokenizer = Tokenizer.from_file(str(TRAINED / "tokenizer.json"))

        def encode(text):
            return tokenizer.encode(text, add_special_tokens=False).ids

        def pair(context, continuation):
            n_spaces = len(context) - len(context.rstrip())
            if n_spaces > 0:
                continuation = context[-n_spaces:] + continuation
                context = context[:-n_spaces]
            if context == "":
                return [BOS], encode(continuation)
            return encode(context), encode(context + continuation)[len(encode(context)):]

        texts = [("A tower with a", " light"), ("A tower with a ", "light"), ("Question: what?\nAnswer:", " galaxy"),
                 ("Question: what?\nAnswer:\n\n", "galaxy"), ("light", "house"), ("ligh", "thouse"), ("naïve", " 日本"),
                 ("", "In the beginning"), ("", " In"), (" \t\n", "In"),
                 ("<|im_start|>user\nx<|im_end|>\n", "In<|im_end|>")]
        requests = [{"context": context, "continuation": continuation} for context, continuation in texts]
        by_text, _ = score(TRAINED, requests, "--tokens", "--special")
        by_ids, _ = score(TRAINED, [of_ids(*pair(*text)) for text in texts], "--tokens")
        self.assertEqual(by_text, by_ids)
        plain, _ = score(TRAINED, [requests[-1]], "--tokens")
        self.assertNotIn(4066, plain[0]["ids"])  # special tokens are text there

    def test_empty_context(self):
        found, _ = score(TRAINED, [{"context": "", "continuation": "A tower"}, of_ids([], [32, 3858, 261]),
                                   of_ids([BOS], [32, 3858, 261])], "--tokens")
        self.assertEqual(found[0], found[1])
        self.assertEqual(found[1], found[2])
        shape = SHAPES / "c32a2"  # without tokenizer: nothing stands for the empty context
        found, message = score(shape, [of_ids([], [3, 1, 2]), of_ids([3], [1, 2])], "--tokens")
        self.assertEqual((found[0]["tokens"], found[0]["logprobs"][0], found[0]["ids"]), (2, None, [3, 1, 2]))
        self.assertEqual((found[0]["logprob"], found[0]["greedy"]), (found[1]["logprob"], found[1]["greedy"]))
        self.assertEqual(message.count("\n"), 1)
        self.assertIn("no probability and is left out: 1;", message)
        self.assertIn("one token without a context", error("score", shape, stdin=lines([of_ids([], [3])])))

    def test_shared_beginnings(self):
        held = np.load(TRAINED / "heldout-ids.npy")[0]
        first, second, third = held[:50], np.concatenate([held[:30], [7], held[60:90]]), held[100:120]
        # Four continuations of each context; the first two have 30 ids in common.
        ends = ([5], [6, 7], [5, 8, 9], [10])
        requests = [of_ids(context, end) for end in ends for context in (first, second, third)]
        found, message = score(TRAINED, requests, "--tokens", "--stats")
        n_all = 4 * (50 + 61 + 20) + 3 * (1 + 2 + 3 + 1)
        n_computed = (50 + 61 + 20) - 30 + 3 * (1 + 2 + 3 + 1)
        self.assertEqual(counts(message), (12, n_computed, n_all - n_computed))
        for request, result in zip(requests, found):
            alone, message = score(TRAINED, [request], "--tokens", "--stats")
            self.assertEqual(counts(message)[1:], (len(request["context_ids"]) + len(request["continuation_ids"]), 0))
            self.assertEqual(alone[0]["ids"], result["ids"])
            self.assertLessEqual(np.abs(np.array(alone[0]["logprobs"]) - result["logprobs"]).max(), 1e-4)

    def test_longer_than_the_context(self):
        held = np.load(TRAINED / "heldout-ids.npy")[0]
        requests = [of_ids(held[:40], held[40:44]), of_ids(held[:4], held[4:8]), of_ids(held[100:101], held[101:116])]
        found, message = score(TRAINED, requests, "--context", 16, "--tokens")
        self.assertIn("longer than the context, whose beginnings are left out: 1\n", message)
        cut, message = score(TRAINED, [of_ids(held[28:40], held[40:44]), *requests[1:]], "--context", 16, "--tokens")
        self.assertEqual((found, message), (cut, ""))
        self.assertIn("line 2: the continuation has 16 tokens",
                      error("score", TRAINED, "--context", 16, stdin=lines([requests[0], of_ids([1], held[:16])])))
        long = [of_ids(np.tile(held, 9)[:2100], held[:2])]  # longer than the model's positions
        self.assertIn("left out: 1", score(TRAINED, long)[1])

    def test_against_perplexity(self):
        held = np.load(TRAINED / "heldout-ids.npy")[0][:100]
        found, _ = score(TRAINED, [of_ids(held[:1], held[1:])])
        golden = value("perplexity", TRAINED, "--ids", ",".join(map(str, held)))
        self.assertAlmostEqual(-found[0]["logprob"] / 99, golden["nll_per_token"], places=6)
        self.assertTrue(math.isfinite(golden["perplexity"]))


class Files(unittest.TestCase):
    def test_file(self):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, "requests.jsonl")
            request = {"context": "A tower with a", "continuation": " light"}
            file.write_bytes(lines([request]) + b"\r\n\n\n" + lines([request]))
            out, _ = run("score", TRAINED, "--file", file)
            self.assertEqual(len(set(out.splitlines())), 1)
            self.assertEqual(out.count(b"\n"), 2)
            self.assertEqual(out, run("score", TRAINED, "--file", "-", stdin=file.read_bytes())[0])
            self.assertIn("cannot open", error("score", TRAINED, "--file", file.with_name("none")))
            self.assertIn("cannot read", error("score", TRAINED, "--file", folder))

    def test_lines_that_make_no_sense(self):
        good = b'{"context":"a","continuation":" b"}\n\n'
        for bad in (b"{", b"[]", b"3", b"{}", b'{"context":"a"}', b'{"continuation":"a"}',
                    b'{"context":1,"continuation":"a"}',
                    b'{"context":"a","continuation":""}', b'{"context":"","continuation":""}',
                    b'{"context":"a","continuation":"b"}', b'{"context":"a\xff","continuation":"b"}',
                    b'{"context_ids":[1]}', b'{"context_ids":[1],"continuation_ids":[]}',
                    b'{"context_ids":[1.5],"continuation_ids":[1]}', b'{"context_ids":[-1],"continuation_ids":[1]}',
                    b'{"context_ids":7,"continuation_ids":[1]}', b'{"context_ids":[1],"continuation":"a"}'):
            self.assertIn("line 3: ", error("score", TRAINED, stdin=good + bad + b"\n" + good), bad)
        self.assertIn("no request", error("score", TRAINED))
        self.assertIn("FINERMOE_ERROR_TOKEN_OUT_OF_RANGE", error("score", TRAINED, stdin=lines([of_ids([1], [4096])])))
        self.assertIn("FINERMOE_ERROR_NO_TOKENIZER", error("score", SHAPES / "c32a2", stdin=good))
        error("score", TRAINED, "--token", code=2)

    def test_interrupt_while_it_reads(self):
        process = subprocess.Popen(arguments("score", TRAINED), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        process.stdin.write(lines([of_ids([1], [2])]) + b"\n")
        process.stdin.flush()
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        process.wait(60)
        self.assertEqual((process.communicate(), process.returncode), ((b"", b"finermoe: cancelled\n"), 130))


if __name__ == "__main__":
    main()
