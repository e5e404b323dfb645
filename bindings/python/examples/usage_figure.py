"""A figure of how the experts are used by a text, and how evenly (needs matplotlib)."""

import argparse
import pathlib

import numpy as np
from matplotlib.figure import Figure

import finermoe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("text", type=pathlib.Path, help="a file")
    parser.add_argument("figure", help="what is written: figure.png, figure.svg, …")
    arguments = parser.parse_args()

    with finermoe.Model(arguments.model) as model, model.session() as session:
        ids = model.tokenizer.encode(arguments.text.read_text(encoding="utf-8"))
        with session.trace(routes=False) as trace:
            for begin in range(0, len(ids), session.context_length):
                session.reset()
                session.append(ids[begin:begin + session.context_length])
        layers = range(trace.info.n_moe_layers)
        shares = np.array([trace.usage(layer) / trace.usage(layer).sum() for layer in layers])  # [n_layers, n_experts]
        losses = [trace.balance_loss(layer) for layer in layers]
        names = [str(layer) for layer in trace.layers]

    figure = Figure(figsize=(11, 1.5 + 0.5 * len(names)), layout="constrained")
    used, balance = figure.subplots(1, 2, width_ratios=[4, 1])
    image = used.imshow(shares * shares.shape[1], aspect="auto", cmap="viridis", vmin=0)
    used.set(title="How often each expert was chosen (1: as often as all)", xlabel="expert", ylabel="layer",
             yticks=range(len(names)), yticklabels=names)
    figure.colorbar(image, ax=used)
    balance.barh(names, losses)
    balance.axvline(1, color="black", linestyle=":")
    balance.invert_yaxis()
    balance.set(title="Balance loss (1: even)", ylabel="layer")
    figure.savefig(arguments.figure, dpi=120)
    print(f"{len(ids)} tokens, {arguments.figure}")


if __name__ == "__main__":
    main()
