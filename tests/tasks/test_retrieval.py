import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.spatial.distance import cdist
from sklearn.metrics import average_precision_score
from sklearn.metrics.pairwise import cosine_similarity

from heteromics.errors import DataError
from heteromics.tasks import retrieval
from heteromics.tasks.retrieval import closer_counts, foscttm, matching_score, mean_average_precision, recall_at

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])]


def embeddings(n=60, d=4, noise=0.7, seed=0):
    rng = np.random.default_rng(seed)
    left = rng.normal(size=(n, d))
    return left, left + noise * rng.normal(size=(n, d))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("block", [1, 500, 1 << 21])
def test_foscttm_is_counted_over_all_distances(device, block, monkeypatch):
    monkeypatch.setattr(retrieval, "_BLOCK", block)
    left, right = embeddings()
    distance = cdist(left, right)
    own = np.diag(distance)
    found = foscttm(left, right, device)
    np.testing.assert_array_equal(found.left, (distance < own[:, None]).mean(1))
    np.testing.assert_array_equal(found.right, (distance < own).mean(0))


def test_foscttm_of_equal_sides_is_zero_and_of_unrelated_ones_a_half():
    left, _ = embeddings(500)
    assert foscttm(left, left).mean == 0
    assert foscttm(left, embeddings(500, seed=1)[0]).mean == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(("n", "d"), [(30, 3), (1_000, 64), (513, 128)])
@pytest.mark.parametrize("far", [0.0, 1e4])
def test_cells_in_one_place_are_not_closer(n, d, far):
    place = np.random.default_rng(0).normal(size=(1, d))
    same = np.tile(place + far, (n, 1))
    assert foscttm(same, same).mean == 0
    lone = np.vstack([np.tile(place, (n, 1)), -place - far])
    assert foscttm(lone, lone).mean == 0


def test_cells_that_share_codes_are_ties():
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(20, 64))
    left = rng.integers(0, 20, 500)
    right = np.where(rng.random(500) < 0.7, left, rng.integers(0, 20, 500))
    distance = cdist(codes, codes)[left][:, right]
    own = np.diag(distance)
    found = foscttm(codes[left], codes[right])
    np.testing.assert_array_equal(found.left, (distance < own[:, None] - 1e-9).mean(1))
    np.testing.assert_array_equal(found.right, (distance < own - 1e-9).mean(0))


@pytest.mark.parametrize("seed", range(60))
def test_ties_of_whole_numbers_are_ties(seed):
    rng = np.random.default_rng(seed)
    left, right = rng.integers(-2, 3, (2, rng.integers(1, 40), rng.integers(1, 9)))
    distance = ((left[:, None] - right) ** 2).sum(-1)
    own = np.diag(distance)
    found = closer_counts(left, right)
    np.testing.assert_array_equal(found[0], (distance < own[:, None]).sum(1))
    np.testing.assert_array_equal(found[1], (distance < own).sum(0))


def test_embeddings_far_from_the_origin_are_told_apart():
    left, right = embeddings(300, 20)
    near, far = foscttm(left, right), foscttm(1e3 + 1e-3 * left, 1e3 + 1e-3 * right)
    np.testing.assert_allclose(far.left, near.left, atol=1 / 300)
    assert far.mean == pytest.approx(near.mean, abs=1e-4)


def test_shuffling_cells_shuffles_their_scores():
    left, right = embeddings()
    order = np.random.default_rng(1).permutation(60)
    first, second = closer_counts(left, right), closer_counts(left[order], right[order])
    np.testing.assert_array_equal(first[0][order], second[0])
    np.testing.assert_array_equal(first[1][order], second[1])


def test_recall_counts_the_ranks():
    left, right = embeddings()
    distance = cdist(left, right)
    rank = (distance < np.diag(distance)[:, None]).sum(1)
    back = (distance < np.diag(distance)).sum(0)
    assert recall_at(left, right, k=[1, 5]) == {
        "left_to_right@1": (rank < 1).mean(), "right_to_left@1": (back < 1).mean(),
        "left_to_right@5": (rank < 5).mean(), "right_to_left@5": (back < 5).mean(),
    }  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("block", [1, 300, 1 << 21])
def test_average_precision_is_that_of_scikit_learn(device, block, monkeypatch):
    monkeypatch.setattr(retrieval, "_BLOCK", block)
    queries, targets = embeddings(50)[0], embeddings(70, seed=3)[1]
    rng = np.random.default_rng(0)
    of_query, of_target = rng.choice(list("abcd"), 50), rng.choice(list("abc"), 70)
    found = mean_average_precision(queries, targets, of_query, of_target, device=device)
    similarity = cosine_similarity(queries, targets)
    known = of_query != "d"
    expected = [
        average_precision_score(of_target == label, row)
        for label, row in zip(of_query[known], similarity[known], strict=True)
    ]
    np.testing.assert_allclose(found.of_query[known], expected, atol=1e-6)
    assert np.isnan(found.of_query[~known]).all()
    assert found.mean == pytest.approx(np.mean(expected))


def test_the_curve_is_the_interpolated_precision_worked_by_hand():
    # ranks of the label's targets: 1 and 4 of 5, precision 1 and 2/4
    targets = [[1.0, 0.0], [0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.1, 0.9]]
    found = mean_average_precision([[1.0, 0.0]], targets, ["a"], ["a", "b", "b", "a", "b"], points=5)
    np.testing.assert_allclose(found.recall, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(found.precision, [1, 1, 1, 0.5, 0.5])
    assert found.mean == pytest.approx(0.75)


def test_the_curve_never_rises_and_covers_the_average_precision():
    queries, targets = embeddings(80)
    rng = np.random.default_rng(0)
    labels = rng.choice(list("ab"), 80)
    found = mean_average_precision(queries, targets, labels, labels)
    assert (np.diff(found.precision) <= 1e-12).all()
    assert found.precision.mean() >= found.mean - 0.01


def test_autocast_leaves_the_scores_alone():
    queries, targets = embeddings(80)
    labels = np.random.default_rng(0).choice(list("ab"), 80)
    expected = mean_average_precision(queries, targets, labels, labels).mean, foscttm(queries, targets).mean
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = mean_average_precision(queries, targets, labels, labels).mean, foscttm(queries, targets).mean
    assert found == expected


def test_equal_cosines_rank_the_other_label_first():
    found = mean_average_precision([[1.0, 0.0]], [[1.0, 0.0], [2.0, 0.0]], ["a"], ["a", "b"])
    assert found.mean == 0.5


def test_matching_score_scales_rows_and_counts_empty_ones():
    rng = np.random.default_rng(0)
    dense = rng.random((6, 6)) * (rng.random((6, 6)) < 0.5)
    dense[2] = 0
    truth = rng.integers(0, 6, 6)
    total = dense.sum(1)
    expected = [dense[i, truth[i]] / total[i] if total[i] else 0.0 for i in range(6)]
    assert matching_score(sparse.csr_array(dense), truth) == pytest.approx(np.mean(expected))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: foscttm(np.ones((2, 3)), np.ones((3, 3))), r"found shapes \(2, 3\) and \(3, 3\)"),
        (lambda: foscttm(np.ones((0, 3)), np.ones((0, 3))), "N > 0"),
        (lambda: foscttm([[np.nan]], [[1.0]]), "left: 1 of 1 values are NaN or infinite"),
        (lambda: foscttm([1.0], [1.0]), r"left: found shape \(1,\)"),
        (lambda: recall_at([[1.0]], [[1.0]], k=[0]), "found k 0"),
        (lambda: mean_average_precision([[1.0]], [[1.0]], ["a"], ["b"]), "no query has its label among the targets"),
        (lambda: mean_average_precision([[1.0]], [[1.0]], ["a", "b"], ["b"]), "found 1 queries and 1 targets"),
        (lambda: mean_average_precision(np.eye(2), np.ones((3, 2)), list("abc"), list("ab")), r"\(3,\) and \(2,\)"),
        (lambda: mean_average_precision(np.eye(2), np.eye(2), [np.nan, 1], [1, 2]), "1 labels are NaN"),
        (lambda: mean_average_precision(np.ones((0, 1)), [[1.0]], [], ["a"]), "no query has its label"),
        (lambda: mean_average_precision([[1.0]], np.ones((0, 1)), ["a"], []), "no query has its label"),
        (lambda: matching_score(sparse.csr_array([[-1.0]]), [0]), "1 weights are negative or NaN"),
        (lambda: matching_score(sparse.csr_array([[np.nan]]), [0]), "1 weights are negative or NaN"),
        (lambda: matching_score(sparse.csr_array((0, 3)), np.zeros(0, int)), "no row to score"),
        (lambda: matching_score(sparse.csr_array([[1.0]]), [1]), "expected a column"),
    ],
)
def test_what_does_not_fit_is_said(call, message):
    with pytest.raises(DataError, match=message):
        call()
