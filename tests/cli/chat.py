"""finermoe chat at a terminal (a pseudo-terminal here) and through a pipe."""

import os
import pty
import re
import select
import signal
import subprocess
import time
import unittest

from support import LIGHTHOUSE, SHAPES, TRAINED, arguments, error, expected, main, run, text, value

ANSWER = next(p for p in expected(TRAINED)["prompts"] if "lighthouse" in p["text"])["greedy_text"]
DEFINE_GALAXY = 'Define the noun "galaxy".'
GALAXY = next(p for p in expected(TRAINED)["prompts"] if "galaxy" in p["text"])["greedy_text"]


class Terminal:
    """The command on a pseudo-terminal, as a person sees it."""

    def __init__(self, *parts, environment=()):
        self.pid, self.file = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm", **dict(environment))
            os.execv(arguments()[0], arguments("chat", *parts))
        self.seen = b""

    def expect(self, wanted, seconds=60):
        """Reads until `wanted` appears; forgets what came up to there and returns it."""
        deadline = time.monotonic() + seconds
        while wanted.encode() not in self.seen:
            ready, _, _ = select.select([self.file], [], [], max(0, deadline - time.monotonic()))
            data = b""
            if ready:
                try:
                    data = os.read(self.file, 4096)
                except OSError:  # the other end is closed
                    pass
            if not data:
                raise AssertionError(f"expected {wanted!r}, found {self.seen[-2000:]!r}")
            self.seen += data
        before, _, self.seen = self.seen.partition(wanted.encode())
        return before.decode(errors="replace")

    def type(self, keys):
        os.write(self.file, keys.encode())

    def end(self, seconds=60):
        """The exit code, with everything read."""
        deadline = time.monotonic() + seconds
        while select.select([self.file], [], [], max(0, deadline - time.monotonic()))[0]:
            try:
                os.read(self.file, 4096)
            except OSError:  # the other end is closed
                break
        else:
            os.kill(self.pid, signal.SIGKILL)
        os.close(self.file)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


CONTROL_C, CONTROL_D, UP = "\x03", "\x04", "\x1b[A"


class AtATerminal(unittest.TestCase):
    def test_answers_and_commands(self):
        terminal = Terminal(TRAINED)
        terminal.expect("> ")
        terminal.type(LIGHTHOUSE + "\n")
        terminal.expect(ANSWER)
        terminal.expect("> ")
        terminal.type("/help\n")
        terminal.expect("forget the conversation")
        terminal.expect("> ")
        terminal.type("/reset\n")
        terminal.expect("> ")
        terminal.type(UP + UP + UP + "\n")  # the history
        terminal.expect(ANSWER)
        terminal.type("/nonsense\n")
        terminal.expect("no command /nonsense")
        terminal.type("/quit\n")
        self.assertEqual(terminal.end(), 0)

    def test_line_editing(self):
        terminal = Terminal(TRAINED)
        terminal.expect("> ")
        terminal.type("X" + LIGHTHOUSE + "\x01\x1b[3~\x04\n")  # to the beginning of the line; delete twice
        terminal.expect("\n")
        terminal.expect("> ")
        terminal.type("\x1b[A\x01D\n")  # the history, and what is missing at its beginning
        terminal.expect(ANSWER)
        terminal.expect("> ")
        terminal.type(CONTROL_D)
        self.assertEqual(terminal.end(), 0)

    def test_characters_of_several_bytes(self):
        for locale in ("C", "C.UTF-8"):
            terminal = Terminal(TRAINED, "-n", "1", environment={"LC_ALL": locale})
            terminal.expect("> ")
            terminal.type("naïve 日本\n")
            terminal.expect("naïve 日本")
            terminal.expect("> ")
            terminal.type(CONTROL_D)
            self.assertEqual(terminal.end(), 0)

    def test_interrupt_stops_the_answer_alone(self):
        terminal = Terminal(TRAINED, "--ignore-eos", "-n", "0")
        terminal.expect("> ")
        for _ in range(2):
            terminal.type(LIGHTHOUSE + "\n")
            terminal.expect("tower")
            terminal.type(CONTROL_C)
            terminal.expect("> ")
        terminal.type(CONTROL_D)
        self.assertEqual(terminal.end(), 0)

    def test_interrupt_wipes_a_line(self):
        terminal = Terminal(TRAINED)
        terminal.expect("> ")
        terminal.type("half a line")
        terminal.expect("half a line")
        terminal.type(CONTROL_C)
        terminal.expect("> ")
        terminal.type(LIGHTHOUSE + "\n")
        terminal.expect(ANSWER)
        terminal.expect("> ")
        terminal.type(CONTROL_C)
        terminal.expect("> ")
        terminal.type(CONTROL_D)
        self.assertEqual(terminal.end(), 0)

    def test_keys_typed_during_an_answer(self):
        terminal = Terminal(TRAINED)
        terminal.expect("> ")
        terminal.type(LIGHTHOUSE + "\n")
        terminal.expect("A tower")
        terminal.type(DEFINE_GALAXY + "\n" + CONTROL_D)
        terminal.expect(GALAXY)
        self.assertEqual(terminal.end(), 0)

    def test_terminated(self):
        terminal = Terminal(TRAINED)
        terminal.expect("> ")
        os.kill(terminal.pid, signal.SIGTERM)
        self.assertEqual(terminal.end(), 128 + signal.SIGTERM)

    def test_full_context(self):
        terminal = Terminal(TRAINED, "--context", "30", "--ignore-eos", "-n", "0")
        terminal.expect("> ")
        terminal.type(LIGHTHOUSE + "\n")
        terminal.expect("the context is full")
        terminal.expect("> ")
        terminal.type(LIGHTHOUSE + "\n")
        terminal.expect("A tower")
        terminal.expect("the 2 oldest messages are forgotten")
        terminal.expect("the context is full")
        terminal.expect("> ")
        terminal.type("too long " * 30 + "\n")
        terminal.expect("FINERMOE_ERROR_CONTEXT_LENGTH")
        terminal.expect("> ")
        terminal.type("/again\n")
        terminal.expect("A tower")
        terminal.expect("> ")
        terminal.type("/quit\n")
        self.assertEqual(terminal.end(), 0)

    def test_edit_and_again(self):
        terminal = Terminal(TRAINED)
        terminal.expect("> ")
        for command in ("/again", "/edit x"):
            terminal.type(command + "\n")
            terminal.expect("there is no message yet")
            terminal.expect("> ")
        terminal.type(LIGHTHOUSE + "\n")
        terminal.expect(ANSWER)
        terminal.expect("> ")
        terminal.type("/again\n")
        terminal.expect(ANSWER)
        terminal.expect("> ")
        terminal.type("/edit\n")
        terminal.expect("expected a message")
        terminal.expect("> ")
        terminal.type(f"/edit {DEFINE_GALAXY}\n")
        terminal.expect(GALAXY)
        terminal.expect("> ")
        terminal.type("/quit\n")
        self.assertEqual(terminal.end(), 0)

    def test_again_after_an_interrupt(self):
        terminal = Terminal(TRAINED, "--ignore-eos", "-n", "0")
        terminal.expect("> ")
        terminal.type(LIGHTHOUSE + "\n")
        for _ in range(2):
            terminal.expect(ANSWER)
            terminal.type(CONTROL_C)
            terminal.expect("> ")
            terminal.type("/again\n")
        terminal.expect("A tower")
        terminal.type(CONTROL_C)
        terminal.expect("> ")
        terminal.type(CONTROL_D)
        self.assertEqual(terminal.end(), 0)


class ThroughAPipe(unittest.TestCase):
    def test_answers(self):
        printed = run("chat", TRAINED, stdin=f"{LIGHTHOUSE}\n\n/reset\n{LIGHTHOUSE}".encode())
        self.assertEqual(printed, (f"{ANSWER}\n{ANSWER}\n".encode(), b""))

    def test_conversation_goes_on(self):
        """The second prompt holds the first message and its answer: the same as one rendering of all of it."""
        question = DEFINE_GALAXY
        out, _ = run("chat", TRAINED, stdin=f"{LIGHTHOUSE}\n{question}\n".encode())
        rendered = (f"<|im_start|>user\n{LIGHTHOUSE}<|im_end|>\n<|im_start|>assistant\n{ANSWER}<|im_end|>\n"
                    f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n")
        second, _ = run("generate", TRAINED, "--special", "-p", rendered)
        self.assertEqual(out, ANSWER.encode() + b"\n" + second)

    def test_system_message_and_quit(self):
        plain, _ = run("chat", TRAINED, "--system", "Be brief.", stdin=f"{LIGHTHOUSE}\n/quit\n{LIGHTHOUSE}\n".encode())
        generated, _ = run("generate", TRAINED, "--chat", "--system", "Be brief.", "-p", LIGHTHOUSE)
        self.assertEqual(plain, generated)

    def test_interrupt_during_an_answer(self):
        process = subprocess.Popen(arguments("chat", TRAINED, "--ignore-eos", "-n", "0"), stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdin.write(LIGHTHOUSE.encode() + b"\n")
        process.stdin.flush()
        process.stdout.read(10)
        process.send_signal(signal.SIGINT)
        out, message = process.communicate(b"/reset\n/quit\n", timeout=60)
        self.assertEqual((process.returncode, message), (0, b""))
        self.assertTrue(out.endswith(b"\n"))

    def test_interrupt_while_it_waits(self):
        process = subprocess.Popen(arguments("chat", TRAINED), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process.stdin.write(LIGHTHOUSE.encode() + b"\n")
        process.stdin.flush()
        self.assertEqual(process.stdout.readline(), ANSWER.encode() + b"\n")
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(60), -signal.SIGINT)
        process.stdin.close()
        process.stdout.close()

    def test_refused_without_tokenizer(self):
        self.assertIn("FINERMOE_ERROR_NO_TOKENIZER", error("chat", SHAPES / "c32a2", stdin=b"hello\n"))


def rendered(*turns, system=None):
    """The prompt of questions and answers in turn, the last one to be answered."""
    roles = ["user", "assistant"] * len(turns)
    messages = [("system", system)] * (system is not None) + list(zip(roles, turns))
    before = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in messages)
    return before + "<|im_start|>assistant\n"


def n_tokens(prompt):
    return len(value("tokenize", TRAINED, "--special", "--json", prompt)["ids"])


def stats(message):
    """Of each answer: tokens of the prompt, of these kept, and tokens of the answer."""
    line = r"prompt: (\d+) tokens, (\d+) kept(?:, [\d.]+ tokens/s)?; answer: (\d+) tokens"
    return [tuple(map(int, found)) for found in re.findall(line, message.decode())]


class Anew(unittest.TestCase):
    def test_again(self):
        """Every try has the next seed, and a new message the first one again."""
        out, message = run("chat", TRAINED, "--temp", 1, "--seed", 7, "--stats",
                           stdin=f"{LIGHTHOUSE}\n/again\n/again\n/edit {LIGHTHOUSE}\n/again\n".encode())
        alone = [text("generate", TRAINED, "--chat", "-p", LIGHTHOUSE, "--temp", 1, "--seed", 7 + i) for i in range(3)]
        self.assertEqual(out.decode(), "".join([*alone, *alone[:2]]))
        self.assertGreater(len(set(alone)), 1)
        n_prompt = n_tokens(rendered(LIGHTHOUSE))
        self.assertEqual([found[:2] for found in stats(message)], [(n_prompt, 0)] + [(n_prompt, n_prompt)] * 4)

    def test_edit(self):
        """What is replaced leaves nothing behind: the next message follows the edited one and its answer."""
        out, message = run("chat", TRAINED, "--stats",
                           stdin=f"{LIGHTHOUSE}\nWhat?\n/edit {DEFINE_GALAXY}\n/again\nWhat?\n".encode())
        answers = out.decode().splitlines()
        self.assertEqual(len(answers), 5)
        second = rendered(LIGHTHOUSE, ANSWER, DEFINE_GALAXY)
        self.assertEqual(answers[2], text("generate", TRAINED, "--special", "-p", second).rstrip("\n"))
        self.assertEqual(answers[3], answers[2])
        third = rendered(LIGHTHOUSE, ANSWER, DEFINE_GALAXY, answers[2], "What?")
        self.assertEqual(answers[4], text("generate", TRAINED, "--special", "-p", third).rstrip("\n"))
        self.assertEqual([found[0] for found in stats(message)][2:], [n_tokens(second)] * 2 + [n_tokens(third)])

    def test_nothing_to_answer_anew(self):
        for line in ("/again", "/edit x", "/edit", "/edit "):
            self.assertIn(line.split()[0], error("chat", TRAINED, stdin=line.encode()))
        self.assertIn("no message yet", error("chat", TRAINED, "--system", "x", stdin=b"/again"))
        out, _ = run("chat", TRAINED, "-n", 1, stdin=b"/editor\n")  # a message
        self.assertEqual(out.decode(), text("generate", TRAINED, "--chat", "-p", "/editor", "-n", 1))


class FullContext(unittest.TestCase):
    """Each of the questions with its answer takes about 40 tokens."""

    QUESTIONS = [LIGHTHOUSE, DEFINE_GALAXY, 'Define the noun "dog".']

    def chat(self, context, *flags):
        stdin = "\n".join(self.QUESTIONS).encode()
        out, message = run("chat", TRAINED, "--stats", "--context", context, *flags, stdin=stdin)
        self.answers = out.decode().splitlines()
        self.assertEqual(len(self.answers), 3)
        self.assertNotIn(b"/reset", message)
        return message

    def setUp(self):
        self.message = self.chat(400)
        self.assertNotIn(b"forgotten", self.message)
        self.whole, self.counts = self.answers, stats(self.message)

    def test_before_an_answer(self):
        """The third prompt does not fit. What stays of it is not computed again, although it has moved."""
        message = self.chat(self.counts[2][0] - 3)
        self.assertEqual(message.count(b"the context was full: the 2 oldest messages are forgotten"), 1)
        self.assertEqual(self.answers[:2], self.whole[:2])
        first, second, third = stats(message)
        self.assertEqual([first, second], self.counts[:2])
        self.assertEqual(third[0], n_tokens(rendered(DEFINE_GALAXY, self.whole[1], self.QUESTIONS[2])))
        self.assertEqual(third[0] - third[1], self.counts[2][0] - self.counts[2][1])

    def test_during_an_answer(self):
        """The second answer begins with all of the context and goes on with a part of it."""
        room = 6
        message = self.chat(self.counts[1][0] + room)
        self.assertGreater(self.counts[1][2], room)
        self.assertIn(b"the context was full: the 2 oldest messages are forgotten", message)
        begins = self.whole[1].split()[:3]
        self.assertEqual(self.answers[1].split()[:3], begins)
        third = stats(message)[2]
        self.assertEqual(third[0], n_tokens(rendered(DEFINE_GALAXY, self.answers[1], self.QUESTIONS[2])))
        self.assertEqual(third[0] - third[1], self.counts[2][0] - self.counts[2][1])  # what went on stayed valid

    def test_what_stays(self):
        """The system message, and all of the last message with its answer."""
        system = "Be brief."
        _, message = run("chat", TRAINED, "--stats", "--context", 110, "--system", system, "--ignore-eos", "-n", 45,
                         stdin="\n".join(self.QUESTIONS).encode())
        self.assertEqual([found[2] for found in stats(message)], [45, 45, 45])
        self.assertEqual(message.count(b"the 2 oldest messages are forgotten"), 2)
        message = self.chat(self.counts[2][0] + 2, "--system", system)
        self.assertEqual(stats(message)[2][0],
                         n_tokens(rendered(DEFINE_GALAXY, self.answers[1], self.QUESTIONS[2], system=system)))

    def test_quantised_cache(self):
        self.assertIn(b"forgotten", self.chat(self.counts[2][0] - 3, "--kv-dtype", "q8"))


if __name__ == "__main__":
    main()
