import itertools

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from heteromics.errors import DataError
from heteromics.nn import _candidates
from heteromics.nn._candidates import best_pairs
from heteromics.nn.assignment import assign, assign_scores

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])]


def unit(rng, rows, width=8):
    values = rng.normal(size=(rows, width))
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def pairs(matching):
    found = matching.tocoo()
    return found.row, found.col


def total(matching, scores):
    return float(scores[pairs(matching)].sum())


def is_matching(matching, number):
    row, column = pairs(matching)
    return len(set(row)) == len(set(column)) == len(row) == number and (matching.data == 1).all()


def published_weights(scores):
    """Softmax of rows plus softmax of columns, each from its own sum."""
    e = np.exp(scores)
    return e / e.sum(1, keepdims=True) + e / e.sum(0)


@pytest.mark.parametrize("k", [1, 3, 20])
@pytest.mark.parametrize(("rows", "columns"), [(50, 70), (400, 230), (1, 9), (9, 1), (64, 64)])
@pytest.mark.parametrize("decimals", [1, 9])
def test_pairs_are_the_best_of_rows_and_columns_with_ties_to_the_lower(rows, columns, k, decimals, monkeypatch):
    scores = np.random.default_rng(rows).normal(size=(rows, columns)).round(decimals).astype(np.float32)
    monkeypatch.setitem(_candidates._TILE, "cpu", 37 * columns)
    found = best_pairs(lambda a, b: torch.from_numpy(scores[a:b]), rows, columns, (k, k + 1), torch.device("cpu"))
    by_row, by_column = np.argsort(-scores, axis=1, kind="stable"), np.argsort(-scores, axis=0, kind="stable")
    expected = {(i, j) for i in range(rows) for j in by_row[i, :k]}
    expected |= {(i, j) for j in range(columns) for i in by_column[: k + 1, j]}
    assert list(zip(found.row, found.column, strict=True)) == sorted(expected)
    np.testing.assert_array_equal(found.value, scores[found.row, found.column])


def test_of_values_all_alike_no_more_is_kept_than_was_asked_for(monkeypatch):
    monkeypatch.setitem(_candidates._TILE, "cpu", 500)
    found = best_pairs(lambda a, b: torch.ones(b - a, 100), 200, 100, (3, 2), torch.device("cpu"))
    assert {(i, j) for i in range(200) for j in range(3)} | {(i, j) for i in range(2) for j in range(100)} == set(
        zip(found.row.tolist(), found.column.tolist(), strict=True)
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("n", "m"), [(1, 1), (4, 4), (6, 6), (3, 6), (6, 4)])
def test_the_best_of_all_permutations(n, m, seed):
    rng = np.random.default_rng(seed)
    x, y = unit(rng, n), unit(rng, m)
    scores = x @ y.T
    matching = assign(x, y, k=7, progress=False)
    small = min(n, m)
    wide = scores if n <= m else scores.T
    best = max(
        sum(wide[i, j] for i, j in enumerate(order)) for order in itertools.permutations(range(max(n, m)), small)
    )
    assert is_matching(matching, small)
    assert total(matching, scores) == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize(("n", "m"), [(120, 120), (90, 140), (140, 90)])
def test_with_k_of_all_it_is_the_linear_assignment(n, m, metric, device):
    rng = np.random.default_rng(n)
    x, y = 3 * rng.normal(size=(n, 5)), 2 * rng.normal(size=(m, 5))
    scores = x @ y.T
    if metric == "cosine":
        scores /= np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(y, axis=1)
    matching = assign(x, y, k=200, metric=metric, device=device, progress=False)
    row, column = linear_sum_assignment(scores, maximize=True)
    assert is_matching(matching, min(n, m))
    assert total(matching, scores) == pytest.approx(scores[row, column].sum(), rel=1e-5)


def test_twenty_candidates_come_within_a_thousandth_of_the_best():
    rng = np.random.default_rng(0)
    state = rng.normal(size=(800, 12)) @ rng.normal(size=(12, 32))
    x, y = state + 4 * rng.normal(size=state.shape), (state + 4 * rng.normal(size=state.shape))[rng.permutation(800)]
    scores = (x / np.linalg.norm(x, axis=1, keepdims=True)) @ (y / np.linalg.norm(y, axis=1, keepdims=True)).T
    row, column = linear_sum_assignment(scores, maximize=True)
    assert 0.999 * scores[row, column].sum() <= total(assign(x, y, progress=False), scores) <= scores[row, column].sum()


def test_order_of_cells_permutes_the_matching():
    rng = np.random.default_rng(3)
    x, y = unit(rng, 60), unit(rng, 60)
    mix = rng.permutation(60), rng.permutation(60)
    whole = assign(x, y, k=30, progress=False).toarray()
    mixed = assign(x[mix[0]], y[mix[1]], k=30, progress=False).toarray()
    np.testing.assert_array_equal(whole[np.ix_(*mix)], mixed)


def test_equal_embeddings_still_give_a_full_matching_and_the_same_one():
    alike = np.ones((300, 4))
    with pytest.warns(UserWarning, match=r"of 300 matches are not among the best of their row or column"):
        first = assign(alike, alike, k=2, progress=False)
    with pytest.warns(UserWarning, match="Fix: a larger k"):
        again = assign(alike, alike, k=2, progress=False)
    assert is_matching(first, 300)
    assert (first != again).nnz == 0


def test_that_rows_are_in_the_same_order_does_not_help():
    """Embeddings that know nothing of each other: cells without a candidate are not handed that of their own number."""
    rng = np.random.default_rng(5)
    with pytest.warns(UserWarning, match="Fix: a larger k"):
        matching = assign(unit(rng, 400, 2), unit(rng, 400, 2), k=1, progress=False)
    assert matching.diagonal().sum() < 10


def test_groups_are_matched_apart():
    rng = np.random.default_rng(2)
    x, y = unit(rng, 50), unit(rng, 44)
    left, right = rng.permutation(["d1"] * 30 + ["d2"] * 20), rng.permutation(["d1"] * 19 + ["d2"] * 25)
    whole = assign(x, y, groups=(left, right), k=50, progress=False)
    assert is_matching(whole, 19 + 20)
    for name in ("d1", "d2"):
        rows, columns = np.flatnonzero(left == name), np.flatnonzero(right == name)
        alone = assign(x[rows], y[columns], k=50, progress=False)
        assert (whole[rows][:, columns] != alone).nnz == 0
    with pytest.raises(DataError, match="groups: 1 stand on one side alone: d2"):
        assign(x, y, groups=(left, ["d1"] * 44))


def test_the_published_rule_with_its_quantiles():
    """scMoGNN: keep what reaches the 95 % quantile of its row or of its column of both softmaxes; then match."""
    rng = np.random.default_rng(4)
    x, y = unit(rng, 101, 6), unit(rng, 101, 6)
    weights = published_weights(x @ y.T)
    kept = (weights >= np.quantile(weights, 0.95, axis=1, keepdims=True)) | (
        weights >= np.quantile(weights, 0.95, axis=0)
    )
    row, column = min_weight_full_bipartite_matching(sparse.csr_array(np.where(kept, weights, 0.0)), maximize=True)
    ours = assign(x, y, weights="softmax", share=0.05, progress=False)
    assert is_matching(ours, 101)
    assert total(ours, weights) == pytest.approx(weights[row, column].sum(), rel=1e-6)


@pytest.mark.parametrize("n", [2, 20, 21, 22, 40, 41, 100, 101, 6670])
def test_a_share_keeps_what_reaches_the_quantile(n):
    from heteromics.nn.assignment import _reaching

    values = np.arange(n, dtype=float)
    assert _reaching(0.05, n) == (values >= np.quantile(values, 0.95) - 1e-6).sum()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("weights", ["similarity", "softmax"])
def test_autocast_and_fast_products_do_not_matter(weights, device):
    rng = np.random.default_rng(0)
    given, options = (unit(rng, 150), unit(rng, 160)), {"weights": weights, "device": device, "progress": False}
    expected = assign(*given, **options).toarray()
    with torch.autocast(device, dtype=torch.bfloat16):
        np.testing.assert_array_equal(assign(*given, **options).toarray(), expected)


def test_softmax_of_large_products_does_not_overflow():
    rng = np.random.default_rng(0)
    x, y = 40 * rng.normal(size=(30, 4)), 40 * rng.normal(size=(30, 4))
    scores = x @ y.T
    weights = np.exp(scores - scores.max(1, keepdims=True)), np.exp(scores - scores.max(0))
    weights = weights[0] / weights[0].sum(1, keepdims=True) + weights[1] / weights[1].sum(0)
    row, column = linear_sum_assignment(weights, maximize=True)
    found = assign(x, y, metric="dot", weights="softmax", k=30, progress=False)
    assert total(found, weights) == pytest.approx(weights[row, column].sum(), rel=1e-4)


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 4), (4, 0)])
def test_nothing_to_match(n, m):
    matching = assign(np.empty((n, 3)), np.empty((m, 3)), progress=False)
    assert matching.shape == (n, m)
    assert matching.nnz == 0
    assert assign_scores(sparse.csr_array((n, m))).nnz == 0


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("n", "m"), [(4, 4), (3, 5), (5, 3)])
def test_given_scores_as_many_pairs_as_possible_then_the_largest_sum(n, m, seed):
    rng = np.random.default_rng(seed)
    stored = rng.random((n, m)) < 0.4
    stored[0, 0] = True
    scores = rng.normal(size=(n, m)).round(1)
    scores[0, 0] = 0.0
    table = sparse.csr_array((scores[stored], np.nonzero(stored)), shape=(n, m))
    best = (0, 0.0)
    places = np.argwhere(stored)
    for number in range(1, min(n, m) + 1):
        for chosen in itertools.combinations(places, number):
            rows, columns = np.transpose(chosen)
            if len(set(rows)) == len(set(columns)) == number:
                best = max(best, (number, float(scores[rows, columns].sum())))
    found = assign_scores(table)
    assert is_matching(found, best[0])
    assert stored[pairs(found)].all()
    assert total(found, scores) == pytest.approx(best[1])


@pytest.mark.parametrize("size", [1e-300, 1e-20, 1e-12, 1.0, 1e300])
def test_scores_of_any_size(size):
    scores = np.random.default_rng(0).random((30, 40)) - 0.5
    found = assign_scores(sparse.coo_array(scores * size))
    assert is_matching(found, 30)
    rows, columns = linear_sum_assignment(scores, maximize=True)
    assert total(found, scores) == pytest.approx(scores[rows, columns].sum(), rel=1e-9)


def test_scores_at_the_ends_of_the_floats_and_in_half_precision():
    largest = np.finfo(np.float64).max
    np.testing.assert_array_equal(assign_scores([[largest, -largest], [0.0, largest]]).toarray(), np.eye(2))
    np.testing.assert_array_equal(assign_scores(np.array([[1, 3], [2, 2]], np.float16)).toarray(), [[0, 1], [1, 0]])


def test_a_score_of_zero_is_a_score():
    table = sparse.csr_array(([0.0, 0.0], ([0, 1], [1, 0])), shape=(2, 2))
    np.testing.assert_array_equal(assign_scores(table).toarray(), [[0, 1], [1, 0]])


@pytest.mark.parametrize(
    ("left", "right", "options", "message"),
    [
        (np.ones(3), np.ones((3, 1)), {}, r"left: found shape \(3,\) of torch.float64"),
        (np.ones((3, 2)), np.ones((3, 1)), {}, "left has 2 columns and right 1"),
        (np.ones((3, 1)), np.full((3, 1), np.nan), {}, "right: 3 of 3 values are NaN"),
        (np.ones((3, 1)), np.ones((3, 1)), {"k": 0}, "found k=0 and share=None"),
        (np.ones((3, 1)), np.ones((3, 1)), {"share": 2.0}, "share=2.0, expected k of 1 or more and a share"),
        (np.ones((3, 1)), np.ones((3, 1)), {"metric": "l2"}, "found metric='l2'"),
        (np.ones((3, 1)), np.ones((3, 1)), {"groups": ("ab", "abc")}, "found 1 for 3 rows of left"),
        (np.ones((2, 1)), np.ones((2, 1)), {"groups": [["a", None]] * 2}, "groups of left: 1 of 2 cells"),
        (np.full((3, 1), 1e300), np.ones((3, 1)), {}, r"left: 3 of 3 values are beyond 1e\+15"),
        (np.ones((3, 1)), np.full((3, 1), -1e25), {"metric": "dot"}, "right: 3 of 3 values are beyond"),
    ],
)
def test_what_cannot_be_matched(left, right, options, message):
    with pytest.raises(DataError, match=message):
        assign(left, right, **options)
    with pytest.raises(DataError, match="1 of 2 scores are NaN or infinite"):
        assign_scores(sparse.csr_array([[1.0, np.inf]]))
