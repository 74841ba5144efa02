"""One-to-one matching of two embeddings of the same cells, against a dense linear assignment."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linear_sum_assignment

from heteromics.nn.assignment import assign
from tests.benchmarks.harness import Answer, Benchmark, Side

Float = NDArray[np.float32]
Inputs = tuple[Float, Float]
CANDIDATES = 10  # of each row and column: half of the default, and a tenth of a permille from the best here
NOISE = 2.0  # cell states have a standard deviation of 1 in every dimension


def embeddings(cells: int, width: int, seed: int = 0) -> Inputs:
    """Unit embeddings of two modalities: 16 directions of cell states, and as much noise of each side's own.

    Few cells have their other half nearest, 2.5 % among 3,000: hard to match, as real modalities are.
    The second side has its rows in another order, as cells that are still to be matched.
    """
    rng = np.random.default_rng(seed)
    state = rng.normal(size=(cells, 16)) @ rng.normal(size=(16, width)) / 4
    left, right = (state + NOISE * rng.normal(size=state.shape) for _ in range(2))
    right = right[rng.permutation(cells)]
    return tuple((side / np.linalg.norm(side, axis=1, keepdims=True)).astype(np.float32) for side in (left, right))


def ours(inputs: Inputs) -> tuple[Inputs, sparse.csr_array]:
    return inputs, assign(*inputs, k=CANDIDATES, progress=False)


def theirs(inputs: Inputs) -> tuple[Inputs, sparse.csr_array]:
    left, right = inputs
    row, column = linear_sum_assignment(left @ right.T, maximize=True)
    return inputs, sparse.csr_array((np.ones(row.size), (row, column)), shape=(len(left), len(right)))


def answer(outcome: tuple[Inputs, sparse.csr_array]) -> Answer:
    """Sum of the matched similarities, and how often each row and column is used."""
    (left, right), matching = outcome
    pairs = matching.tocoo()
    total = np.einsum("ij,ij->", left[pairs.row].astype(np.float64), right[pairs.col].astype(np.float64))
    return {"total": total, "rows": matching.sum(1).astype(np.int64), "columns": matching.sum(0).astype(np.int64)}


def within_a_thousandth(ours: Answer, peer: Answer) -> bool:
    alike = all(np.array_equal(ours[side], peer[side]) for side in ("rows", "columns"))
    return alike and float(ours["total"]) >= 0.999 * float(peer["total"])


BENCHMARK = Benchmark(
    name="assignment",
    module=__name__,
    sizes={"full": {"cells": 6_670, "width": 64}, "short": {"cells": 300, "width": 16}},
    prepare=embeddings,
    ours=Side("heteromics", run=ours, answer=answer),
    peer=Side("scipy linear_sum_assignment, dense similarities", run=theirs, answer=answer),
    bar=15,
    what="one-to-one matching of 6,670 x 6,670 cells by embeddings of width 64, 10 candidates each; sums within 0.1 %",
    same=within_a_thousandth,
    rounds={"full": 3, "short": 1},
)
run = BENCHMARK.run
