"""Links summed over many pairs: sparse, whatever the number of genes and peaks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

if TYPE_CHECKING:
    from pandas import DataFrame

    from heteromics.graphs import HeteroGraph

Int = NDArray[np.int64]
Float = NDArray[np.float64]

_BUFFERED = 1 << 22  # entries merged at a time, 100 MB


def joint_counts(left: sparse.csc_matrix, right: sparse.csc_matrix, i: Int, j: Int, chunk: int = 50_000) -> Float:
    """Sum over rows of ``left[:, i] * right[:, j]`` for chosen pairs of columns.

    Parameters
    ----------
    left, right
        Same rows, compressed columns.
    i, j
        Columns of each, shape (L,).
    chunk
        Pairs of columns held at a time.

    Returns
    -------
    ndarray
        Shape (L,), float64. Cost: the non-zeros of the columns named; no product of whole matrices is formed.

    Examples
    --------
    >>> ones = sparse.csc_matrix([[1.0, 0.0], [1.0, 1.0]])
    >>> joint_counts(ones, ones, np.array([0, 0]), np.array([0, 1]))
    array([2., 1.])
    """
    found = np.empty(len(i), dtype=np.float64)
    for start in range(0, len(i), chunk):
        part = slice(start, start + chunk)
        product = left[:, i[part]].multiply(right[:, j[part]])
        found[part] = np.asarray(product.sum(axis=0)).ravel()
    return found


@dataclass(slots=True)
class LinkSums:
    """Adds values by link; only links that were met are held.

    Attributes
    ----------
    only
        Sorted keys to keep, or None for all.
    """

    only: Int | None = None
    _key: Int = field(default_factory=lambda: np.empty(0, np.int64))
    _sums: Float = field(default_factory=lambda: np.empty((0, 0)))
    _waiting: list[tuple[Int, Float]] = field(default_factory=list)
    _size: int = 0

    def add(self, key: Int, values: Float) -> None:
        """Add values (E, columns) to the sums of links given by key (E,); keys may repeat."""
        if self.only is not None and self.only.size:
            place = np.minimum(np.searchsorted(self.only, key), self.only.size - 1)
            kept = self.only[place] == key
            key, values = key[kept], values[kept]
        self._waiting.append((key, values))
        self._size += len(key)
        if self._size > max(_BUFFERED, len(self._key)):
            self._merge()

    def totals(self) -> tuple[Int, Float]:
        """Return sorted keys (links,) and sums (links, columns)."""
        self._merge()
        return self._key, self._sums

    def _merge(self) -> None:
        if not self._waiting:
            return
        parts = [*([(self._key, self._sums)] if self._key.size else []), *self._waiting]
        key, values = np.concatenate([k for k, _ in parts]), np.concatenate([v for _, v in parts])
        self._key, place = np.unique(key, return_inverse=True)
        self._sums = np.stack([np.bincount(place, column, minlength=self._key.size) for column in values.T], axis=1)
        self._waiting, self._size = [], 0


def candidate_keys(graph: HeteroGraph, candidates: DataFrame) -> Int:
    """Return ``gene * peaks + peak`` of each candidate, rows of the graph."""
    gene, peak = (graph.index(side, candidates[side]) for side in ("gene", "peak"))
    return gene * graph.num_nodes("peak") + peak


def in_order(wanted: Int, key: Int, sums: Float) -> Float:
    """Return the sums of the keys asked for, 0 where there are none; ``key`` is sorted."""
    if not key.size:
        return np.zeros((wanted.size, sums.shape[1]))
    place = np.minimum(np.searchsorted(key, wanted), key.size - 1)
    return np.where((key[place] == wanted)[:, None], sums[place], 0.0)


def present(graph: HeteroGraph, etype: tuple[str, str, str], cells: Int) -> sparse.csc_matrix:
    """Return which features some cells have, cells x features, a one for each."""
    indptr, indices, _ = graph.adjacency(etype)
    shape = graph.num_nodes(etype[0]), graph.num_nodes(etype[2])
    ones = np.ones(len(indices), dtype=np.float32)
    return sparse.csr_matrix((ones, indices.numpy(), indptr.numpy()), shape=shape)[cells].tocsc()
