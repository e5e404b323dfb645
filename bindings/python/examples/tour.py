"""A walk through the package."""

import argparse
import asyncio
import pathlib

import finermoe


def requests(path: str) -> None:
    with finermoe.Model(path, threads=2) as model:
        print(model.config.n_experts, model.config.parameters_total)
        print(model.generate("A lighthouse is", max_tokens=20))  # on a session of its own

        with model.session(context_length=512, precision="fast") as session:
            for event in session.generate("A ship", max_tokens=20, temperature=0.8, seed=7, stop=["\n"]):
                print(event.text, end="", flush=True)
            print()
            print(event.finish_reason, session.length)

            chat = [{"role": "user", "content": 'Define the noun "compass".'}]
            answer = "".join(event.text for event in session.chat(chat))  # keeps the common prefix of the session
            print(answer)

            logits = session.append(model.tokenizer.encode("A ship"), logits="all")  # numpy float32 [n, vocab]
            print(logits.shape)
            fork = session.fork()
            fork.truncate(3)
            print(fork.length)

        with model.session() as session, session.trace() as trace:
            session.append(model.tokenizer.encode("A ship at sea"))
            experts = trace.experts(layer=0)  # numpy int32 [n_tokens, k]
            print(experts)

        with model.batch() as batch:  # many requests, one pass over the weights each step
            for i, prompt in enumerate(["A ship", "A poem", "A compass"]):
                batch.add(prompt, tag=i, max_tokens=20)
            for tag, event in batch:  # whoever has text next
                print(tag, event.text, event.finish_reason)

        try:
            model.session(context_length=10**9)
        except finermoe.ContextLengthError as error:  # a class for each code; all are finermoe.Error
            print(error.name, error.expected, error.found)

        asyncio.run(serve(model, "A lighthouse is"))


async def serve(model: finermoe.Model, prompt: str) -> None:
    async with model.session() as session:
        async for event in session.agenerate(prompt):  # never blocks the loop; cancelling the task stops it
            print(event.text, end="", flush=True)
        print()


def writers(dense: str, folder: pathlib.Path) -> None:
    moe = folder / "moe"
    finermoe.upcycle(dense, moe, preset="finermoe", g_i=8, progress=True)  # tqdm bar, or a callable(phase, done, total)
    finermoe.quantize(moe, folder / "moe-q4", dtype="q4")
    print(finermoe.plan(moe, sessions=4).weights_total)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("dense", help="a model to upcycle")
    parser.add_argument("folder", type=pathlib.Path, help="where the models that are made go")
    arguments = parser.parse_args()
    requests(arguments.model)
    writers(arguments.dense, arguments.folder)
