"""Nearest and mutual neighbours of two sets of cells, exact in blocks, against scikit-learn's brute force."""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse

from heteromics.graphs import Neighbors, mutual_pairs, nearest_neighbors
from tests.benchmarks.harness import Answer, Benchmark, Side

K = 5
Inputs = tuple[np.ndarray, np.ndarray]
Outcome = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # neighbours both ways, their distances one way, pairs


def two_embeddings(cells: int, width: int) -> Inputs:
    """Two views of cells of 40 types that vary in 10 directions, turned into ``width`` dimensions, with noise."""
    rng = np.random.default_rng(0)
    hidden = 2 * rng.standard_normal((40, 10))[rng.integers(0, 40, cells)] + rng.standard_normal((cells, 10))
    turn = rng.standard_normal((10, width)) / 10**0.5
    moved = hidden + 0.3 * rng.standard_normal(hidden.shape)
    views = [view @ turn + 0.1 * rng.standard_normal((cells, width)) for view in (hidden, moved)]
    return tuple(view.astype(np.float32) for view in views)


def searched(inputs: Inputs, method: str) -> Outcome:
    left, right = (torch.from_numpy(each) for each in inputs)
    forward = nearest_neighbors(left, right, K, method=method)
    backward = nearest_neighbors(right, left, K, method=method)
    pairs = mutual_pairs(Neighbors(*forward), Neighbors(*backward))
    row = np.repeat(np.arange(len(left)), pairs.indptr.diff().numpy())
    return (
        forward.indices.numpy(),
        backward.indices.numpy(),
        forward.distance.numpy(),
        row * len(right) + pairs.indices.numpy(),
    )


def ours(inputs: Inputs) -> Outcome:
    return searched(inputs, "exact")


def brute_force(inputs: Inputs) -> Outcome:
    from sklearn.neighbors import NearestNeighbors

    left, right = inputs
    distance, forward = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(right).kneighbors(left)
    backward = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(left).kneighbors(right)[1]
    shape = (len(left), len(right))
    one, other = (
        sparse.csr_array((np.ones(each.size, bool), each.ravel(), np.arange(0, each.size + 1, K)), shape=form)
        for each, form in ((forward, shape), (backward, shape[::-1]))
    )
    pairs = one.multiply(other.T.tocsr()).tocoo()
    return forward, backward, distance, np.sort(pairs.row.astype(np.int64) * shape[1] + pairs.col)


def answer(outcome: Outcome) -> Answer:
    return dict(zip(("forward", "backward", "distance", "pairs"), outcome, strict=True))


def recall(ours: np.ndarray, peer: np.ndarray) -> float:
    """Share of the peer's neighbours that are among ours."""
    return float((ours[:, :, None] == peer[:, None, :]).any(1).mean())


def alike(ours: Answer, peer: Answer) -> bool:
    """Equal up to what rounding decides: the peer ranks by distances of the rounded product form."""
    return (
        min(recall(ours[way], peer[way]) for way in ("forward", "backward")) > 0.9999
        and np.allclose(ours["distance"], peer["distance"], rtol=1e-3)
        and len(np.setxor1d(ours["pairs"], peer["pairs"])) <= 1e-4 * len(peer["pairs"])
    )


BENCHMARK = Benchmark(
    name="neighbors",
    module=__name__,
    what=f"{K} nearest both ways and mutual pairs, 2 x 70,000 points of 64 dimensions, float32, exact",
    sizes={"full": {"cells": 70_000, "width": 64}, "short": {"cells": 700, "width": 16}},
    prepare=two_embeddings,
    ours=Side("heteromics", run=ours, answer=answer),
    peer=Side("scikit-learn, brute force", run=brute_force, answer=answer),
    bar=1,
    same=alike,
    rounds={"full": 1, "short": 1},
)
run = BENCHMARK.run
