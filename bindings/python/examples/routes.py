"""Which experts the router chooses, as a table: a row for each token, a column for each MoE layer."""

import argparse

import finermoe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("text")
    arguments = parser.parse_args()

    with finermoe.Model(arguments.model) as model, model.session() as session, session.trace() as trace:
        ids = model.tokenizer.encode(arguments.text)
        session.append(ids)
        chosen = [trace.experts(layer) for layer in range(trace.info.n_moe_layers)]  # [n_tokens, k] each
        weights = [trace.weights(layer) for layer in range(trace.info.n_moe_layers)]

        print(f"{'token':16}" + "".join(f"{f'layer {layer}':24}" for layer in trace.layers))
        for i, id in enumerate(ids):
            text = model.tokenizer.token(id).data.decode(errors="replace")
            cells = [", ".join(f"{expert} ({weight:.2f})" for expert, weight in zip(experts[i], shares[i]))
                     for experts, shares in zip(chosen, weights)]
            print(f"{text!r:16}" + "".join(f"{cell:24}" for cell in cells))
        losses = [trace.balance_loss(layer) for layer in range(trace.info.n_moe_layers)]
        print(f"{'balance loss':16}" + "".join(f"{loss:<24.3f}" for loss in losses))


if __name__ == "__main__":
    main()
