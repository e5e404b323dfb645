"""Finds the lines of a file that are most like a question, by the mean hidden states of the model."""

import argparse
import pathlib

import numpy as np
from numpy.typing import NDArray

import finermoe


def embed(session: finermoe.Session, text: str) -> NDArray[np.float32]:
    """[hidden_size], of length one: the mean over the text's tokens."""
    session.reset()
    session.append(session.model.tokenizer.encode(text), logits="all")
    mean = session.hidden().mean(axis=0)
    vector: NDArray[np.float32] = mean / np.linalg.norm(mean)
    return vector


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("lines", type=pathlib.Path, help="a file")
    parser.add_argument("question")
    parser.add_argument("--top", type=int, default=3)
    arguments = parser.parse_args()

    lines = [line for line in arguments.lines.read_text(encoding="utf-8").splitlines() if line.strip()]
    with finermoe.Model(arguments.model) as model, model.session(hidden="only") as session:
        vectors = np.array([embed(session, line) for line in lines])  # [n_lines, hidden_size]
        centre = vectors.mean(axis=0)  # what all texts have in common says nothing
        likeness = (vectors - centre) @ (embed(session, arguments.question) - centre)
    for i in np.argsort(-likeness)[:arguments.top]:
        print(f"{likeness[i]:+.3f}  {lines[i]}")


if __name__ == "__main__":
    main()
