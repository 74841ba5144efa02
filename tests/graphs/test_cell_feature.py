import re
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from anndata import AnnData

from heteromics.errors import DataError, DuplicateNames, EmptyCells, GraphError, MissingLayer, NotCounts
from heteromics.graphs import HeteroGraph, cell_feature
from heteromics.graphs._members import join_names
from heteromics.graphs._pathways import clique_pairs, pair_cosine
from heteromics.graphs._statistics import cell_statistics, group_means
from heteromics.graphs.cell_feature import EXPRESSED_BY, EXPRESSES, INTERACTS, PATHWAY, Interactions

SETS = pd.DataFrame({"gene_id": ["g0", "g1", "g2", "g1", "g2", "g7", "nowhere"], "pathway_id": list("aaabbba")})


def cells(n_cells=20, n_genes=12, seed=0):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.8, (n_cells, n_genes)).astype(np.float32)
    counts[:, 0] += 1
    data = AnnData(sp.csr_matrix(counts))
    data.obs_names, data.var_names = [f"c{i}" for i in range(n_cells)], [f"g{i}" for i in range(n_genes)]
    data.obs["batch"] = np.where(np.arange(n_cells) % 3 == 0, "x", "y")
    return data


def dense(data):
    return data.X.toarray()  # bounded: the small matrices of these tests


def with_value(data, at, value):
    matrix = dense(data)
    matrix[at] = value
    return AnnData(sp.csr_matrix(matrix), obs=data.obs, var=data.var)


def signed(n_cells=30, n_features=40, seed=0):
    """Rows of real numbers of both signs, each with one value or more."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n_cells, n_features)) * (rng.random((n_cells, n_features)) < 0.3)
    values[:, 3] = rng.integers(1, 3, n_cells)
    return sp.csr_array(values.astype(np.float32))


# ---- statistics of cells


@pytest.mark.parametrize("chunk", [1, 50, 10**6])
@pytest.mark.parametrize("counts", [True, False])
def test_statistics_agree_with_numpy_by_row(chunk, counts):
    matrix = cells().X if counts else signed()
    found = cell_statistics(matrix.indptr, matrix.data, matrix.shape[1], chunk=chunk)
    for row, got in zip(matrix.toarray().astype(np.float64), found, strict=True):  # bounded: 30 x 40
        some = row[row != 0]
        want = [
            row.mean(),
            row.std(),
            *np.percentile(some, [25, 50, 75]),
            some.max(),
            some.size / 1000,
            some.mean(),
            some.std(),
        ]
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-9)


def test_statistics_do_not_depend_on_the_order_of_values():
    matrix = signed()
    shuffled = matrix.data.copy()
    rng = np.random.default_rng(1)
    for start, stop in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
        rng.shuffle(shuffled[start:stop])
    np.testing.assert_allclose(
        cell_statistics(matrix.indptr, matrix.data, 40), cell_statistics(matrix.indptr, shuffled, 40), rtol=1e-9
    )


def test_group_means_agree_with_pandas():
    rng = np.random.default_rng(0)
    table, group = rng.random((50, 3)), rng.integers(0, 4, 50)
    want = pd.DataFrame(table).groupby(group).transform("mean")
    np.testing.assert_allclose(group_means(table, group, 5), want)


def test_batch_statistics_are_averages_over_the_batch():
    data = cells()
    graph = cell_feature(data)
    each = cell_statistics(data.X.indptr, data.X.data, data.n_vars)
    want = pd.DataFrame(each).groupby(data.obs["batch"].to_numpy()).transform("mean")
    found = graph.ndata("cell")["statistics"]
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, want, rtol=1e-6)
    assert graph.meta["categories"] == {"batch": ["x", "y"]}
    assert graph.ndata("cell")["batch"].tolist() == [0 if i % 3 == 0 else 1 for i in range(20)]


def test_cells_held_out_as_a_batch_of_their_own_leave_the_others_as_they_were():
    data = cells()
    data.obs["part"] = ["train"] * 12 + ["test"] * 8
    other = with_value(data, (slice(12, None), slice(0, None, 2)), 50)
    one, two = (
        cell_feature(each, obs=("part",), pathways=SETS, training_cells=data.obs_names[:12]) for each in (data, other)
    )
    assert torch.equal(one.ndata("cell")["statistics"][:12], two.ndata("cell")["statistics"][:12])
    assert not torch.equal(one.ndata("cell")["statistics"][12:], two.ndata("cell")["statistics"][12:])
    assert torch.equal(one.edata(PATHWAY)["weight"], two.edata(PATHWAY)["weight"])
    together = [cell_feature(each, obs=()).ndata("cell")["statistics"][:12] for each in (data, other)]
    assert not torch.equal(*together)


def test_columns_of_obs_become_codes():
    data = cells()
    data.obs["type"] = pd.Categorical(["T", "B"] * 10)
    data.obs["donor"] = np.arange(20) // 5
    graph = cell_feature(data, obs=("donor", "type"))
    assert graph.meta["categories"] == {"batch": ["0", "1", "2", "3"], "type": ["B", "T"]}
    assert graph.ndata("cell")["type"].tolist() == [1, 0] * 10
    whole = cell_feature(data, obs=())
    assert whole.meta["categories"] == {"batch": ["all"]}
    assert len(whole.ndata("cell")["statistics"].unique(dim=0)) == 1
    del data.obs["batch"]
    assert cell_feature(data).meta["categories"] == {"batch": ["all"]}


# ---- expression edges


def test_edges_are_the_non_zeros_both_ways():
    data = cells()
    graph = cell_feature(data, expect="counts").validate()
    assert graph.kind == "cell_feature"
    assert graph.num_edges(EXPRESSES) == graph.num_edges(EXPRESSED_BY) == data.X.nnz
    for etype, by, shape, want in (
        (EXPRESSES, "src", (20, 12), dense(data)),
        (EXPRESSED_BY, "src", (12, 20), dense(data).T),
    ):
        indptr, indices, eids = graph.adjacency(etype, by)
        weight = graph.edata(etype)["weight"][eids.long()]
        np.testing.assert_array_equal(sp.csr_array((weight, indices, indptr), shape=shape).toarray(), want)
    assert graph.ndata("feature")["degree"].tolist() == (dense(data) != 0).sum(0).tolist()
    assert graph.edata(EXPRESSES)["weight"].data_ptr() == graph.edata(EXPRESSED_BY)["weight"].data_ptr()


def test_any_form_of_the_matrix_gives_the_same_graph_and_is_left_alone():
    data = cells()
    want = cell_feature(data)
    repeated = data.X.tocoo()
    repeated = sp.csr_matrix(
        (np.r_[repeated.data / 2, repeated.data / 2], (np.tile(repeated.row, 2), np.tile(repeated.col, 2))),
        shape=data.shape,
    )
    for matrix in (dense(data), data.X.tocsc(), repeated, data.X.astype(np.int64), sp.csr_array(data.X)):
        before = matrix.copy()
        found = cell_feature(AnnData(matrix, obs=data.obs, var=data.var))
        assert (abs(before - matrix)).sum() == 0
        assert torch.equal(found.adjacency(EXPRESSES)[1], want.adjacency(EXPRESSES)[1])
        assert torch.equal(found.edata(EXPRESSES)["weight"], want.edata(EXPRESSES)["weight"])


def test_the_graph_shares_no_memory_with_the_data():
    data = cells()
    graph = cell_feature(data)
    was = graph.edata(EXPRESSES)["weight"].clone()
    data.X.data *= 7
    data.X.indices[:] = 0
    assert torch.equal(graph.edata(EXPRESSES)["weight"], was)
    graph.validate()


def test_stored_zeros_are_dropped_and_counted():
    data = cells()
    data.X.data[[3, 17]] = 0
    stored = data.X.nnz
    graph = cell_feature(data)
    assert graph.num_edges(EXPRESSES) == stored - 2
    assert graph.meta["explicit_zeros_dropped"] == 2
    assert data.X.nnz == stored
    assert "explicit_zeros_dropped" in graph.card.text()
    indptr, indices, _ = graph.adjacency(EXPRESSES)
    found = sp.csr_array((graph.edata(EXPRESSES)["weight"], indices, indptr), shape=data.shape)
    np.testing.assert_array_equal(found.toarray(), dense(data))


def test_cells_in_another_order_give_the_same_rows():
    data = cells()
    order = np.random.default_rng(0).permutation(data.n_obs)
    graph, turned = cell_feature(data, pathways=SETS), cell_feature(data[order], pathways=SETS)
    torch.testing.assert_close(turned.ndata("cell")["statistics"], graph.ndata("cell")["statistics"][order])
    torch.testing.assert_close(turned.edata(PATHWAY)["weight"], graph.edata(PATHWAY)["weight"])


# ---- pathway edges


def test_clique_pairs_agree_with_a_loop_over_sets():
    rng = np.random.default_rng(0)
    membership = rng.random((30, 8)) < 0.2
    want = {}
    for members in membership.T:
        for pair in combinations(np.flatnonzero(members).tolist(), 2):
            want[pair] = want.get(pair, 0) + 1
    a, b, shared = clique_pairs(sp.csr_array(membership))
    assert dict(zip(zip(a.tolist(), b.tolist(), strict=True), shared.tolist(), strict=True)) == want


@pytest.mark.parametrize("block", [1, 3, 16, 500])
def test_pair_cosine_agrees_with_the_dense_formula(block):
    matrix = signed()
    matrix = sp.csr_array(matrix.toarray() * (np.arange(40) != 9))  # column 9 has no value
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 40, 200), rng.integers(0, 40, 200)
    columns = matrix.toarray().astype(np.float64)  # bounded: 30 x 40
    norm = np.linalg.norm(columns, axis=0)
    dot = (columns[:, a] * columns[:, b]).sum(0)
    want = np.divide(dot, norm[a] * norm[b], out=np.zeros(200), where=norm[a] * norm[b] > 0)
    np.testing.assert_allclose(pair_cosine(matrix, a, b, block=block), want, atol=1e-6)
    assert pair_cosine(matrix, a[:0], b[:0]).shape == (0,)


def edges_of(graph):
    indptr, indices, _ = graph.adjacency(PATHWAY)
    src = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    data = graph.edata(PATHWAY)
    return {
        (int(s), int(d)): (float(w), int(n))
        for s, d, w, n in zip(src, indices, data["weight"], data["shared"], strict=True)
    }


def test_pathway_edges_are_the_cosines_over_training_cells_alone():
    data = cells()
    training = np.arange(20) < 8
    graph = cell_feature(data, pathways=SETS, training_cells=training, threshold=-1).validate()
    seen = dense(data)[training]
    want = {}
    for i, j, shared in ((0, 1, 1), (0, 2, 1), (1, 2, 2), (1, 7, 1), (2, 7, 1)):
        cosine = seen[:, i] @ seen[:, j] / np.linalg.norm(seen[:, i]) / np.linalg.norm(seen[:, j])
        want[i, j] = want[j, i] = (pytest.approx(cosine, abs=1e-6), shared)
    assert edges_of(graph) == want
    other = with_value(data, (slice(10, None), 1), 50)  # not training cells
    again = cell_feature(other, pathways=SETS, training_cells=data.obs_names[:8], threshold=-1)
    assert torch.equal(again.edata(PATHWAY)["weight"], graph.edata(PATHWAY)["weight"])


def test_the_threshold_is_exclusive_and_counts_what_it_leaves_out():
    data = cells()
    every = edges_of(cell_feature(data, pathways=SETS, threshold=-1))
    middle = sorted(weight for weight, _ in every.values())[4]
    graph = cell_feature(data, pathways=SETS, threshold=middle)
    assert edges_of(graph) == {pair: edge for pair, edge in every.items() if edge[0] > middle}
    assert graph.meta["match"]["pathways"]["pairs_below_threshold"] == (len(every) - graph.num_edges(PATHWAY)) // 2
    ones = cell_feature(data, pathways=SETS, weighting="one", threshold=5)
    assert {pair: (1.0, shared) for pair, (_, shared) in every.items()} == edges_of(ones)


class Store:
    info = {"assembly": "GRCh38", "recipe_hash": "abc", "path": "/secret"}

    def frame(self, name):
        gene = pd.DataFrame({"gene_id": [f"ENSG0{i}" for i in range(12)], "symbol": [f"g{i}" for i in range(12)]})
        ids = SETS["gene_id"].str.replace("g", "ENSG0")
        return {"gene": gene, "gene_pathway": SETS.assign(gene_id=ids)}[name]


class Set:
    def __init__(self, name, members):
        self.name, self.members = name, members


@pytest.mark.parametrize(
    "pathways",
    [
        Store(),
        {"a": ["g0", "g1", "g2", "nowhere"], "b": ["g1", "g2", "g7"]},
        [Set("a", ("g0", "g1", "g2", "nowhere")), Set("b", ("g1", "g2", "g7"))],
        pd.concat([SETS, SETS]),
    ],
)
def test_pathways_of_every_form_give_the_same_edges(pathways):
    data = cells()
    assert edges_of(cell_feature(data, pathways=pathways)) == edges_of(cell_feature(data, pathways=SETS))


def test_a_table_of_gene_pairs():
    pairs = pd.DataFrame({"gene_a": ["g0", "g1", "g3", "g3"], "gene_b": ["g1", "g0", "gone", "g4"]})
    graph = cell_feature(cells(), pathways=pairs, weighting="one")
    assert edges_of(graph) == {(0, 1): (1.0, 2), (1, 0): (1.0, 2), (3, 4): (1.0, 1), (4, 3): (1.0, 1)}


def test_sets_of_one_gene_make_no_edges():
    assert cell_feature(cells(), pathways={"a": ["g0"], "b": ["g1"]}).validate().num_edges(PATHWAY) == 0


def test_what_does_not_join_is_counted_and_shown():
    graph = cell_feature(cells(), pathways=SETS)
    assert graph.meta["match"]["pathways"] == {
        "sets": 2,
        "names": 5,
        "matched": 4,
        "absent": 1,
        "absent_examples": ["nowhere"],
        "features_in_no_set": 8,
        "pairs_below_threshold": 0,
    }
    assert "match.pathways.absent_examples" in graph.card.text()
    assert cell_feature(cells(), pathways=Store()).meta["match"]["pathways"]["by_symbol"] == 4
    priors = cell_feature(cells(), pathways=Store()).meta["provenance"]["priors"]
    assert priors == {"assembly": "GRCh38", "recipe_hash": "abc"}


@pytest.mark.parametrize(
    ("names", "keys", "row", "outcome"),
    [
        (["B"], {"var_names": ["A", "B"]}, [1], {"matched": 1}),
        (["ENSG01"], {"var_names": ["ENSG01.7"]}, [0], {"version_stripped": 1}),
        (["ENSG01.2"], {"var_names": ["x"], "gene_id": ["ENSG01.7"]}, [0], {"version_stripped": 1}),
        (["B"], {"var_names": ["x", "y"], "symbol": ["B", "B"]}, [-1], {"ambiguous": 1, "ambiguous_examples": ["B"]}),
        (["B"], {"var_names": ["x", "B"], "symbol": ["B", "C"]}, [1], {"matched": 1}),
        (["RP11-34P13.7"], {"var_names": ["RP11-34P13.8", "RP11-34P13.7"]}, [1], {"matched": 1}),
    ],
)
def test_names_join_by_rule(names, keys, row, outcome):
    found = join_names(names, keys)
    assert found.row.tolist() == row
    assert found.counts == {"names": 1, **outcome}


def test_a_gene_without_a_second_name_does_not_join_a_feature_without_a_symbol():
    keys = {"var_names": ["a", "b"], "symbol": ["", "B"]}
    assert join_names(["G1"], keys).row.tolist() == [-1]
    assert join_names(["G1", "G2"], keys, {"G1": "", "G2": "B"}).row.tolist() == [-1, 1]


def test_missing_names_join_nothing():
    data = cells()
    data.var["symbol"] = [f"s{i}" for i in range(12)]
    data.var.loc["g3", "symbol"] = np.nan  # one feature without a symbol, so that "nan" would be unambiguous
    sets = pd.DataFrame(
        {"gene_id": ["s0", "s1", np.nan, "s4", "s5", None], "pathway_id": ["a", "a", "a", np.nan, None, "a"]}
    )
    for table in (sets, sets.astype("string"), sets.astype("category")):
        graph = cell_feature(data, pathways=table, weighting="one")
        assert edges_of(graph) == {(0, 1): (1.0, 1), (1, 0): (1.0, 1)}
        match = graph.meta["match"]["pathways"]
        assert (match["sets"], match["names"], match["rows_without_name"]) == (1, 2, 4)
    pairs = pd.DataFrame({"gene_a": ["s0", "s1"], "gene_b": [np.nan, "s2"]})
    assert set(edges_of(cell_feature(data, pathways=pairs, weighting="one"))) == {(1, 2), (2, 1)}
    graph = cell_feature(data, interactions=Interactions(pairs))
    assert graph.num_edges(INTERACTS) == 2
    assert graph.meta["match"]["interactions"]["outside"] == 1


def test_a_gene_of_the_store_without_a_symbol_joins_no_feature():
    class Bare(Store):
        def frame(self, name):
            table = super().frame(name)
            return table.assign(symbol=table["symbol"].where(table.index != 1)) if name == "gene" else table

    data = cells()
    data.var_names = [f"g{i}" if i != 1 else "nan" for i in range(12)]
    match = cell_feature(data, pathways=Bare()).meta["match"]["pathways"]
    assert (match["by_symbol"], match["absent"]) == (3, 2)


# ---- bad input


def spoiled(value, at=(4, 5)):
    return with_value(cells(), at, value)


def without_values(rows):
    data = cells()
    keep = np.ones(20)
    keep[rows] = 0
    data.X = sp.csr_matrix(sp.diags(keep) @ data.X)
    return data


def renamed(**names):
    data = cells()
    for slot, listed in names.items():
        setattr(data, slot, listed)
    return data


def labelled(*columns):
    data = cells()
    for column in columns:
        data.obs[column] = [f"{column}{i % 2}" for i in range(20)]
    return data


@pytest.mark.parametrize(
    ("data", "options", "error", "message"),
    [
        (spoiled(np.nan), {"expect": "counts"}, NotCounts, r"X: expected counts.*\n.*1 NaN of .* row 4, column 5"),
        (spoiled(-2), {"expect": "counts"}, NotCounts, "1 negative of .*-2.0 in row 4, column 5"),
        (spoiled(0.5), {"expect": "counts"}, NotCounts, "1 fractional"),
        (spoiled(np.inf), {}, DataError, "X: expected finite values"),
        (
            without_values([2, 9]),
            {},
            EmptyCells,
            r"X: 2 of 20 cells have no value but zero: c2, c9\.\n  Fix: remove them",
        ),
        (
            renamed(var_names=["g0", "g0", *(f"g{i}" for i in range(2, 12))]),
            {},
            DuplicateNames,
            r"features \(var_names\): 1 of 11 names .* g0",
        ),
        (renamed(obs_names=["c"] * 20), {}, DuplicateNames, r"cells \(obs_names\): 1 of 1 names"),
        (cells(), {"obs": ("donor",)}, MissingLayer, r"obs has no column donor; it has batch\.\n  Fix: .*obs=\(\)"),
        (cells(), {"training_cells": ["c1", "z"]}, GraphError, "1 of 2 names are not among the 20 cells: z"),
        (cells(), {"training_cells": np.ones(3, bool)}, GraphError, r"a mask of shape \(3,\), expected \(20,\)"),
        (cells(), {"training_cells": []}, GraphError, "none of 20 cells is for training"),
        (cells(), {"weighting": "cos"}, GraphError, "weighting='cos', expected 'cosine' or 'one'"),
        (cells(), {"expect": "any"}, GraphError, "expect='any', expected 'counts' or 'normalised'"),
        (
            cells(),
            {"pathways": pd.DataFrame({"gene_id": ["Actb"], "pathway_id": ["a"]})},
            GraphError,
            r"none of 1 genes is a feature\.\n  genes of pathways: Actb\n  features: g0, g1, g2",
        ),
        (cells(), {"pathways": pd.DataFrame({"gene": []})}, GraphError, "found columns gene, expected a table with"),
        (cells(), {"pathways": 3}, GraphError, "found int, expected a table with"),
        (cells(), {"pathways": SETS, "threshold": np.nan}, GraphError, "found threshold=nan, expected a number"),
        (labelled("donor", "batch"), {"obs": ("donor", "batch")}, GraphError, "batch would be overwritten"),
        (labelled("statistics"), {"obs": ("batch", "statistics")}, GraphError, "statistics would be overwritten"),
        (
            cells(),
            {"interactions": Interactions(pd.DataFrame({"gene_a": ["g0"], "gene_b": ["g1"], "weight": ["high"]}))},
            GraphError,
            "found weights of type .*, expected numbers",
        ),
        (np.ones((2, 3)), {}, GraphError, "cell_feature: found a ndarray, expected AnnData"),
        ({"rna": np.ones((2, 3))}, {}, GraphError, "cell_feature: found a ndarray, expected AnnData"),
        (SimpleNamespace(mod={"rna": cells()}), {}, GraphError, r"cell_feature: found MuData, .* Fix: give its \.mod"),
    ],
)
def test_bad_input_is_named(data, options, error, message):
    with pytest.raises(error, match=message):
        cell_feature(data, **options)


def test_missing_batches_and_missing_matrix():
    data = cells()
    data.obs["batch"] = data.obs["batch"].where(np.arange(20) > 2, None)
    with pytest.raises(DataError, match=re.escape("obs['batch']: 3 of 20 cells have no value")):
        cell_feature(data)
    del data.X
    with pytest.raises(MissingLayer, match="X is empty"):
        cell_feature(data)


def test_round_trip_through_disk(tmp_path):
    graph = cell_feature(cells(), pathways=SETS)
    graph.save(tmp_path / "g")
    loaded = HeteroGraph.load(tmp_path / "g").validate()
    assert loaded.meta == graph.meta
    for etype in graph.canonical_etypes:
        assert all(torch.equal(a, b) for a, b in zip(graph.adjacency(etype), loaded.adjacency(etype), strict=True))
        assert torch.equal(graph.edata(etype)["weight"], loaded.edata(etype)["weight"])


def test_an_old_graph_without_statistics_is_refused():
    graph = cell_feature(cells())
    del graph.dgl.nodes["cell"].data["statistics"]
    with pytest.raises(GraphError, match="nodes 'cell': no feature 'statistics'"):
        graph.validate()
