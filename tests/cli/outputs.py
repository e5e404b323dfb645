"""Where commands write: pipes, devices, links, modes; descriptors that are closed; messages that quote strange names."""

import contextlib
import os
import pathlib
import signal
import stat
import subprocess
import tempfile
import threading
import time
import unittest

from support import COMMAND, DENSE, TRAINED, arguments, error, main, run

LOGITS = ("logits", TRAINED, "--ids", "1,2,3", "--out")
SIZE = 128 + 3 * 4096 * 4


class Outputs(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        run(*LOGITS, self.folder / "expected")
        self.expected = (self.folder / "expected").read_bytes()
        self.assertEqual(len(self.expected), SIZE)

    def mode(self, name):
        return stat.S_IMODE((self.folder / name).lstat().st_mode)

    def test_modes(self):
        for mask, mode in ((0o022, 0o644), (0o077, 0o600)):
            new = self.folder / f"new{mask}"
            subprocess.run(arguments(*LOGITS, new), check=True, umask=mask)
            self.assertEqual(self.mode(new.name), mode)
        for mode in (0o600, 0o640, 0o755):
            (self.folder / "expected").chmod(mode)
            run(*LOGITS, self.folder / "expected")
            self.assertEqual(self.mode("expected"), mode)

    def test_links(self):
        (self.folder / "sub").mkdir()
        (self.folder / "target").write_text("old")
        (self.folder / "target").chmod(0o640)
        (self.folder / "sub/link").symlink_to("../target")
        (self.folder / "dangling").symlink_to("sub/born")
        for link, target in (("sub/link", "target"), ("dangling", "sub/born")):
            run(*LOGITS, self.folder / link)
            self.assertTrue((self.folder / link).is_symlink())
            self.assertFalse((self.folder / target).is_symlink())
            self.assertEqual((self.folder / target).read_bytes(), self.expected)
        self.assertEqual(self.mode("target"), 0o640)
        (self.folder / "circle").symlink_to("circle")
        error(*LOGITS, self.folder / "circle")

    def test_pipes(self):
        os.mkfifo(self.folder / "pipe")
        for parts in (LOGITS, ("stats", TRAINED, "--ids", "1,2,3", "--svg")):
            seen = []
            reader = threading.Thread(target=lambda: seen.append((self.folder / "pipe").read_bytes()))
            reader.start()
            run(*parts, self.folder / "pipe")
            reader.join()
            self.assertTrue(stat.S_ISFIFO((self.folder / "pipe").lstat().st_mode))
            self.assertTrue(seen[0] == self.expected if parts is LOGITS else b"<svg" in seen[0])

    def test_standard_output_stays_what_it_is(self):
        """By its names: a pipe, and a file to which others write before and after."""
        before = os.lstat("/dev/stdout")
        for name in ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "-"):
            self.assertEqual(run(*LOGITS, name)[0], self.expected, name)
            with open(self.folder / "log", "wb") as log:
                log.write(b"before\n")
                log.flush()
                subprocess.run(arguments(*LOGITS, name), stdout=log, check=True)
                log.seek(0, os.SEEK_END)
                log.write(b"after\n")
            self.assertEqual((self.folder / "log").read_bytes(), b"before\n" + self.expected + b"after\n", name)
        after = os.lstat("/dev/stdout")
        self.assertEqual((before.st_ino, before.st_mode), (after.st_ino, after.st_mode))

    def test_devices(self):
        for device in ("/dev/null", self.folder / "null"):
            if device != "/dev/null":
                device.symlink_to("/dev/null")
            run(*LOGITS, device)
            self.assertTrue(stat.S_ISCHR(os.stat(device).st_mode))
        self.assertIn("No space", error(*LOGITS, "/dev/full"))
        self.assertTrue(stat.S_ISCHR(os.stat("/dev/full").st_mode))
        self.assertIn("directory", error(*LOGITS, self.folder).lower())

    def test_a_command_that_is_killed_leaves_nothing(self):
        try:
            os.close(os.open(self.folder, os.O_TMPFILE | os.O_WRONLY))
        except OSError as missing:
            self.skipTest(f"this file system has no files without a name: {missing}")
        before = set(os.listdir(self.folder))
        numbers = ",".join(["7"] * 1500)
        process = subprocess.Popen(arguments("logits", TRAINED, "--ids", numbers, "--out", self.folder / "out"))
        while process.poll() is None and not any(str(self.folder) in file for file in self.open_files(process.pid)):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        self.assertEqual(process.wait(), -signal.SIGKILL)
        self.assertEqual(set(os.listdir(self.folder)), before)

    @staticmethod
    def open_files(pid):
        """What a process has open; it may close them, and end, while this looks."""
        files = []
        with contextlib.suppress(OSError):
            for entry in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    files.append(os.readlink(f"/proc/{pid}/fd/{entry}"))
        return files

    def test_a_pipe_without_a_reader_can_be_interrupted(self):
        os.mkfifo(self.folder / "pipe")
        process = subprocess.Popen(arguments(*LOGITS, self.folder / "pipe"), stderr=subprocess.PIPE)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        self.assertEqual((process.communicate(timeout=60)[1], process.returncode), (b"finermoe: cancelled\n", 130))


class Descriptors(unittest.TestCase):
    def shell(self, redirections, *parts):
        line = ' '.join(f"'{part}'" for part in arguments(*parts))
        return subprocess.run(["bash", "-c", f"{line} {redirections}"], capture_output=True)

    def test_closed_descriptors(self):
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder, "out")
            result = self.shell("0<&- 1>&- 2>&-", *LOGITS, out)
            self.assertEqual(result.returncode, 0)
            self.assertEqual(out.stat().st_size, SIZE)
            # What cannot be printed is an error, and is not written into the model.
            before = {file.name: file.read_bytes() for file in TRAINED.iterdir()}
            for closed in ("1>&-", "0<&- 1>&-"):
                result = self.shell(closed, "generate", TRAINED, "-p", "x", "-n", 3)
                self.assertEqual(result.returncode, 1)
                self.assertIn(b"cannot write to standard output", result.stderr)
            self.assertEqual(self.shell("0<&-", "generate", TRAINED, "-n", 3).returncode, 1)
            self.assertEqual(self.shell("0<&- 1>&- 2>&-", "info", TRAINED).returncode, 1)
            result = self.shell("0<&- 1>&- 2>&-", "quantize", DENSE, pathlib.Path(folder, "q8"))
            self.assertEqual(result.returncode, 0)
            run("verify", pathlib.Path(folder, "q8"))
            self.assertEqual(before, {file.name: file.read_bytes() for file in TRAINED.iterdir()})


class Messages(unittest.TestCase):
    def test_control_characters_are_written_out(self):
        with tempfile.TemporaryDirectory() as folder:
            name = os.path.join(os.fsencode(folder), b"a\x1b[31m\n\xc2\x9b\xff\tb")
            escaped = b"a\\x1b[31m\\n"
            for parts in ((b"info", name), (b"logits", os.fsencode(TRAINED), b"--ids", b"1", b"--out", name + b"/x"),
                          (b"generate", os.fsencode(TRAINED), b"--file", name), (b"info", b"--nothing" + name),
                          (b"upcycle", os.fsencode(DENSE), name + b"/out"), (b"verify", name)):
                result = subprocess.run([os.fsencode(COMMAND), *parts], capture_output=True)
                self.assertNotEqual(result.returncode, 0)
                self.assertIn(escaped, result.stderr, parts)
                for character in (b"\x1b", b"\xc2\x9b", b"\xff", b"\t"):
                    self.assertNotIn(character, result.stderr, parts)
                self.assertLessEqual(result.stderr.count(b"\n"), 2)  # the message, and which help to ask for
            # Names of tensors too.
            model = pathlib.Path(folder, "model")
            model.mkdir()
            for file in TRAINED.iterdir():
                (model / file.name).write_bytes(file.read_bytes())
            weights = (model / "model.safetensors").read_bytes()
            twice = weights.replace(b'"model.norm.weight"', b'"model\\u001b[2Jm.x"', 1)
            (model / "model.safetensors").write_bytes(twice)
            self.assertNotIn("\x1b", error("info", model))


if __name__ == "__main__":
    main()
