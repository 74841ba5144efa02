"""Links summed over many pairs: sparse, whatever the number of genes and peaks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from heteromics.graphs.pairs import EXPRESSES, OPENS

if TYPE_CHECKING:
    from pandas import DataFrame

    from heteromics.graphs import HeteroGraph

Int = NDArray[np.int64]
Float = NDArray[np.float64]

_BUFFERED = 1 << 22  # entries merged at a time, 130 MB
_BITS = 1 << 26  # bytes of bits held at a time


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
        if self.only is not None and not self.only.size:
            return
        if self.only is not None:
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
        key, place = np.unique(np.concatenate([k for k, _ in self._waiting]), return_inverse=True)
        values = np.concatenate([v for _, v in self._waiting])
        self._waiting, self._size = [], 0
        columns = [np.bincount(place, column, minlength=key.size) for column in values.T]
        sums: Float = np.stack(columns, axis=1).astype(np.float64, copy=False)
        if not self._key.size:
            self._key, self._sums = key, sums
            return
        at = np.searchsorted(self._key, key)
        known = self._key[np.minimum(at, self._key.size - 1)] == key
        self._sums[at[known]] += sums[known]
        self._key = np.insert(self._key, at[~known], key[~known])
        self._sums = np.insert(self._sums, at[~known], sums[~known], axis=0)


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


def count_pairs(graph: HeteroGraph, pairs: Int, gene: Int, peak: Int) -> Int:
    """Count the pairs in which a gene is expressed and a peak is open, for chosen links; shape (L,).

    Parameters
    ----------
    graph
        A bipartite graph.
    pairs
        Rows of ``rna_cell`` and ``atac_cell``, shape (n, 2).
    gene, peak
        Rows of the links, shapes (L,).

    Notes
    -----
    A bit per feature and pair, and a population count per link: time grows with the features of the pairs, and with
    L * n / 64. So many pairs at a time that neither their bits nor what sets them takes much more than 64 MB.
    """
    sides = _Bits.of(graph, EXPRESSES, pairs[:, 0], gene), _Bits.of(graph, OPENS, pairs[:, 1], peak)
    most = min(_BITS // (8 * max(sum(side.features for side in sides), 1)), *(side.most for side in sides))
    words = max(1, min(most, -(-len(pairs) // 64)))
    counts = np.zeros(len(gene), dtype=np.int64)
    for start in range(0, len(pairs), 64 * words):
        left, right = (side.of_cells(slice(start, start + 64 * words), words) for side in sides)
        step = max(1, _BITS // (32 * words))
        for first in range(0, len(gene), step):
            some = slice(first, first + step)
            both = left[sides[0].row[some]] & right[sides[1].row[some]]
            counts[some] += np.bitwise_count(both).sum(axis=1, dtype=np.int64)
    return counts


@dataclass(frozen=True, slots=True)
class _Bits:
    """Which cells (n,) have which features, as bits.

    ``place`` tells where each feature of the graph stands among those asked for, -1 where it does not, and ``row``
    where those of the links stand.
    """

    indptr: Int
    indices: NDArray[np.int32]
    cells: Int
    place: Int
    row: Int
    features: int

    @classmethod
    def of(cls, graph: HeteroGraph, etype: tuple[str, str, str], cells: Int, asked: Int) -> _Bits:
        indptr, indices = (each.numpy() for each in graph.adjacency(etype)[:2])
        used, row = np.unique(asked, return_inverse=True)
        place = np.full(graph.num_nodes(etype[2]), -1)
        place[used] = np.arange(len(used))
        return cls(indptr.astype(np.int64), indices, cells, place, row, len(used))

    @property
    def most(self) -> int:
        """Most words of a feature, so that the features of as many cells take no more than the bits."""
        held = int((self.indptr[self.cells + 1] - self.indptr[self.cells]).sum())
        return _BITS * len(self.cells) // (48 * max(held, 1))

    def of_cells(self, part: slice, words: int) -> NDArray[np.uint64]:
        """Return the bits of some cells, shape (features, words)."""
        cells = self.cells[part]
        bits = np.zeros((self.features, words), dtype=np.uint64)
        for bit in range(min(64, len(cells))):
            these = cells[bit::64]
            size = self.indptr[these + 1] - self.indptr[these]
            step = np.arange(size.sum()) - np.repeat(size.cumsum() - size, size)
            row = self.place[self.indices[np.repeat(self.indptr[these], size) + step]]
            word = np.repeat(np.arange(len(these)), size)
            bits[row[row >= 0], word[row >= 0]] |= np.uint64(1 << bit)  # no two entries of one bit meet in a word
        return bits
