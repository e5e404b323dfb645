"""The completion of a prompt, as it comes."""

import argparse

import finermoe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("prompt")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    with finermoe.Model(arguments.model) as model, model.session() as session:
        generation = session.generate(arguments.prompt, max_tokens=arguments.max_tokens,
                                      temperature=arguments.temperature, seed=arguments.seed)
        for event in generation:
            print(event.text, end="", flush=True)
        print()
        info = generation.info
        print(f"[{info.finish_reason}, {info.n_generated} tokens in {info.decode_seconds:.2f} s]")


if __name__ == "__main__":
    main()
