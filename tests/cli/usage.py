"""Help, exit codes, suggestions, completion: what holds for every command."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import unittest

from support import COMMAND, ROOT, SHAPES, TRAINED, arguments, error, main, run, text

COMMANDS = ["info", "generate", "chat", "tokenize", "detokenize", "logits", "route", "stats", "perplexity", "score", "embed",
            "upcycle", "synthesize", "quantize", "verify", "plan", "bench", "system", "completion"]


def flags_of(command):
    """The long flags that a command's help lists."""
    listing = text(command, "--help").split("Examples:")[0]
    return set(re.findall(r"^  (?:-\w,)?(--[\w-]+)", listing, re.M)) | set(re.findall(r",(--[\w-]+)", listing))


class Usage(unittest.TestCase):
    def test_top(self):
        top = text("--help")
        for command in COMMANDS:
            self.assertRegex(top, rf"(?m)^  {command} ")
        listed = re.findall(r"^  ([a-z]+) ", top.split("Subcommands:")[1], re.M)
        self.assertEqual(listed, COMMANDS)
        self.assertRegex(text("--version"), r"^finermoe \d+\.\d+\.\d+\n$")
        out, message = run(code=2)
        self.assertEqual(out, b"")
        self.assertIn(b"Usage: finermoe", message)

    def test_help_of_every_command(self):
        for command in COMMANDS:
            help_text = text(command, "--help")
            self.assertIn(f"Usage: finermoe {command}", help_text)
            self.assertIn("Examples:", help_text)
            self.assertIn(f"finermoe {command} ", help_text.split("Examples:")[1])

    def test_documented(self):
        """docs/cli.md has a heading for every command and names every flag of it."""
        document = (ROOT / "docs/cli.md").read_text()
        for command in COMMANDS:
            self.assertTrue(re.search(rf"(?m)^## (\w+ and )?{command}\b", document), command)
            for flag in flags_of(command) - {"--help"}:
                self.assertTrue(re.search(rf"{flag}(?![\w-])", document), f"{command} {flag}")

    def test_usage_errors(self):
        self.assertIn("did you mean --temp?", error("generate", TRAINED, "--tempp", "1", code=2))
        self.assertIn("did you mean generate?", error("gneerate", code=2))
        self.assertNotIn("did you mean", error("xyzzyxyzzy", code=2))
        self.assertIn("MODEL", error("generate", code=2))
        self.assertIn("--isa", error("generate", TRAINED, "-p", "x", "--isa", "sse9", code=2))
        self.assertIn("--file", error("generate", TRAINED, "-p", "x", "--file", "y", code=2))
        self.assertIn("1,2,3", error("generate", TRAINED, "--ids", "1,x", code=2))
        self.assertIn("ID=BIAS", error("generate", TRAINED, "-p", "x", "--logit-bias", "7", code=2))
        self.assertIn("a size such as 24GB", error("plan", TRAINED, "--memory-limit", "24XB", code=2))
        self.assertIn("MODEL", error("plan", code=2))
        self.assertIn("MODEL", error("info", code=2))

    def test_library_errors_name_their_status(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertIn("FINERMOE_ERROR_", error("info", folder))
        self.assertIn("FINERMOE_ERROR_FILE_NOT_FOUND", error("info", "/nonexistent-model"))
        self.assertIn("FINERMOE_ERROR_NO_TOKENIZER", error("generate", SHAPES / "c32a2", "-p", "x"))
        self.assertIn("FINERMOE_ERROR_TOKEN_OUT_OF_RANGE", error("generate", TRAINED, "--ids", "4096"))
        self.assertIn("FINERMOE_ERROR_TOKEN_OUT_OF_RANGE", error("generate", TRAINED, "--ids", "4096", "--json"))
        self.assertIn("FINERMOE_ERROR_CONTEXT_LENGTH",
                      error("route", TRAINED, "--ids", "1,2,3,4", "--context", "3"))
        self.assertIn("FINERMOE_ERROR_MEMORY_LIMIT",
                      error("generate", TRAINED, "-p", "x", "--memory-limit", "100kB"))
        self.assertIn("FINERMOE_ERROR_UNSUPPORTED", error("route", SHAPES / "dense-tied", "--ids", "1"))
        self.assertIn("cannot open", error("perplexity", TRAINED, "--file", "/nonexistent-file"))

    def test_output_that_cannot_be_written(self):
        with open("/dev/full", "wb") as full:
            result = subprocess.run(arguments("info", TRAINED), stdout=full, stderr=subprocess.PIPE)
        self.assertEqual(result.returncode, 1)
        self.assertIn(b"cannot write", result.stderr)

    def test_reader_that_goes_away(self):
        for restore in (True, False):  # with SIGPIPE as it is by default, and ignored as some parents leave it
            process = subprocess.Popen(
                arguments("generate", TRAINED, "-p", "In the beginning", "-n", "2000", "--ignore-eos"),
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, restore_signals=restore)
            self.assertEqual(len(process.stdout.read(5)), 5)
            process.stdout.close()
            self.assertEqual(process.stderr.read(), b"")
            process.stderr.close()
            self.assertEqual(process.wait(60), -signal.SIGPIPE)

    def test_interrupted_generation(self):
        process = subprocess.Popen(
            arguments("generate", TRAINED, "-p", "In the beginning", "-n", "2000", "--ignore-eos"),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.read(5)
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=60)
        self.assertEqual((process.returncode, message), (130, b"finermoe: cancelled\n"))


class Completion(unittest.TestCase):
    def complete(self, *words):
        words = ("finermoe", *words)
        script = ('source <("$0" completion bash)\nCOMP_WORDS=("$@")\nCOMP_CWORD=$(($# - 1))\n_finermoe\n'
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        result = subprocess.run(["bash", "-c", script, COMMAND, *words], capture_output=True, text=True)
        self.assertEqual(result.stderr, "")
        return set(result.stdout.split())

    def test_bash(self):
        self.assertLessEqual(set(COMMANDS), self.complete(""))
        self.assertEqual(self.complete("gen"), {"generate"})
        self.assertEqual(self.complete("generate", "--kv-dtype", ""), {"f32", "f16", "bf16", "q8"})
        self.assertEqual(self.complete("upcycle", "--shared", "c"), {"copy"})
        self.assertEqual(self.complete("completion", ""), {"bash", "zsh", "fish"})
        for command in COMMANDS:
            self.assertLessEqual(flags_of(command), self.complete(command, "-"), command)

    def test_other_shells(self):
        for shell in ("zsh", "fish"):
            script = text("completion", shell)
            for command in COMMANDS:
                self.assertIn(command, script)
            program = shutil.which(shell)
            if program:
                subprocess.run([program, "-n"], input=script, text=True, check=True)
        error("completion", "tcsh", code=2)


if __name__ == "__main__":
    main()
