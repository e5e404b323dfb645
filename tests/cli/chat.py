"""finermoe chat at a terminal (a pseudo-terminal here) and through a pipe."""

import os
import pty
import select
import signal
import subprocess
import time
import unittest

from support import LIGHTHOUSE, SHAPES, TRAINED, arguments, error, expected, main, run

ANSWER = next(p for p in expected(TRAINED)["prompts"] if "lighthouse" in p["text"])["greedy_text"]
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
        terminal.type('Define the noun "galaxy".\n' + CONTROL_D)
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
        terminal.expect("FINERMOE_ERROR_CONTEXT_LENGTH")
        terminal.expect("> ")
        terminal.type("/reset\n")
        terminal.expect("> ")
        terminal.type(LIGHTHOUSE + "\n")
        terminal.expect("A tower")
        terminal.expect("> ")
        terminal.type("/quit\n")
        self.assertEqual(terminal.end(), 0)


class ThroughAPipe(unittest.TestCase):
    def test_answers(self):
        printed = run("chat", TRAINED, stdin=f"{LIGHTHOUSE}\n\n/reset\n{LIGHTHOUSE}".encode())
        self.assertEqual(printed, (f"{ANSWER}\n{ANSWER}\n".encode(), b""))

    def test_conversation_goes_on(self):
        """The second prompt holds the first message and its answer: the same as one rendering of all of it."""
        question = 'Define the noun "galaxy".'
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


if __name__ == "__main__":
    main()
