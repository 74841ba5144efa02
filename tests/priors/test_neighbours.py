import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from heteromics.errors import PriorError
from heteromics.priors import neighbours
from heteromics.priors.neighbours import delaunay, nearest, nearest_rows, on_lattice, rings, within_radius

GRIDS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=40)


def points_of(listed):
    return np.array(listed, float).reshape(-1, 2)


def pairs_of(found):
    assert (found.a < found.b).all()
    listed = list(zip(found.a.tolist(), found.b.tolist(), strict=True))
    assert listed == sorted(set(listed))
    return set(listed)


def checked(found, points):
    """Return the pairs once their distances are seen to be right."""
    np.testing.assert_allclose(found.distance, np.linalg.norm(points[found.a] - points[found.b], axis=1))
    return pairs_of(found)


def nearest_by_hand(points, k):
    apart = cdist(points, points)
    directed = set()
    for row in range(len(points)):
        others = [other for other in range(len(points)) if other != row]
        directed |= {(row, other) for other in sorted(others, key=lambda other: (apart[row, other], other))[:k]}
    return directed


@given(listed=GRIDS, k=st.integers(1, 9))
@settings(max_examples=150, deadline=None)
def test_nearest_agree_with_all_pairs_also_where_places_are_shared_and_ties_abound(listed, k):
    points = points_of(listed)
    found = nearest(points, k)
    directed = nearest_by_hand(points, k)
    assert checked(found, points) == {(min(pair), max(pair)) for pair in directed}
    mutual = {(a, b) for a, b in directed if a < b and (b, a) in directed}
    assert {(a, b) for a, b, both in zip(found.a, found.b, found.mutual, strict=True) if both} == mutual


@pytest.mark.parametrize("dimensions", [2, 3])
def test_nearest_agree_with_scikit_learn(dimensions):
    points = np.random.default_rng(0).random((2_000, dimensions))
    graph = NearestNeighbors(n_neighbors=8).fit(points).kneighbors_graph()
    both = (graph + graph.T).tocoo()
    found = nearest(points, 8)
    assert pairs_of(found) == {(a, b) for a, b in zip(both.row.tolist(), both.col.tolist(), strict=True) if a < b}
    assert found.mutual.sum() == graph.multiply(graph.T).nnz / 2


@given(listed=GRIDS, radius=st.sampled_from([0.5, 1.0, 2.0, 2.5, 20.0]))
@settings(max_examples=100, deadline=None)
def test_radius_agrees_with_all_pairs_and_is_inclusive(listed, radius):
    points = points_of(listed)
    found = within_radius(points, radius)
    near = np.triu(cdist(points, points) <= radius, 1) if len(points) else np.zeros((0, 0))
    assert checked(found, points) == set(zip(*(rows.tolist() for rows in np.nonzero(near)), strict=True))
    assert found.mutual.all()


def empty_circle(points, a, b):
    """Whether some circle through both points holds no other: the definition of a Delaunay edge."""
    middle, across = (points[a] + points[b]) / 2, points[b] - points[a]
    normal = np.array([-across[1], across[0]])
    low, high = -np.inf, np.inf
    for row, point in enumerate(points):
        if row in (a, b):
            continue
        side = normal @ (point - middle)
        reach = ((point - middle) ** 2).sum() - (across**2).sum() / 4
        if side > 0:
            high = min(high, reach / (2 * side))
        elif side < 0:
            low = max(low, reach / (2 * side))
        elif reach < 0:
            return False
    return low < high


def test_delaunay_edges_are_those_with_an_empty_circle():
    points = np.random.default_rng(2).random((60, 2))
    expected = {(a, b) for a in range(60) for b in range(a + 1, 60) if empty_circle(points, a, b)}
    assert checked(delaunay(points), points) == expected


@given(listed=GRIDS)
@settings(max_examples=100, deadline=None)
def test_delaunay_links_all_points_of_any_arrangement(listed):
    points = points_of(listed)
    found = pairs_of(delaunay(points))
    reached, todo = {0}, [0]
    while todo and listed:
        here = todo.pop()
        new = {a + b - here for a, b in found if here in (a, b)} - reached
        reached |= new
        todo += new
    assert len(reached) == max(1, len(points))
    for a in range(len(points)):
        for b in range(a + 1, len(points)):
            if (points[a] == points[b]).all():
                assert (a, b) in found


def test_delaunay_of_a_line_and_of_a_plane_in_space():
    line = np.outer([5.0, 1, 3, 2], [1, 2])
    assert pairs_of(delaunay(line)) == {(0, 2), (2, 3), (1, 3)}
    flat = np.random.default_rng(0).random((40, 2))
    tilt = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0][:2]
    assert pairs_of(delaunay(flat @ tilt + 7)) == pairs_of(delaunay(flat))
    solid = delaunay(np.random.default_rng(0).random((40, 3)))
    assert len(solid.a) > 3 * 40


def test_long_delaunay_edges_can_be_cut():
    points = np.append(np.random.default_rng(0).random((100, 2)), [[50, 50]], axis=0)
    whole, cut = delaunay(points), delaunay(points, longest_percentile=95)
    assert whole.b.max() == 100
    assert cut.b.max() < 100
    assert cut.distance.max() <= np.percentile(whole.distance, 95)
    assert cut.a.size == pytest.approx(0.95 * whole.a.size, abs=1)


def test_moving_and_shuffling_points_changes_nothing_but_rows():
    points = np.random.default_rng(3).random((300, 2)) * 1_000
    order = np.random.default_rng(4).permutation(300)
    for link in (lambda p: nearest(p, 5), lambda p: within_radius(p, 60.0), delaunay):
        one, other = link(points), link((points + 1_024)[order])
        there = {tuple(sorted((int(order[a]), int(order[b])))) for a, b in pairs_of(other)}
        assert there == pairs_of(one)


def test_too_many_neighbours_are_taken_for_a_mistake():
    points = np.random.default_rng(0).random((3_000, 2))
    with pytest.raises(PriorError, match=r"within 5, a cell has 2,999 neighbours on average, expected 1,000 at most"):
        within_radius(points, 5.0)
    with pytest.raises(PriorError, match=r"1,503 cells lie at 4 places, 1,500 of them at one"):
        delaunay(np.append(np.zeros((1_500, 2)), [[1, 0], [0, 1], [1, 1]], axis=0))


@pytest.mark.parametrize("count", [0, 1])
def test_nobody_has_no_neighbours(count):
    points = np.zeros((count, 2))
    for found in (nearest(points, 3), within_radius(points, 1.0), delaunay(points), on_lattice(points, 6)):
        assert [field.size for field in found] == [0, 0, 0, 0]


@pytest.mark.parametrize("apart", [1e-16, 1e-15, 1e-14, 1e-13])
def test_points_that_differ_by_rounding_alone_keep_a_neighbour(apart):
    points = np.random.default_rng(0).random((100, 2))
    pairs = delaunay(np.concatenate([points, points[:5] + np.array([apart, -apart])]))
    assert np.unique(np.concatenate([pairs.a, pairs.b])).size == 105
    assert {(row, 100 + row) for row in range(5)} <= set(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True))


@given(listed=GRIDS, radius=st.sampled_from([0.3, 1.0, 7.0]), seed=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_nearest_rows_are_the_k_nearest_of_each(listed, radius, seed):
    points = points_of(listed) + radius * np.random.default_rng(seed).random((len(listed), 2)).round(1)
    row = nearest_rows(points, 3)
    assert row.shape == (len(points), max(0, min(3, len(points) - 1)))
    found = {(one, other) for one, others in enumerate(row.tolist()) for other in others}
    assert found == nearest_by_hand(points, 3)


def test_ties_are_broken_alike_whatever_is_looked_at_in_one_go(monkeypatch):
    square = np.stack(np.meshgrid(np.arange(30.0), np.arange(30.0)), axis=-1).reshape(-1, 2)
    whole = np.sort(nearest_rows(square, 6), axis=1)
    monkeypatch.setattr(neighbours, "_MOST_CANDIDATES", 20)
    np.testing.assert_array_equal(np.sort(nearest_rows(square, 6), axis=1), whole)


def test_radius_agrees_with_a_tree_on_clusters_of_points_in_space():
    rng = np.random.default_rng(5)
    points = rng.normal(size=(40, 1, 3)) * 50 + rng.normal(size=(40, 60, 3))
    points = points.reshape(-1, 3)
    found = within_radius(points, 1.2)
    assert checked(found, points) == cKDTree(points).query_pairs(1.2)


def hexagonal(rows, columns):
    """Places of a hexagonal lattice with step 1, with their column and row: axial coordinates."""
    r, q = np.divmod(np.arange(rows * columns), columns)
    return np.stack([q + 0.5 * r, np.sqrt(0.75) * r], axis=1), np.stack([q, r], axis=1)


def steps_apart(axial):
    """Fewest steps between places of a full hexagonal lattice, all pairs."""
    apart = axial[:, None] - axial[None]
    return (np.abs(apart).sum(axis=-1) + np.abs(apart.sum(axis=-1))) // 2


def test_rings_of_a_hexagonal_lattice_are_its_steps():
    points, axial = hexagonal(9, 8)
    pairs, ring = rings(on_lattice(points * 100 + 5_000, 6), points * 100, 3)
    apart = steps_apart(axial)
    near = np.triu((apart >= 1) & (apart <= 3))
    assert checked(pairs, points * 100) == set(zip(*(rows.tolist() for rows in np.nonzero(near)), strict=True))
    np.testing.assert_array_equal(ring, apart[pairs.a, pairs.b])


@pytest.mark.parametrize(("sides", "metric"), [(4, "cityblock"), (8, "chebyshev")])
def test_rings_of_a_square_lattice_are_its_steps(sides, metric):
    points = np.stack(np.meshgrid(np.arange(7.0), np.arange(6.0)), axis=-1).reshape(-1, 2)
    pairs, ring = rings(on_lattice(points, sides), points, 2)
    apart = cdist(points, points, metric)
    near = np.triu((apart >= 1) & (apart <= 2))
    assert pairs_of(pairs) == set(zip(*(rows.tolist() for rows in np.nonzero(near)), strict=True))
    np.testing.assert_array_equal(ring, apart[pairs.a, pairs.b])


def test_a_lattice_with_holes_and_jitter_keeps_single_steps_only():
    rng = np.random.default_rng(1)
    points, axial = hexagonal(20, 20)
    there = rng.random(400) < 0.6
    pairs = on_lattice(points[there] + rng.uniform(-0.05, 0.05, (there.sum(), 2)), 6)
    near = np.triu(steps_apart(axial[there]) == 1)
    assert pairs_of(pairs) == set(zip(*(rows.tolist() for rows in np.nonzero(near)), strict=True))


def test_steps_go_round_a_hole():
    ring_of_eight = np.array([[0.0, 0], [1, 0], [2, 0], [2, 1], [2, 2], [1, 2], [0, 2], [0, 1]])
    pairs, ring = rings(on_lattice(ring_of_eight, 4), ring_of_eight, 4)
    steps = dict(zip(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True), ring.tolist(), strict=True))
    assert steps == {(a, b): min(b - a, 8 - b + a) for a in range(8) for b in range(a + 1, 8)}
