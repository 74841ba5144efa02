"""Second-order neighbours as a sparse product against the dense one, which runs on a sample and is scaled up."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from heteromics.graphs import second_order
from heteromics.graphs._mutual import PathCounts, SparsePairs
from tests.benchmarks.harness import Answer, Benchmark, Measured, Side

CELLS, SAMPLE, K = 70_000, 5_000, 5


def pairs_in_groups(cells: int, group: int) -> SparsePairs:
    """K right partners for each left cell, all within groups, so that the first group is a problem of its own."""
    rng = np.random.default_rng(0)
    first = np.arange(cells) // group * group
    step = rng.integers(1, group // K, (cells, K)).cumsum(axis=1)
    partner = np.sort(first[:, None] + step, axis=1)
    indptr = torch.arange(0, cells * K + 1, K)
    return SparsePairs(indptr, torch.from_numpy(partner.ravel()), torch.zeros(cells * K), (cells, cells))


def dense_sample(pairs: SparsePairs) -> Tensor:
    size = min(SAMPLE, pairs.shape[0])
    dense = torch.zeros(size, size)
    dense[torch.arange(size).repeat_interleave(K), pairs.indices[: size * K]] = 1
    return dense


def ours(pairs: SparsePairs) -> PathCounts:
    return second_order(pairs, "pair")


def dense_product(first: Tensor) -> Tensor:
    return (first @ first) * (1 - first)


def our_answer(found: PathCounts) -> Answer:
    size = min(SAMPLE, found.shape[0])
    stop = int(found.indptr[size])
    row = torch.arange(size).repeat_interleave(found.indptr[: size + 1].diff())
    return {"row": row.numpy(), "column": found.indices[:stop].numpy(), "paths": found.paths[:stop].numpy()}


def dense_answer(product: Tensor) -> Answer:
    row, column = product.nonzero(as_tuple=True)
    return {"row": row.numpy(), "column": column.numpy(), "paths": product[row, column].long().numpy()}


def scaled(ours: Measured, peer: Measured) -> float:
    """The dense product takes the cube of the number of cells."""
    return peer.seconds * (CELLS / SAMPLE) ** 3 / ours.seconds


BENCHMARK = Benchmark(
    name="second_order",
    module=__name__,
    what="A A without A, 70,000 x 70,000 cells, k = 5; peer on 5,000 x 5,000, its time taken 14^3 times in the ratio",
    sizes={"full": {"cells": CELLS, "group": SAMPLE}, "short": {"cells": 900, "group": 300}},
    prepare=pairs_in_groups,
    ours=Side("heteromics", run=ours, answer=our_answer),
    peer=Side("dense product in torch (a sample)", run=dense_product, answer=dense_answer, own=dense_sample),
    bar=1_000,
    ratio=scaled,
    rounds={"full": 5, "short": 1},
)
run = BENCHMARK.run
