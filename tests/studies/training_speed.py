"""How fast does Bi2Former train? Pairs a second over the genes and peaks of a pair, and over the pairs of a batch.

    python -m tests.studies.training_speed --rounds 3

Cells, network and steps are those of the benchmark ``bi2former_training``; nothing else may run beside it. A row is the
median over rounds of 32 pairs, after one round that is not counted.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd

from heteromics._progress import track
from tests.benchmarks.bi2former_training import FULL, inputs, ours

SHARES = (1 / 16, 1 / 4, 1 / 2, 1)  # of the genes and peaks of a pair
BATCHES = (1, 4, 16, 32)


def pairs_per_second(rounds: int, **sizes: int) -> float:
    """Train for some rounds; return the pairs of a round over its median seconds."""
    training = ours(inputs(**{**FULL, **sizes}))
    training.epoch()
    seconds = []
    for _ in range(rounds):
        begun = time.perf_counter()
        training.epoch()
        seconds.append(time.perf_counter() - begun)
    return len(training.given.pairs) / float(np.median(seconds))


def table(rounds: int) -> pd.DataFrame:
    """Return ``expressed, opened, batch, pairs_per_second``: sizes at batches of 16, then batches at full size."""
    asked = [
        {"expressed": round(FULL["expressed"] * share), "opened": round(FULL["opened"] * share), "batch": 16}
        for share in SHARES
    ]
    asked += [{"expressed": FULL["expressed"], "opened": FULL["opened"], "batch": batch} for batch in BATCHES]
    rows = [{**each, "pairs_per_second": pairs_per_second(rounds, **each)} for each in track(asked, "training")]
    return pd.DataFrame(rows).drop_duplicates(["expressed", "opened", "batch"])


def main() -> None:
    """Parse the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    print(table(parser.parse_args().rounds).round(2).to_string(index=False))


if __name__ == "__main__":
    main()
