"""What the tests share."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator

import finermoe
import pytest

SOURCE = pathlib.Path(os.environ["FINERMOE_SOURCE"])
MODELS = SOURCE / "examples/models"
MOE = MODELS / "tiny-wordnet-finermoe"
DENSE = MODELS / "tiny-wordnet-dense"
PROMPT = [4065, 286, 198, 290, 260, 305, 275, 75, 693, 256, 2608, 1, 13, 4066, 198, 4065, 288, 198]
ANSWER = "A tower with a light that gives warning of shoals to passing ships."

# A shell without job control lets what it starts in the background ignore Ctrl-C, which the tests press, and so do the
# programs that these start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def model() -> Iterator[finermoe.Model]:
    with finermoe.Model(MOE, threads=1) as model:
        yield model


@pytest.fixture(scope="session")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[finermoe.Model]:
    folder = tmp_path_factory.mktemp("slow")
    config = json.loads((DENSE / "config.json").read_text())
    config.update(hidden_size=512, intermediate_size=2048, num_hidden_layers=8, num_attention_heads=8)
    (folder / "config.json").write_text(json.dumps(config))
    finermoe.synthesize(folder / "config.json", folder / "model.safetensors")
    with finermoe.Model(folder / "model.safetensors", threads=1) as model:
        yield model


@pytest.fixture(scope="session")
def long_prompt(slow_model: finermoe.Model) -> list[int]:
    """A prompt that takes about five seconds of processor time, on a slow machine or with a sanitizer too."""
    n, seconds = 50, 0.0
    while seconds < 0.25 and n < 2000:
        n *= 2
        with slow_model.session(chunk=2000) as session:
            begin = time.process_time()
            session.append([5] * n)
            seconds = time.process_time() - begin
    return [5] * min(2000, int(n * 5 / seconds))


@pytest.fixture
def program() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a program of its own with the model's path as its first argument; it must end by itself, in good order."""
    def run(code: str, *arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(code), str(MOE),
                               *map(str, arguments)], capture_output=True, text=True, timeout=60)
        assert done.returncode == status, done.stdout + done.stderr
        return done

    return run
