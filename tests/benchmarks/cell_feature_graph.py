"""A cell-feature graph from compressed rows: memory against the CSR pair of message passing, time against DGL."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from anndata import AnnData

from heteromics.graphs import HeteroGraph, cell_feature
from heteromics.graphs._dgl import dgl
from heteromics.nn import Relation
from tests.benchmarks.harness import Answer, Benchmark, Measured, Side

EXPRESSED_BY = ("feature", "expressed_by", "cell")
WIDTH = 4


def random_cells(cells: int, features: int, values: int, seed: int = 0) -> sp.csr_matrix:
    """Positive values at even density, in rows of nearly the same length."""
    rng = np.random.default_rng(seed)
    per_row = values // cells
    indices = np.concatenate([np.sort(rng.choice(features, per_row, replace=False)) for _ in range(cells)])
    data = rng.uniform(0.1, 3.0, indices.size).astype(np.float32)
    indptr = np.arange(cells + 1, dtype=np.int32) * per_row
    return sp.csr_matrix((data, indices.astype(np.int32), indptr), shape=(cells, features))


def named(matrix: sp.csr_matrix) -> AnnData:
    data = AnnData(matrix)
    data.obs_names = [f"cell_{row}" for row in range(matrix.shape[0])]
    data.var_names = [f"gene_{column}" for column in range(matrix.shape[1])]
    return data


def theirs(matrix: sp.csr_matrix) -> Any:
    """The usual way: coordinates of every edge, in both directions, with weights; no checks, no statistics of cells."""
    rows = torch.from_numpy(np.repeat(np.arange(matrix.shape[0], dtype=np.int32), np.diff(matrix.indptr)))
    columns, weight = torch.from_numpy(matrix.indices), torch.from_numpy(matrix.data)
    edges = {("cell", "expresses", "feature"): (rows, columns), EXPRESSED_BY: (columns, rows)}
    graph = dgl.heterograph(edges, num_nodes_dict={"cell": matrix.shape[0], "feature": matrix.shape[1]})
    for _, relation, _ in graph.canonical_etypes:
        graph.edges[relation].data["weight"] = weight
    return graph


def pair_mb(cells: int, features: int, values: int) -> float:
    """CSR and its transpose: int32 columns and row bounds, float32 weights."""
    return (2 * 8 * values + 4 * (cells + features + 2)) / 2**20


def _features(n: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).standard_normal((n, WIDTH), dtype=np.float32))


def our_answer(graph: HeteroGraph) -> Answer:
    relation = Relation.from_graph(graph, EXPRESSED_BY)
    cells, features = relation.shape
    return {
        "to_cells": relation.spmm(_features(features)).numpy(),
        "to_features": relation.T.spmm(_features(cells)).numpy(),
        "pair_mb": np.array(pair_mb(cells, features, relation.nnz)),
    }


def their_answer(graph: Any) -> Answer:
    cells, features = graph.num_nodes("cell"), graph.num_nodes("feature")
    sums = {
        name: dgl.ops.u_mul_e_sum(graph[relation], _features(n), graph.edges[relation].data["weight"]).numpy()
        for name, relation, n in (("to_cells", "expressed_by", features), ("to_features", "expresses", cells))
    }
    return {**sums, "pair_mb": np.array(pair_mb(cells, features, graph.num_edges("expresses")))}


def share_of_pair(ours: Measured, peer: Measured) -> float:
    """Peak memory of building ours over the bytes of the CSR pair."""
    return ours.peak_mb / float(peer.answer["pair_mb"])


BENCHMARK = Benchmark(
    name="cell_feature_graph",
    module=__name__,
    what="checked graph, cell statistics, from a CSR of 10,000 x 29,000, 20 M non-zeros; ratio: peak over the CSR pair",
    sizes={
        "full": {"cells": 10_000, "features": 29_000, "values": 20_000_000},
        "short": {"cells": 200, "features": 600, "values": 20_000},
    },
    prepare=random_cells,
    ours=Side("heteromics", run=cell_feature, answer=our_answer, own=named),
    peer=Side("dgl.heterograph from COO", run=theirs, answer=their_answer),
    bar=2,
    bar_is="at_most",
    ratio=share_of_pair,
    rounds={"full": 3, "short": 1},
)
run = BENCHMARK.run
