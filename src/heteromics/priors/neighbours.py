"""Neighbours among points: nearest ones, all within a radius, Delaunay. Arrays in, pairs out.

Cost follows the number of points and pairs (k-d tree and Qhull of SciPy); ``sklearn.neighbors`` and squidpy were
weighed: the first leaves cells equally far to chance, the second returns N x N sparse matrices and adds many packages.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay, cKDTree

from heteromics.errors import PriorError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MOST_NEIGHBOURS = 1_000
"""More neighbours on average are taken for a mistake of units."""
FLAT = 1e-9
"""Points whose extent along an axis is below this share of the widest lie on a line or in a plane."""


class Pairs(NamedTuple):
    """Undirected pairs, each once with ``a < b``, ordered; fields of shape (E,).

    ``distance`` is Euclidean; ``mutual`` says whether each is a neighbour of the other.
    """

    a: Ints
    b: Ints
    distance: Floats
    mutual: NDArray[np.bool_]


def nearest(points: Floats, k: int) -> Pairs:
    """Link each point to the ``k`` nearest others, or to all others where there are fewer.

    Parameters
    ----------
    points
        Coordinates, shape (N, D).
    k
        How many; of points equally far, those of the lowest row are taken, so that the answer does not hang on how
        the tree was built.

    Examples
    --------
    >>> pairs = nearest(np.array([[0.0, 0], [1, 0], [3, 0]]), k=1)
    >>> list(zip(pairs.a.tolist(), pairs.b.tolist(), pairs.distance.tolist(), pairs.mutual.tolist()))
    [(0, 1, 1.0, True), (1, 2, 2.0, False)]
    """
    count = len(points)
    k = min(k, count - 1)
    if k < 1:
        return _no_pairs()
    tree = cKDTree(points)
    ask = min(k + 2, count)  # itself, k others, and one more to see whether the last is tied
    distance, row = (np.asarray(found) for found in tree.query(points, ask))
    tied = distance[:, k + 1] == distance[:, k] if ask > k + 1 else np.zeros(count, bool)
    plain = np.flatnonzero(~tied)
    other = row[plain, : k + 1]
    source, target = np.repeat(plain, k), other[other != plain[:, None]]
    sources, targets = [source], [target]
    for one in np.flatnonzero(tied):
        within = np.array(tree.query_ball_point(points[one], distance[one, k] * (1 + 1e-12)), np.int64)
        within = within[within != one]
        order = np.lexsort((within, _distance(points, np.full(within.size, one), within)))[:k]
        sources.append(np.full(k, one))
        targets.append(within[order])
    return _undirected(points, np.concatenate(sources), np.concatenate(targets))


def within_radius(points: Floats, radius: float) -> Pairs:
    """Link all points at most ``radius`` apart.

    Raises
    ------
    PriorError
        When points have more than ``MOST_NEIGHBOURS`` neighbours on average.

    Examples
    --------
    >>> within_radius(np.array([[0.0, 0], [3, 4], [30, 40]]), radius=5.0).distance.tolist()
    [5.0]
    """
    if len(points) < 2:
        return _no_pairs()
    tree = cKDTree(points)
    each = tree.count_neighbors(tree, radius) / len(points) - 1
    if each > MOST_NEIGHBOURS:
        raise PriorError(
            f"within {radius:g}, a cell has {each:,.0f} neighbours on average, expected {MOST_NEIGHBOURS:,} at most.\n"
            "  Fix: look at the unit of the coordinates and of the radius, or take a smaller radius."
        )
    pairs = tree.query_pairs(radius, output_type="ndarray").astype(np.int64)
    return _undirected(points, np.concatenate([pairs[:, 0], pairs[:, 1]]), np.concatenate([pairs[:, 1], pairs[:, 0]]))


def delaunay(points: Floats, longest_percentile: float | None = None) -> Pairs:
    """Link points that share an edge of the Delaunay triangulation.

    Parameters
    ----------
    points
        Coordinates, shape (N, D). Points on one line are linked to the next ones along it, points in one plane of
        space are triangulated there: that is Delaunay's triangulation in fewer dimensions. Points at one place are
        linked with each other and share their place's neighbours; a point that differs from another by no more than
        rounding, which no triangulation can hold, is linked with that one.
    longest_percentile
        Leave out edges longer than this percentile of all edges: across holes and around the outline, neighbours lie
        far apart.

    Raises
    ------
    PriorError
        When so many points share places that points have more than ``MOST_NEIGHBOURS`` neighbours on average.

    Examples
    --------
    >>> square = np.array([[0.0, 0], [1, 0], [0, 1], [1, 1.1]])
    >>> pairs = delaunay(square)
    >>> list(zip(pairs.a.tolist(), pairs.b.tolist()))
    [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3)]
    """
    if len(points) < 2:
        return _no_pairs()
    places, place_of = np.unique(points, axis=0, return_inverse=True)
    left, right = _triangulated(places)
    own = np.arange(len(places))
    source, target = _expanded(place_of.ravel(), np.concatenate([left, right, own]), np.concatenate([right, left, own]))
    pairs = _undirected(points, source, target)
    if longest_percentile is None or not pairs.distance.size:
        return pairs
    kept = pairs.distance <= np.percentile(pairs.distance, longest_percentile)
    return Pairs(pairs.a[kept], pairs.b[kept], pairs.distance[kept], pairs.mutual[kept])


def _triangulated(places: Floats) -> tuple[Ints, Ints]:
    """Return the edges between different places, in the fewest dimensions that hold them; some of them twice."""
    if len(places) < 2:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    centred = places - places.mean(axis=0)
    _, extent, axes = np.linalg.svd(centred, full_matrices=False)
    flat = centred @ axes[extent > FLAT * extent[0]].T
    if flat.shape[1] == 1:
        order = np.argsort(flat[:, 0], kind="stable").astype(np.int64)
        return order[:-1], order[1:]
    mesh = Delaunay(flat)
    corners, left_out = mesh.simplices.astype(np.int64), mesh.coplanar.astype(np.int64)  # (point, simplex, next corner)
    sides = [(i, j) for i in range(corners.shape[1]) for j in range(i)]
    left = [corners[:, i] for i, _ in sides]
    right = [corners[:, j] for _, j in sides]
    return np.concatenate([*left, left_out[:, 0]]), np.concatenate([*right, left_out[:, 2]])


def _expanded(place_of: Ints, left: Ints, right: Ints) -> tuple[Ints, Ints]:
    """Turn edges between places, a place and itself included, into pairs of the points that lie there."""
    members = np.argsort(place_of, kind="stable")
    size = np.bincount(place_of)
    first = np.cumsum(size) - size
    number = size[left] * size[right]
    if number.sum() > MOST_NEIGHBOURS * place_of.size:
        raise PriorError(
            f"{place_of.size:,} cells lie at {size.size:,} places, {size.max():,} of them at one. "
            "Fix: leave out cells without a place of their own."
        )
    edge = np.repeat(np.arange(left.size), number)
    within = np.arange(edge.size) - np.repeat(np.cumsum(number) - number, number)
    across = size[right][edge]
    return members[first[left][edge] + within // across], members[first[right][edge] + within % across]


def _undirected(points: Floats, source: Ints, target: Ints) -> Pairs:
    """Bring the two directions of pairs together; a pair of one with itself is left out."""
    count = len(points)
    directed = np.unique(source * count + target)
    source, target = directed // count, directed % count
    low, high = np.minimum(source, target), np.maximum(source, target)
    pair, times = np.unique((low * count + high)[low < high], return_counts=True)
    a, b = pair // count, pair % count
    return Pairs(a, b, _distance(points, a, b), times == 2)


def _distance(points: Floats, a: Ints, b: Ints) -> Floats:
    return np.sqrt(((points[a] - points[b]) ** 2).sum(axis=1))


def _no_pairs() -> Pairs:
    return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0, bool))
