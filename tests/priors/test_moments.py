import itertools

import anndata
import numpy as np
import pytest
import scanpy
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from heteromics.errors import DataError, NotCounts
from heteromics.priors._streams import Block
from heteromics.priors.moments import expected_spread, moments, summarise


def counts_of(cells, features, seed=0, zero=0.7):
    rng = np.random.default_rng(seed)
    rate = rng.gamma(0.6, 3.0, features)
    counts = rng.negative_binomial(2, 2 / (2 + rate), (cells, features))
    return (counts * (rng.random((cells, features)) > zero)).astype(np.float32)


def summary_of(counts, top=100, span=0.3):
    return summarise(lambda: [Block(0, sparse.csr_array(counts))], *counts.shape, top=top, span=span)


@pytest.mark.parametrize(("zero", "span"), [(0.7, 0.3), (0.2, 0.3), (0.95, 0.5)])
def test_agrees_with_scanpy_and_numpy(zero, span):
    counts = counts_of(400, 900, zero=zero)
    counts[:, 5] = 0
    counts[:, 6] = 3
    ours = summary_of(counts, top=120, span=span)
    data = anndata.AnnData(sparse.csr_matrix(counts))
    theirs = scanpy.pp.highly_variable_genes(data, flavor="seurat_v3", n_top_genes=120, span=span, inplace=False)
    np.testing.assert_allclose(ours.mean, counts.mean(0, dtype=float), rtol=1e-12)
    np.testing.assert_allclose(ours.variance, counts.var(0, ddof=1, dtype=float), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(ours.dropout, (counts == 0).mean(0), atol=1e-15)
    np.testing.assert_allclose(ours.normalised_variance, theirs["variances_norm"], rtol=1e-8, atol=1e-9)
    flagged, norm = theirs["highly_variable"].to_numpy(), ours.normalised_variance
    tied = np.isclose(norm, norm[ours.highly_variable].min())  # of equal ones, scanpy takes any
    assert (ours.highly_variable == flagged)[~tied].all()
    assert ours.highly_variable.sum() == flagged.sum() == 120
    assert ours.normalised_variance[[5, 6]].tolist() == [0, 0]


@given(cuts=st.lists(st.integers(0, 60), max_size=6), by=st.sampled_from(["rows", "columns"]))
@settings(max_examples=40, deadline=None)
def test_the_way_it_is_cut_into_blocks_changes_no_digit(cuts, by):
    counts = counts_of(60, 60)
    whole = summary_of(counts, top=7)
    bounds = sorted({0, 60, *cuts})
    spans = list(itertools.pairwise(bounds))
    if by == "rows":
        blocks = [Block(0, sparse.csr_array(counts[low:high])) for low, high in spans]
    else:
        blocks = [Block(low, sparse.csc_array(counts[:, low:high])) for low, high in spans]
    cut = summarise(lambda: blocks, 60, 60, top=7)
    for one, other in zip(whole, cut, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_clipped_outlier_counts_for_less():
    counts = counts_of(400, 300)
    counts[0, 0] = 100_000
    ours = summary_of(counts)
    assert ours.normalised_variance[0] < 400  # at most N, reached by one value at sqrt(N) and no other
    assert ours.variance[0] > 10_000


def test_few_features_that_vary_make_no_curve_and_no_flag():
    summary = summary_of(np.eye(9, dtype=np.int32), top=3)
    assert np.isnan(summary.normalised_variance).all()
    assert not summary.highly_variable.any()
    assert summary.variance == pytest.approx(np.full(9, 1 / 9))


def test_flags_only_what_varies():
    counts = counts_of(50, 80)
    counts[:, 40:] = 2
    summary = summary_of(counts, top=60, span=1.0)
    assert (summary.highly_variable == (counts.var(axis=0) > 0)).all()
    assert not summary_of(counts, top=0, span=1.0).highly_variable.any()


def test_entries_stored_twice_are_one_value():
    twice = sparse.csr_array((np.array([1, 2, 0]), np.array([0, 0, 1]), np.array([0, 3, 3])), shape=(2, 2))
    sums = moments([Block(0, twice)], 2, 2, "data")
    assert sums.mean.tolist() == [1.5, 0]
    assert sums.dropout.tolist() == [0.5, 1]


def test_bad_input_is_named():
    with pytest.raises(NotCounts, match=r"rna, rows counted in a block(.|\n)*1 fractional of 2 stored values"):
        moments([Block(0, sparse.csr_array(np.array([[0.5, 1.0]])))], 2, 2, "rna")
    with pytest.raises(DataError, match="data: found 1 of the cells to look at, expected 2 or more"):
        summary_of(np.ones((1, 3)))
    mean = np.repeat([1.0, 2.0], 500)
    with pytest.raises(DataError, match=r"no curve of variance over mean fits the 1,000 features(.|\n)*span above 0.3"):
        expected_spread(mean, mean + np.arange(1000) / 1000, 0.3)
