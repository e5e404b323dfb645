"""Every flag that takes a number, of every command, with numbers that make no sense: one short line, and exit code 2."""

import re
import unittest

from support import DENSE, TRAINED, error, main, run, text, value

# What a command needs besides the flag.
NEEDS = {
    "generate": [TRAINED, "-p", "x"], "chat": [TRAINED], "logits": [TRAINED, "--ids", "1", "--out", "/dev/null"],
    "route": [TRAINED, "--ids", "1"], "stats": [TRAINED, "--ids", "1"], "perplexity": [TRAINED, "--ids", "1,2"],
    "score": [TRAINED], "embed": [TRAINED, "--ids", "1"],
    "upcycle": [DENSE, "/nonexistent/out"], "synthesize": [DENSE, "/nonexistent/out"],
    "quantize": [DENSE, "/nonexistent/out"], "plan": [TRAINED], "bench": [TRAINED], "system": [],
}
ANY_NUMBER = {"--seed"}                                                  # every whole number that 64 bits hold
MAY_BE_ZERO = {"--max-tokens", "--min-tokens", "--top-k", "--logprobs", "--ban", "--stop-id", "--lookup",
               "--draft-tokens"} | ANY_NUMBER
WORDS = ["", "x", "1x", "1.5", "1,5", " 1", "1 ", "0x", "0xg", "+1", "--1", "1e3", "nan", "\x1b[31m", "1" * 400]
NEGATIVE = ["-1", "-9223372036854775808", "-18446744073709551615"]
TOO_LARGE = ["18446744073709551616", "99999999999999999999", "0x10000000000000000"]
ABSURD = ["18446744073709551615", "9223372036854775808", "4294967296", "2147483648", "0xffffffffffffffff"]


def flags_of(command, kind):
    """The long names of the flags whose help says that they take an N, X, SIZE or ID."""
    found = []
    for line in text(command, "--help").splitlines():
        match = re.match(rf"  (?:-\w,)?(--[\w-]+) (?:{kind})(?:\s|$)", line)
        if match:
            found.append(match[1])
    return found


class Numbers(unittest.TestCase):
    def refused(self, command, flag, bad, code=2):
        message = error(command, *NEEDS[command], f"{flag}={bad}", code=code)
        self.assertLessEqual(message.count("\n"), 2, message)
        self.assertLess(len(message.splitlines()[0]), 200, message)
        self.assertIn(flag if code == 2 else "FINERMOE_ERROR_", message)
        self.assertNotIn("\x1b", message)

    def test_every_flag_is_known_here(self):
        """So that a new one does not slip through: what takes a number says so in its help."""
        self.assertEqual(set(flags_of("bench", "N")),
                         {"--prompt-tokens", "--tokens", "--runs", "--sessions", "--lookup", "--draft-tokens",
                          "--threads", "--context"})
        self.assertEqual(len(flags_of("generate", "N")), 9)
        self.assertEqual(len(flags_of("generate", "X")), 7)

    def test_whole_numbers(self):
        for word in WORDS:
            self.refused("generate", "--context", word)
            self.refused("upcycle", "--seed", word)
        n_flags = 0
        for command in NEEDS:
            for flag in flags_of(command, "N|ID"):
                n_flags += 1
                zero = [] if flag in MAY_BE_ZERO else ["0"]
                for number in ["x", "1.5", *zero, *NEGATIVE, *TOO_LARGE, *([] if flag in ANY_NUMBER else ABSURD)]:
                    self.refused(command, flag, number)
        self.assertGreater(n_flags, 40)

    def test_real_numbers(self):
        for command in NEEDS:
            for flag in flags_of(command, "X"):
                for number in ["x", "1x", "nan", "inf", "-inf", "1e999", "0,5", "1" * 400]:
                    self.refused(command, flag, number)
        for flag in ("--temp", "--top-p", "--min-p", "--typical-p", "--repetition-penalty"):
            self.refused("generate", flag, "-1", code=1)

    def test_sizes(self):
        for command in NEEDS:
            for flag in flags_of(command, "SIZE"):
                for size in ["x", "-1", "0", "0.5", "nan", "inf", "1e30", "24XB", "99999999999999999999"]:
                    self.refused(command, flag, size)

    def test_biases(self):
        for bias in ["1", "=1", "1=", "x=1", "1=x", "1=nan=2", "99999999999=1", "1=1e99", "-1x=1"]:
            self.assertIn("ID=BIAS", error("generate", TRAINED, "-p", "x", f"--logit-bias={bias}", code=2))
        for bias in ["-1=1", "4096=1", "1=nan"]:
            self.assertIn("FINERMOE_ERROR_", error("generate", TRAINED, "-p", "x", f"--logit-bias={bias}"))

    def test_sums_and_limits(self):
        most = 2**31 - 1
        self.assertIn("FINERMOE_ERROR_CONTEXT_LENGTH", error("bench", TRAINED, "-p", most, "-n", most))
        self.assertIn("FINERMOE_ERROR_CONTEXT_LENGTH", error("generate", TRAINED, "-p", "x", "--context", most))
        self.assertIn("FINERMOE_ERROR_CONTEXT_LENGTH", error("plan", TRAINED, "--context", most))
        short = value("generate", TRAINED, "-p", "x", "-n", 3, "--top-k", most, "--logprobs", most, "--json")
        self.assertEqual(len(short["top_logprobs"][0]), 4096)
        self.assertEqual(value("generate", TRAINED, "-p", "x", "-n", most, "--context", 20, "--ignore-eos",
                               "--json")["finish_reason"], "context_full")
        run("perplexity", TRAINED, "--ids", "1,2,3", "--window", most)

    def test_numbers_that_make_sense(self):
        plain = text("generate", TRAINED, "-p", "x", "-n", 5, "--temp", 1, "--seed", 255)
        self.assertEqual(text("generate", TRAINED, "-p", "x", "-n", "0x5", "--temp", "1.0", "--seed", "0xFF"), plain)
        self.assertEqual(text("generate", TRAINED, "-p", "x", "-n", "005", "--temp", "1e0", "--seed", "0255"), plain)
        run("generate", TRAINED, "-p", "x", "-n", 2, "--temp", 1, "--seed", 2**64 - 1)


if __name__ == "__main__":
    main()
