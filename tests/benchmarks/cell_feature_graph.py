"""A cell-feature graph ready for message passing both ways, with statistics of cells: time against DGL from a COO.

Both sides end with both compressed forms of the edges in both directions, weights on them, and the nine statistics of
each cell averaged over its batch. Ours begins with an AnnData whose X is CSR, checks all values and names, and ends
with the :class:`Relation` that models take from the graph, whose weights are in the order of either side. The peer
begins with the coordinates, hands both directions to ``dgl.heterograph`` and has DGL make its compressed forms
(``create_formats_``), which keep edge ids in place of ordered weights; it checks nothing, and describes cells one by
one with NumPy, as the public code of scMoGNN (OmicsML/dance) does, but from compressed rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from anndata import AnnData

from heteromics.graphs import HeteroGraph, cell_feature
from heteromics.graphs._dgl import dgl
from heteromics.nn import Relation
from tests.benchmarks.harness import Answer, Benchmark, Side

EXPRESSED_BY = ("feature", "expressed_by", "cell")
WIDTH = 4
BATCHES = 12
FULL = {"cells": 69_000, "features": 13_000, "values": 77_000_000}
SHORT = {"cells": 200, "features": 600, "values": 20_000}


def random_cells(cells: int, features: int, values: int, seed: int = 0) -> sp.csr_matrix:
    """Positive values in rows whose lengths spread as those of real cells do."""
    rng = np.random.default_rng(seed)
    depth = rng.lognormal(0, 0.4, cells)
    size = np.clip((depth / depth.sum() * values).astype(np.int64), 1, features - 1)
    bounds = np.concatenate([[0], np.cumsum(size)])
    indices = np.empty(bounds[-1], np.int32)
    for first in range(0, cells, 1_000):
        here = size[first : first + 1_000]
        start = np.cumsum(here) - here
        gap = rng.exponential(size=here.sum())
        run = np.cumsum(gap)
        run -= np.repeat(run[start] - gap[start], here)
        whole = run[start + here - 1] * 1.001
        step = np.arange(here.sum()) - np.repeat(start, here)
        at = (run / np.repeat(whole / (features - here), here)).astype(np.int64) + step  # rising, none twice
        indices[bounds[first] : bounds[first] + here.sum()] = at
    data = rng.uniform(0.1, 3.0, bounds[-1]).astype(np.float32)
    return sp.csr_matrix((data, indices, bounds.astype(np.int32)), shape=(cells, features))


def named(matrix: sp.csr_matrix) -> AnnData:
    data = AnnData(matrix)
    data.obs_names = [f"cell_{row}" for row in range(matrix.shape[0])]
    data.var_names = [f"gene_{column}" for column in range(matrix.shape[1])]
    data.obs["batch"] = [f"{row % BATCHES:02}" for row in range(matrix.shape[0])]
    return data


class Coordinates(NamedTuple):
    """The edges one by one, ordered by cell."""

    row: np.ndarray
    column: np.ndarray
    value: np.ndarray
    shape: tuple[int, int]


def coordinates(matrix: sp.csr_matrix) -> Coordinates:
    row = np.repeat(np.arange(matrix.shape[0], dtype=np.int32), np.diff(matrix.indptr))
    return Coordinates(row, matrix.indices, matrix.data, matrix.shape)


class Ready(NamedTuple):
    """Our graph and what models take from it."""

    graph: HeteroGraph
    relation: Relation


def ours(data: AnnData) -> Ready:
    graph = cell_feature(data)
    return Ready(graph, Relation.from_graph(graph, EXPRESSED_BY))


def structure(edges: Coordinates) -> Any:
    """The usual way: every edge in both directions, with weights; int32, which DGL is fastest with."""
    row, column, weight = (torch.from_numpy(part) for part in (edges.row, edges.column, edges.value))
    graph = dgl.heterograph(
        {("cell", "expresses", "feature"): (row, column), EXPRESSED_BY: (column, row)},
        num_nodes_dict={"cell": edges.shape[0], "feature": edges.shape[1]},
    )
    for _, relation, _ in graph.canonical_etypes:
        graph.edges[relation].data["weight"] = weight
    graph.create_formats_()
    return graph


def theirs(edges: Coordinates) -> Any:
    graph = structure(edges)
    graph.nodes["cell"].data["statistics"] = torch.from_numpy(_statistics(edges))
    return graph


def _statistics(edges: Coordinates) -> np.ndarray:
    cells, features = edges.shape
    bounds = np.concatenate([[0], np.cumsum(np.bincount(edges.row, minlength=cells))])
    found = np.empty((cells, 9))
    for cell in range(cells):
        held = edges.value[bounds[cell] : bounds[cell + 1]].astype(np.float64)
        mean = held.sum() / features
        sd = np.sqrt(max(np.square(held).sum() / features - mean**2, 0.0))
        quartiles = np.percentile(held, [25, 50, 75])
        found[cell] = [mean, sd, *quartiles, held.max(), held.size / 1000, held.mean(), held.std()]
    batch = np.arange(cells) % BATCHES
    means = np.stack([found[batch == one].mean(axis=0) if (batch == one).any() else found[0] for one in range(BATCHES)])
    return means[batch].astype(np.float32)


def _features(n: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).standard_normal((n, WIDTH), dtype=np.float32))


def our_answer(ready: Ready) -> Answer:
    cells, features = ready.relation.shape
    return {
        "to_cells": ready.relation.spmm(_features(features)).numpy(),
        "to_features": ready.relation.T.spmm(_features(cells)).numpy(),
        "statistics": ready.graph.ndata("cell")["statistics"].numpy(),
    }


def their_answer(graph: Any) -> Answer:
    cells, features = graph.num_nodes("cell"), graph.num_nodes("feature")
    sums = {
        name: dgl.ops.u_mul_e_sum(graph[relation], _features(n), graph.edges[relation].data["weight"]).numpy()
        for name, relation, n in (("to_cells", "expressed_by", features), ("to_features", "expresses", cells))
    }
    there = graph.nodes["cell"].data
    return sums | ({"statistics": there["statistics"].numpy()} if "statistics" in there else {})


def same(ours: Answer, peer: Answer) -> bool:
    """Agree to float32; the sums go over thousands of numbers of both signs."""
    return ours.keys() == peer.keys() and all(
        ours[name].shape == peer[name].shape
        and np.allclose(ours[name], peer[name], rtol=1e-4, atol=1e-5 * max(1.0, float(np.abs(peer[name]).max())))
        for name in ours
    )


BENCHMARK = Benchmark(
    name="cell_feature_graph",
    module=__name__,
    what="checked graph with statistics of cells, ready for message passing both ways, 69,000 x 13,000, 77 M non-zeros",
    sizes={"full": FULL, "short": SHORT},
    prepare=random_cells,
    ours=Side("heteromics", run=ours, answer=our_answer, own=named),
    peer=Side("dgl.heterograph from COO, NumPy by cell", run=theirs, answer=their_answer, own=coordinates),
    bar=3,
    same=same,
    rounds={"full": 3, "short": 1},
)
run = BENCHMARK.run
