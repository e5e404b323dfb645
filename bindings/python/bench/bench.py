"""What a token and a row of logits cost from Python: bench.py MODEL N_TOKENS REPEATS"""

import json
import sys
import time

import finermoe
import numpy as np

ROWS = 1000


def main(path: str, n_tokens: int, repeats: int) -> None:
    per_token, per_row = [], []
    with finermoe.Model(path, threads=1) as model:
        row = np.empty(model.config.vocab_size, np.float32)
        for _ in range(repeats):
            with model.session() as session:
                generation = session.generate("A lighthouse is", max_tokens=n_tokens, ignore_eos=True)
                begin = time.perf_counter()
                count = sum(1 for _ in generation)
                per_token.append((time.perf_counter() - begin) / count)

                session.reset()
                session.append(model.tokenizer.encode("A lighthouse is"), logits="last")
                begin = time.perf_counter()
                for _ in range(ROWS):
                    session.logits(0, row)
                per_row.append((time.perf_counter() - begin) / ROWS)
    print(json.dumps({"seconds_per_token": per_token, "seconds_per_logits_row": per_row}))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
