"""Approximate nearest and mutual neighbours against brute force; the answer is the same where recall is 0.98."""

from __future__ import annotations

from tests.benchmarks.harness import Answer, Benchmark, Side
from tests.benchmarks.neighbors import Inputs, K, Outcome, answer, brute_force, recall, searched, two_embeddings


def ours(inputs: Inputs) -> Outcome:
    return searched(inputs, "approximate")


def found_again(ours: Answer, peer: Answer) -> bool:
    return min(recall(ours[way], peer[way]) for way in ("forward", "backward")) >= 0.98


BENCHMARK = Benchmark(
    name="neighbors_approximate",
    module=__name__,
    what=f"{K} nearest both ways and mutual pairs, 2 x 70,000 points of 64 dimensions, by descent; same: recall ≥ 0.98",
    sizes={"full": {"cells": 70_000, "width": 64}, "short": {"cells": 5_000, "width": 16}},
    prepare=two_embeddings,
    ours=Side("heteromics", run=ours, answer=answer),
    peer=Side("scikit-learn, brute force", run=brute_force, answer=answer),
    bar=5,
    same=found_again,
    rounds={"full": 1, "short": 1},
)
run = BENCHMARK.run
