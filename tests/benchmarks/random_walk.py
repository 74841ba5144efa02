"""Returns of random walks over a gene network with hubs, exact, against DGL's."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from heteromics.graphs.encodings import return_probabilities
from tests.benchmarks.harness import Answer, Benchmark, Side

PEER_STEPS = 3  # each step of the peer is a product with a matrix that has filled up
Inputs = tuple[sp.csr_array, int, int]


def network(nodes: int, edges: int, steps: int, peer_steps: int, seed: int = 0) -> Inputs:
    """About so many directed edges, both directions of each pair, whose ends prefer low numbers; weights 0.15 to 1."""
    rng = np.random.default_rng(seed)
    pairs = np.zeros(0, np.int64)
    while pairs.size < edges // 2:
        low, high = np.sort((rng.random((2, edges)) ** 1.5 * nodes).astype(np.int64), axis=0)
        pairs = np.union1d(pairs, (low * nodes + high)[low < high])
    pairs = rng.choice(pairs, edges // 2, replace=False)
    weight = rng.uniform(0.15, 1, pairs.size).astype(np.float32)
    half = sp.coo_array((weight, (pairs // nodes, pairs % nodes)), shape=(nodes, nodes))
    return (half + half.T).tocsr(), steps, peer_steps


def ours(inputs: Inputs) -> Tensor:
    return return_probabilities(*inputs[:2], progress=False)


def dgl_form(inputs: Inputs) -> tuple[Any, int]:
    """DGL's graph with the weights as edge data, built before the clock starts."""
    from heteromics.graphs._dgl import dgl

    coo = inputs[0].tocoo()
    graph = dgl.graph((torch.from_numpy(coo.row), torch.from_numpy(coo.col)), num_nodes=coo.shape[0])
    graph.edata["weight"] = torch.from_numpy(coo.data)
    return graph, inputs[2]


def theirs(inputs: tuple[Any, int]) -> Tensor:
    from heteromics.graphs._dgl import dgl

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # DGL's own use of read-only arrays
        return dgl.random_walk_pe(*inputs, eweight_name="weight")


def answer(outcome: Tensor) -> Answer:
    return {"returns": outcome.numpy()[:, :PEER_STEPS]}


BENCHMARK = Benchmark(
    name="random_walk",
    module=__name__,
    what="returns of random walks of 1 to 10 steps, weighted, 13,000 nodes, 10 M edges with hubs; peer: 3 steps alone, "
    "its time not scaled, so that the ratio is a bound from below",
    sizes={
        "full": {"nodes": 13_000, "edges": 10_000_000, "steps": 10, "peer_steps": PEER_STEPS},
        "short": {"nodes": 300, "edges": 9_000, "steps": 10, "peer_steps": 10},
    },
    prepare=network,
    ours=Side("heteromics", run=ours, answer=answer),
    peer=Side("dgl.random_walk_pe", run=theirs, answer=answer, own=dgl_form),
    bar=3,
    rounds={"full": 1, "short": 1},
)
run = BENCHMARK.run
