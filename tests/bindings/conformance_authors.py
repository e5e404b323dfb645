"""What the conformance suite expects is what the authors' code computes: conformance_authors.py"""

import json
import math
import sys

from support import BINDINGS, SOURCE

MODELS = SOURCE / "examples/models"
SHAPES = SOURCE / "tests/data/shapes"


def rows_of(kind):
    for path in sorted((BINDINGS / "conformance").glob("*.json")):
        for row in json.loads(path.read_text(encoding="utf-8")):
            if row["kind"] == kind:
                yield row


def authors_prompts(row):
    """The authors' outputs for the row's model, by the ids of the prompt."""
    folder = SHAPES / row["shape"] if "shape" in row else MODELS / row.get("model", "tiny-wordnet-finermoe")
    prompts = json.loads((folder / "expected.json").read_text(encoding="utf-8"))["prompts"]
    return {tuple(prompt["ids"]): prompt for prompt in prompts}


def check_greedy(row):
    """Returns whether the authors have this prompt; their greedy text is the row's."""
    prompt = authors_prompts(row).get(tuple(row.get("ids", ())))
    if prompt is None or row["options"].keys() - {"max_tokens", "temperature", "clear_stop_tokens", "stop_tokens"}:
        return False
    n = len(row["expect"]["tokens"])
    assert row["expect"]["tokens"] == prompt["greedy"][:n], row["name"]
    return True


def check_routes(row):
    prompt = authors_prompts(row).get(tuple(row["ids"]))
    if prompt is None:
        return False
    layer = prompt["layers"][row["moe_layer"]]
    for experts, weights, found, found_weights in zip(layer["experts"], layer["weights"], row["expect"]["experts"],
                                                      row["expect"]["weights"], strict=True):
        theirs = sorted(zip(experts, weights))
        assert [expert for expert, _ in theirs] == found, row["name"]
        assert all(math.isclose(a, b, abs_tol=1e-4) for (_, a), b in zip(theirs, found_weights)), row["name"]
    return True


def main():
    checked = {"generate": sum(map(check_greedy, rows_of("generate"))),
               "routes": sum(map(check_routes, rows_of("routes")))}
    print(checked)
    assert checked["generate"] >= 8 and checked["routes"] >= 1, "too few rows have a prompt of the authors"


if __name__ == "__main__":
    sys.exit(main())
