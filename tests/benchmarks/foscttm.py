"""FOSCTTM over all pairs, in blocks, against scglue's, which keeps all distances."""

from __future__ import annotations

from typing import Any

import numpy as np

from heteromics.tasks.retrieval import foscttm
from tests.benchmarks.harness import Answer, Benchmark, Side, package

Inputs = tuple[np.ndarray, np.ndarray]


def two_embeddings(cells: int, width: int) -> Inputs:
    rng = np.random.default_rng(0)
    left = rng.standard_normal((cells, width))
    return left, left + rng.standard_normal((cells, width))


def ours(inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
    return tuple(foscttm(*inputs))


def scglue(inputs: Inputs) -> Any:
    from scglue.metrics import foscttm as theirs

    return theirs(*inputs)


def answer(outcome: tuple[np.ndarray, np.ndarray]) -> Answer:
    return {"left": np.asarray(outcome[0]), "right": np.asarray(outcome[1])}


BENCHMARK = Benchmark(
    name="foscttm",
    module=__name__,
    what="FOSCTTM of 20,000 x 20,000 cells, 64 dimensions, float64",
    sizes={"full": {"cells": 20_000, "width": 64}, "short": {"cells": 300, "width": 8}},
    prepare=two_embeddings,
    ours=Side("heteromics", run=ours, answer=answer),
    peer=Side("scglue.metrics.foscttm", run=scglue, answer=answer, needs=(package("scglue"),)),
    bar=2,
    rounds={"full": 1, "short": 1},  # the peer takes minutes
)
run = BENCHMARK.run
