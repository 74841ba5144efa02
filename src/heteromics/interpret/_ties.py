"""Runs of equal values among the non-zeros of rows or columns that were sorted."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]


def tied_runs(values: NDArray[Any], owner: NDArray[Any]) -> tuple[Int, Int]:
    """Return where each run of equal values of one owner starts, and how long it is; sorted by owner, then value.

    Examples
    --------
    >>> start, length = tied_runs(np.array([1.0, 1.0, 2.0, 2.0]), np.array([0, 0, 0, 1]))
    >>> start.tolist(), length.tolist()
    ([0, 2, 3], [2, 1, 1])
    """
    new = np.append(True, (np.diff(values) != 0) | (np.diff(owner) != 0))[: values.size]
    start = np.flatnonzero(new)
    return start, np.diff(np.append(start, values.size))
