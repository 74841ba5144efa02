"""Gene pairs of hallmark-like sets with cosine weights over many cells, against a loop over the pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from heteromics.priors.set_pairs import SharedSets, set_cosine, shared_sets
from tests.benchmarks.harness import Answer, Benchmark, Measured, Side

BLOCK = 4096
SAMPLE = 400
"""Pairs the loop is run on."""


@dataclass(frozen=True)
class Inputs:
    """Cells x genes, CSR, float32, and genes x sets."""

    cells: sp.csr_array
    membership: sp.csr_array


def cells_and_sets(cells: int, genes: int, sets: int, size: int, seed: int = 0) -> Inputs:
    """Genes seen in a tenth of the cells on average, some in nearly all; sets drawn from a third of the genes."""
    rng = np.random.default_rng(seed)
    seen = np.clip(rng.beta(0.4, 3.6, genes), 0.02, 1).astype(np.float32)
    blocks = []
    for start in range(0, cells, 1_000):
        drawn = sp.csr_array(rng.random((min(1_000, cells - start), genes), dtype=np.float32) < seen)
        values = rng.exponential(1, drawn.nnz).astype(np.float32)
        blocks.append(sp.csr_array((values, drawn.indices.astype(np.int32), drawn.indptr), shape=drawn.shape))
    usable = rng.choice(genes, genes // 3, replace=False)
    rows = np.concatenate([rng.choice(usable, size, replace=False) for _ in range(sets)])
    entries = (np.ones(rows.size, np.int32), (rows, np.repeat(np.arange(sets), size)))
    return Inputs(sp.vstack(blocks, format="csr"), sp.csr_array(entries, shape=(genes, sets)))


def _blocks(inputs: Inputs, used: np.ndarray) -> Iterator[sp.csr_array]:
    for start in range(0, inputs.cells.shape[0], BLOCK):
        yield inputs.cells[start : start + BLOCK][:, used]


def ours(inputs: Inputs) -> tuple[SharedSets, np.ndarray]:
    """All pairs and their weights, cells read block by block as from a file."""
    used = np.flatnonzero(np.diff(inputs.membership.indptr))
    membership = inputs.membership[used]
    pairs = shared_sets(membership)
    weight = set_cosine(_blocks(inputs, used), membership, pairs)
    return pairs._replace(a=used[pairs.a], b=used[pairs.b]), weight


def our_answer(outcome: tuple[SharedSets, np.ndarray]) -> Answer:
    """The pairs of the sample, their weights, and how many pairs there are in all."""
    pairs, weight = outcome
    at = sample(pairs.a.size)
    return {"a": pairs.a[at], "b": pairs.b[at], "weight": weight[at], "pairs": np.array(pairs.a.size)}


def sample(pairs: int) -> np.ndarray:
    """Evenly spread places among the pairs."""
    return np.linspace(0, pairs - 1, min(SAMPLE, pairs)).astype(np.int64)


def dense_form(inputs: Inputs) -> tuple[np.ndarray, SharedSets, np.ndarray]:
    """The loop's form: the genes of sets as a dense matrix, cells in rows, and all pairs, each once."""
    used = np.flatnonzero(np.diff(inputs.membership.indptr))
    return inputs.cells[:, used].toarray(), shared_sets(inputs.membership[used]), used


def loop(form: tuple[np.ndarray, SharedSets, np.ndarray]) -> Answer:
    """A sample of the pairs, one after the other: two norms and a product of columns for each."""
    cells, pairs, used = form
    at = sample(pairs.a.size)
    weight = np.empty(at.size)
    for place, (a, b) in enumerate(zip(pairs.a[at], pairs.b[at], strict=True)):
        one, two = cells[:, a], cells[:, b]
        weight[place] = one @ two / np.sqrt(one @ one) / np.sqrt(two @ two)
    return {"a": used[pairs.a[at]], "b": used[pairs.b[at]], "weight": weight, "pairs": np.array(pairs.a.size)}


def extrapolated(ours: Measured, peer: Measured) -> float:
    """How many times faster ours is than the loop would be on all pairs, each taken once."""
    share = peer.answer["a"].size / int(peer.answer["pairs"])
    return peer.seconds / share / ours.seconds


BENCHMARK = Benchmark(
    name="pathway_graph",
    module=__name__,
    what="cosine weights of the gene pairs of 50 sets of 200 over 66,000 x 14,000 cells, 10 % non-zero; "
    f"peer: {SAMPLE} pairs of about 950,000, its ratio extrapolated to all",
    sizes={
        "full": {"cells": 66_000, "genes": 14_000, "sets": 50, "size": 200},
        "short": {"cells": 600, "genes": 400, "sets": 5, "size": 40},
    },
    prepare=cells_and_sets,
    ours=Side("heteromics", run=ours, answer=our_answer),
    peer=Side("loop over pairs of dense columns, as DANCE has it (a sample)", run=loop, own=dense_form),
    bar=100,
    ratio=extrapolated,
    rounds={"full": 3, "short": 1},
)
run = BENCHMARK.run
