"""Pairs of genes that share gene sets, and how strongly: by their sets (Jaccard), or by their expression (cosine).

threadpoolctl, which scikit-learn depends on too, keeps the many small products on one thread: on a busy machine the
threads of the linear algebra library wait for one another, and 5 seconds become 20 and more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse
from threadpoolctl import threadpool_limits

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class SharedSets(NamedTuple):
    """Pairs of genes that share a set, each field of shape (E,): rows with ``a < b``, sets shared, Jaccard index."""

    a: Ints
    b: Ints
    shared: Ints
    jaccard: Floats


def shared_sets(membership: sparse.csr_array) -> SharedSets:
    """Find all pairs of genes that share at least one set, by one sparse Gram matrix.

    Parameters
    ----------
    membership
        Genes x sets, (G, S), each stored entry a membership, no entry twice.

    Returns
    -------
    SharedSets
        Pairs ordered by ``a``, then ``b``; with n = M M^T, the Jaccard index is n_ab / (n_aa + n_bb - n_ab), the
        number of sets that hold both genes over the number that hold either (Jaccard 1912).

    Notes
    -----
    Cost and memory follow the sum of the squared set sizes; very large sets are to be left out before.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> pairs = shared_sets(sparse.csr_array(np.array([[1, 1, 0], [1, 1, 1], [0, 0, 1]])))
    >>> list(zip(pairs.a.tolist(), pairs.b.tolist(), pairs.shared.tolist(), pairs.jaccard.round(3).tolist()))
    [(0, 1, 2, 0.667), (1, 2, 1, 0.333)]
    """
    ones = sparse.csr_array(
        (np.ones(membership.nnz, np.int32), membership.indices, membership.indptr), shape=membership.shape
    )
    above = sparse.triu(ones @ ones.T, k=1, format="csr")  # (G, G), as many entries as pairs that share a set
    above.sort_indices()
    degree = np.diff(ones.indptr).astype(np.int64)  # (G,)
    a = np.repeat(np.arange(ones.shape[0]), np.diff(above.indptr))
    b, shared = above.indices.astype(np.int64), above.data.astype(np.int64)
    return SharedSets(a, b, shared, shared / (degree[a] + degree[b] - shared))


def set_cosine(blocks: Iterable[sparse.sparray], membership: sparse.csr_array, pairs: SharedSets) -> Floats:
    """Cosine similarity of the expression of two genes over cells, for all pairs that share a set.

    cos(a, b) = sum_n x_na x_nb / (|x_a| |x_b|), the weight of scMoGNN's pathway edges (Wen et al., KDD 2022); 0 where
    a gene has no value but zero.

    Parameters
    ----------
    blocks
        The cells, a block of rows at a time: sparse, (n, G), columns as the rows of ``membership``. Read once.
    membership
        Genes x sets, (G, S), each stored entry a membership, no entry twice.
    pairs
        ``shared_sets(membership)``.

    Returns
    -------
    numpy.ndarray
        Shape (E,), in -1 to 1.

    Notes
    -----
    The Gram matrix of the normalised columns is needed at the pairs that share a set alone, and these are the union
    of small full squares, one for each set. So each block of cells gives, set by set, the dense product of its columns
    (n x set size, float32; sums over blocks in float64), the pairs of which are added up: time follows cells times the
    sum of the squared set sizes, memory the pairs and one block. Neither a G x G nor an N x G array is formed.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> membership = sparse.csr_array(np.array([[1, 0], [1, 1], [0, 1]]))
    >>> cells = sparse.csr_array(np.array([[3.0, 3.0, 0.0], [4.0, 0.0, 1.0]]))
    >>> set_cosine([cells[:1], cells[1:]], membership, shared_sets(membership)).tolist()
    [0.6, 0.0]
    """
    by_set = sparse.csc_array(membership)
    by_set.sort_indices()
    members = [by_set.indices[start:stop] for start, stop in zip(by_set.indptr[:-1], by_set.indptr[1:], strict=True)]
    members = [rows.astype(np.int64) for rows in members if rows.size > 1]
    size = membership.shape[0]
    code = pairs.a * size + pairs.b  # rises
    above = ~np.tri(max((rows.size for rows in members), default=0), dtype=bool)  # its corner is that of smaller sets
    at = []  # by set, where its pairs are among all pairs
    for rows in members:
        i, j = np.nonzero(above[: rows.size, : rows.size])
        at.append(np.searchsorted(code, rows[i] * size + rows[j]).astype(np.int32))
    dot, squares = np.zeros(code.size), np.zeros(size)
    held = np.zeros(code.size, np.float32)
    with threadpool_limits(1, "blas"):
        for block in blocks:
            columns = sparse.csc_array(block, dtype=np.float32)
            squares += np.asarray(columns.astype(np.float64).power(2).sum(axis=0)).ravel()
            for rows, places in zip(members, at, strict=True):
                dense = columns[:, rows].toarray(order="F")  # (n, set size)
                held[places] = (dense.T @ dense)[above[: rows.size, : rows.size]]
            dot += held
    norm = np.sqrt(squares[pairs.a] * squares[pairs.b])
    return np.clip(np.divide(dot, norm, out=np.zeros_like(dot), where=norm > 0), -1, 1)
