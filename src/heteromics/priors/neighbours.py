"""Neighbours among points: nearest ones, all within a radius, Delaunay, on a lattice. Arrays in, pairs out.

Cost follows the number of points and pairs: k-d tree and Qhull of SciPy find them, its compressed matrices put them in
order without comparing any two. ``sklearn.neighbors`` and squidpy were weighed: the first leaves cells equally far to
chance, the second returns N x N sparse matrices and adds many packages.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import Delaunay, cKDTree

from heteromics.errors import PriorError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MOST_NEIGHBOURS = 1_000
"""More neighbours on average are taken for a mistake of units."""
FLAT = 1e-9
"""Points whose extent along an axis is below this share of the widest lie on a line or in a plane."""
LATTICE_REACH = {4: 1.2, 6: 1.3, 8: 1.7}
"""By neighbours of a place on a lattice, how far they may lie, in distances to the nearest: half way, by ratio, between
theirs (1, 1 and 1.41) and those of the next ones (1.41, 1.73 and 2)."""
_SAMPLE = 10_000
"""Points whose neighbours are counted before all pairs are made."""
_MOST_CANDIDATES = 1 << 22
"""Pairs looked at in one go where points are equally far: some 100 MB."""


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

    Raises
    ------
    PriorError
        When so many points share places, or are otherwise equally far from each other, that more than
        ``MOST_NEIGHBOURS`` beyond ``k`` would have to be compared for each on average.

    Examples
    --------
    >>> pairs = nearest(np.array([[0.0, 0], [1, 0], [3, 0]]), k=1)
    >>> list(zip(pairs.a.tolist(), pairs.b.tolist(), pairs.distance.tolist(), pairs.mutual.tolist()))
    [(0, 1, 1.0, True), (1, 2, 2.0, False)]
    """
    row = nearest_rows(points, k)
    return _undirected(points, np.repeat(np.arange(len(points)), row.shape[1]), row.ravel())


def nearest_rows(points: Floats, k: int) -> Ints:
    """Return the rows of the ``k`` nearest other points of each, shape (N, k), or (N, N - 1) where there are fewer.

    The order within a row says nothing; ties are broken as in :func:`nearest`.

    Examples
    --------
    >>> nearest_rows(np.array([[0.0, 0], [1, 0], [3, 0]]), k=1).tolist()
    [[1], [0], [1]]
    """
    count = len(points)
    k = min(k, count - 1)
    if k < 1:
        return np.empty((count, 0), np.int64)
    tree = cKDTree(points)
    ask = min(k + 2, count)  # itself, k others, and one more to see whether the last is tied
    distance, row = (np.asarray(found) for found in tree.query(points, ask))
    tied = distance[:, k + 1] == distance[:, k] if ask > k + 1 else np.zeros(count, bool)
    plain, found = np.flatnonzero(~tied), np.empty((count, k), np.int64)
    other = row[plain, : k + 1]
    found[plain] = other[other != plain[:, None]].reshape(-1, k)
    unclear = np.flatnonzero(tied)
    if unclear.size:
        found[unclear] = _lowest_of_equally_far(points, tree, unclear, distance[unclear, k] * (1 + 1e-12), k)
    return found


def _lowest_of_equally_far(points: Floats, tree: cKDTree, rows: Ints, reach: Floats, k: int) -> Ints:
    """Return the ``k`` nearest within reach of each of some rows, of equally far ones the lowest; shape (rows, k)."""
    number = np.asarray(tree.query_ball_point(points[rows], reach, return_length=True), np.int64)
    if number.sum() > (MOST_NEIGHBOURS + k) * len(points):
        raise PriorError(
            f"{rows.size:,} of {len(points):,} cells have others equally far from them, up to {number.max():,} each, "
            "as where many lie at one place.\n  Fix: leave out cells without a place of their own."
        )
    block = (np.cumsum(number) - number) // _MOST_CANDIDATES
    parts = []
    for part in np.split(np.arange(rows.size), np.flatnonzero(np.diff(block)) + 1):
        listed = tree.query_ball_point(points[rows[part]], reach[part])
        near = np.concatenate([np.asarray(one, np.int64) for one in listed])
        of = np.repeat(part, number[part])
        other = near != rows[of]
        near, of = near[other], of[other]
        order = np.lexsort((near, _distance(points, rows[of], near), of))
        first = np.cumsum(number[part] - 1) - (number[part] - 1)
        parts.append(near[order][first[:, None] + np.arange(k)])
    return np.concatenate(parts)


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
    sample = cKDTree(points[:: -(-len(points) // _SAMPLE)])
    each = sample.count_neighbors(tree, radius) / sample.n - 1
    if each > MOST_NEIGHBOURS:
        raise PriorError(
            f"within {radius:g}, a cell has {each:,.0f} neighbours on average, expected {MOST_NEIGHBOURS:,} at most.\n"
            "  Fix: look at the unit of the coordinates and of the radius, or take a smaller radius."
        )
    low, high = tree.query_pairs(radius, output_type="ndarray").T
    by_low = sparse.coo_array((np.ones(low.size, bool), (low, high)), shape=(len(points), len(points))).tocsr()
    a, b = _rows(by_low), by_low.indices.astype(np.int64)
    return Pairs(a, b, _distance(points, a, b), np.ones(a.size, bool))


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
    # moved along the axes, and turned only where that saves one: the straight outline of an array would bend by
    # rounding, and far ends of it be joined
    moved = places - places.min(axis=0)
    moved = moved[:, moved.any(axis=0)]
    centred = moved - moved.mean(axis=0)
    _, extent, axes = np.linalg.svd(centred, full_matrices=False)
    wide = extent > FLAT * extent[0]
    flat = moved if wide.sum() == moved.shape[1] else centred @ axes[wide].T
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


def on_lattice(points: Floats, sides: int) -> Pairs:
    """Link points of a regular lattice, such as the spots of an array, to the next ones in each direction.

    Parameters
    ----------
    points
        Coordinates, shape (N, D), on one lattice, any of whose places may be empty.
    sides
        Next places of a place: 6 on a hexagonal lattice; 4, or 8 with the diagonal ones, on a square one.

    Raises
    ------
    PriorError
        When half of the points or more share their place with another, so that there is no step to tell.

    Notes
    -----
    The step of the lattice is the median distance of points to their nearest; of the ``sides`` nearest points those are
    linked that lie within ``LATTICE_REACH`` steps, for what lies further is beyond an empty place.
    ``squidpy.gr.spatial_neighbors_grid`` takes 1.3 times the median over all ``sides`` nearest, which gives the same
    links on a full lattice, and too many where most places are empty.

    Examples
    --------
    >>> pairs = on_lattice(np.array([[0.0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [9, 0]]), sides=4)
    >>> list(zip(pairs.a.tolist(), pairs.b.tolist()))
    [(0, 1), (0, 3), (1, 2), (1, 4), (3, 4)]
    """
    row = nearest_rows(points, sides)
    source, target = np.repeat(np.arange(len(points)), row.shape[1]), row.ravel()
    distance = _distance(points, source, target)
    if not distance.size:
        return _no_pairs()
    step = np.median(distance.reshape(row.shape).min(axis=1))
    if not step:
        shared = int((distance.reshape(row.shape).min(axis=1) == 0).sum())
        raise PriorError(
            f"{shared:,} of {len(points):,} spots lie at the place of another one, expected one spot at each place.\n"
            "  Fix: name the library of each spot, where several arrays lie on top of each other."
        )
    near = distance <= LATTICE_REACH[sides] * step
    return _undirected(points, source[near], target[near])


def rings(pairs: Pairs, points: Floats, number: int) -> tuple[Pairs, Ints]:
    """Link each point to all that ``number`` steps along pairs lead to, and count the steps.

    Parameters
    ----------
    pairs
        Single steps.
    points
        Coordinates, shape (N, D).
    number
        Most steps, 1 or more.

    Returns
    -------
    pairs, ring
        Pairs of the fewest steps from 1 to ``number``, Euclidean distances; their numbers of steps, shape (E,).

    Examples
    --------
    >>> line = np.arange(4.0)[:, None]
    >>> further, ring = rings(nearest(line, 1), line, 2)
    >>> list(zip(further.a.tolist(), further.b.tolist(), ring.tolist()))
    [(0, 1, 1), (0, 2, 2), (1, 2, 1), (1, 3, 2), (2, 3, 1)]
    """
    count = len(points)
    half = sparse.coo_array((np.ones(pairs.a.size, np.int32), (pairs.a, pairs.b)), shape=(count, count)).tocsr()
    step = (half + half.T).tocsr()
    shell, reached = step, step + sparse.eye_array(count, dtype=np.int32, format="csr")
    steps = step.copy()
    for ring in range(2, number + 1):
        walked = shell @ step
        walked.data[:] = 1
        shell = walked - walked.multiply(reached)
        shell.eliminate_zeros()
        reached = reached + shell
        steps = steps + ring * shell
    upper = sparse.triu(steps, k=1, format="csr")
    upper.sort_indices()
    a, b = _rows(upper), upper.indices.astype(np.int64)
    return Pairs(a, b, _distance(points, a, b), np.ones(a.size, bool)), upper.data.astype(np.int64)


def _undirected(points: Floats, source: Ints, target: Ints) -> Pairs:
    """Bring the two directions of pairs together; a pair of one with itself is left out."""
    shape = (len(points), len(points))
    directed = sparse.coo_array((np.ones(source.size, np.int8), (source, target)), shape=shape).tocsr()
    directed.data[:] = 1
    times = sparse.triu(directed + directed.T, k=1, format="csr")
    a, b = _rows(times), times.indices.astype(np.int64)
    return Pairs(a, b, _distance(points, a, b), times.data == 2)


def _rows(matrix: sparse.csr_array) -> Ints:
    """Return the row of each entry."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def _distance(points: Floats, a: Ints, b: Ints) -> Floats:
    return np.sqrt(sum(((axis[a] - axis[b]) ** 2 for axis in points.T.copy()), np.zeros(a.size)))


def _no_pairs() -> Pairs:
    return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0, bool))
