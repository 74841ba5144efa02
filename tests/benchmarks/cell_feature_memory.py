"""Peak memory of building a cell-feature graph from compressed rows, as a share of the CSR pair of message passing."""

from __future__ import annotations

from typing import Any

import numpy as np

from heteromics.graphs import HeteroGraph, cell_feature
from heteromics.nn import Relation
from tests.benchmarks.cell_feature_graph import (
    EXPRESSED_BY,
    FULL,
    SHORT,
    Ready,
    coordinates,
    named,
    our_answer,
    random_cells,
    same,
    structure,
    their_answer,
)
from tests.benchmarks.harness import Answer, Benchmark, Measured, Side


def pair_mb(cells: int, features: int, values: int) -> float:
    """CSR and its transpose: int32 columns and row bounds, float32 weights."""
    return (2 * 8 * values + 4 * (cells + features + 2)) / 2**20


def answer(graph: HeteroGraph) -> Answer:
    ready = Ready(graph, Relation.from_graph(graph, EXPRESSED_BY))
    sums = {name: values for name, values in our_answer(ready).items() if name != "statistics"}
    return {**sums, "pair_mb": np.array(pair_mb(*ready.relation.shape, ready.relation.nnz))}


def peer_answer(graph: Any) -> Answer:
    found = their_answer(graph)
    sizes = (len(found["to_cells"]), len(found["to_features"]))
    return {**found, "pair_mb": np.array(pair_mb(*sizes, graph.num_edges("expresses")))}


def share_of_pair(ours: Measured, peer: Measured) -> float:
    """Peak memory of building ours over the bytes of the CSR pair."""
    return ours.peak_mb / float(peer.answer["pair_mb"])


BENCHMARK = Benchmark(
    name="cell_feature_memory",
    module=__name__,
    what="checked graph, cell statistics, from a CSR of 69,000 x 13,000, 77 M non-zeros; ratio: peak over the CSR pair",
    sizes={"full": FULL, "short": SHORT},
    prepare=random_cells,
    ours=Side("heteromics", run=cell_feature, answer=answer, own=named),
    peer=Side("dgl.heterograph from COO", run=structure, answer=peer_answer, own=coordinates),
    bar=2,
    bar_is="at_most",
    ratio=share_of_pair,
    same=same,
    rounds={"full": 1, "short": 1},
)
run = BENCHMARK.run
