"""Mean average precision over full lists against the plain double loop, which runs on a sample and is scaled up."""

from __future__ import annotations

import numpy as np

from heteromics.tasks.retrieval import mean_average_precision
from tests.benchmarks.harness import Benchmark, Measured, Side

SAMPLE = 50
Inputs = tuple[np.ndarray, np.ndarray, np.ndarray]


def labelled_embeddings(cells: int, width: int) -> Inputs:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 10, cells)
    centre = rng.standard_normal((10, width))[label]
    return centre + rng.standard_normal((cells, width)), centre + rng.standard_normal((cells, width)), label


def ours(inputs: Inputs) -> np.ndarray:
    queries, targets, label = inputs
    return mean_average_precision(queries, targets, label, label).of_query


def double_loop(inputs: Inputs) -> np.ndarray:
    """Average precision by walking down the ranks of one query after the other, as retrieval codes do."""
    queries, targets, label = inputs
    length = np.linalg.norm(targets, axis=1)
    found = []
    for query, own in zip(queries[:SAMPLE], label[:SAMPLE], strict=True):
        ranked = np.argsort(-(targets @ query) / length)
        hits, total = 0, 0.0
        for rank, target in enumerate(ranked, 1):
            if label[target] == own:
                hits += 1
                total += hits / rank
        found.append(total / hits)
    return np.array(found)


def scaled(ours: Measured, peer: Measured) -> float:
    return peer.seconds * CELLS / SAMPLE / ours.seconds


CELLS = 20_000
BENCHMARK = Benchmark(
    name="map",
    module=__name__,
    what=f"mean average precision of 20,000 x 20,000 cells, 64 dimensions; peer on {SAMPLE} queries, ratio scaled up",
    sizes={"full": {"cells": CELLS, "width": 64}, "short": {"cells": 300, "width": 8}},
    prepare=labelled_embeddings,
    ours=Side("heteromics", run=ours, answer=lambda found: {"precision": found[:SAMPLE]}),
    peer=Side("double loop over queries and ranks", run=double_loop, answer=lambda found: {"precision": found}),
    bar=2,
    ratio=scaled,
    rounds={"full": 3, "short": 1},
)
run = BENCHMARK.run
