import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats

from heteromics.errors import DataError, DuplicateNames
from heteromics.interpret import compare_networks, tf_gene_edges
from heteromics.interpret.network_comparison import changed_correlations


def network_of(rows):
    table = pd.DataFrame(rows, columns=["tf", "peak", "gene", "group", "score"])
    return table.assign(link_score=1.0, sign=1, source="", weight=0.0, tf_id=table["tf"], gene_id=table["gene"])


SMALL = network_of(
    [
        ("T", "p1", "G", "A", 0.5),
        ("T", "p2", "G", "A", 0.75),
        ("T", "p1", "H", "A", 0.25),
        ("U", "p1", "G", "A", 0.5),
        ("T", "p2", "G", "B", 0.25),
        ("T", "p3", "K", "B", 1.0),
        ("V", "p3", "K", "B", 0.5),
        ("W", "p3", "K", "C", 0.5),
    ]
)


def test_edges_are_gained_lost_and_kept():
    edges = compare_networks(SMALL, "A", "B").edges.set_index(["tf", "gene"])
    assert edges["status"].to_dict() == {
        ("T", "G"): "kept",
        ("T", "H"): "lost",
        ("U", "G"): "lost",
        ("T", "K"): "gained",
        ("V", "K"): "gained",
    }
    assert edges.loc[("T", "G"), ["n_peaks_a", "n_peaks_b", "best_a", "best_b"]].tolist() == [2, 1, 0.75, 0.25]
    assert edges["difference"].to_dict() == {
        ("T", "K"): 1.0,
        ("T", "G"): -0.5,
        ("U", "G"): -0.5,
        ("V", "K"): 0.5,
        ("T", "H"): -0.25,
    }
    assert edges.index[0] == ("T", "K")


def test_hubs_and_jaccard_by_hand():
    compared = compare_networks(SMALL, "A", "B")
    assert compared.hubs.to_dict("records")[0] == {
        "tf": "T",
        "targets_a": 2,
        "targets_b": 2,
        "difference": 0,
        "shared": 1,
        "gained": 1,
        "lost": 1,
        "jaccard": 1 / 3,
    }
    assert compared.hubs["tf"].tolist() == ["T", "U", "V"]
    assert compared.summary["edges"] == (3, 3, 1)
    assert compared.summary["factors"] == (2, 2, 1)
    assert compared.summary["genes"] == (2, 2, 1)
    assert compared.summary["jaccard"] == {"edges": 1 / 5, "factors": 1 / 3, "genes": 1 / 3}


def test_the_other_way_round_is_the_mirror_image():
    there, back = compare_networks(SMALL, "A", "B"), compare_networks(SMALL, "B", "A")
    key = ["tf", "gene"]
    one, other = (table.edges.sort_values(key, ignore_index=True) for table in (there, back))
    assert one["difference"].tolist() == (-other["difference"]).tolist()
    turned = other["status"].replace({"gained": "lost", "lost": "gained"})
    assert one["status"].tolist() == turned.tolist()
    same = network_of([*SMALL.query("group == 'A'")[["tf", "peak", "gene", "group", "score"]].to_numpy().tolist()])
    twice = pd.concat([same, same.assign(group="B")])
    assert set(compare_networks(twice, "A", "B").edges["status"]) == {"kept"}


def pairs_of_cells(seed, n=(150, 100), r=(0.0, 0.0), pairs=200):
    """Pairs of columns correlated by r in each group, with levels and spreads of the groups far apart."""
    rng = np.random.default_rng(seed)
    in_b = np.repeat([False, True], n)
    left = rng.normal(size=(sum(n), pairs))
    own = rng.normal(size=(sum(n), pairs))
    strength = np.where(in_b, r[1], r[0])[:, None]
    right = strength * left + np.sqrt(1 - strength**2) * own
    values = np.concatenate([left, right], axis=1)
    values[in_b] = 5 + 3 * values[in_b]
    return sparse.csc_array(values), in_b, np.arange(pairs), np.arange(pairs) + pairs


def difference_of_z(x, y, in_b):
    """Difference of Fisher's z over its error, from what each row adds to r (its influence), r by NumPy."""
    z, error = [], 0.0
    for rows in (~in_b, in_b):
        left, right = (stats.zscore(values[rows]) for values in (x, y))
        r = np.corrcoef(left, right)[0, 1]
        influence = left * right - r / 2 * (left**2 + right**2)
        z.append(np.arctanh(r))
        error += (influence / (1 - r**2)).var() / (rows.sum() - 3)
    return (z[1] - z[0]) / np.sqrt(error)


def test_correlations_and_their_difference_agree_with_scipy():
    cells, in_b, i, j = pairs_of_cells(0, r=(0.2, -0.4), pairs=20)
    found = changed_correlations(cells, in_b, i, j, permutations=50, rng=np.random.default_rng(0))
    dense = cells.toarray()
    for pair in range(20):
        r = [stats.pearsonr(dense[part, i[pair]], dense[part, j[pair]])[0] for part in (~in_b, in_b)]
        np.testing.assert_allclose(found[pair, :2], r, atol=1e-5)
        assert found[pair, 2] == pytest.approx(difference_of_z(dense[:, i[pair]], dense[:, j[pair]], in_b), abs=1e-4)


def test_permuted_correlations_are_those_of_the_rows_dealt(monkeypatch):
    cells, in_b, i, j = pairs_of_cells(3, n=(30, 20), r=(0.5, 0.0), pairs=3)
    found = changed_correlations(cells, in_b, i, j, permutations=40, rng=np.random.default_rng(7))
    dense = cells.toarray()
    for part in (in_b, ~in_b):
        dense[part] = (dense[part] - dense[part].mean(0)) / dense[part].std(0)
    rng = np.random.default_rng(7)
    larger = np.zeros(3)
    for _ in range(40):
        dealt = np.zeros(50, bool)
        dealt[rng.permutation(50)[:20]] = True
        for pair in range(3):
            dz = difference_of_z(dense[:, i[pair]], dense[:, j[pair]], dealt)
            larger[pair] += abs(dz) >= abs(found[pair, 2])
    np.testing.assert_allclose(found[:, 3], (1 + larger) / 41)
    monkeypatch.setattr("heteromics.interpret.network_comparison.BLOCK_EDGES", 2)
    again = changed_correlations(cells, in_b, i, j, permutations=40, rng=np.random.default_rng(7))
    np.testing.assert_allclose(again, found, atol=1e-5)


@pytest.mark.parametrize("r", [0.0, 0.5])
def test_p_values_are_uniform_where_only_level_and_spread_differ(r):
    cells, in_b, i, j = pairs_of_cells(1, r=(r, r), pairs=400)
    found = changed_correlations(cells, in_b, i, j, permutations=199, rng=np.random.default_rng(0))
    assert stats.kstest(found[:, 3], "uniform").statistic < 0.08
    assert (found[:, 3] <= 0.05).mean() < 0.08


def test_p_values_hold_where_cells_of_the_small_group_differ_more_in_depth():
    """Nothing is correlated; a scale that all columns of a cell share lets the correlations of group b vary more."""
    wrong = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        in_b = np.repeat([False, True], [600, 200])
        scale = np.where(in_b, np.exp(0.6 * rng.normal(size=800)), 1)[:, None]
        cells = sparse.csc_array(scale * rng.normal(size=(800, 200)))
        pairs = np.arange(100), np.arange(100, 200)
        found = changed_correlations(cells, in_b, *pairs, permutations=99, rng=rng)
        wrong.append((found[:, 3] <= 0.05).mean())
    assert np.mean(wrong) < 0.1  # 0.05 expected


def test_a_gene_that_no_cell_of_a_group_or_deal_expresses_is_no_change():
    rng = np.random.default_rng(0)
    cells, in_b = np.zeros((60, 3)), np.repeat([False, True], [50, 10])
    cells[:, 0] = rng.normal(size=60)
    cells[0, 1] = 1.0
    found = changed_correlations(
        sparse.csc_array(cells), in_b, np.array([0, 0, 1]), np.array([1, 2, 1]), permutations=99, rng=rng
    )
    assert np.isfinite(found).all()
    assert found[0, 1] == found[1, 0] == found[1, 2] == 0.0
    assert found[1, 3] == 1.0
    assert found[2, 0] == pytest.approx(1.0)


def rna_of(seed=0):
    """Factor T drives G in A alone, K in both; counts. U is not measured."""
    rng = np.random.default_rng(seed)
    types = np.repeat(["A", "B", "C"], [150, 120, 5])
    driver = rng.gamma(2.0, 1.0, 275)
    counts = rng.poisson(8.0, (275, 30)).astype(float)  # the others make most of a cell's total
    counts[:, 0] = rng.poisson(3 * driver)
    counts[:, 1] = rng.poisson(np.where(types == "A", 3 * driver, 6.0))
    counts[:, 2] = rng.poisson(3 * driver)
    var = pd.DataFrame(index=["T", "G", "K", "V", *(f"x{i}" for i in range(26))])
    return ad.AnnData(sparse.csr_matrix(counts), pd.DataFrame({"cell_type": types}, index=map(str, range(275))), var)


def test_an_edge_that_is_lost_in_the_cells_is_found():
    compared = compare_networks(SMALL, "A", "B", rna=rna_of(), permutations=400)
    edges = compared.edges.set_index(["tf", "gene"])
    assert edges.loc[("T", "G"), "fdr"] < 0.05
    assert edges.loc[("T", "G"), "r_a"] > 0.4 > abs(edges.loc[("T", "G"), "r_b"])
    assert edges.loc[("T", "G"), "dz"] < 0
    assert edges.loc[("T", "K"), ["r_a", "r_b"]].min() > 0.4
    assert edges.loc[("T", "K"), "p"] > 0.01
    assert edges.loc[("T", "G"), "p"] >= 1 / 401
    assert edges["p"].isna().to_dict()[("U", "G")]
    assert compared.summary["cells"] == (150, 120)
    assert (compared.summary["edges_tested"], compared.summary["edges_not_measured"]) == (3, 2)  # no U and no H
    tested = edges.dropna(subset=["p"])
    np.testing.assert_allclose(tested["fdr"], stats.false_discovery_control(tested["p"]))


def test_cells_may_name_genes_by_the_identifiers_of_the_store():
    ids = dict(zip("TGKV", ("E1", "E2", "E3", "E4"), strict=True))
    network = SMALL.assign(tf_id=SMALL["tf"].map(ids).fillna("E9"), gene_id=SMALL["gene"].map(ids).fillna("E8"))
    rna = rna_of()
    by_name = compare_networks(network, "A", "B", rna=rna, permutations=50)
    rna.var_names = [ids.get(name, name) for name in rna.var_names]
    by_id = compare_networks(network, "A", "B", rna=rna, permutations=50)
    pd.testing.assert_frame_equal(by_id.edges, by_name.edges)
    assert by_id.summary["edges_tested"] == 3
    assert by_id.edges.set_index(["tf", "gene"]).loc[("V", "K"), ["tf_id", "gene_id"]].tolist() == ["E4", "E3"]


def test_the_same_seed_gives_the_same_table():
    one, other = (compare_networks(SMALL, "A", "B", rna=rna_of(), permutations=50, seed=3).edges for _ in range(2))
    pd.testing.assert_frame_equal(one, other)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(DataError, match="no edges of group X. Groups: A, B, C"):
        compare_networks(SMALL, "A", "X")
    with pytest.raises(DataError, match="found group 'A' twice"):
        compare_networks(SMALL, "A", "A")
    rna = rna_of()
    twice = rna.copy()
    twice.var_names = ["T", "T", *rna.var_names[2:]]
    with pytest.raises(DuplicateNames, match=r"rna\.var_names: 1 of 29 names are used more than once, by 2 of 30"):
        compare_networks(SMALL, "A", "B", rna=twice)
    with pytest.raises(DataError, match="obs has no column 'type'. Did you mean 'cell_type'"):
        compare_networks(SMALL, "A", "B", rna=rna, groups="type")
    with pytest.raises(DataError, match="group C has 3 cells, expected 4 or more of each. Labels: A, B, C"):
        compare_networks(SMALL, "A", "C", rna=rna[:-2])


def test_edges_agree_with_those_of_the_groups():
    edges = tf_gene_edges(SMALL)
    compared = compare_networks(SMALL, "A", "B").edges
    for name, side in (("A", "a"), ("B", "b")):
        own = edges[edges["group"] == name].set_index(["tf", "gene"])["best"]
        found = compared[compared[f"n_peaks_{side}"] > 0].set_index(["tf", "gene"])[f"best_{side}"]
        assert own.to_dict() == found.to_dict()
