"""Weighted sum over neighbours, forward and backward, against DGL's operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from heteromics.nn import Relation
from tests.benchmarks.harness import Answer, Benchmark, Side

Inputs = tuple[sp.csr_array, Tensor, Tensor]


def random_matrix(rows: int, columns: int, edges: int, width: int, seed: int = 0) -> Inputs:
    """A matrix of even density, features of its columns and a gradient of its rows; sums have unit size."""
    rng = np.random.default_rng(seed)
    matrix = sp.random_array((rows, columns), density=edges / (rows * columns), format="csr", dtype=np.float32, rng=rng)
    matrix.sort_indices()
    matrix.data *= (rows / edges) ** 0.5
    h = torch.from_numpy(rng.standard_normal((columns, width), dtype=np.float32)).requires_grad_()
    return matrix, h, torch.from_numpy(rng.standard_normal((rows, width), dtype=np.float32))


def relation_form(inputs: Inputs) -> tuple[Relation, Tensor, Tensor]:
    matrix, h, grad = inputs
    return Relation.from_scipy(matrix), h, grad


def ours(inputs: tuple[Relation, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    relation, h, grad = inputs
    out = relation.spmm(h)
    return out, torch.autograd.grad(out, h, grad)[0]


def dgl_form(inputs: Inputs) -> tuple[Any, Tensor, Tensor, Tensor]:
    """DGL's graph with int32 ids and all its sparse formats built before the clock starts."""
    from heteromics.graphs._dgl import dgl

    matrix, h, grad = inputs
    coo = matrix.tocoo()
    edges = {("s", "to", "d"): (torch.from_numpy(coo.col.astype(np.int32)), torch.from_numpy(coo.row.astype(np.int32)))}
    graph = dgl.heterograph(edges, num_nodes_dict={"s": matrix.shape[1], "d": matrix.shape[0]})
    graph.create_formats_()
    return graph, torch.from_numpy(coo.data), h, grad


def theirs(inputs: tuple[Any, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    from heteromics.graphs._dgl import dgl

    graph, weight, h, grad = inputs
    out = dgl.ops.u_mul_e_sum(graph, h, weight)
    return out, torch.autograd.grad(out, h, grad)[0]


def answer(outcome: tuple[Tensor, Tensor]) -> Answer:
    return {"out": outcome[0].detach().numpy(), "gradient": outcome[1].numpy()}


BENCHMARK = Benchmark(
    name="spmm",
    module=__name__,
    what="sum over weighted neighbours, forward and backward, 5,000 x 13,000 with 6.5 M non-zeros, width 64",
    sizes={
        "full": {"rows": 5_000, "columns": 13_000, "edges": 6_500_000, "width": 64},
        "short": {"rows": 300, "columns": 500, "edges": 5_000, "width": 16},
    },
    prepare=random_matrix,
    ours=Side("heteromics", run=ours, answer=answer, own=relation_form),
    peer=Side("dgl.ops.u_mul_e_sum", run=theirs, answer=answer, own=dgl_form),
    bar=2.5,
    rounds={"full": 11, "short": 1},
)
run = BENCHMARK.run
