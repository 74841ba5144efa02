"""Paths along several edge types, counted by sparse products whose size is known before it is too large."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from heteromics._progress import track
from heteromics.errors import GraphError

_WORK = 1 << 24  # multiplications of one block of rows: at most 400 MB
_SAMPLE = 256
_SURE = 4  # standard errors by which a sample must be above what is allowed
Float = NDArray[np.float64]


def count_paths(
    steps: Sequence[sparse.csr_array], weights: Sequence[sparse.csr_array] | None, most: int, *, progress: bool = False
) -> tuple[sparse.csr_array, Float | None]:
    """Multiply adjacencies from left to right.

    Parameters
    ----------
    steps
        One or more matrices of ones, int64, shapes (n0, n1), (n1, n2), ...
    weights
        Matrices of the same entries, float64, or None.
    most
        Largest number of entries of any product.
    progress
        Show a bar over blocks of rows.

    Returns
    -------
    paths, weight
        Number of paths for each pair that one joins, int64, indices sorted; and for its entries the sum over paths of
        the products of weights.

    Raises
    ------
    GraphError
        When a product would have more entries: foreseen from the multiplications it takes and, where these are too
        many, from 256 random rows, by 4 standard errors; at the latest when it happens.
    """
    paths, sums = steps[0], None if weights is None else weights[0]
    for number, step in enumerate(steps[1:], start=1):
        _foresee(paths, step, most, number)
        blocks, summed, held = [], [], 0
        for start, stop in track(_blocks(paths, step), "joining paths", enabled=progress):
            block = paths[start:stop] @ step
            block.sort_indices()
            held += block.nnz
            if held > most:
                raise _too_many(f"more than {held:,}", most, number)
            blocks.append(block)
            if sums is not None and weights is not None:
                summed.append(_at(block, sums[start:stop] @ weights[number]))
        paths = sparse.vstack([*blocks, sparse.csr_array((0, step.shape[1]), dtype=np.int64)], format="csr")
        if sums is not None:
            sums = sparse.csr_array((np.concatenate([np.empty(0), *summed]), paths.indices, paths.indptr), paths.shape)
    return paths, None if sums is None else sums.data


def _foresee(left: sparse.csr_array, right: sparse.csr_array, most: int, number: int) -> None:
    work = _work(left, right)
    if np.minimum(work, right.shape[1]).sum() <= most:
        return
    rows = np.sort(np.random.default_rng(0).choice(left.shape[0], min(_SAMPLE, left.shape[0]), replace=False))
    parts = np.array_split(rows, max(1, -(-int(work[rows].sum()) // _WORK)))
    entries = np.concatenate([np.diff((left[part] @ right).indptr) for part in parts])
    unseen = 1 - rows.size / left.shape[0]
    error = 0.0 if unseen == 0 else float(entries.std(ddof=1)) * np.sqrt(unseen / rows.size)
    if (entries.mean() - _SURE * error) * left.shape[0] > most:
        raise _too_many(f"about {round(entries.mean() * left.shape[0]):,}", most, number)


def _work(left: sparse.csr_array, right: sparse.csr_array) -> NDArray[np.int64]:
    """Multiplications of each row of a product."""
    each = np.concatenate([[0], np.cumsum(np.diff(right.indptr).astype(np.int64)[left.indices])])
    return np.diff(each[left.indptr])


def _blocks(left: sparse.csr_array, right: sparse.csr_array) -> list[tuple[int, int]]:
    done = np.cumsum(_work(left, right)) // _WORK
    cuts = [0, *(np.flatnonzero(np.diff(done)) + 1).tolist(), left.shape[0]]
    return [(start, stop) for start, stop in pairwise(cuts) if stop > start]


def _at(structure: sparse.csr_array, values: sparse.csr_array) -> Float:
    """Values at the entries of another matrix, 0 where there is none (a sum that cancels may have no entry)."""
    values.sort_indices()
    wanted, there = (_flat(matrix) for matrix in (structure, values))
    if np.array_equal(wanted, there):
        return values.data
    found = np.zeros(wanted.size)
    found[np.searchsorted(wanted, there)] = values.data
    return found


def _flat(matrix: sparse.csr_array) -> NDArray[np.int64]:
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    return rows * matrix.shape[1] + matrix.indices


def _too_many(found: str, most: int, number: int) -> GraphError:
    return GraphError(
        f"metapath: step {number + 1} of the path would join {found} pairs, expected at most {most:,}. "
        "Fix: threshold or subsample the edges first, leave out nodes of many edges, or raise most_edges."
    )
