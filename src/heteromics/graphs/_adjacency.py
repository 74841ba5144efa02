"""One edge type among the nodes of one type as a checked sparse matrix of weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from heteromics.errors import GraphError

if TYPE_CHECKING:
    from heteromics.graphs.schema import EdgeType, HeteroGraph

Matrix = Any
"""A SciPy CSR array of float64."""


def adjacency_of(graph: HeteroGraph, etype: EdgeType, weight: str | None) -> Matrix:
    """Return edges among the nodes of one type, rows = sources; see :func:`checked_adjacency`.

    Parameters
    ----------
    graph, etype
        The edge type must lead from a node type to itself.
    weight
        Name of edge data of shape (E,), or None for edges that count 1.

    Raises
    ------
    GraphError
        The edge type joins two node types, the edge data are not there, or weights are no weights.
    """
    indptr, indices, eids = graph.adjacency(etype, by="src")
    if etype[0] != etype[2]:
        raise GraphError(
            f"edges {tuple(etype)} join '{etype[0]}' with '{etype[2]}'; an encoding of nodes by their place in a graph "
            f"needs edges among nodes of one type.\n  Fix: give one such as ('{etype[0]}', ..., '{etype[0]}')."
        )
    data = graph.edata(etype)
    if weight is not None and weight not in data:
        raise GraphError(
            f"Edges {tuple(etype)} have no data called '{weight}'; they have: {', '.join(data) or 'none'}.\n"
            f"  Fix: name one of these, or pass weight=None for edges that count 1."
        )
    values = np.ones(len(indices)) if weight is None else data[weight][eids.long()].double().numpy()
    size = graph.num_nodes(etype[0])
    return checked_adjacency(sparse.csr_array((values, indices.numpy(), indptr.numpy()), shape=(size, size)))


def checked_adjacency(adjacency: Any) -> Matrix:
    """Bring a square matrix of weights into one form: CSR of float64, parallel edges added, zeros left out.

    Raises
    ------
    GraphError
        For a matrix that is not square, or weights that are negative or not finite; they are counted.
    """
    found: Any = adjacency
    if not sparse.issparse(adjacency) or found.ndim != 2 or found.shape[0] != found.shape[1]:
        raise GraphError(
            f"found {type(found).__name__} of shape {np.shape(found)}, expected a square SciPy sparse matrix."
        )
    matrix: Matrix = sparse.csr_array(found.astype(np.float64, copy=True))
    if bad := int((~np.isfinite(matrix.data)).sum() + (matrix.data < 0).sum()):
        raise GraphError(
            f"{bad:,} of {matrix.nnz:,} edge weights are negative or not finite; degrees need weights of 0 or more.\n"
            "  Fix: leave those edges out, take absolute values, or pass weight=None."
        )
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def is_symmetric(matrix: Matrix) -> bool:
    """Say whether both directions of every edge are there with the same weight, up to rounding of float32."""
    turned = matrix.T.tocsr()
    return (
        np.array_equal(turned.indptr, matrix.indptr)
        and np.array_equal(turned.indices, matrix.indices)
        and np.allclose(turned.data, matrix.data, rtol=1e-6, atol=0)
    )


def by_degree(matrix: Matrix, *, symmetric: bool) -> Matrix:
    """Return D^-1/2 A D^-1/2 where symmetric, else D^-1 A, with the sums of rows as D; empty rows stay empty."""
    degree = matrix.sum(axis=1)
    inverse = np.divide(1.0, degree, out=np.zeros_like(degree), where=degree > 0)
    row = np.repeat(np.arange(len(degree)), np.diff(matrix.indptr))
    scaled = matrix.copy()
    if symmetric:
        root = np.sqrt(inverse)  # a product of inverses could leave the range of float64
        scaled.data *= root[row] * root[matrix.indices]
    else:
        scaled.data *= inverse[row]
    return scaled
