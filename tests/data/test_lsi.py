"""LSI agrees with its formulas written out in dense arrays, and is learnt from training cells alone."""

import anndata
import numpy as np
import pytest
from scipy import sparse
from sklearn.preprocessing import Normalizer

from heteromics.data.lsi import Lsi, scaled_tfidf
from heteromics.errors import DataError, EmptyCells


def planted(cells=200, features=60, rank=5, seed=0):
    """Counts of a few programmes of very different size, so that singular values lie apart."""
    rng = np.random.default_rng(seed)
    rates = rng.gamma(0.4, size=(cells, rank)) @ (
        rng.gamma(0.3, size=(rank, features)) * 3.0 ** np.arange(rank)[:, None]
    )
    return rng.poisson(rates) + (rng.random((cells, features)) < 0.02) + np.eye(cells, features)


def by_formula(counts, idf):
    """As the public code has it: tf x idf, sklearn's l1 norm of rows, log1p of ten thousand times."""
    tf = counts / counts.sum(axis=1, keepdims=True)
    return np.log1p(1e4 * Normalizer("l1").fit_transform(tf * idf))


COUNTS = planted() + 1 * (np.arange(60) == 7)  # no empty cell


def test_scaled_tfidf_agrees_with_the_formula():
    idf = len(COUNTS) / COUNTS.sum(axis=0)
    np.testing.assert_allclose(
        scaled_tfidf(sparse.csr_matrix(COUNTS), idf).toarray(), by_formula(COUNTS, idf), rtol=1e-5
    )


@pytest.mark.parametrize("drop_first", [True, False])
def test_components_agree_with_a_dense_decomposition(drop_first):
    train, test = COUNTS[:150], COUNTS[150:]
    train = train[:, train.sum(axis=0) > 0]
    test = test[:, COUNTS[:150].sum(axis=0) > 0]
    idf = len(train) / train.sum(axis=0)
    lsi = Lsi.fit(train, 3, seed=0, drop_first=drop_first)
    _, values, vectors = np.linalg.svd(by_formula(train, idf), full_matrices=False)
    chosen = slice(drop_first, 3 + drop_first)
    np.testing.assert_allclose(lsi.singular_values, values[chosen], rtol=1e-3)
    expected = by_formula(test, idf) @ vectors[chosen].T
    ours = lsi.apply(test)
    sign = np.sign((ours * expected).sum(axis=0))
    for one, other in zip((ours * sign).T, expected.T, strict=True):
        assert np.corrcoef(one, other)[0, 1] > 0.995


def test_test_cells_change_nothing_and_cells_may_come_in_any_order():
    lsi, again = (Lsi.fit(sparse.csr_matrix(COUNTS[:150]), 4, seed=3) for _ in range(2))
    assert np.array_equal(lsi.components, again.components)
    whole = lsi.apply(COUNTS)
    order = np.random.default_rng(1).permutation(len(COUNTS))
    np.testing.assert_allclose(lsi.apply(COUNTS[order]), whole[order], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        np.vstack([lsi.apply(COUNTS[row : row + 1]) for row in range(5)]), whole[:5], rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(lsi.apply(7 * COUNTS), whole, rtol=1e-5, atol=1e-5)  # depth cancels


def test_features_unseen_in_training_are_left_out():
    counts = COUNTS.copy()
    counts[:150, 9] = 0
    counts[150:, 9] = 50
    lsi = Lsi.fit(counts[:150], 4, seed=0)
    without = counts.copy()
    without[:, 9] = 0
    assert lsi.idf[9] == 0
    np.testing.assert_allclose(lsi.apply(counts), lsi.apply(without), rtol=1e-5)
    only = np.zeros((1, 60))
    only[0, 9] = 3
    assert not lsi.apply(only).any()


def test_backed_counts_give_the_same(tmp_path):
    anndata.AnnData(sparse.csc_matrix(COUNTS.astype(np.float32))).write_h5ad(tmp_path / "x.h5ad")
    backed = anndata.read_h5ad(tmp_path / "x.h5ad", backed="r")
    lsi = Lsi.fit(backed.X, 4, seed=0)
    assert np.array_equal(lsi.components, Lsi.fit(COUNTS, 4, seed=0).components)
    assert lsi.apply(COUNTS[:0]).shape == (0, 4)
    backed.file.close()


def test_bad_input_is_named():
    with pytest.raises(DataError, match=r"found k=60, which needs 61 .* of 200 cells x 60 features, expected 1 to 60"):
        Lsi.fit(COUNTS, 60, seed=0)
    with pytest.raises(DataError, match="found 1 negative of 1 values"):
        Lsi.fit(np.array([[-1.0, 0]]), 1, seed=0)
    with pytest.raises(EmptyCells, match="1 of 2 cells have no value but zero, rows 1"):
        Lsi.fit(np.array([[1.0, 1], [0, 0]]), 1, seed=0)
    with pytest.raises(DataError, match="found 4 features, expected the 60 it was fitted on"):
        Lsi.fit(COUNTS, 3, seed=0).apply(COUNTS[:, :4])
