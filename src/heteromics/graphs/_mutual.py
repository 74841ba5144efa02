"""Mutual nearest neighbours and neighbours of the second order, as sparse matrices of tensors on any device.

Sources: mutual nearest neighbours of Haghverdi et al. (2018), doi:10.1038/nbt.4091; the relations A and
A^S = 1[A A > 0] of GRACE ("Towards Realistic Multimodal Single-Cell Data Matching", Eq. 6 and 8), in two readings.
``torch.sparse`` products were weighed: they exist in a few formats and types only, and count in floats.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from heteromics.errors import GraphError
from heteromics.graphs.knn import Neighbors

__all__ = ["PathCounts", "Reading", "SparsePairs", "in_either", "mutual_pairs", "second_order"]

Reading = Literal["pair", "bipartite"]
_PATHS = 1 << 23
"""Paths held at a time."""


class SparsePairs(NamedTuple):
    """Pairs (left row, right row) compressed by row, right rows rising within a row, each once.

    ``indptr`` (N + 1,) and ``indices`` (E,) int64, ``distance`` (E,), ``shape`` (N, M).
    """

    indptr: Tensor
    indices: Tensor
    distance: Tensor
    shape: tuple[int, int]


class PathCounts(NamedTuple):
    """As :class:`SparsePairs`, with the number of paths that join a pair, ``paths`` (E,) int64, at least 1."""

    indptr: Tensor
    indices: Tensor
    paths: Tensor
    shape: tuple[int, int]


def mutual_pairs(forward: Neighbors, backward: Neighbors) -> SparsePairs:
    """Keep the pairs in which each is among the neighbours of the other.

    Parameters
    ----------
    forward
        Neighbours, among M right points, of N left points; shapes (N, K).
    backward
        Neighbours, among the left points, of the right points; shapes (M, L). K and L may differ.

    Returns
    -------
    SparsePairs
        A_ij = 1 where j is in ``forward[i]`` and i in ``backward[j]``; the distance is that of ``forward``. At most
        min(N K, M L) pairs; memory follows N K + M L.

    Raises
    ------
    GraphError
        When the two do not point at each other's rows.

    Examples
    --------
    >>> forward = Neighbors(torch.tensor([[0], [0]]), torch.tensor([[0.5], [0.1]]))
    >>> backward = Neighbors(torch.tensor([[1], [1]]), torch.tensor([[0.1], [0.7]]))
    >>> mutual_pairs(forward, backward)[:3]
    (tensor([0, 0, 1]), tensor([0]), tensor([0.1000]))
    """
    n, m = len(forward.indices), len(backward.indices)
    for what, found, count in (("forward", forward.indices, m), ("backward", backward.indices, n)):
        if found.numel() and not 0 <= int(found.min()) <= int(found.max()) < count:
            raise GraphError(
                f"mutual_pairs: {what} points at rows {int(found.min())} to {int(found.max())}, but the other side has "
                f"{count}. Fix: pass the neighbours left -> right and right -> left of the same points."
            )
    left = torch.arange(n, device=forward.indices.device)[:, None]
    right = torch.arange(m, device=backward.indices.device)[:, None]
    there, place = (left * m + forward.indices).flatten().sort()
    back = (backward.indices * m + right).flatten().sort().values
    both = _among(there, back)
    pairs = there[both]
    return SparsePairs(
        _bounds(pairs // max(m, 1), n), pairs % max(m, 1), forward.distance.flatten()[place[both]], (n, m)
    )


def second_order(pairs: SparsePairs, reading: Reading = "bipartite", *, keep_first: bool = False) -> PathCounts:
    """Join points by a path over two (pair reading) or three (bipartite reading) mutual pairs.

    Parameters
    ----------
    pairs
        First order A, shape (N, M).
    reading
        ``"bipartite"``: A A^T A, the path left i - right k - left l - right j; for any two sets. ``"pair"``: A A, where
        row k of both sides is one pair of cells, the path left i - right k ~ left k - right j; needs N = M. There, (i,
        i) is an entry like any other.
    keep_first
        Keep entries that A has already. By default they are left out, so that a loss weights something new
        [our reading of GRACE].

    Returns
    -------
    PathCounts
        The boolean matrix, with the number of paths of each entry.

    Raises
    ------
    GraphError
        For the pair reading of two sets of different size, or another reading.

    Notes
    -----
    With at most k pairs per row and column there are at most k^2 (pair) or k^3 (bipartite) entries per row. Memory
    follows the entries, and about 8 million paths at a time (some 400 MB).

    Examples
    --------
    >>> chain = SparsePairs(torch.tensor([0, 1, 3]), torch.tensor([0, 0, 1]), torch.zeros(3), (2, 2))
    >>> second_order(chain)[:3]
    (tensor([0, 1, 1]), tensor([1]), tensor([1]))
    >>> second_order(chain, "pair", keep_first=True)[1:3]
    (tensor([0, 0, 1]), tensor([1, 2, 1]))
    """
    n, m = pairs.shape
    if reading not in ("pair", "bipartite"):
        raise GraphError(f"second_order: found reading={reading!r}, expected 'pair' or 'bipartite'.")
    if reading == "pair" and n != m:
        raise GraphError(
            f"second_order: the pair reading needs rows that are pairs, found {n} left and {m} right rows. "
            "Fix: reading='bipartite', or put paired cells into the same order."
        )
    first = PathCounts(pairs.indptr, pairs.indices, torch.ones_like(pairs.indices), (n, m))
    to_left = first if reading == "pair" else _product(first, _transposed(first))
    product = _product(to_left, first)
    if keep_first:
        return product
    row = _rows(product)
    new = ~_among(row * m + product.indices, _rows(first) * m + first.indices)
    return PathCounts(_bounds(row[new], n), product.indices[new], product.paths[new], (n, m))


def _product(left: PathCounts, right: PathCounts) -> PathCounts:
    """Multiply matrices of counts: list the paths of some rows, sort them by their ends, and add up equal ones."""
    n, m = left.shape[0], right.shape[1]
    fan = right.indptr.diff()[left.indices]  # paths that go on from each entry of the left
    ends = torch.cat([fan.new_zeros(1), fan.cumsum(0)])[left.indptr]  # paths before each row
    row = _rows(left)
    keys, counts = [], []
    for rows in _row_blocks(ends):
        part = slice(int(left.indptr[rows.start]), int(left.indptr[rows.stop]))
        entry = torch.repeat_interleave(torch.arange(part.stop - part.start, device=fan.device), fan[part])
        before = fan[part].cumsum(0) - fan[part]
        step = torch.arange(len(entry), device=fan.device) - before[entry]
        on = right.indptr[left.indices[part]][entry] + step
        key, order = (row[part][entry] * m + right.indices[on]).sort()
        unique, place = torch.unique_consecutive(key, return_inverse=True)
        paths = (left.paths[part][entry] * right.paths[on])[order]
        keys.append(unique)
        counts.append(paths.new_zeros(len(unique)).index_add_(0, place, paths))
    key, paths = torch.cat(keys), torch.cat(counts)
    return PathCounts(_bounds(key // max(m, 1), n), key % max(m, 1), paths, (n, m))


def _row_blocks(ends: Tensor) -> list[slice]:
    """Cut rows into runs with at most ``_PATHS`` paths each, or of one row; at least one run."""
    total, count = int(ends[-1]), len(ends) - 1
    if total <= _PATHS:
        return [slice(0, count)]
    wanted = torch.arange(_PATHS, total + _PATHS, _PATHS, device=ends.device)
    stops = torch.searchsorted(ends, wanted, right=True) - 1
    bounds = [0, *torch.unique(torch.cat([stops.clamp(1, count), stops.new_tensor([count])])).tolist()]
    return [slice(first, stop) for first, stop in pairwise(bounds)]


def _transposed(matrix: PathCounts) -> PathCounts:
    n, m = matrix.shape
    key, order = (matrix.indices * n + _rows(matrix)).sort()
    return PathCounts(_bounds(key // max(n, 1), m), key % max(n, 1), matrix.paths[order], (m, n))


def _rows(matrix: PathCounts) -> Tensor:
    return torch.repeat_interleave(
        torch.arange(len(matrix.indptr) - 1, device=matrix.indptr.device), matrix.indptr.diff()
    )


def _bounds(row: Tensor, count: int) -> Tensor:
    return torch.cat([row.new_zeros(1), torch.bincount(row, minlength=count).cumsum(0)])


def _among(values: Tensor, ordered: Tensor) -> Tensor:
    """Whether each value is one of ``ordered``, which rises."""
    if not len(ordered):
        return torch.zeros_like(values, dtype=torch.bool)
    return ordered[torch.searchsorted(ordered, values).clamp(max=len(ordered) - 1)] == values


def in_either(neighbors: Neighbors) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """List every pair of which one is a neighbour of the other, both ways.

    Parameters
    ----------
    neighbors
        Of N points among themselves, shapes (N, K).

    Returns
    -------
    indptr, indices
        Compressed by row, (N + 1,) and (E,) int64, symmetric.
    forward, backward
        Where in the flat (N K) arrays the entry of the row's own list stands, and where that of the other's; -1 where
        one is not in the list; (E,) int64.
    """
    n, k = neighbors.indices.shape
    row = torch.arange(n, device=neighbors.indices.device).repeat_interleave(k)
    other, slot = neighbors.indices.flatten(), torch.arange(n * k, device=row.device)
    keys, place = torch.unique(torch.cat([row * n + other, other * n + row]), return_inverse=True)
    forward, backward = (torch.full_like(keys, -1) for _ in range(2))
    forward[place[: n * k]] = slot
    backward[place[n * k :]] = slot
    return _bounds(keys // max(n, 1), n), keys % max(n, 1), forward, backward
