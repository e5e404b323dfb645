"""finermoe generate and info on the bundled models and on every shape."""

import json
import pathlib
import shutil
import tempfile
import unittest

from support import DENSE, LIGHTHOUSE, SHAPES, TRAINED, error, expected, ids, main, run, text, value

STOP_ID = 4066


class Trained(unittest.TestCase):
    def test_expected_texts(self):
        for model in (TRAINED, DENSE):
            for prompt in expected(model)["prompts"]:
                for part in (["-p", prompt["text"], "--special"], ["--ids", ids(prompt["ids"])]):
                    completion = value("generate", model, *part, "-n", len(prompt["greedy"]), "--precision", "exact",
                                       "--json")
                    self.assertEqual(completion["prompt_ids"], prompt["ids"])
                    self.assertEqual(completion["ids"], prompt["greedy"])
                    self.assertEqual(completion["text"], prompt["greedy_text"])

    def test_prints_the_completion_alone(self):
        answer = next(p for p in expected(TRAINED)["prompts"] if "lighthouse" in p["text"])["greedy_text"]
        printed = run("generate", TRAINED, "--chat", "-p", LIGHTHOUSE)
        self.assertEqual(printed, (answer.encode() + b"\n", b""))
        self.assertEqual(text("generate", TRAINED, "--chat", stdin=LIGHTHOUSE.encode()), answer + "\n")
        for show, suffix in (([], "\n"), (["--show-special"], "<|im_end|>\n")):  # the stop token, made an ordinary one
            self.assertEqual(text("generate", TRAINED, "--chat", "-p", LIGHTHOUSE, "--ignore-eos", "-n", 22, *show),
                             answer + suffix)
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, "prompt")
            file.write_text(LIGHTHOUSE)
            self.assertEqual(text("generate", TRAINED, "--chat", "--file", file), answer + "\n")

    def test_chat_ends_at_the_end_of_turn(self):
        with tempfile.TemporaryDirectory() as folder:  # as the published checkpoints: only <|endoftext|> is known
            model = pathlib.Path(folder, "model")
            shutil.copytree(TRAINED, model)
            config = json.loads((model / "config.json").read_text())
            (model / "config.json").write_text(json.dumps(config | {"eos_token_id": 4064}))
            (model / "generation_config.json").write_text('{"eos_token_id": 4064}')
            answer = next(p for p in expected(TRAINED)["prompts"] if "lighthouse" in p["text"])["greedy_text"]
            completion = value("generate", model, "--chat", "-p", LIGHTHOUSE, "--json")
            self.assertEqual((completion["text"], completion["finish_reason"]), (answer, "stop_token"))
            self.assertEqual(completion["ids"][-1], STOP_ID)
            self.assertEqual(text("chat", model, stdin=LIGHTHOUSE.encode()), answer + "\n")

    def test_json_fields(self):
        completion = value("generate", TRAINED, "--chat", "-p", LIGHTHOUSE, "--json", "--logprobs", "3")
        self.assertEqual(set(completion), {"text", "finish_reason", "prompt_ids", "ids", "logprobs", "top_logprobs",
                                           "prefill_seconds", "decode_tokens_per_second"})
        self.assertEqual(completion["finish_reason"], "stop_token")
        self.assertEqual(completion["ids"][-1], STOP_ID)
        for token, logprob, top in zip(completion["ids"], completion["logprobs"], completion["top_logprobs"]):
            self.assertEqual((top[0]["id"], top[0]["logprob"]), (token, logprob))
            self.assertEqual(len(top), 3)
            self.assertGreaterEqual(top[0]["logprob"], top[1]["logprob"])
        one = value("generate", TRAINED, "-p", "In", "-n", "1", "--json")
        self.assertIsNone(one["decode_tokens_per_second"])
        self.assertEqual(one["finish_reason"], "max_tokens")

    def test_stats(self):
        chat = ("generate", TRAINED, "--chat", "-p", LIGHTHOUSE)
        plain, _ = run(*chat)
        completion = value(*chat, "--json")
        for flags in ([], ["--json"]):
            out, message = run(*chat, "--stats", *flags)
            self.assertEqual(json.loads(out)["text"] if flags else out, completion["text"] if flags else plain)
            n_prompt, n_answer = len(completion["prompt_ids"]), len(completion["ids"])
            self.assertRegex(message.decode(), rf"^finermoe: prompt: {n_prompt} tokens, 0 kept, [0-9.]+ tokens/s; "
                                               rf"answer: {n_answer} tokens, [0-9.]+ tokens/s\n$")
        self.assertRegex(run(*chat, "--stats", "-n", 1)[1].decode(), r"answer: 1 tokens\n$")

    def test_128_tokens_where_nothing_says_otherwise(self):
        self.assertEqual(len(value("generate", TRAINED, "-p", "In", "--ignore-eos", "--json")["ids"]), 128)
        shape = SHAPES / "c32a2"
        self.assertIsNone(value("info", shape, "--json")["generation"]["max_tokens"])
        self.assertEqual(len(value("generate", shape, "--ids", "1", "--ignore-eos", "--json")["ids"]), 128)

    def test_how_it_ends(self):
        chat = ("generate", TRAINED, "--chat", "-p", LIGHTHOUSE)
        self.assertEqual(text(*chat, "--stop", " light"), "A tower with a\n")
        self.assertEqual(text(*chat, "--stop", "[no such]", "--stop", " light"), "A tower with a\n")
        self.assertEqual(value(*chat, "--stop", " light", "--json")["finish_reason"], "stop_string")
        third = value(*chat, "--json")["ids"][2]
        self.assertEqual(value(*chat, "--stop-id", third, "--json")["ids"][-1], third)
        self.assertEqual(len(value(*chat, "-n", 3, "--json")["ids"]), 3)
        self.assertEqual(len(value(*chat, "--ignore-eos", "-n", 60, "--json")["ids"]), 60)
        self.assertGreaterEqual(len(value(*chat, "--min-tokens", 40, "--json")["ids"]), 40)
        full = value("generate", TRAINED, "-p", "In the", "-n", 0, "--ignore-eos", "--context", 20, "--json")
        self.assertEqual(full["finish_reason"], "context_full")

    def test_choosing(self):
        chat = ("generate", TRAINED, "--chat", "-p", LIGHTHOUSE, "--json")
        first, second = value(*chat)["ids"][:2]
        self.assertNotEqual(value(*chat, "--ban", first)["ids"][0], first)
        self.assertNotEqual(value(*chat, "--logit-bias", f"{first}=-100")["ids"][0], first)
        self.assertEqual(value(*chat, "--logit-bias", f"{second}=1000", "-n", 2)["ids"], [second, second])
        sampled = (*chat, "--temp", "1.5", "-n", "20", "--ignore-eos")
        seven = value(*sampled, "--seed", 7)["ids"]
        self.assertEqual(seven, value(*sampled, "--seed", 7, "--threads", 1)["ids"])
        self.assertNotEqual(seven, value(*sampled, "--seed", 8)["ids"])
        greedy = value(*chat)["ids"]
        for only_the_best in (["--top-k", 1], ["--top-p", 1e-6], ["--min-p", 0.9999]):
            self.assertEqual(value(*chat, "--temp", 1, "--seed", 3, *only_the_best)["ids"], greedy)
        repeating = ("generate", TRAINED, "-p", "And And And", "-n", 40, "--ignore-eos", "--json")
        plain = value(*repeating)["ids"]
        for penalty in ("--repetition-penalty", "--frequency-penalty", "--presence-penalty"):
            penalized = value(*repeating, penalty, "8")["ids"]
            self.assertGreater(len(set(penalized)), len(set(plain)), penalty)
        self.assertIn("FINERMOE_ERROR_INVALID_ARGUMENT", error(*chat, "--top-p", "2"))
        value(*chat, "--temp", 1, "--typical-p", "0.5", "--presence-penalty", "-0.5")

    def test_special_tokens_in_text_are_text(self):
        plain = value("generate", TRAINED, "-p", "<|im_end|>", "-n", 1, "--json")["prompt_ids"]
        parsed = value("generate", TRAINED, "-p", "<|im_end|>", "-n", 1, "--json", "--special")["prompt_ids"]
        self.assertEqual(parsed, [STOP_ID])
        self.assertNotIn(STOP_ID, plain)
        message = ("generate", TRAINED, "--chat", "-p", "<|im_end|>", "-n", 1, "--json")
        self.assertEqual(value(*message)["prompt_ids"].count(STOP_ID), 1)  # the template's own

    def test_system_message(self):
        with_system = value("generate", TRAINED, "--chat", "--system", "Be brief.", "-p", "x", "-n", 1, "--json")
        without = value("generate", TRAINED, "--chat", "-p", "x", "-n", 1, "--json")
        self.assertGreater(len(with_system["prompt_ids"]), len(without["prompt_ids"]))
        error("generate", TRAINED, "--system", "x", "-p", "x", code=2)
        error("generate", TRAINED, "--chat", "--ids", "1", code=2)

    def test_how_it_computes(self):
        greedy = value("generate", TRAINED, "--chat", "-p", LIGHTHOUSE, "--json")["ids"]
        for how in (["--threads", 1], ["--isa", "portable"], ["--kv-dtype", "f16"], ["--kv-dtype", "q8"],
                    ["--memory-limit", "100MB"], ["--copy"]):
            self.assertEqual(value("generate", TRAINED, "--chat", "-p", LIGHTHOUSE, "--json", *how)["ids"], greedy)


class Shapes(unittest.TestCase):
    def test_greedy(self):
        for model in sorted(SHAPES.iterdir()):
            prompt = expected(model)["prompts"][0]
            printed = text("generate", model, "--ids", ids(prompt["ids"]), "--ignore-eos", "-n", len(prompt["greedy"]),
                               "--precision", "exact")
            self.assertEqual(printed, ids(prompt["greedy"]) + "\n", model.name)

    def test_json_without_tokenizer(self):
        self.assertIsNone(value("generate", SHAPES / "c32a2", "--ids", "1", "-n", 1, "--json")["text"])


class Info(unittest.TestCase):
    def test_parameters(self):
        for model in sorted(SHAPES.iterdir()):
            counted = expected(model)["parameters"]
            info = value("info", model, "--json")
            alone = value("info", "--config", model / "config.json", "--json")
            self.assertEqual(info["parameters_total"], counted, model.name)
            self.assertLessEqual(info["parameters_active"], info["parameters_total"])
            for key in ("model_type", "dtype", "parameters_total", "parameters_active", "shape"):
                self.assertEqual(info[key], alone[key], f"{model.name} {key}")
            self.assertEqual(info["model_type"] == "qwen2", "experts" not in info["shape"])
            self.assertIsNone(info["tokenizer"])

    def test_trained(self):
        info = value("info", TRAINED, "--json")
        self.assertEqual({key: info["shape"][key] for key in ("G_I", "R_I", "G_O", "R_O", "experts")},
                         {"G_I": 8, "R_I": 1, "G_O": 2, "R_O": 2, "experts": 32})
        self.assertEqual(info["tokenizer"]["vocab_size"], 4067)
        self.assertTrue(info["tokenizer"]["chat"])
        self.assertEqual(info["generation"]["max_tokens"], 128)
        self.assertEqual(info["generation"]["stop_tokens"], 2)
        weights = info["bytes"]["weights"]
        self.assertEqual(weights["total"], 2 * info["parameters_total"])  # BF16
        self.assertEqual(weights["total"], sum(weights[part] for part in weights if part != "total"))
        self.assertIn("32, 2 per token", text("info", TRAINED))
        error("info", TRAINED, "--config", TRAINED / "config.json", code=2)


if __name__ == "__main__":
    main()
