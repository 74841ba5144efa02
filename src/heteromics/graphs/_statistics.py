"""Statistics of the values of each cell, from compressed rows, without a loop over cells and never dense."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

__all__ = ["STATISTICS", "cell_statistics", "group_means"]

STATISTICS = (
    "mean",
    "sd",
    "quarter_nonzero",
    "median_nonzero",
    "three_quarters_nonzero",
    "max_nonzero",
    "thousands_nonzero",
    "mean_nonzero",
    "sd_nonzero",
)
_QUARTILES = np.array([0.25, 0.5, 0.75])
_CHUNK = 4_000_000
_SIGN = np.uint32(1 << 31)


def cell_statistics(
    indptr: NDArray[Any], values: NDArray[np.float32], n_features: int, *, chunk: int = _CHUNK
) -> NDArray[np.float64]:
    """Describe the values of each cell by nine numbers (scMoGNN, the public code's batch features).

    Parameters
    ----------
    indptr
        Row bounds, integers, shape (N + 1,).
    values
        The non-zero values of all cells end to end, finite, shape (E,), float32. Every cell has at least one.
    n_features
        Number of features of the matrix, those without a value included.
    chunk
        About how many values are worked on at a time; bounds the extra memory to about 40 bytes for each.

    Returns
    -------
    ndarray
        Shape (N, 9), float64, columns as in :data:`STATISTICS`: mean and standard deviation over all features, zeros
        included; lower quartile, median, upper quartile (linear between ranks) and greatest of the non-zero values;
        number of non-zero values / 1000; mean and standard deviation of the non-zero values. Deviations are those of
        the population (divided by n).

    Examples
    --------
    >>> cell_statistics(np.array([0, 2]), np.array([1.0, 3.0], np.float32), n_features=4).round(2)
    array([[1.  , 1.22, 1.5 , 2.  , 2.5 , 3.  , 0.  , 2.  , 1.  ]])
    """
    found = np.empty((len(indptr) - 1, len(STATISTICS)))
    for rows in _row_chunks(indptr, chunk):
        bounds = indptr[rows.start : rows.stop + 1].astype(np.int64)
        found[rows] = _describe(bounds - bounds[0], values[bounds[0] : bounds[-1]], n_features)
    return found


def group_means(table: NDArray[Any], group: NDArray[np.int64], n_groups: int) -> NDArray[np.float64]:
    """Average the rows of each group and give every row its group's average.

    Parameters
    ----------
    table
        Shape (N, K).
    group
        Group of each row, 0 to ``n_groups`` - 1, shape (N,).
    n_groups
        Number of groups.

    Returns
    -------
    ndarray
        Shape (N, K), float64.

    Examples
    --------
    >>> group_means(np.array([[1.0], [3.0], [7.0]]), np.array([0, 0, 1]), 2).ravel()
    array([2., 2., 7.])
    """
    members = sparse.csr_array((np.ones(len(group)), (group, np.arange(len(group)))), shape=(n_groups, len(group)))
    size = np.bincount(group, minlength=n_groups)
    return ((members @ table) / np.maximum(size, 1)[:, None])[group]


def _row_chunks(indptr: NDArray[Any], chunk: int) -> Iterator[slice]:
    """Yield runs of whole rows with about ``chunk`` values, at least one row each."""
    start, last = 0, len(indptr) - 1
    while start < last:
        stop = int(np.searchsorted(indptr, int(indptr[start]) + chunk, side="right")) - 1
        stop = min(max(stop, start + 1), last)
        yield slice(start, stop)
        start = stop


def _describe(bounds: NDArray[np.int64], values: NDArray[np.float32], n_features: int) -> NDArray[np.float64]:
    size = np.diff(bounds)
    row = np.repeat(np.arange(size.size), size)
    total = np.bincount(row, values, size.size)
    mean, mean_nonzero = total / n_features, total / size
    squared = np.bincount(row, np.square(values - mean_nonzero[row]), size.size)
    squared_all = squared + size * np.square(mean_nonzero - mean) + (n_features - size) * np.square(mean)
    ordered = _sorted_within(row, values)
    at = bounds[:-1, None] + _QUARTILES * (size[:, None] - 1)  # (rows, 3)
    low = np.floor(at).astype(np.int64)
    below, above = ordered(low), ordered(np.ceil(at).astype(np.int64))
    quartiles = below + (at - low) * (above - below)
    sd, sd_nonzero = np.sqrt(squared_all / n_features), np.sqrt(squared / size)
    rest = [ordered(bounds[1:] - 1), size / 1000, mean_nonzero, sd_nonzero]
    return np.column_stack([mean, sd, quartiles, *rest])


class _sorted_within:  # noqa: N801, a function with a memory
    """Values sorted within their rows; called with positions it returns the values there, float64.

    Row and value make one unsigned number each (bits of an IEEE 754 float order like its value once the sign bit is
    flipped, and all bits of negative ones), so that one plain sort orders all rows at once.
    """

    def __init__(self, row: NDArray[np.int64], values: NDArray[np.float32]) -> None:
        bits = values.view(np.uint32)
        bits = np.where(bits & _SIGN, ~bits, bits | _SIGN)
        self._key = row.astype(np.uint64) << np.uint64(32) | bits
        self._key.sort()

    def __call__(self, position: NDArray[np.int64]) -> NDArray[np.float64]:
        bits = self._key[position].astype(np.uint32)
        bits = np.where(bits & _SIGN, bits ^ _SIGN, ~bits)
        return bits.view(np.float32).astype(np.float64)
