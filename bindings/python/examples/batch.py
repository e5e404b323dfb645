"""Completes every line of a file, some at once: each pass over the weights serves all of them."""

import argparse
import itertools
import pathlib

import finermoe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("prompts", type=pathlib.Path, help="a file with a prompt in each line")
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=64)
    arguments = parser.parse_args()

    prompts = arguments.prompts.read_text(encoding="utf-8").splitlines()
    answers = [""] * len(prompts)
    with finermoe.Model(arguments.model) as model, model.batch() as batch:
        waiting = iter(enumerate(prompts))
        for i, prompt in itertools.islice(waiting, arguments.at_once):
            batch.add(prompt, tag=i, max_tokens=arguments.max_tokens)
        for i, event in batch:
            answers[i] += event.text
            if event.finish_reason:  # its place is free
                for j, prompt in itertools.islice(waiting, 1):
                    batch.add(prompt, tag=j, max_tokens=arguments.max_tokens)
    for prompt, answer in zip(prompts, answers):
        print(f"{prompt}{answer}")


if __name__ == "__main__":
    main()
