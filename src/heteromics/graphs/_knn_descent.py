"""Approximate neighbours by pynndescent: its one caller is :func:`heteromics.graphs.knn.nearest_neighbors`."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from heteromics.errors import DataError

__all__ = ["FEWEST", "descend"]

FEWEST = 4_096
"""Below this number of targets the exact search is as fast."""
_GRAPH = 10
"""Fewest neighbours of the graph that is descended on. All of them are kept: with pynndescent's pruning of near edges,
the same recall takes twice as many."""
_EPSILON = 0.3
"""How much farther than the last neighbour the search looks on, as a share; pynndescent's own default is 0.1."""


def descend(
    query: NDArray[np.float32], target: NDArray[np.float32], k: int, seed: int, *, itself: bool
) -> NDArray[np.int64]:
    """Find about the k nearest targets of each query by Euclidean distance.

    Parameters
    ----------
    query, target
        Shapes (Q, D) and (T, D); with ``itself`` the queries are the targets, and each is found by itself too.
    k
        Below T.
    seed
        The same seed gives the same answer.

    Returns
    -------
    ndarray
        Shape (Q, k), int64, in no order; -1 where the descent found too few.

    Raises
    ------
    DataError
        When pynndescent is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its import and its compiler warn of what a user can do nothing about
        try:
            from pynndescent import NNDescent
        except ImportError as error:
            raise DataError(
                "method='approximate' needs pynndescent, which is not installed. "
                "Fix: pip install pynndescent, or take method='exact'."
            ) from error
        index = NNDescent(target, metric="euclidean", n_neighbors=max(_GRAPH, k), diversify_prob=0.0, random_state=seed)
        found = index.neighbor_graph[0][:, :k] if itself else index.query(query, k=k, epsilon=_EPSILON)[0]
    return np.asarray(found, dtype=np.int64)
