"""A conversation: a line is a message, an empty one ends it. Ctrl-C stops an answer."""

import argparse

import finermoe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--system", help="what the assistant is told first")
    parser.add_argument("--temperature", type=float, default=0.0)
    arguments = parser.parse_args()

    chat = finermoe.Chat([("system", arguments.system)] if arguments.system else [])
    with finermoe.Model(arguments.model) as model, model.session() as session:
        while question := read("> "):
            chat.add("user", question)
            answer = ""
            try:
                for event in session.chat(chat, temperature=arguments.temperature):  # computes what is new of the chat
                    answer += event.text
                    print(event.text, end="", flush=True)
            except KeyboardInterrupt:
                print(" …", end="")
            print()
            chat.add("assistant", answer)


def read(prompt: str) -> str:
    try:
        return input(prompt)
    except EOFError:
        return ""


if __name__ == "__main__":
    main()
