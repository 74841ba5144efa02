import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats
from scipy.spatial.distance import jensenshannon

from heteromics import interpret
from heteromics.errors import DataError, DuplicateNames, StoreError
from heteromics.interpret import activity_by_group, regulon_activity, store_regulons
from heteromics.interpret.activity import aucell, linear_model_t
from heteromics.priors import PriorStore
from tests.interpret.test_network import tables
from tests.priors.toy_stores import write_store


def cells(n=40, genes=60, seed=0, rate=0.6):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rate * rng.gamma(1.0, 1.0, genes), (n, genes)).astype(np.float32)
    names = pd.DataFrame(index=[f"c{i}" for i in range(n)]), pd.DataFrame(index=[f"g{i}" for i in range(genes)])
    return ad.AnnData(sparse.csr_matrix(counts), *names)


def regulons(genes=60, factors=6, seed=1):
    rng = np.random.default_rng(seed)
    rows = [
        (f"T{tf}", f"g{gene}", int(rng.integers(-1, 2)), rng.random() + 0.1)
        for tf in range(factors)
        for gene in rng.permutation(genes)[: 5 + 2 * tf]
    ]
    return pd.DataFrame(rows, columns=["tf", "gene", "sign", "weight"])


def one_curve(values, members, n_top, rng):
    """AUCell of one cell as decoupler has it: rank with ties at random, and step down the curve."""
    shuffled = rng.permutation(values.size)
    rank = np.empty(values.size, int)
    rank[shuffled[np.argsort(-values[shuffled], kind="stable")]] = np.arange(1, values.size + 1)

    def area(ranks):
        within = np.sort(ranks[ranks < n_top])
        return float((np.diff(np.append(within, n_top)) * np.arange(1, within.size + 1)).sum())

    return area(rank[members]) / area(np.arange(1, members.size + 1))


def test_aucell_without_ties_is_the_area_under_the_curve():
    rng = np.random.default_rng(0)
    values = np.stack([rng.permutation(50) + 1.0 for _ in range(8)])
    members = np.zeros((50, 3))
    for column, size in enumerate((4, 9, 20)):
        members[rng.permutation(50)[:size], column] = 1
    found = aucell(sparse.csr_array(values), sparse.csc_array(members), 12)
    expected = [[one_curve(row, np.flatnonzero(column), 12, rng) for column in members.T] for row in values]
    np.testing.assert_allclose(found, expected)
    assert found.max() > 0.2


def test_aucell_with_ties_is_the_mean_over_random_orders():
    rng = np.random.default_rng(3)
    values = rng.poisson(0.8, (3, 30)).astype(float)
    members = (rng.random((30, 2)) < 0.3).astype(float)
    found = aucell(sparse.csr_array(values), sparse.csc_array(members), 20)
    for row, scores in zip(values, found, strict=True):
        for column, score in zip(members.T, scores, strict=True):
            drawn = [one_curve(row, np.flatnonzero(column), 20, rng) for _ in range(2_000)]
            assert score == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / np.sqrt(2_000) + 1e-12)


@pytest.mark.parametrize(
    ("values", "members", "n_top", "score"),
    [
        pytest.param([0, 0, 0, 0], [1, 0, 0, 0], 3, (2 + 1) / 4 / 2, id="an empty cell gives what chance gives"),
        pytest.param([5, 4, 3, 2], [1, 1, 1, 1], 1, 0.0, id="nothing to be had"),
        pytest.param([5, 4, 3, 2], [1, 1, 1, 1], 4, 1.0, id="every gene"),
        pytest.param([5, 4, 3, 2], [0, 0, 1, 1], 4, 1 / 5, id="1 of 3 + 2"),
        pytest.param([2, 2, 2, 2], [1, 1, 0, 0], 4, 3 / 5, id="all tied: (3 + 2 + 1 + 0) / 4 each"),
    ],
)
def test_aucell_worked_by_hand(values, members, n_top, score):
    members = sparse.csc_array(np.array(members, float)[:, None])
    assert aucell(sparse.csr_array([np.array(values, float)]), members, n_top)[0, 0] == pytest.approx(score)


def test_stored_zeros_and_the_order_of_genes_do_not_matter():
    rng = np.random.default_rng(5)
    rna, table = cells(), regulons()
    stored = rna.copy()
    coordinates = sparse.coo_matrix(rna.X)
    extra = rng.integers(0, 40, 50), rng.integers(0, 60, 50)
    row, column = (np.append(a, b) for a, b in zip((coordinates.row, coordinates.col), extra, strict=True))
    stored.X = sparse.csr_matrix((np.append(coordinates.data, np.zeros(50)), (row, column)), shape=rna.shape)
    order = rng.permutation(60)
    for method in ("aucell", "ulm"):
        expected = regulon_activity(rna, table, method=method)
        for other in (stored, rna[:, order]):
            pd.testing.assert_frame_equal(regulon_activity(other, table, method=method), expected, rtol=1e-5)


def test_the_linear_model_agrees_with_scipy():
    rna, table = cells(), regulons()
    found = regulon_activity(rna, table, method="ulm")
    counts = rna.X.toarray().astype(float)
    logs = np.log1p(counts / counts.sum(1, keepdims=True) * 1e4)
    for tf, rows in table.groupby("tf"):
        weight = np.zeros(60)
        weight[[int(name[1:]) for name in rows["gene"]]] = np.where(rows["sign"] == 0, 1, rows["sign"]) * rows["weight"]
        for cell in range(0, 40, 7):
            fit = stats.linregress(weight, logs[cell])
            assert found[tf].iloc[cell] == pytest.approx(fit.slope / fit.stderr, rel=1e-4)
            p = 2 * stats.t.sf(abs(float(found[tf].iloc[cell])), found.attrs["df"])
            assert p == pytest.approx(fit.pvalue, rel=1e-3)


def test_a_cell_or_regulon_that_does_not_vary_has_no_slope():
    weights = sparse.csc_array(np.array([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]]))
    values = sparse.csr_array([[1.0, 2.0, 4.0], [2.0, 2.0, 2.0], [0.0, 0.0, 0.0]])
    t = linear_model_t(values, weights)
    np.testing.assert_array_equal(t[:, 0], 0)
    np.testing.assert_array_equal(t[1:, 1], 0)
    assert t[0, 1] < 0


@pytest.mark.parametrize("method", ["aucell", "ulm"])
def test_a_planted_regulon_is_active_where_it_was_planted(method):
    rng = np.random.default_rng(2)
    table = regulons().assign(sign=1)
    counts = rng.poisson(0.5, (200, 60)).astype(float)
    types = np.repeat(["A", "B"], 100)
    targets = [int(name[1:]) for name in table.loc[table["tf"] == "T5", "gene"]]
    counts[:100, targets] += rng.poisson(1.0, (100, len(targets)))
    rna = ad.AnnData(sparse.csr_matrix(counts), var=pd.DataFrame(index=[f"g{i}" for i in range(60)]))
    summary = activity_by_group(regulon_activity(rna, table, method=method, top=0.2), types)
    first = summary[summary["group"] == "A"].sort_values("auroc", ascending=False).iloc[0]
    assert first["tf"] == "T5"
    assert first["auroc"] > 0.9
    assert first["fdr"] < 1e-6


def test_blocks_of_cells_give_what_one_gives(monkeypatch):
    rna, table = cells(), regulons()
    whole = [regulon_activity(rna, table, method=method) for method in ("aucell", "ulm")]
    monkeypatch.setattr("heteromics.interpret.activity.BLOCK_CELLS", 7)
    for method, expected in zip(("aucell", "ulm"), whole, strict=True):
        pd.testing.assert_frame_equal(regulon_activity(rna, table, method=method), expected)


def test_what_is_left_out_is_told():
    rna, table = cells(), regulons().assign(sign=1)
    table = pd.concat([table, pd.DataFrame({"tf": ["T0", "X"], "gene": ["nope", "g1"], "sign": [1, -1]})])
    found = regulon_activity(rna, table.fillna({"weight": 1.0}))
    assert found.attrs["targets_absent"] == 1
    assert found.attrs["targets_repressed"] == 1
    assert found.attrs["regulons_left_out"] == ["X"]
    assert list(found) == [f"T{i}" for i in range(6)]
    assert (found.index == rna.obs_names).all()
    rna.obsm["regulon_activity"] = found  # AnnData takes it


def test_activity_is_tested_as_scipy_tests_and_specific_as_suo_have_it():
    rng = np.random.default_rng(4)
    values = np.round(rng.gamma(1.0, 1.0, (90, 5)), 1)
    values[:, 3] = 0
    values[:, 4] = 2
    groups = rng.choice(["x", "y", "z"], 90)
    table = activity_by_group(pd.DataFrame(values, columns=list("abcde")), groups)
    for row in table.itertuples():
        column = values[:, "abcde".index(row.tf)]
        inside = groups == row.group
        test = stats.mannwhitneyu(column[inside], column[~inside], method="asymptotic")
        assert row.auroc == pytest.approx(test.statistic / (inside.sum() * (~inside).sum()))
        assert row.p == pytest.approx(test.pvalue if np.ptp(column) else 1.0)
        assert row.mean == pytest.approx(column[inside].mean())
        assert row.mean_rest == pytest.approx(column[~inside].mean())
        assert row.n_cells == inside.sum()
        if row.tf == "d":
            assert row.rss == 0
        else:
            apart = jensenshannon(column / column.sum(), inside / inside.sum(), base=2)
            assert row.rss == pytest.approx(1 - apart)
    np.testing.assert_allclose(table["fdr"], stats.false_discovery_control(table["p"]))
    assert "rss" not in activity_by_group(pd.DataFrame(values - 1), groups)


def test_p_values_are_uniform_where_groups_are_alike():
    rng = np.random.default_rng(6)
    table = activity_by_group(pd.DataFrame(rng.poisson(3, (120, 400))), np.repeat(["a", "b"], 60))
    assert stats.kstest(table.loc[table["group"] == "a", "p"], "uniform").statistic < 0.08


def test_known_targets_come_under_the_names_of_the_data(tmp_path):
    made = tables()
    with PriorStore.open(write_store(tmp_path / "toy.duckdb", made)) as store:
        names = [f"s{i}" for i in range(8)] + ["E08", "nope"]  # symbols in any case, an identifier
        found, twice = store_regulons(store, names), store_regulons(store, [*names, "E03"])
        one = store_regulons(store, names, sources=["one"])
        with pytest.raises(DataError, match="sources: three not among the collections of the store: one, two"):
            store_regulons(store, names, sources=["three"])
        with pytest.raises(DataError, match=r"none of the \d+ targets in .* is among 2 genes: x, y"):
            store_regulons(store, ["x", "y"])
    expected = {}
    for row in made["tf_gene"]:
        place = int(row["gene_id"][1:])
        if place <= 8:
            key = (f"S{int(row['tf_id'][1:])}", "E08" if place == 8 else f"s{place}")
            expected.setdefault(key, []).append(row)
    assert {(row.tf, row.gene) for row in found.itertuples()} == set(expected)
    for row in found.itertuples():
        signs = {one["sign"] for one in expected[(row.tf, row.gene)]} - {0}
        assert row.sign == (signs.pop() if len(signs) == 1 else 0)
        assert row.weight == max(one["weight"] for one in expected[(row.tf, row.gene)])
    lost = {(row["tf_id"], row["gene_id"]) for row in made["tf_gene"] if int(row["gene_id"][1:]) > 8}
    assert found.attrs["match"]["targets_absent"] == len(lost)
    assert found.attrs["match"]["genes_absent"] == sorted({gene for _, gene in lost})
    assert found.attrs["match"]["second_names"] == []
    assert twice.attrs["match"]["second_names"] == ["E03"]
    assert {*found[found["gene"] == "s3"]["tf"]} == {*twice[twice["gene"] == "E03"]["tf"]} != set()
    assert len(twice) == len(found) + (found["gene"] == "s3").sum()
    assert 0 < len(one) < len(found)
    without = {key: rows for key, rows in made.items() if key != "tf_gene"}
    with (
        PriorStore.open(write_store(tmp_path / "none.duckdb", without)) as store,
        pytest.raises(StoreError, match="has no table 'tf_gene'"),
    ):
        store_regulons(store, ["S0"])


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (None, {"method": "mlm"}, "method: found 'mlm', expected 'aucell' or 'ulm'"),
        (None, {"top": 0}, "top: found 0, expected a share above 0"),
        (None, {"min_targets": 30}, "none of 6 has 30 targets among 60 genes, the largest has"),
        ({"weight": 0.0}, {"method": "ulm"}, r"regulons: 60 of 60 pairs have weight 0"),
    ],
)
def test_what_cannot_be_scored_is_refused(change, options, message):
    table = regulons().assign(**(change or {}))
    with pytest.raises(DataError, match=message):
        regulon_activity(cells(), table, **options)


def test_data_that_do_not_fit_are_refused():
    rna, table = cells(), regulons()
    with pytest.raises(DuplicateNames, match="regulons: 60 of 120 rows repeat a pair"):
        regulon_activity(rna, pd.concat([table, table]))
    twice = rna.copy()
    twice.var_names = ["g1", *rna.var_names[1:]]
    with pytest.raises(DuplicateNames, match=r"rna\.var_names: 1 of 59 names are used more than once"):
        regulon_activity(twice, table)
    with pytest.raises(DataError, match="1 of 2 expected ones are not there: gene"):
        regulon_activity(rna, table.drop(columns="gene"))
    rna.X.data[:3] = [-1, np.nan, np.inf]
    with pytest.raises(DataError, match=r"rna: 3 of \d+ values are negative or not finite"):
        regulon_activity(rna, table)
    activity = pd.DataFrame({"T": [1.0, np.nan]})
    with pytest.raises(DataError, match="activity: 1 of 2 values are not finite"):
        activity_by_group(activity, ["a", "b"])
    with pytest.raises(DataError, match=r"groups: found 1 group \(a\), expected two or more"):
        activity_by_group(activity.fillna(0), ["a", "a"])
    with pytest.raises(DataError, match=r"groups: found shape \(3,\) for 2 cells, expected one label per cell"):
        activity_by_group(activity.fillna(0), ["a", "a", "b"])
    with pytest.raises(DataError, match="groups: 1 of 2 cells have no label"):
        activity_by_group(activity.fillna(0), ["a", None])


def test_the_function_is_not_hidden_by_its_module():
    assert callable(interpret.regulon_activity)
