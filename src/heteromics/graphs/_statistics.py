"""Statistics of the values of each cell, from compressed rows, without a loop over cells and never dense."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
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
_CHUNK = 1 << 16  # so that a block and all that is made of it stay in the cache; measured on 22 M values
_RECTANGLE = 1 << 15


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
        About how many values are worked on at a time, of one cell at least; bounds the extra memory to about 50 bytes
        for each, in every thread of torch.

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
    bounds = indptr.astype(np.int64)
    found = np.empty((len(bounds) - 1, len(STATISTICS)))

    def fill(rows: tuple[int, int]) -> None:
        first, stop = rows
        block = values[bounds[first] : bounds[stop]]
        found[first:stop] = _describe(block, bounds[first : stop + 1] - bounds[first], n_features)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # NumPy sorts and adds without the interpreter's lock
        for _ in pool.map(fill, _row_blocks(bounds, chunk)):
            pass
    return found


def _row_blocks(bounds: NDArray[np.int64], chunk: int) -> Iterator[tuple[int, int]]:
    """Cut rows into runs of at most so many values, or of one row."""
    first = 0
    while first < len(bounds) - 1:
        stop = max(first + 1, int(np.searchsorted(bounds, bounds[first] + chunk, side="right")) - 1)
        yield first, stop
        first = stop


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


def _describe(values: NDArray[np.float32], bounds: NDArray[np.int64], n_features: int) -> NDArray[np.float64]:
    """Describe some cells whose values follow each other."""
    size = np.diff(bounds)
    wide = values.astype(np.float64)
    total = np.add.reduceat(wide, bounds[:-1])
    mean, mean_nonzero = total / n_features, total / size
    wide -= np.repeat(mean_nonzero, size)
    squared = np.add.reduceat(np.square(wide, out=wide), bounds[:-1])
    squared_all = squared + size * np.square(mean_nonzero - mean) + (n_features - size) * np.square(mean)
    sd, sd_nonzero = np.sqrt(squared_all / n_features), np.sqrt(squared / size)

    ranked = np.empty((len(size), 4))
    by_size = np.argsort(size, kind="stable")  # cells of like sizes together fill a rectangle
    stop = len(size)
    while stop:
        first = max(stop - max(_RECTANGLE // int(size[by_size[stop - 1]]), 1), 0)
        rows = by_size[first:stop]
        ranked[rows] = _ranked(values, bounds[rows], size[rows])
        stop = first
    return np.column_stack([mean, sd, ranked, size / 1000, mean_nonzero, sd_nonzero])


def _ranked(values: NDArray[np.float32], start: NDArray[np.int64], size: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return quartiles and greatest value of cells by sorting them in a rectangle padded to the longest."""
    step = np.arange(size.max())
    ordered = values.take(start[:, None] + step, mode="clip")  # (rows, longest)
    ordered[step >= size[:, None]] = np.inf
    ordered.sort(axis=1)
    at = _QUARTILES * (size[:, None] - 1)  # (rows, 3), ranks between which to interpolate
    low, high = np.floor(at).astype(np.int64), np.ceil(at).astype(np.int64)
    below, above = (np.take_along_axis(ordered, rank, 1).astype(np.float64) for rank in (low, high))
    greatest = np.take_along_axis(ordered, size[:, None] - 1, 1)
    return np.hstack([below + (at - low) * (above - below), greatest])
