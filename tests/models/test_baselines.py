import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse

from heteromics.errors import DataError, ModelError
from heteromics.models.baselines import CellTypeMatcher, FeatureMean, SVDRidge, log_normalised


@pytest.fixture(scope="module")
def linear():
    rng = np.random.default_rng(0)
    X = sparse.random_array((200, 40), density=0.3, rng=rng, format="csr")
    Y = X.toarray() @ rng.normal(size=(40, 6)) + 0.05 * rng.normal(size=(200, 6)) + 2.0
    return X, Y


def test_ridge_agrees_with_the_normal_equations(linear):
    X, Y = linear
    X = sparse.csr_array(X @ sparse.diags_array(0.8 ** np.arange(40)))
    found = SVDRidge(n_components=12, alpha=3.0).fit(X[:150], Y[:150]).predict(X[150:])
    _, _, axes = np.linalg.svd(X[:150].toarray(), full_matrices=False)
    Z = X.toarray() @ axes[:12].T
    train, test = Z[:150] - Z[:150].mean(0), Z[150:] - Z[:150].mean(0)
    beta = np.linalg.solve(train.T @ train + 3.0 * np.eye(12), train.T @ (Y[:150] - Y[:150].mean(0)))
    np.testing.assert_allclose(found, test @ beta + Y[:150].mean(0), atol=1e-3)


def test_ridge_with_all_components_recovers_a_linear_map(linear):
    X, Y = linear
    everything = SVDRidge(n_components=39, alpha=1e-6).fit(X[:150], Y[:150]).predict(X[150:])
    assert np.abs(everything - Y[150:]).mean() < 0.15 * np.abs(Y[:150].mean(0) - Y[150:]).mean()  # 39 of 40 axes


def test_ridge_takes_anndata_csr_and_dense_alike(linear):
    X, Y = linear
    by_matrix = SVDRidge(5).fit(X, Y).predict(X)
    by_anndata = SVDRidge(5).fit(AnnData(sparse.csr_matrix(X)), AnnData(Y)).predict(AnnData(sparse.csr_matrix(X)))
    np.testing.assert_allclose(by_matrix, by_anndata)
    np.testing.assert_allclose(by_matrix, SVDRidge(5).fit(X.toarray(), sparse.csr_matrix(Y)).predict(X.toarray()))


def test_choose_takes_the_best_of_the_grid_on_validation_cells(linear):
    X, Y = linear
    held_out = np.arange(200) % 4 == 0
    chosen = SVDRidge.choose(X, Y, held_out, n_components=(2, 39), alphas=(1e-3, 1e6))
    assert (chosen.n_components, chosen.alpha) == (39, 1e-3)


def test_choose_is_not_moved_by_the_grid_order_and_clips_on_request(linear):
    X, Y = linear
    held_out = np.arange(200) % 4 == 0
    one = SVDRidge.choose(X, Y - 2, held_out, n_components=(5, 20), alphas=(1.0, 10.0), non_negative=True)
    two = SVDRidge.choose(X, Y - 2, held_out, n_components=(20, 5), alphas=(10.0, 1.0), non_negative=True)
    assert (one.n_components, one.alpha) == (two.n_components, two.alpha)
    assert one.predict(X).min() == 0.0


def test_components_are_bounded_by_cells_and_features():
    X = sparse.csr_array(np.random.default_rng(0).random((5, 3)))
    assert SVDRidge(n_components=50).fit(X, np.ones((5, 2))).predict(X).shape == (5, 2)


def test_mean_is_of_the_training_cells():
    model = FeatureMean().fit(sparse.eye_array(3, format="csr"), sparse.csr_array([[0.0, 1], [3, 1], [6, 1]]))
    np.testing.assert_array_equal(model.predict(np.zeros((2, 3))), [[3, 1], [3, 1]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FeatureMean().fit(np.ones((3, 2)), np.ones((2, 2))), "found 3 cells of input and 2 of target"),
        (lambda: SVDRidge(0), "n_components=0, alpha=1.0, expected at least 1 and 0"),
        (lambda: SVDRidge().fit(np.ones((1, 4)), np.ones((1, 1))), "found 1 cells and 4 features"),
        (
            lambda: SVDRidge.choose(np.ones((3, 2)), np.ones((3, 2)), np.zeros(3, bool)),
            "found 3 training and 0 validation cells",
        ),
    ],
)
def test_impossible_fits_are_refused(call, message):
    with pytest.raises((DataError, ModelError), match=message):
        call()


@pytest.fixture(scope="module")
def typed():
    """Three types of cells in two modalities with unlike features; half of each to train on."""
    rng = np.random.default_rng(1)
    types = np.repeat(["a", "b", "c"], 60)
    rates = {name: (rng.gamma(0.5, 2.0, 50), rng.gamma(0.3, 1.0, 90)) for name in "abc"}
    first, second = (sparse.csr_matrix(np.stack([rng.poisson(rates[name][i]) for name in types])) for i in range(2))
    return first, second, types, np.arange(180) % 2 == 0


def test_types_are_told_apart_and_cells_of_one_type_are_not(typed):
    first, second, types, train = typed
    matcher = CellTypeMatcher(n_components=10).fit(first[train], types[train], second[train], types[train])
    left, right = np.flatnonzero(~train), np.flatnonzero(~train)
    rng = np.random.default_rng(0)
    pairs = np.column_stack([rng.choice(left, 400), rng.choice(right, 400)])
    found = matcher.predict(first, second, pairs)
    same = types[pairs[:, 0]] == types[pairs[:, 1]]
    assert found.min() >= 0
    assert found.max() <= 1
    assert found[same].mean() > 0.9 > 0.1 > found[~same].mean()
    true = matcher.predict(first, second, np.column_stack([left, left]))
    assert abs(true.mean() - found[same].mean()) < 0.05


def test_score_is_the_sum_over_types_of_the_product(typed):
    first, second, types, train = typed
    matcher = CellTypeMatcher(5).fit(first[train], types[train], second[train], types[train])
    left, right = matcher.probabilities(first, second)
    np.testing.assert_allclose(left.sum(1), 1)
    found = matcher.predict(AnnData(first.astype(np.float32)), second, [[0, 7], [3, 100]])
    np.testing.assert_allclose(found, [left[0] @ right[7], left[3] @ right[100]], rtol=1e-5)


def test_types_of_one_modality_alone_do_not_count(typed):
    first, second, types, _ = typed
    renamed = np.where(types == "c", "only here", types)
    matcher = CellTypeMatcher(5).fit(first, renamed, second, types)
    assert matcher.classes == ("a", "b")
    assert matcher.predict(first, second, [[150, 150]])[0] < 0.2


def test_types_that_cannot_be_used_are_refused(typed):
    first, second, types, _ = typed
    with pytest.raises(DataError, match="no cell type in common"):
        CellTypeMatcher().fit(first, types, second, np.char.add(types, "2"))
    with pytest.raises(DataError, match="found the single cell type 'a'"):
        CellTypeMatcher().fit(first, ["a"] * 180, second, types)


def test_log_normalised_agrees_with_dense():
    counts = np.random.default_rng(0).poisson(1.0, (20, 8)).astype(float)
    counts[3] = 0
    want = np.log1p(1e4 * counts / np.maximum(counts.sum(1, keepdims=True), 1))
    np.testing.assert_allclose(log_normalised(sparse.csr_array(counts)).toarray(), want)
