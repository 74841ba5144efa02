"""Weighted sum over neighbours, forward and backward, against DGL's operator and torch's own sparse CSR.

The modules ``spmm_*`` beside this one hold the other sizes and the other peer; all are built by :func:`benchmark`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from heteromics.nn import Relation
from tests.benchmarks.harness import Answer, Benchmark, Side

Inputs = tuple[sp.csr_array, Tensor, Tensor]


SMALL = {"rows": 5_000, "columns": 13_000, "edges": 6_500_000}
LARGE = {"rows": 66_000, "columns": 14_000, "edges": 60_000_000}


def random_matrix(rows: int, columns: int, edges: int, width: int, seed: int = 0) -> Inputs:
    """A matrix of even density, about ``edges`` entries; features of its columns, a gradient of its rows.

    Gaps between entries are geometric, as if a coin were thrown at every place. Sums have unit size.
    """
    rng = np.random.default_rng(seed)
    place = rng.geometric(edges / (rows * columns), int(edges + 6 * edges**0.5 + 1)).cumsum() - 1
    place = place[: np.searchsorted(place, rows * columns)]
    index = (place % columns).astype(np.int32)
    place //= columns
    indptr = np.searchsorted(place, np.arange(rows + 1)).astype(np.int32)
    del place
    weight = rng.random(len(index), dtype=np.float32) * np.float32((rows / edges) ** 0.5)
    h = torch.from_numpy(rng.standard_normal((columns, width), dtype=np.float32)).requires_grad_()
    matrix = sp.csr_array((weight, index, indptr), shape=(rows, columns))
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


def torch_form(inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    matrix, h, grad = inputs
    return torch.sparse_csr_tensor(*map(torch.from_numpy, (matrix.indptr, matrix.indices, matrix.data))), h, grad


def torch_csr(inputs: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    matrix, h, grad = inputs
    out = matrix @ h
    return out, torch.autograd.grad(out, h, grad)[0]


def answer(outcome: tuple[Tensor, Tensor]) -> Answer:
    return {"out": outcome[0].detach().numpy(), "gradient": outcome[1].numpy()}


DGL = Side("dgl.ops.u_mul_e_sum", run=theirs, answer=answer, own=dgl_form)
TORCH = Side("torch sparse CSR with autograd", run=torch_csr, answer=answer, own=torch_form)


def benchmark(name: str, module: str, size: Mapping[str, int], width: int, peer: Side) -> Benchmark:
    """One size against one peer; bar 2.5 against DGL, and never slower than torch."""
    return Benchmark(
        name=name,
        module=module,
        what=f"sum over weighted neighbours, forward and backward, {size['rows']:,} x {size['columns']:,} with "
        f"{size['edges'] / 1e6:g} M non-zeros, width {width}",
        sizes={"full": {**size, "width": width}, "short": {"rows": 300, "columns": 500, "edges": 5_000, "width": 80}},
        prepare=random_matrix,
        ours=Side("heteromics", run=ours, answer=answer, own=relation_form),
        peer=peer,
        bar=2.5 if peer is DGL else 1,
        rounds={"full": 11 if size is SMALL else 3, "short": 1},
    )


BENCHMARK = benchmark("spmm", __name__, SMALL, width=64, peer=DGL)
run = BENCHMARK.run
