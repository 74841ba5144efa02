"""One-to-one matching of two sets of cells by their embeddings, over the pairs that may be in a good one.

The best of all matchings is a linear assignment over N x M similarities; what is in it is nearly always among the
largest few values of its row or column. Here those are found in tiles, and the sparse problem is solved by the
shortest augmenting paths of SciPy (Jonker and Volgenant 1999, "Linear assignment procedures"; LAPJVsp), which start
from prices of entropic transport where both sides are of one size: that takes a third of the time. Weighed: dense
``scipy.optimize.linear_sum_assignment``, some ten seconds and N x M memory for one batch of 6,670 cells; a k-nearest
neighbours index, which finds the best of rows alone, and leaves columns without a partner.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from torch import Tensor

from heteromics.data.splits import check_all_named
from heteromics.errors import DataError, some
from heteromics.graphs._knn_blocks import true_float32
from heteromics.nn._candidates import Edges, Tile, best_pairs, room

__all__ = ["assign", "assign_scores"]

Int = NDArray[np.int64]
Metric = Literal["cosine", "dot"]
Weights = Literal["similarity", "softmax"]
Weigh = Callable[[Int, Int], NDArray[np.float32]]
_SETTLED = 4_096  # pairs settled at a time by a dense assignment: 134 MB
_DOUBTFUL = 0.01
_SOFT, _ROUNDS = 0.3, 5  # of the prices: temperature in standard deviations of the candidates' values, and rounds
_LARGEST = 1e15
"""Of an embedding's values: the square, over 10 million dimensions, is well below the largest float32."""


def assign(
    left: ArrayLike | Tensor,
    right: ArrayLike | Tensor,
    *,
    k: int = 20,
    share: float | None = None,
    metric: Metric = "cosine",
    weights: Weights = "similarity",
    groups: tuple[ArrayLike, ArrayLike] | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> sparse.csr_array:
    """Match rows of ``left`` to rows of ``right``, each at most once, with a sum of weights near the largest possible.

    Parameters
    ----------
    left, right
        Embeddings, shapes (N, D) and (M, D); computed with in float32.
    k
        A pair can be matched when it is among the ``k`` best of its row or of its column. Larger is nearer to the best
        matching and slower; with ``k`` of N and M the matching is the best there is.
    share
        Instead of ``k``: what reaches the quantile ``1 - share`` of its row or of its column. It keeps
        ``share * N * M`` pairs or more, and time and memory are theirs; other pairs are matched as a last resort only.
    metric
        ``"cosine"`` or ``"dot"``.
    weights
        ``"similarity"``, or ``"softmax"``: softmax over the row plus softmax over the column. ``weights="softmax",
        share=0.05`` and groups of donors are the rule of scMoGNN (public code: OmicsML/dance, matching).
    groups
        Group of each row of ``left`` and of ``right`` (batch, donor), lengths N and M; matches are within groups.
    device
        Where similarities are computed, ``cpu`` or ``cuda``; the matching itself is found on the CPU.
    progress
        Show a bar over the tiles of each group.

    Returns
    -------
    scipy.sparse.csr_array
        Shape (N, M), float32 ones: of every group min(rows, columns) pairs.

    Raises
    ------
    DataError
        For shapes that do not fit, values that are no numbers, a cell without a group, a group that only one side has,
        or a parameter that is none of those known.

    Warns
    -----
    UserWarning
        When more than 1 % of the matches are outside the candidates, as where the two sides hold other cell types: then
        the sum can be well below the best. Say a larger ``k``.

    Notes
    -----
    The candidates alone need not hold a full matching, so each row of the smaller side also gets one partner of the
    other by rotation, with its true weight: half-way around, since rows of equal number may be the same cell, which a
    matching must not be told. Matches that were made through such a pair are settled among themselves by a dense
    assignment. Time N * M * D on the device, memory O(tile + k (N + M)). Of equal similarities the lower number wins.

    Examples
    --------
    >>> left = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    >>> assign(left, [[0.1, 1.0], [1.0, 0.9], [1.0, 0.0]], progress=False).toarray().argmax(1)
    array([2, 0, 1])
    """
    if metric not in ("cosine", "dot") or weights not in ("similarity", "softmax"):
        raise DataError(
            f"assign: found metric={metric!r} and weights={weights!r}, expected 'cosine' or 'dot', 'similarity' or "
            "'softmax'."
        )
    if k < 1 or (share is not None and not 0 < share <= 1):
        raise DataError(f"assign: found k={k} and share={share}, expected k of 1 or more and a share in (0, 1].")
    sides = [_embedding(values, what, metric, device) for values, what in ((left, "left"), (right, "right"))]
    if sides[0].shape[1] != sides[1].shape[1]:
        raise DataError(
            f"assign: left has {sides[0].shape[1]} columns and right {sides[1].shape[1]}, expected one width."
        )
    matched, loose = [np.empty((2, 0), dtype=np.int64)], 0
    members = _members(groups, *map(len, sides))
    for rows, columns in members:
        x, y = (side[torch.from_numpy(each).to(side.device)] for side, each in zip(sides, (rows, columns), strict=True))
        turned = len(x) > len(y)
        with true_float32(x.device):
            pair, outside = _match(*((y, x) if turned else (x, y)), k, share, weights, progress)
        pair = pair[::-1] if turned else pair
        matched.append(np.stack([rows[pair[0]], columns[pair[1]]]))
        loose += outside
    row, column = np.concatenate(matched, axis=1)
    if loose > _DOUBTFUL * row.size:
        warnings.warn(
            f"assign: {loose:,} of {row.size:,} matches are not among the best of their row or column, and the sum of "
            "weights may be well below the best. Fix: a larger k, and sides with like cell types.",
            stacklevel=2,
        )
    return _ones(row, column, (len(sides[0]), len(sides[1])))


def assign_scores(scores: Any) -> sparse.csr_array:
    """Match rows to columns by given scores: as many as the pairs allow, then the largest sum.

    Parameters
    ----------
    scores
        Sparse matrix or array, shape (N, M). Stored entries can be matched, whatever their sign and zeros among them;
        others cannot.

    Returns
    -------
    scipy.sparse.csr_array
        Shape (N, M), float32 ones. A row or column for which there is no room stays empty.

    Raises
    ------
    DataError
        For scores that are not finite.

    Notes
    -----
    Every row of the smaller side gets a column of its own that stands for no match and costs more than all scores
    together, so that a full matching always exists. Sums are in float64.

    Examples
    --------
    >>> scores = sparse.csr_array(([0.9, 0.8, 0.7], ([0, 0, 1], [0, 1, 0])), shape=(2, 3))
    >>> assign_scores(scores).toarray()
    array([[0., 1., 0.],
           [1., 0., 0.]], dtype=float32)
    """
    narrow = getattr(scores, "dtype", None) == np.float16  # which SciPy does not hold
    given = sparse.coo_array(scores.astype(np.float32) if narrow else scores, copy=True)
    given.sum_duplicates()
    if strange := int((~np.isfinite(given.data)).sum()):
        raise DataError(f"assign_scores: {strange:,} of {given.nnz:,} scores are NaN or infinite.")
    turned = given.shape[0] > given.shape[1]
    row, column = (given.col, given.row) if turned else (given.row, given.col)
    small, large = sorted(given.shape)
    value = given.data.astype(np.float64)
    if not small:
        return _ones(np.empty(0, np.int64), np.empty(0, np.int64), given.shape)
    free = np.arange(small)
    real = _from_zero_to_one(value) + small + 2
    found = _full_matching(
        np.concatenate([row, free]),
        np.concatenate([column, free + large]),
        np.concatenate([real, np.ones(small)]),
        (small, large + small),
    )
    chosen = np.flatnonzero(found < large)
    pair = (found[chosen], chosen) if turned else (chosen, found[chosen])
    return _ones(pair[0], pair[1], given.shape)


def _from_zero_to_one(value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shift and scale values to [0, 1], so that a number beside them takes none of their digits."""
    if not value.size:
        return value
    halved = value / 2  # the difference of the largest floats is none
    width = float(np.ptp(halved))
    return (halved - halved.min()) / (width or 1.0)


def _match(
    x: Tensor, y: Tensor, k: int, share: float | None, weights: Weights, progress: bool
) -> tuple[tuple[Int, Int], int]:
    """Match all rows of the smaller side, x; returns the pairs, and how many are outside the candidates."""
    n, m = len(x), len(y)
    if not n:
        return (np.empty(0, np.int64), np.empty(0, np.int64)), 0
    most = (k, k) if share is None else (_reaching(share, m), _reaching(share, n))
    tile, weigh = _similarity(x, y) if weights == "similarity" else _softmaxes(x, y)
    found = best_pairs(tile, n, m, most, x.device, progress=progress)
    row = np.arange(n)
    turned = (row + m // 2) % m
    known = _among(found, row, turned, m)
    spare, partner = row[~known], turned[~known]
    extra = weigh(spare, partner)
    value = np.concatenate([found.value, extra]).astype(np.float64)
    rows, columns = np.concatenate([found.row, spare]), np.concatenate([found.column, partner])
    if n == m:
        value -= _prices(rows, columns, value, _SOFT * float(np.std(found.value)))
    value -= value.min() - 1.0
    if share is not None:  # the rule is about the pairs it keeps: others cost more than any sum, so are a last resort
        value[: len(found.row)] += (n + 1) * value.max()
    column = _full_matching(rows, columns, value, (n, m))
    loose = np.flatnonzero(~_among(found, row, column, m))
    for first in range(0, loose.size, _SETTLED):
        part = loose[first : first + _SETTLED]
        block = weigh(np.repeat(part, part.size), np.tile(column[part], part.size)).reshape(part.size, -1)
        column[part] = column[part][linear_sum_assignment(block, maximize=True)[1]]
    return (row, column), loose.size


def _prices(row: Int, column: Int, value: NDArray[np.float64], soft: float) -> NDArray[np.float64]:
    """Return near-optimal prices of row and column of each pair, shape (E,), by a few rounds of Sinkhorn.

    When every row and every column is matched, what is taken off a whole row or column is the same for all matchings,
    so that the best one stays the best; with prices near its dual, the shortest augmenting paths are short. Dual of
    entropic transport: Cuturi 2013, "Sinkhorn Distances". ``soft`` is its temperature; 0 gives no prices.
    """
    if soft <= 0:
        return np.zeros_like(value)
    size = int(row.max()) + 1

    def best(group: Int, worth: NDArray[np.float64]) -> NDArray[np.float64]:
        most = np.full(size, -np.inf)
        np.maximum.at(most, group, worth)
        return most + soft * np.log(np.bincount(group, np.exp((worth - most[group]) / soft), size))

    of_column = np.zeros(size)
    for _ in range(_ROUNDS):
        of_row = best(row, value - of_column[column])
        of_column = best(column, value - of_row[row])
    return of_row[row] + of_column[column]


def _among(found: Edges, row: Int, column: Int, columns: int) -> NDArray[np.bool_]:
    """Tell which pairs are among the edges, which are ordered by row and column."""
    keys, asked = found.row * columns + found.column, row * columns + column
    return keys[np.minimum(np.searchsorted(keys, asked), len(keys) - 1)] == asked


def _similarity(x: Tensor, y: Tensor) -> tuple[Tile, Weigh]:
    product = _products(x, y)

    def weigh(row: Int, column: Int) -> NDArray[np.float32]:
        return _dots(x, y, row, column).cpu().numpy()

    return product, weigh


def _products(x: Tensor, y: Tensor) -> Tile:
    """Similarities of some rows to all of ``y``; each call writes over the last, fresh memory taking as long."""
    across, space = y.T.contiguous(), x.new_empty(0)

    def product(first: int, stop: int) -> Tensor:
        nonlocal space
        space = room(space, (stop - first, len(y)))
        return torch.mm(x[first:stop], across, out=space[: stop - first])

    return product


def _softmaxes(x: Tensor, y: Tensor) -> tuple[Tile, Weigh]:
    """Softmax over the row plus softmax over the column, from the logarithms of both sums, found in one pass."""
    product = _products(x, y)
    of_row, highest, total = [], y.new_full((len(y),), -torch.inf), y.new_zeros(len(y))
    step = max(1, (1 << 21) // len(y))
    for first in range(0, len(x), step):
        score = product(first, min(first + step, len(x)))
        of_row.append(score.logsumexp(1))
        higher = torch.maximum(highest, score.amax(0))
        total = total * (highest - higher).exp() + (score - higher).exp().sum(0)
        highest = higher
    row_sum, column_sum = torch.cat(of_row), highest + total.log()

    def tile(first: int, stop: int) -> Tensor:
        score = product(first, stop)
        return (score - row_sum[first:stop, None]).exp() + (score - column_sum).exp()

    def weigh(row: Int, column: Int) -> NDArray[np.float32]:
        score = _dots(x, y, row, column)
        i, j = (torch.from_numpy(each).to(x.device) for each in (row, column))
        return ((score - row_sum[i]).exp() + (score - column_sum[j]).exp()).cpu().numpy()

    return tile, weigh


def _dots(x: Tensor, y: Tensor, row: Int, column: Int) -> Tensor:
    """Similarity of some pairs, shape (E,), a million values at a time."""
    step = max(1, (1 << 20) // max(x.shape[1], 1))
    found = [x.new_empty(0)]
    for first in range(0, len(row), step):
        i, j = (torch.from_numpy(each[first : first + step]).to(x.device) for each in (row, column))
        found.append((x[i] * y[j]).sum(1))
    return torch.cat(found)


def _reaching(share: float, size: int) -> int:
    """How many of ``size`` different values reach their linear quantile ``1 - share``."""
    return size - math.ceil((1 - share) * (size - 1) - 1e-9)


def _full_matching(row: Int, column: Int, weight: NDArray[np.float64], shape: tuple[int, int]) -> Int:
    """Column of each row in a matching of all rows with the largest sum; weights above 0, zero being no edge."""
    table = sparse.csr_array((weight, (row, column)), shape=shape)
    rows, columns = min_weight_full_bipartite_matching(table, maximize=True)
    found = np.empty(shape[0], dtype=np.int64)
    found[rows] = columns
    return found


def _members(groups: tuple[ArrayLike, ArrayLike] | None, n: int, m: int) -> list[tuple[Int, Int]]:
    """Rows of each group on both sides."""
    if groups is None:
        return [(np.arange(n), np.arange(m))]
    for side, what in zip(groups, ("left", "right"), strict=True):
        check_all_named(np.asarray(side), f"groups of {what}")
    sides = [np.asarray(side).astype(str) for side in groups]
    if [side.shape for side in sides] != [(n,), (m,)]:
        raise DataError(
            f"groups: found {sides[0].size} for {n} rows of left and {sides[1].size} for {m} of right, "
            "expected one each."
        )
    if (alone := np.setxor1d(sides[0], sides[1])).size:
        raise DataError(
            f"groups: {alone.size} stand on one side alone: {some(alone)}. Fix: leave their cells out, or name batches "
            "alike on both sides."
        )
    names, codes = np.unique(np.concatenate(sides), return_inverse=True)
    split = []
    for code in np.split(codes, [n]):
        stop = np.cumsum(np.bincount(code, minlength=names.size))[:-1]
        split.append(np.split(np.argsort(code, kind="stable"), stop) if names.size else [])
    return list(zip(*split, strict=True))


def _embedding(values: ArrayLike | Tensor, what: str, metric: Metric, device: str) -> Tensor:
    given = values.detach() if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))
    if given.ndim != 2 or given.dtype == torch.bool or given.is_complex():
        raise DataError(
            f"{what}: found shape {tuple(given.shape)} of {given.dtype}, expected numbers (cells, dimensions)."
        )
    if strange := int((~given.isfinite()).sum()):
        raise DataError(f"{what}: {strange:,} of {given.numel():,} values are NaN or infinite.")
    table = given.to(device=device, dtype=torch.float32)
    if beyond := int((table.abs() > _LARGEST).sum()):
        raise DataError(
            f"{what}: {beyond:,} of {given.numel():,} values are beyond {_LARGEST:.0e}, where products leave float32. "
            "Fix: scale the embedding."
        )
    return torch.nn.functional.normalize(table, dim=1) if metric == "cosine" else table


def _ones(row: Int, column: Int, shape: tuple[int, int]) -> sparse.csr_array:
    return sparse.csr_array((np.ones(len(row), dtype=np.float32), (row, column)), shape=shape)
