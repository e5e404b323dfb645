"""What a word means, as the answer comes."""

import argparse

import finermoe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("word")
    arguments = parser.parse_args()
    path, question = arguments.model, f'Define the noun "{arguments.word}".'

    with finermoe.Model(path) as model, model.session() as session:
        for event in session.chat([{"role": "user", "content": question}]):
            print(event.text, end="", flush=True)
        print()


if __name__ == "__main__":
    main()
