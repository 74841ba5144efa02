import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats
from sklearn.metrics import average_precision_score

from heteromics.errors import DataError, DuplicateNames, GraphError
from heteromics.graphs import bipartite
from heteromics.interpret import candidate_links, compare_links, correlation_links, distance_links, score_links
from heteromics.interpret.candidates import column_correlations, shifted_ranks
from tests.graphs.test_bipartite import toy


def two_modalities(cells=60, seed=0):
    rng = np.random.default_rng(seed)
    obs = pd.DataFrame(index=[f"c{i}" for i in range(cells)])
    sides = []
    for prefix, size in (("g", 6), ("p", 20)):
        counts = rng.poisson(0.8, (cells, size))
        counts[:, 0] += 1
        var = pd.DataFrame(index=[f"{prefix}{i}" for i in range(size)])
        sides.append(ad.AnnData(sparse.csr_matrix(counts.astype(np.float32)), obs, var))
    pairs = rng.permutation(120)[:40]
    candidates = pd.DataFrame({"gene": [f"g{i // 20}" for i in pairs], "peak": [f"p{i % 20}" for i in pairs]})
    return *sides, candidates


def test_distance_ranks_near_peaks_first():
    candidates = pd.DataFrame({"gene": ["A", "A", "B"], "peak": ["p", "q", "p"], "distance": [900, 0, 10]})
    assert distance_links(candidates)["score"].tolist() == [-900, 0, -10]


@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_correlations_agree_with_scipy(method):
    rna, atac, candidates = two_modalities()
    mask = np.arange(60) % 3 > 0
    links = correlation_links(rna, atac, candidates, cells=mask, method=method)
    dense = []
    for data in (rna, atac):
        counts = data.X[mask].toarray().astype(float)
        dense.append(np.log1p(counts / counts.sum(1, keepdims=True) * 1e4))
    oracle = stats.pearsonr if method == "pearson" else stats.spearmanr
    for gene, peak, score in links.itertuples(index=False):
        left, right = dense[0][:, int(gene[1:])], dense[1][:, int(peak[1:])]
        assert score == pytest.approx(oracle(left, right)[0], abs=1e-9)


def test_correlations_within_types_leave_out_their_differences():
    rng = np.random.default_rng(0)
    types = np.repeat(list("abc"), 30)
    shift = np.repeat([0, 5, 9], 30)[:, None]
    left, right = rng.random((90, 3)) + shift, rng.random((90, 4)) + shift
    i, j = np.array([0, 1, 2]), np.array([3, 1, 0])
    within = column_correlations(sparse.csc_matrix(left), sparse.csc_matrix(right), i, j, types)
    centred = [np.concatenate([side[types == t] - side[types == t].mean(0) for t in "abc"]) for side in (left, right)]
    expected = [np.corrcoef(centred[0][:, a], centred[1][:, b])[0, 1] for a, b in zip(i, j, strict=True)]
    np.testing.assert_allclose(within, expected, atol=1e-9)
    assert column_correlations(sparse.csc_matrix(left), sparse.csc_matrix(right), i, j).min() > 0.9


def test_a_feature_that_does_not_vary_correlates_with_nothing():
    left = sparse.csc_matrix(np.ones((5, 1)))
    assert column_correlations(left, sparse.csc_matrix(np.arange(5.0)[:, None]), np.array([0]), np.array([0])) == [0]


def test_shifted_ranks_are_ranks_with_zero_at_zero():
    values = np.random.default_rng(0).poisson(1.0, (30, 5)).astype(float)
    values[:, 4] += 1
    ranks = shifted_ranks(sparse.csc_matrix(values)).toarray()
    expected = stats.rankdata(values, axis=0)
    for column in range(5):
        zero = values[:, column] == 0
        shift = expected[zero, column][0] if zero.any() else 0
        np.testing.assert_allclose(ranks[:, column], expected[:, column] - shift)
    assert shifted_ranks(sparse.csc_matrix((4, 2))).nnz == 0


def test_correlation_refuses_other_cells_and_unknown_names():
    rna, atac, candidates = two_modalities()
    with pytest.raises(DataError, match="found 59 RNA and 60 ATAC cells, 1 in one of them only"):
        correlation_links(rna[1:], atac, candidates)
    with pytest.raises(DataError, match=r"the order differs"):
        correlation_links(rna[::-1], atac, candidates)
    wrong = pd.concat([candidates, pd.DataFrame({"gene": ["nobody"], "peak": ["p0"]})])
    with pytest.raises(DataError, match="1 of 7 gene names are not in the data: nobody"):
        correlation_links(rna, atac, wrong)
    atac.var_names = ["p1", *atac.var_names[1:]]
    with pytest.raises(DuplicateNames, match=r"atac\.var_names: 1 of 19 names are used more than once, by 2 of 20"):
        correlation_links(rna, atac, candidates)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "kendall"}, "found method='kendall', expected 'pearson' or 'spearman'"),
        ({"cells": np.arange(60)}, r"cells: found int64 of shape \(60,\), expected a boolean mask over the 60"),
        (
            {"cells": np.ones(30, bool)},
            r"cells: found bool of shape \(30,\), expected a boolean mask over the 60 cells",
        ),
        ({"within": ["T"] * 59 + [None]}, r"within: 1 of 60 cells have no label"),
        ({"within": ["T"] * 30}, r"within: found shape \(30,\) for 60 cells, expected one label per cell"),
    ],
)
def test_correlation_refuses_what_does_not_fit_the_cells(options, message):
    rna, atac, candidates = two_modalities()
    with pytest.raises(DataError, match=message):
        correlation_links(rna, atac, candidates, **options)


def test_negative_values_have_no_sparse_ranks():
    with pytest.raises(DataError, match="ranks: 1 of 2 values are negative, expected 0 or more. Fix: method='pearson'"):
        shifted_ranks(sparse.csc_matrix([[0.0], [5.0], [-1.0]]))


def test_scores_of_links_agree_with_sklearn():
    _, _, candidates = two_modalities()
    rng = np.random.default_rng(3)
    links = candidates.assign(score=rng.normal(size=40))
    truth = candidates.sample(9, random_state=1)
    beyond = pd.concat([truth, pd.DataFrame({"gene": ["g9"], "peak": ["p9"]})])
    is_link = candidates.merge(truth.assign(true=1), how="left")["true"].fillna(0)
    found = score_links(links.sample(frac=1, random_state=0), beyond, candidates)
    assert found["auprc"] == pytest.approx(average_precision_score(is_link, links["score"]))
    assert (found["n"], found["n_true"], found["n_outside"], found["n_unscored"]) == (40, 9, 1, 0)
    signed = score_links(links, truth, candidates, absolute=True)
    assert signed["auprc"] == pytest.approx(average_precision_score(is_link, links["score"].abs()))


def test_candidates_without_a_score_rank_last_and_links_beyond_them_do_not_count():
    candidates = pd.DataFrame({"gene": list("AABB"), "peak": list("pqpq")})
    links = pd.DataFrame({"gene": list("ABC"), "peak": list("pqp"), "score": [-3.0, -1.0, 9.0]})
    found = score_links(links, candidates[3:], candidates)
    assert found["auprc"] == 1.0
    assert found["n_unscored"] == 2
    assert score_links(links, candidates[1:2], candidates)["auprc"] == pytest.approx(1 / 4)  # ties with the last
    assert score_links(links[:0], candidates[:2], candidates)["auprc"] == pytest.approx(0.5)


def test_tables_are_compared_on_the_same_candidates():
    candidates = pd.DataFrame({"gene": list("AABB"), "peak": list("pqpq"), "distance": [0, 9, 9, 5]})
    truth = candidates[[True, False, False, True]]
    tables = {"bad": candidates.assign(score=[0.1, 0.9, 0.8, 0.2]), "distance": distance_links(candidates)}
    found = compare_links(tables, truth, candidates, absolute=("bad",))
    assert found["method"].tolist() == ["distance", "bad"]
    assert found["auprc"][0] == 1.0


def test_a_pair_may_not_stand_twice():
    candidates = pd.DataFrame({"gene": list("AAB"), "peak": list("ppq")})
    with pytest.raises(DuplicateNames, match="candidates: 1 of 3 rows repeat a gene-peak pair: A p"):
        score_links(candidates.assign(score=1.0), candidates[2:], candidates)


def test_candidates_carry_the_names_of_the_graph():
    rna, atac, store = toy()
    store.frames["gene_peak"] = pd.DataFrame(
        {
            "gene_id": ["ENSG00", "ENSG02", "ENSG05"],
            "peak_id": [atac.var_names[i] for i in (3, 9, 3)],
            "distance": [10, 900, 40],
            "signed_offset": [-10, 900, 40],
            "weight": [1.0, 0.5, 0.8],
        }
    )
    rna.var_names = [f"{name}.1" for name in store.frame("gene")["gene_id"]] + ["lost"]
    graph = bipartite(rna, atac, store)
    found = candidate_links(graph, store)
    assert found["gene"].tolist() == ["ENSG00.1", "ENSG02.1", "ENSG05.1"]
    assert found["peak"].tolist() == [atac.var_names[i] for i in (3, 9, 3)]
    assert candidate_links(graph, store, within_bp=40)["distance"].tolist() == [10, 40]
    assert found.attrs["match"] == {"pairs": 3, "pairs_absent": 0, "genes_absent": [], "peaks_absent": []}
    fewer = candidate_links(bipartite(rna[:, [i for i in range(14) if i not in (2, 5)]], atac, store), store)
    assert fewer["gene"].tolist() == ["ENSG00.1"]
    absent = {"genes_absent": ["ENSG02", "ENSG05"], "peaks_absent": []}
    assert fewer.attrs["match"] == {"pairs": 3, "pairs_absent": 2, **absent}
    rna.var_names = [*rna.var_names[:-1], "G5"]  # a second name of ENSG05
    twice = candidate_links(bipartite(rna, atac, store), store)
    assert sorted(twice["gene"]) == ["ENSG00.1", "ENSG02.1", "ENSG05.1", "G5"]
    assert twice["distance"].tolist() == [10, 900, 40, 40]
    store.info = {**store.info, "recipe_hash": "1"}
    with pytest.raises(GraphError, match=r"store\.duckdb: .* a store of recipe 0, this one has recipe 1\. Fix"):
        candidate_links(graph, store)
