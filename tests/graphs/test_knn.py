import subprocess
import sys

import numpy as np
import pytest
import torch

from heteromics.errors import DataError, GraphError
from heteromics.graphs import _knn_blocks, _knn_descent, _mutual
from heteromics.graphs._knn_blocks import Points, Tiles, search
from heteromics.graphs._mutual import SparsePairs, mutual_pairs, second_order
from heteromics.graphs.knn import Neighbors, nearest_neighbors
from tests.benchmarks import neighbors_approximate

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])]


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param


def unit(points):
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def brute(queries, targets, k, metric="euclidean", allowed=None):
    """All distances in float64, and a stable sort."""
    queries, targets = (np.asarray(each, dtype=np.float64) for each in (queries, targets))
    if metric == "cosine":
        queries, targets = unit(queries), unit(targets)
    distance = np.sqrt(((queries[:, None] - targets) ** 2).sum(-1))
    if allowed is not None:
        distance[~allowed] = np.inf
    indices = np.argsort(distance, axis=1, kind="stable")[:, :k]
    distance = np.take_along_axis(distance, indices, axis=1)
    return indices, distance**2 / 2 if metric == "cosine" else distance


def points(n, d, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(dtype)


def check(found, expected):
    np.testing.assert_array_equal(found.indices.cpu(), expected[0])
    np.testing.assert_allclose(found.distance.cpu(), expected[1], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_agrees_with_all_distances(device, metric, dtype):
    queries, targets = points(130, 6, 1, dtype), points(900, 6, 2, dtype)
    given = [torch.as_tensor(each, device=device) for each in (queries, targets)]
    found = nearest_neighbors(*given, 9, metric=metric)
    assert found.indices.device.type == device
    assert (found.indices.dtype, found.distance.dtype) == (torch.int64, given[0].dtype)
    check(found, brute(queries, targets, 9, metric))
    others = ~np.eye(len(targets), dtype=bool)
    check(nearest_neighbors(given[1], k=9, metric=metric), brute(targets, targets, 9, metric, others))


@pytest.mark.parametrize("tiles", [Tiles(7, 128, 64), Tiles(64, 64, 64), Tiles(5, 1 << 16, 192)])
def test_blocks_change_nothing(device, tiles):
    values = torch.as_tensor(points(400, 5), device=device) / 8
    held = Points(values, values.mean(0))
    own = torch.arange(400, device=device)
    whole, blocked = search(held, held, own, 11), search(held, held, own, 11, tiles)
    assert all(torch.equal(a, b) for a, b in zip(whole, blocked, strict=True))


@pytest.mark.parametrize("k", [1, 4, 40, 120])
def test_ties_go_to_the_lowest_row(device, k):
    grid = np.random.default_rng(3).integers(0, 3, (500, 4)).astype(np.float32)  # 81 places: 6 points at each
    others = ~np.eye(500, dtype=bool)
    check(nearest_neighbors(torch.as_tensor(grid, device=device), k=k), brute(grid, grid, k, allowed=others))


def test_many_equal_points_are_ranked_by_row(device):
    same = torch.ones((700, 3), device=device)
    found = nearest_neighbors(same, k=3)
    assert found.indices[:5].tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2], [0, 1, 2]]
    assert found.indices[-1].tolist() == [0, 1, 2]
    assert not found.distance.any()


def test_far_from_zero_and_beside_an_outlier_the_answer_is_exact(device):
    """Where float32 products lose all digits of the distances, the float64 search decides."""
    values = points(600, 4, 5) * 1e-4
    values[:300] += 3e3
    values[0] = 1e9
    others = ~np.eye(600, dtype=bool)
    check(nearest_neighbors(torch.as_tensor(values, device=device), k=6), brute(values, values, 6, allowed=others))


@pytest.mark.parametrize("size", [1e-200, 1e-30, 1e30, 1e150])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_size_does_not_matter(metric, size):
    values = points(300, 4)
    plain, scaled = (nearest_neighbors(each, k=5, metric=metric) for each in (values, values * size))
    torch.testing.assert_close(plain.indices, scaled.indices)
    unit_of = 1 if metric == "cosine" else size
    np.testing.assert_allclose(scaled.distance / unit_of, plain.distance, rtol=1e-12)


@pytest.mark.parametrize(("dtype", "least"), [(np.float32, 2.0**-149), (np.float64, 2.0**-1074)])
def test_the_smallest_numbers_are_told_apart(dtype, least):
    grid = np.random.default_rng(0).integers(-9, 9, (200, 3))
    found = nearest_neighbors((grid * least).astype(dtype), k=4)
    np.testing.assert_array_equal(found.indices, brute(grid, grid, 4, allowed=~np.eye(200, dtype=bool))[0])


def test_uncertain_rows_are_searched_again(monkeypatch):
    """With a certificate that never holds, every row goes the long way and comes to the same."""
    values = torch.as_tensor(points(300, 6))
    expected = nearest_neighbors(values, k=5)
    searched = []
    plain = _knn_blocks._plain_search
    monkeypatch.setattr(_knn_blocks, "_plain_search", lambda *given: searched.append(len(given[0])) or plain(*given))
    monkeypatch.setattr(_knn_blocks, "_UNIT", 1.0)
    monkeypatch.setattr(_knn_blocks, "_PLAIN", 128 * 50)
    found = nearest_neighbors(values, k=5)
    assert sum(searched) == 300
    assert torch.equal(found.indices, expected.indices)
    assert torch.equal(found.distance, expected.distance)


def test_rows_that_matter_are_certain_at_once(monkeypatch):
    """The certificate is not so strict that ordinary points take the slow way."""
    monkeypatch.setattr(_knn_blocks, "_plain_search", None)
    monkeypatch.setattr(_knn_blocks, "_WIDER", 0)
    values = torch.as_tensor(points(3_000, 50, dtype=np.float32))
    assert nearest_neighbors(values, k=15).indices.shape == (3_000, 15)


def test_order_of_points_does_not_matter():
    queries, targets = points(40, 5, 1), points(300, 5, 2)
    order = np.random.default_rng(0).permutation(300)
    found, moved = nearest_neighbors(queries, targets, 6), nearest_neighbors(queries, targets[order], 6)
    np.testing.assert_array_equal(order[moved.indices], found.indices)
    reverse = nearest_neighbors(queries[::-1].copy(), targets, 6)
    assert torch.equal(reverse.indices.flip(0), found.indices)


def test_small_inputs():
    assert nearest_neighbors(np.zeros((0, 3)), points(5, 3), 2).indices.shape == (0, 2)
    assert nearest_neighbors(points(1, 3), points(1, 3, 1), 1).indices.tolist() == [[0]]
    assert nearest_neighbors(np.array([[1], [4], [6]]), k=1).indices.tolist() == [[1], [2], [1]]  # whole numbers
    everything = nearest_neighbors(points(3, 2), points(70, 2, 1), 70)
    check(everything, brute(points(3, 2), points(70, 2, 1), 70))
    assert nearest_neighbors(torch.ones((4, 2), dtype=torch.bfloat16), k=1).distance.dtype == torch.float32


def test_given_arrays_and_settings_stay_as_they_are():
    values = points(100, 3)
    before = values.copy()
    torch.set_float32_matmul_precision("medium")
    try:
        nearest_neighbors(values, k=3)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    np.testing.assert_array_equal(values, before)
    weights = torch.as_tensor(values).requires_grad_()
    assert not nearest_neighbors(weights, k=3).distance.requires_grad


def test_autocast_and_fast_products_do_not_matter(device):
    values = torch.as_tensor(points(500, 16, dtype=np.float32), device=device)
    expected = nearest_neighbors(values, k=7)
    with torch.autocast(device, dtype=torch.bfloat16):
        found = nearest_neighbors(values, k=7)
    assert torch.equal(found.indices, expected.indices)


FAST_MODES = {
    "torch.set_float32_matmul_precision('medium')": "torch.get_float32_matmul_precision()",
    "torch.backends.fp32_precision = 'tf32'": "torch.backends.fp32_precision",
}


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="torch of one setting")
@pytest.mark.parametrize("mode", FAST_MODES)
def test_fast_products_set_in_any_way_are_off_within_and_on_again(mode):
    code = f"""
import torch
from heteromics.graphs._knn_blocks import true_float32
from heteromics.graphs.knn import nearest_neighbors
{mode}
before = {FAST_MODES[mode]}
with true_float32(torch.device("cpu")):
    print(torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32)
nearest_neighbors(torch.randn(50, 4), k=3)
print({FAST_MODES[mode]} == before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["highest", "False", "True"]


@pytest.mark.parametrize("choose", ["within", "across"])
@pytest.mark.parametrize("itself", [True, False])
def test_batches_bound_the_choice(device, choose, itself):
    queries, targets = points(120, 4, 1), points(200, 4, 2)
    batch, target_batch = (np.random.default_rng(seed).integers(0, 3, n) for seed, n in ((5, 120), (6, 200)))
    if itself:
        targets, target_batch = queries, batch
    same = batch[:, None] == target_batch
    allowed = same if choose == "within" else ~same
    if itself:
        allowed = allowed & ~np.eye(120, dtype=bool)
    found = nearest_neighbors(
        torch.as_tensor(queries, device=device),
        None if itself else torch.as_tensor(targets, device=device),
        6,
        batch=torch.as_tensor(batch, device=device),
        target_batch=None if itself else torch.as_tensor(target_batch, device=device),
        choose=choose,
    )
    check(found, brute(queries, targets, 6, allowed=allowed))


def test_each_batch_gives_k_neighbours():
    values, batch = points(150, 4), np.random.default_rng(0).choice([2, 7, 9], 150)
    found = nearest_neighbors(values, k=4, batch=batch, choose="each")
    assert found.indices.shape == (150, 12)
    assert (found.distance.diff(dim=1) >= 0).all()
    for code in (2, 7, 9):
        allowed = (batch == code) & ~np.eye(150, dtype=bool)
        expected, _ = brute(values, values, 4, allowed=allowed)
        of_batch = found.indices.numpy()[batch[found.indices] == code].reshape(150, 4)
        np.testing.assert_array_equal(of_batch, expected)
    one = nearest_neighbors(values, k=4, batch=np.zeros(150, int), choose="each")
    assert torch.equal(one.indices, nearest_neighbors(values, k=4).indices)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param({"queries": [[1.0], [np.nan]]}, r"queries: 1 of 2 points hold NaN or infinite", id="nan"),
        pytest.param({"targets": [[np.inf]]}, r"targets: 1 of 1 points hold NaN or infinite", id="infinite"),
        pytest.param({"targets": [[1.0, 2.0]]}, r"queries are \(3, 1\) .* targets \(1, 2\)", id="width"),
        pytest.param({"queries": [1.0, 2.0]}, r"queries: found shape \(2,\), expected points x dim", id="axes"),
        pytest.param({"k": 3}, "found k=3, but a point has only 2 others to choose from", id="k too large"),
        pytest.param({"targets": [[0.0]], "k": 2}, "found k=2, but a point has only 1 others", id="few targets"),
        pytest.param({"k": 0}, "found k=0, expected 1 or more", id="no k"),
        pytest.param({"metric": "cosine"}, "queries: 1 of 3 points are zero", id="zero vector"),
        pytest.param({"metric": "manhattan"}, "found metric='manhattan', expected 'euclidean', 'cosine'", id="metric"),
        pytest.param({"choose": "each"}, "choose='each' needs `batch`, found None", id="no batch"),
        pytest.param(
            {"choose": "each", "batch": [0, 1]}, r"batch: found .* expected whole .* shape \(3,\)", id="batch"
        ),
        pytest.param({"choose": "within", "batch": [0, 0, 1]}, "k=1, but a point has only 0 .* in the sm", id="alone"),
        pytest.param({"choose": "across", "batch": [0, 0, 0]}, "k=1, but a point has only 0 .* in the sm", id="across"),
        pytest.param({"target_batch": [0, 0, 0]}, "target_batch without targets", id="target batch"),
        pytest.param({"queries": ["a"]}, "queries: found <U1, expected numbers", id="words"),
        pytest.param({"choose": "each", "batch": ["a", "b", "c"]}, "batch: found <U1, expected", id="names of batches"),
    ],
)
def test_what_cannot_be_searched_is_said(given, message):
    given = {"queries": [[0.0], [1.0], [3.0]], "k": 1, **given}
    arrays = ("queries", "targets", "batch", "target_batch")
    with pytest.raises(DataError, match=message):
        nearest_neighbors(**{name: np.array(value) if name in arrays else value for name, value in given.items()})


def planted(n, seed=0):
    """Cells near a few dimensions, as embeddings have them: clusters and gradients in 6 of 30 dimensions."""
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((8, 6))[rng.integers(0, 8, n)] * 2 + rng.standard_normal((n, 6))
    turn = np.random.default_rng(99).standard_normal((6, 30))
    return (hidden @ turn + 0.05 * rng.standard_normal((n, 30))).astype(np.float32)


def recall(found, exact):
    hits = [len(np.intersect1d(a, b)) for a, b in zip(found.indices.numpy(), exact.indices.numpy(), strict=True)]
    return np.sum(hits) / exact.indices.numel()


@pytest.mark.no_cover  # tracing makes numba, which compiles pynndescent here, four times slower
@pytest.mark.slow
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_approximate_finds_nearly_all(metric):
    targets, queries = planted(6_000), planted(2_000, 1)
    for given in ((queries, targets), (targets, None)):
        exact, found = (nearest_neighbors(*given, 10, metric=metric, method=m) for m in ("exact", "approximate"))
        assert found.indices.shape == exact.indices.shape
        assert recall(found, exact) >= 0.98
        same = found.indices == exact.indices
        assert torch.equal(found.distance[same], exact.distance[same])
        assert (found.distance.diff(dim=1) >= 0).all()
        again = nearest_neighbors(*given, 10, metric=metric, method="approximate")
        assert torch.equal(again.indices, found.indices)
    assert (found.indices != torch.arange(6_000)[:, None]).all()


@pytest.mark.no_cover
@pytest.mark.benchmark
def test_the_short_form_of_its_benchmark_finds_what_brute_force_finds():
    assert neighbors_approximate.run("short", apart=False).same


def test_approximate_is_given_points_around_zero(monkeypatch):
    values, seen = planted(5_000).astype(np.float64) * 1e-3, []

    def look(query, target, k, seed, *, itself):
        seen.append((query, target))
        return np.full((len(query), k), -1)

    monkeypatch.setattr(_knn_descent, "descend", look)
    nearest_neighbors(values[:3] + 1e6, values + 1e6, k=5, method="approximate")
    centre = values.mean(0)
    for points_seen, given in zip(seen[0], (values[:3], values), strict=True):
        ratio = points_seen[0, 0] / (given - centre)[0, 0]
        np.testing.assert_allclose(points_seen / ratio, given - centre, atol=1e-8)


def test_approximate_fills_what_the_descent_leaves_open(monkeypatch):
    values = planted(5_000)
    exact = nearest_neighbors(values, k=5)

    def lame(query, target, k, seed, *, itself):
        found = np.full((len(query), k), -1)
        found[:, 0] = np.arange(len(query))
        return found

    monkeypatch.setattr(_knn_descent, "descend", lame)
    found = nearest_neighbors(values, k=5, method="approximate")
    assert torch.equal(found.indices, exact.indices)


def test_approximate_without_pynndescent_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynndescent", None)
    with pytest.raises(DataError, match="needs pynndescent, which is not installed. Fix: pip install pynndescent"):
        nearest_neighbors(planted(5_000), k=5, method="approximate")
    small = planted(200)
    few = nearest_neighbors(small, k=5, method="approximate")  # searched exactly
    assert torch.equal(few.indices, nearest_neighbors(small, k=5).indices)


def dense_mutual(left, right, k):
    forward, backward = brute(left, right, k)[0], brute(right, left, k)[0]
    a, b = np.zeros((2, len(left), len(right)), dtype=np.int64)
    np.put_along_axis(a, forward, 1, axis=1)
    b[backward.ravel(), np.repeat(np.arange(len(right)), k)] = 1
    return a * b


def mutual(left, right, k, device="cpu"):
    left, right = (torch.as_tensor(each, device=device) for each in (left, right))
    return mutual_pairs(nearest_neighbors(left, right, k), nearest_neighbors(right, left, k))


def dense(sparse, values):
    found = torch.zeros(sparse.shape, dtype=values.dtype, device=values.device)
    row = torch.repeat_interleave(torch.arange(sparse.shape[0], device=values.device), sparse.indptr.diff())
    found[row, sparse.indices] = values
    assert len(values) == len(row) == len(torch.unique(row * sparse.shape[1] + sparse.indices))
    return found.cpu().numpy()


def test_mutual_pairs_are_those_of_both_lists(device):
    left, right = points(60, 3, 1), points(90, 3, 2)
    found = mutual(left, right, 6, device)
    expected = dense_mutual(left, right, 6)
    assert expected.sum() > 60
    np.testing.assert_array_equal(dense(found, torch.ones_like(found.indices)), expected)
    gap = np.sqrt(((left[:, None] - right) ** 2).sum(-1))
    np.testing.assert_allclose(dense(found, found.distance), gap * expected)
    assert (found.indices.diff()[torch.repeat_interleave(found.indptr.diff(), found.indptr.diff())[1:] == 0] > 0).all()


def test_mutual_pairs_are_the_same_from_either_side():
    left, right = points(50, 3, 1), points(70, 3, 2)
    one, other = mutual(left, right, 5), mutual(right, left, 5)
    np.testing.assert_array_equal(dense(one, one.distance), dense(other, other.distance).T)


def test_pairs_of_nothing_and_wrong_lists():
    empty = Neighbors(torch.zeros((0, 2), dtype=torch.int64), torch.zeros((0, 2)))
    nothing = mutual_pairs(empty, empty)
    assert (nothing.indptr.tolist(), nothing.shape) == ([0], (0, 0))
    assert second_order(nothing).indices.tolist() == []
    far = Neighbors(torch.tensor([[3]]), torch.zeros((1, 1)))
    with pytest.raises(GraphError, match="forward points at rows 3 to 3, but the other side has 1"):
        mutual_pairs(far, far)


@pytest.mark.parametrize("paths", [1 << 23, 40, 1])
@pytest.mark.parametrize("keep_first", [True, False])
@pytest.mark.parametrize("reading", ["pair", "bipartite"])
def test_second_order_is_the_product_of_dense_matrices(device, reading, keep_first, paths, monkeypatch):
    monkeypatch.setattr(_mutual, "_PATHS", paths)
    left, right = points(80, 3, 1), points(80 if reading == "pair" else 110, 3, 2)
    first = dense_mutual(left, right, 5)
    product = first @ first if reading == "pair" else first @ first.T @ first
    if not keep_first:
        product = product * (1 - first)
    found = second_order(mutual(left, right, 5, device), reading, keep_first=keep_first)
    assert product.any()
    np.testing.assert_array_equal(dense(found, found.paths), product)
    assert found.indptr.diff().max() <= 5 ** (2 if reading == "pair" else 3)


def test_pair_reading_by_hand():
    """Pairs 0, 1, 2: RNA 0 - ATAC 1 and RNA 1 - ATAC 2 give RNA 0 - ATAC 2, over pair 1."""
    pairs = SparsePairs(torch.tensor([0, 1, 2, 2]), torch.tensor([1, 2]), torch.zeros(2), (3, 3))
    assert second_order(pairs, "pair")[:3] == (
        pytest.approx(torch.tensor([0, 1, 1, 1])),
        pytest.approx(torch.tensor([2])),
        pytest.approx(torch.tensor([1])),
    )
    assert second_order(pairs, "bipartite").indices.tolist() == []


def test_second_order_refuses_what_has_no_pairs():
    pairs = SparsePairs(torch.tensor([0, 1]), torch.tensor([2]), torch.zeros(1), (1, 3))
    with pytest.raises(GraphError, match="the pair reading needs rows that are pairs, found 1 left and 3 right rows"):
        second_order(pairs, "pair")
    with pytest.raises(GraphError, match="found reading='triple', expected 'pair' or 'bipartite'"):
        second_order(pairs, "triple")
