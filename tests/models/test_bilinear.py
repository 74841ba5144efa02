import numpy as np
import pytest
from anndata import AnnData
from scipy import linalg, sparse
from scipy.stats import multivariate_normal, norm
from sklearn.cross_decomposition import CCA

from heteromics.errors import DataError, ModelError
from heteromics.models import BilinearMatcher, CellTypeMatcher
from heteromics.models.bilinear import canonical, held_out_correlations, log_density_ratio
from heteromics.tasks import auroc, make_pairs


def related(cells=400, widths=(6, 4), seed=0):
    """Two tables of normal columns that share two hidden ones."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(cells, 2))
    return [shared @ rng.normal(size=(2, width)) + rng.normal(size=(cells, width)) for width in widths]


def correlations(x, y):
    return np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(x.T, y.T, strict=True)])


def test_without_a_ridge_the_variates_are_those_of_scikit_learn():
    x, y = related()
    left, right = canonical(x, y, 1e-12).variates(x, y)
    theirs = CCA(n_components=4, max_iter=5_000, tol=1e-12).fit(x, y)
    expected = theirs.transform(x, y)
    np.testing.assert_allclose(correlations(left, right), correlations(*expected), atol=1e-6)
    for found, want in zip((left, right), expected, strict=True):
        np.testing.assert_allclose(np.abs(correlations(found, want)), 1, atol=1e-5)
        np.testing.assert_allclose(found.mean(0), 0, atol=1e-9)
        np.testing.assert_allclose(found.std(0), 1)


def test_with_a_ridge_they_solve_the_penalised_eigenproblem():
    x, y = related(seed=1)
    x, y = x - x.mean(0), y - y.mean(0)
    cov = [x.T @ x / 400, y.T @ y / 400]
    sxx, syy = (part + 0.7 * part.trace() / len(part) * np.eye(len(part)) for part in cov)
    sxy = x.T @ y / 400
    values, vectors = linalg.eigh(sxy @ np.linalg.solve(syy, sxy.T), sxx)
    found = canonical(x, y, 0.7)
    for number in range(4):
        direction = vectors[:, ::-1][:, number]
        np.testing.assert_allclose(np.abs(np.corrcoef(x @ direction, x @ found.first[:, number])[0, 1]), 1)
    assert (np.diff(values[::-1][:4]) <= 0).all()


def test_a_direction_that_does_not_vary_has_no_part_in_the_score():
    x, y = related()
    x, y = np.hstack([x, np.ones((400, 1))]), np.hstack([y, np.zeros((400, 3))])
    left, right = canonical(x, y, 1e-3).variates(x, y)
    assert np.isfinite(left).all()
    assert np.isfinite(right).all()
    assert not right[:, 4:].any()
    constant = canonical(np.ones((9, 2)), np.ones((9, 2)), 1.0).variates(np.ones((9, 2)), np.ones((9, 2)))
    assert not np.any(constant)


def test_held_out_correlations_are_not_those_of_chance():
    fitted, held_out = [], []
    for seed in range(20):
        x, y = np.random.default_rng(seed).normal(size=(2, 60, 20))  # sixty cells, twenty columns of noise
        fitted.append(correlations(*canonical(x, y, 1e-9).variates(x, y))[:5].mean())
        held_out.append(held_out_correlations(x, y, 1e-9)[:5].mean())
    assert min(fitted) > 0.7
    assert np.mean(held_out) < 0.12  # 0.05 is expected of noise of 60 cells that is clipped at 0
    x, y = related(4_000)
    true = correlations(*canonical(x, y, 1e-9).variates(x, y))
    np.testing.assert_allclose(held_out_correlations(x, y, 1e-9)[:2], true[:2], atol=0.02)


def test_the_ratio_is_that_of_the_densities():
    rng = np.random.default_rng(0)
    x, y, r = rng.normal(size=(7, 3)), rng.normal(size=(7, 3)), np.array([0.0, 0.4, 0.95])
    expected = np.zeros(7)
    for k in range(3):
        joint = multivariate_normal([0, 0], [[1, r[k]], [r[k], 1]])
        expected += joint.logpdf(np.stack([x[:, k], y[:, k]], 1)) - norm.logpdf(x[:, k]) - norm.logpdf(y[:, k])
    np.testing.assert_allclose(log_density_ratio(x, y, r), expected)


def test_only_without_a_ridge_is_the_score_the_ratio_of_the_joint_densities():
    x, y = related(widths=(4, 4))
    apart = []
    for ridge in (1e-12, 1.0):
        both = canonical(x, y, ridge).variates(x, y)
        covariance = np.cov(np.hstack(both).T, bias=True)
        densities = [multivariate_normal(cov=part) for part in (covariance, covariance[:4, :4], covariance[4:, 4:])]
        joint, *alone = (each.logpdf(of) for each, of in zip(densities, (np.hstack(both), *both), strict=True))
        found = log_density_ratio(*both, correlations(*both))
        apart.append(np.abs(found - (joint - alone[0] - alone[1])).max())
    assert apart[0] < 1e-6
    assert apart[1] > 0.1


@pytest.fixture(scope="module")
def profiles():
    """Counts of two types of cells; hidden states of the cell, alike in both types, move both modalities."""
    rng = np.random.default_rng(0)
    types = rng.integers(0, 2, 700)
    state = rng.normal(size=(700, 3))
    found = []
    for width, base in ((120, 0.5), (300, -1.0)):
        rates = base + state @ rng.normal(size=(3, width)) * 0.4 + rng.normal(size=(2, width))[types]
        found.append(sparse.csr_array(rng.poisson(np.exp(rates)).astype(np.float32)))
    return found[0], found[1], types.astype(str)


def test_it_tells_cells_of_one_type_apart_where_types_alone_cannot(profiles):
    rna, atac, types = profiles
    train, test = np.arange(500), np.arange(500, 700)
    matcher = BilinearMatcher(20).fit(rna[train], atac[train])
    control = CellTypeMatcher(20).fit(rna[train], types[train], atac[train], types[train])
    pairs, labels = make_pairs(test, types[test], mode="hard", ratio=3, seed=1)
    found = matcher.predict(rna, atac, pairs)
    assert ((found >= 0) & (found <= 1)).all()
    assert auroc(labels, found) > 0.85
    assert auroc(labels, control.predict(rna, atac, pairs)) < 0.6
    shuffled = BilinearMatcher(20).fit(rna[train], atac[np.random.default_rng(0).permutation(500)])
    assert abs(auroc(labels, shuffled.predict(rna, atac, pairs)) - 0.5) < 0.1


def test_scores_are_probabilities_at_even_odds(profiles):
    rna, atac, _ = profiles
    matcher = BilinearMatcher(20).fit(rna[:500], atac[:500])
    pairs, labels = make_pairs(np.arange(500, 700), np.zeros(200), mode="random", seed=2)
    found = matcher.predict(rna, atac, pairs)
    assert ((found > 0.5) == labels).mean() > 0.75
    assert np.square(found - labels).mean() < 0.2  # 0.25 knows nothing


def test_cells_features_and_batches_may_come_in_any_order(profiles):
    rna, atac, _ = profiles
    rng = np.random.default_rng(0)
    cells, genes, peaks = (rng.permutation(size) for size in (500, 120, 300))
    pairs = rng.integers(0, 700, (50, 2))
    # few components, so that the randomised SVD has converged
    expected = BilinearMatcher(4).fit(rna[:500], atac[:500])
    turned = BilinearMatcher(4).fit(rna[:500][:, genes], atac[:500][:, peaks])
    found = turned.predict(rna[:, genes], atac[:, peaks], pairs)
    np.testing.assert_allclose(found, expected.predict(rna, atac, pairs), atol=1e-3)
    moved = BilinearMatcher(4).fit(rna[:500][cells], atac[:500][cells])
    np.testing.assert_allclose(
        *(np.abs(correlations(m.variates(rna, atac)[0], expected.variates(rna, atac)[0])) for m in (moved, expected)),
        atol=1e-3,
    )
    alone = np.concatenate([expected.predict(rna, atac, pair[None]) for pair in pairs[:3]])
    np.testing.assert_array_equal(expected.predict(AnnData(rna), atac.toarray(), pairs)[:3], alone)


def test_it_is_the_same_after_saving_and_for_the_same_seed(profiles, tmp_path):
    rna, atac, _ = profiles
    pairs = np.random.default_rng(0).integers(0, 700, (200, 2))
    matcher = BilinearMatcher(10, ridge=0.3, seed=4).fit(rna[:500], atac[:500])
    found = matcher.predict(rna, atac, pairs)
    np.testing.assert_array_equal(
        BilinearMatcher(10, ridge=0.3, seed=4).fit(rna[:500], atac[:500]).predict(rna, atac, pairs), found
    )
    again = BilinearMatcher.load(matcher.save(tmp_path / "model"))
    np.testing.assert_array_equal(again.predict(rna, atac, pairs), found)
    assert vars(again).keys() == vars(matcher).keys()
    assert (again.n_components, again.ridge, again.seed) == (10, 0.3, 4)


def test_normalised_input_may_be_negative_and_empty_cells_have_a_score(profiles):
    rna, atac, _ = profiles
    x, y = related(300, widths=(8, 5), seed=3)
    matcher = BilinearMatcher(4, log_normalise=False).fit(x[:200], y[:200])
    pairs, labels = make_pairs(np.arange(200, 300), np.zeros(100), mode="random", seed=0)
    assert auroc(labels, matcher.predict(x, y, pairs)) > 0.8
    empty = sparse.csr_array((1, 120), dtype=np.float32)
    found = (
        BilinearMatcher(10).fit(rna[:500], atac[:500]).predict(sparse.vstack([rna, empty]).tocsr(), atac, [[700, 3]])
    )
    assert 0 <= found[0] <= 1


def test_few_cells_and_few_features():
    rng = np.random.default_rng(0)
    first, second = rng.poisson(2.0, (6, 3)), rng.poisson(2.0, (6, 40))
    found = BilinearMatcher().fit(first, second).predict(first, second, [[0, 0], [1, 5]])
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m, a: BilinearMatcher(0), ModelError, "found n_components=0, ridge=1.0"),
        (lambda m, a: BilinearMatcher(ridge=0.0), ModelError, "ridge=0.0, expected 1 or more and above 0"),
        (lambda m, a: BilinearMatcher().predict(a, a, [[0, 0]]), ModelError, "not fitted"),
        (lambda m, a: BilinearMatcher().save("nowhere"), ModelError, "not fitted"),
        (lambda m, a: BilinearMatcher().fit(a, a[:7]), DataError, "found 9 cells of input and 7 of target"),
        (lambda m, a: BilinearMatcher().fit(a[:4], a[:4]), DataError, "found 4 training cells, expected 5 or more"),
        (lambda m, a: BilinearMatcher().fit(a[:, :1], a), DataError, "1 features, expected two of each"),
        (lambda m, a: m.predict(a, a[:, :5], [[0, 0]]), DataError, "second: found 5 features, expected the 6"),
    ],
)
def test_misuse_is_explained(call, error, message):
    counts = np.random.default_rng(0).poisson(3.0, (9, 6))
    matcher = BilinearMatcher(3).fit(counts, counts)
    with pytest.raises(error, match=message):
        call(matcher, counts)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (np.zeros((2, 3), int), r"found shape \(2, 3\)"),
        ([0, 1, 2, 3], r"found shape \(4,\)"),
        ([[0.7, 1.0]], "of float64, expected row numbers"),
        ([[0, 1], [0, -1]], r"1 of 2 are outside 400 and 400 rows, the first \[0, -1\]"),
        ([[400, 0]], "1 of 1 are outside"),
    ],
)
def test_pairs_that_are_no_rows_are_refused(pairs, message):
    x, y = (np.abs(each) for each in related())
    model = BilinearMatcher(n_components=3, log_normalise=False).fit(x, y)
    with pytest.raises(ModelError, match=message):
        model.predict(x, y, pairs)
