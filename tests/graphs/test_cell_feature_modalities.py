"""Cell-feature graphs of several modalities, links between features, and matrices that lie on disk."""

import subprocess
import sys
import warnings

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from anndata import AnnData

from heteromics.data import SyntheticConfig, open_backed, simulate
from heteromics.errors import DataError, DuplicateNames, EmptyCells, GraphError, NotCounts, RecipeError
from heteromics.graphs import HeteroGraph, bipartite, cell_feature
from heteromics.graphs.cell_feature import EXPRESSES, INTERACTS, PATHWAY, Interactions
from heteromics.graphs.recipe import build, load_recipe, plan
from heteromics.nn import Relation
from heteromics.priors import PriorStore

SETS = pd.DataFrame({"gene_id": ["g0", "g1", "g2", "g3"], "pathway_id": list("aabb")})
LINKS = pd.DataFrame(
    {
        "gene_a": ["g0", "g1", "g1", "g3", "g4", "g5"],
        "gene_b": ["g1", "g0", "g2", "g3", "gone", "g6"],
        "weight": [0.4, 0.9, 0.7, 0.8, 0.9, 0.2],
    }
)


def modality(prefix, features, cells=30, seed=0):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.7, (cells, features)).astype(np.float32)
    counts[:, 0] += 1
    data = AnnData(sp.csr_matrix(counts))
    data.obs_names, data.var_names = [f"c{i}" for i in range(cells)], [f"{prefix}{i}" for i in range(features)]
    data.obs["batch"] = np.where(np.arange(cells) % 3 == 0, "x", "y")
    return data


def pair():
    protein = modality("p", 5, seed=1)
    del protein.obs["batch"]
    return {"rna": modality("g", 12), "protein": protein}


def edges_of(graph, etype):
    indptr, indices, eids = graph.adjacency(etype)
    weight = graph.edata(etype)["weight"][eids.long()]
    shape = graph.num_nodes(etype[0]), graph.num_nodes(etype[2])
    return sp.csr_array((weight, indices, indptr), shape=shape).toarray()  # bounded: small graphs of tests


# ---- several modalities


def test_each_modality_is_the_graph_of_its_own():
    both = pair()
    graph = cell_feature(both).validate()
    assert graph.kind == "cell_features"
    assert graph.ntypes == ["cell", "protein_feature", "rna_feature"]
    both["protein"].obs["batch"] = both["rna"].obs["batch"]
    for name, data in both.items():
        alone = cell_feature(data)
        ntype = f"{name}_feature"
        assert np.array_equal(edges_of(graph, ("cell", "expresses", ntype)), edges_of(alone, EXPRESSES))
        assert np.array_equal(edges_of(graph, (ntype, "expressed_by", "cell")), edges_of(alone, EXPRESSES).T)
        assert torch.equal(graph.ndata(ntype)["degree"], alone.ndata("feature")["degree"])
        assert torch.equal(graph.ndata("cell")[f"{name}_statistics"], alone.ndata("cell")["statistics"])
        assert list(graph.names[ntype]) == list(data.var_names)
    assert torch.equal(graph.ndata("cell")["batch"], alone.ndata("cell")["batch"])
    assert graph.meta["match"]["cells"] == {"cells": {"rna": 30, "protein": 30}, "in_all": 30}
    assert graph.meta["explicit_zeros_dropped"] == {"rna": 0, "protein": 0}
    relation = Relation.from_graph(graph, ("protein_feature", "expressed_by", "cell"))
    found = relation.spmm(torch.eye(5))
    assert np.array_equal(found.numpy(), both["protein"].X.toarray())


def test_a_round_trip_and_a_graph_that_lost_something(tmp_path):
    graph = cell_feature(pair(), pathways=SETS, interactions=Interactions(LINKS))
    loaded = HeteroGraph.load(graph.save(tmp_path / "g")).validate()
    assert loaded.meta == graph.meta
    assert loaded.canonical_etypes == graph.canonical_etypes
    del loaded.dgl.nodes["protein_feature"].data["degree"]
    del loaded.dgl.nodes["cell"].data["rna_statistics"]
    del loaded.dgl.nodes["cell"].data["protein_statistics"]
    loaded.dgl.edges["pathway"].data["shared"] = torch.zeros(4)
    with pytest.raises(GraphError) as caught:
        loaded.validate()
    assert list(caught.value.problems) == [
        "nodes 'cell': no feature '*_statistics'",
        "nodes 'protein_feature': no feature 'degree'",
        "edges ('rna_feature', 'pathway', 'rna_feature'): 'shared' found float32 with 1 axes, expected int32 with 1",
    ]


def test_cells_in_another_order_are_joined_by_name():
    both = pair()
    want = cell_feature(both)
    order = np.random.default_rng(4).permutation(30)
    turned = cell_feature({"rna": both["rna"], "protein": both["protein"][order]})
    etype = ("cell", "expresses", "protein_feature")
    assert np.array_equal(edges_of(turned, etype), edges_of(want, etype))
    assert torch.equal(turned.ndata("cell")["protein_statistics"], want.ndata("cell")["protein_statistics"])
    genes = np.random.default_rng(5).permutation(12)
    other = cell_feature({"rna": both["rna"][:, genes], "protein": both["protein"]})
    etype = ("cell", "expresses", "rna_feature")
    assert np.array_equal(edges_of(other, etype), edges_of(want, etype)[:, genes])


def test_cells_that_one_modality_lacks_stop_or_are_counted_and_named():
    both = pair()
    both["protein"] = both["protein"][4:]
    both["rna"] = both["rna"][:29]
    with pytest.raises(GraphError) as caught:
        cell_feature(both)
    assert str(caught.value) == (
        "cell_feature: the modalities have 25 cells in common: rna has 29, 4 not in all of them: c0, c1, c2 ... "
        "(4 in all); protein has 26, 1 not in all of them: c29.\n"
        "  Fix: give the modalities the same cells, or pass cells='shared' to keep those that all of them have."
    )
    graph = cell_feature(both, cells="shared", training_cells=np.arange(29) < 10, obs=("batch",)).validate()
    assert list(graph.names["cell"]) == [f"c{i}" for i in range(4, 29)]
    assert graph.meta["match"]["cells"] == {
        "cells": {"rna": 29, "protein": 26},
        "in_all": 25,
        "rna_alone": {"number": 4, "examples": ["c0", "c1", "c2", "c3"]},
        "protein_alone": {"number": 1, "examples": ["c29"]},
    }
    assert graph.meta["parameters"]["training_cells"] == 6
    want = both["protein"].X.toarray()[:25]
    assert np.array_equal(edges_of(graph, ("cell", "expresses", "protein_feature")), want)
    with pytest.raises(GraphError, match="none of the 25 cells that all modalities have is for training"):
        cell_feature(both, cells="shared", training_cells=["c1"])
    both["protein"].obs_names = [f"d{i}" for i in range(26)]
    with pytest.raises(GraphError, match="the modalities have 0 cells in common"):
        cell_feature(both, cells="shared")


def test_values_and_columns_by_modality():
    both = pair()
    both["protein"].X = both["protein"].X * 0.5
    cell_feature(both, expect={"rna": "counts", "protein": "normalised"})
    with pytest.raises(NotCounts, match="protein: X: expected counts"):
        cell_feature(both, expect="counts")
    with pytest.raises(GraphError, match="found expect for rna, expected it for rna, protein"):
        cell_feature(both, expect={"rna": "counts"})
    both["protein"].obs["batch"] = both["rna"].obs["batch"].to_numpy()[::-1]
    with pytest.raises(DataError, match=r"obs\['batch'\]: \d+ of 30 cells have another value in protein"):
        cell_feature(both)
    both["protein"].X = both["protein"].X.multiply(np.arange(30)[:, None] != 3).tocsr()
    with pytest.raises(EmptyCells, match="protein: X: 1 of 30 cells have no value but zero: c3"):
        cell_feature(both, obs=())
    both["protein"].var_names = ["p"] * 5
    with pytest.raises(DuplicateNames, match=r"protein: features \(var_names\)"):
        cell_feature(both)
    with pytest.raises(GraphError, match="found no modality"):
        cell_feature({})
    with pytest.raises(GraphError, match="found cells='all', expected 'same' or 'shared'"):
        cell_feature(pair(), cells="all")
    with pytest.raises(GraphError, match=r"found pathways, but no modality named rna: protein\.\n  Fix: name"):
        cell_feature({"protein": modality("p", 4)}, pathways=SETS)


@pytest.mark.parametrize("shape", [(1, 4), (4, 1), (1, 1)])
def test_one_cell_and_one_feature(shape):
    data = AnnData(sp.csr_matrix(np.arange(1, 1 + shape[0] * shape[1], dtype=np.float32).reshape(shape)))
    graph = cell_feature(data).validate()
    assert np.array_equal(edges_of(graph, EXPRESSES), data.X.toarray())
    assert torch.isfinite(graph.ndata("cell")["statistics"]).all()


# ---- links between features


def test_a_table_of_links_joins_features_both_ways_by_the_greatest_weight():
    graph = cell_feature(modality("g", 12), pathways=SETS, interactions=Interactions(LINKS)).validate()
    want = np.zeros((12, 12), np.float32)
    for a, b, weight in ((0, 1, 0.9), (1, 2, 0.7), (5, 6, 0.2)):
        want[a, b] = want[b, a] = weight
    np.testing.assert_array_equal(edges_of(graph, INTERACTS), want)
    assert graph.meta["match"]["interactions"] == {
        "names": 8,
        "matched": 7,
        "absent": 1,
        "absent_examples": ["gone"],
        "rows": 6,
        "below_threshold": 0,
        "outside": 1,
        "within_one_node": 1,
        "merged": 1,
    }
    assert np.array_equal(edges_of(graph, PATHWAY), edges_of(cell_feature(modality("g", 12), pathways=SETS), PATHWAY))
    ones = cell_feature(modality("g", 12), interactions=Interactions(LINKS, "one", 0.7)).validate()
    assert np.array_equal(edges_of(ones, INTERACTS), (want >= 0.7).astype(np.float32))
    assert ones.meta["match"]["interactions"]["below_threshold"] == 2
    assert ones.meta["parameters"]["interaction_threshold"] == 0.7


def test_links_that_cannot_be_used_are_named():
    with pytest.raises(GraphError, match="found weighting='cosine', expected 'score' or 'one'"):
        Interactions(LINKS, "cosine")
    with pytest.raises(GraphError, match="found threshold=nan"):
        Interactions(LINKS, threshold=float("nan"))
    with pytest.raises(GraphError, match="found columns a, expected a PriorStore, or a table with columns gene_a"):
        cell_feature(modality("g", 3), interactions=Interactions(pd.DataFrame({"a": []})))
    with pytest.raises(GraphError, match="interactions: none of 8 names is a feature"):
        cell_feature(modality("x", 3), interactions=Interactions(LINKS))
    with pytest.raises(GraphError, match="1 of 6 weights are NaN"):
        cell_feature(modality("g", 3), interactions=Interactions(LINKS.replace(0.2, np.nan)))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    config = SyntheticConfig(
        n_cells=80, n_cell_types=2, n_genes=60, n_peaks=200, n_tfs=6, n_proteins=12, n_chromosomes=2
    )
    multiome = simulate(config, seed=0)
    folder = multiome.write(tmp_path_factory.mktemp("modalities") / "synthetic")
    db = folder.parent / "priors.duckdb"
    PriorStore.build("demo", db, sets=[f"source.folder={folder}"], progress=False).close()
    return multiome, folder / "multiome.h5mu", db


def test_links_of_a_store_are_those_of_its_table(made):
    multiome, _, db = made
    rna = multiome.mdata["rna"].copy()
    with PriorStore.open(db) as store:
        table = store.frame("gene_gene")
        graph = cell_feature(rna, interactions=Interactions(store)).validate()
        least = float(table["weight"].median())
        strong = cell_feature(rna, interactions=Interactions(store, threshold=least)).validate()
        row = {str(name): place for place, name in enumerate(rna.var.get("gene_id", rna.var_names))}
        want = np.zeros((rna.n_vars, rna.n_vars), np.float32)
        for a, b, weight in zip(table["gene_a"], table["gene_b"], table["weight"], strict=True):
            if a in row and b in row and a != b:
                want[row[a], row[b]] = want[row[b], row[a]] = max(want[row[a], row[b]], weight)
        assert want.any()
        np.testing.assert_array_equal(edges_of(graph, INTERACTS), want)
        np.testing.assert_array_equal(edges_of(strong, INTERACTS), np.where(want >= np.float32(least), want, 0))
        assert graph.meta["match"]["interactions"]["gene_gene"]["edges"] == np.count_nonzero(want)


def test_proteins_are_linked_by_the_proteins_of_the_store(made):
    multiome, _, db = made
    both = {name: multiome.mdata[name].copy() for name in ("rna", "protein")}
    row = {str(name): place for place, name in enumerate(both["protein"].var["protein_id"])}
    want = np.zeros((len(row), len(row)), np.float32)
    with PriorStore.open(db) as store:
        table = store.frame("protein_protein")
        for a, b, score in zip(table["protein_a"], table["protein_b"], table["combined_score"], strict=True):
            if a in row and b in row:
                want[row[a], row[b]] = want[row[b], row[a]] = score / 1000
        least = float(np.median(want[want > 0]))
        graph = cell_feature(both, interactions=Interactions(store)).validate()
        strong = cell_feature(both, interactions=Interactions(store, "one", least)).validate()
    etype = ("protein_feature", "interacts", "protein_feature")
    assert want.any()
    np.testing.assert_allclose(edges_of(graph, etype), want, rtol=1e-6)
    np.testing.assert_array_equal(edges_of(strong, etype), want >= np.float32(least))
    assert ("rna_feature", "interacts", "rna_feature") in graph.canonical_etypes
    assert graph.meta["match"]["protein_interactions"]["protein_protein"]["edges"] == np.count_nonzero(want)


# ---- recipes


def test_recipe_of_several_modalities_plans_what_it_builds(made):
    _, data, db = made
    sets = ["other_modalities=[{modality: protein, transform: log1p}]", "interactions.use=true"]
    planned, graph = plan("cell_feature", data, db, sets=sets), build("cell_feature", data, db, sets=sets).validate()
    assert graph.kind == "cell_features"
    assert planned.nodes == {ntype: graph.num_nodes(ntype) for ntype in planned.nodes}
    there = {"-".join(etype): graph.num_edges(etype) for etype in graph.canonical_etypes}
    assert set(planned.edges) == set(there)
    known = {name: number for name, number in planned.edges.items() if number is not None}
    assert known == {name: there[name] for name in known}
    assert len(known) == 4
    with pytest.raises(RecipeError, match="other_modalities: found rna more than once"):
        load_recipe("cell_feature", ["other_modalities=[{modality: GEX}]"])
    with pytest.raises(GraphError, match="interactions come from a prior store, found none"):
        build("cell_feature", data, sets=["interactions.use=true"])


def test_a_recipe_builds_from_a_zarr_store_as_from_h5mu(made, tmp_path):
    multiome, data, _ = made
    path = tmp_path / "rna.zarr"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        multiome.mdata["rna"].write_zarr(path)
    assert plan("cell_feature", path).edges == plan("cell_feature", data).edges
    found, want = build("cell_feature", path), build("cell_feature", data)
    assert torch.equal(found.edata(EXPRESSES)["weight"], want.edata(EXPRESSES)["weight"])
    assert torch.equal(found.adjacency(EXPRESSES)[1], want.adjacency(EXPRESSES)[1])


# ---- matrices on disk


def written(folder, data, ending, form):
    data = data.copy()
    data.X = form(data.X)
    path = folder / f"x{ending}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.write_h5ad(path) if ending == ".h5ad" else data.write_zarr(path)
    return path


@pytest.mark.parametrize("ending", [".h5ad", ".zarr"])
@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix, lambda x: x.toarray()], ids=["csr", "csc", "dense"])
def test_a_backed_matrix_gives_the_same_graph(tmp_path, made, ending, form):
    data = modality("g", 12)
    want = cell_feature(data, pathways=SETS, expect="counts")
    with open_backed(written(tmp_path, data, ending, form), modality="rna", layer="X") as backed:
        found = cell_feature(backed, pathways=SETS, expect="counts").validate()
    for etype in (EXPRESSES, PATHWAY):
        assert np.array_equal(edges_of(found, etype), edges_of(want, etype))
    assert torch.equal(found.ndata("cell")["statistics"], want.ndata("cell")["statistics"])
    multiome, _, db = made
    rna, atac = (multiome.mdata[name].copy() for name in ("rna", "atac"))
    with PriorStore.open(db) as store:
        want = bipartite(rna, atac, store)
        (tmp_path / "rna").mkdir()
        with (
            open_backed(written(tmp_path / "rna", rna, ending, form), modality="rna", layer="X") as one,
            open_backed(_named(tmp_path, atac, ending, form), modality="atac", layer="X") as other,
        ):
            found = bipartite(one, other, store).validate()
    for etype in want.canonical_etypes:
        assert np.array_equal(edges_of(found, etype), edges_of(want, etype))
    for ntype in ("gene", "peak"):
        assert torch.equal(found.ndata(ntype)["attributes"], want.ndata(ntype)["attributes"])


def _named(folder, data, ending, form):
    (folder / "atac").mkdir()
    return written(folder / "atac", data, ending, form)


def test_wrong_values_on_disk_are_counted_and_placed(tmp_path):
    data = modality("g", 12)
    counts = data.X.toarray()
    counts[7, 3] = 0.5
    data.X = counts
    path = written(tmp_path, data, ".h5ad", sp.csc_matrix)
    backed = anndata.read_h5ad(path, backed="r")
    with pytest.raises(NotCounts, match="found 1 fractional of .* the first is 0.5 in row 7, column 3"):
        cell_feature(backed, expect="counts")
    backed.file.close()


MEASURE = """
import sys
from pathlib import Path
from heteromics.data import open_backed
from heteromics.graphs import cell_feature
from heteromics.graphs.cell_feature import EXPRESSES

def held(what):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) * 1024

def made(path):
    with open_backed(path, modality="rna", layer="X") as cells:
        return cell_feature(cells, expect="counts")

made(sys.argv[1])  # what libraries take once
for path in sys.argv[2:]:
    Path("/proc/self/clear_refs").write_text("5")
    before = held("VmRSS")
    graph = made(path)
    print((held("VmHWM") - before) / (8 * graph.num_edges(EXPRESSES)))
    del graph
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_building_from_disk_takes_little_more_than_the_graph(tmp_path):
    rng = np.random.default_rng(0)
    paths = []
    for cells in (50, 24_000):
        starts = rng.integers(0, 700, (cells, 1), dtype=np.int32)
        indices, indptr = (starts + np.arange(300, dtype=np.int32)).ravel(), np.arange(cells + 1, dtype=np.int32) * 300
        counts = sp.csr_matrix((np.full(indices.size, 2, np.float32), indices, indptr), shape=(cells, 1_000))
        for name, form in (("csr", sp.csr_matrix), ("csc", sp.csc_matrix), ("dense", lambda one: one.toarray())):
            paths.append(tmp_path / f"{cells}_{name}.h5ad")
            AnnData(form(counts)).write_h5ad(paths[-1])
    command = [sys.executable, "-c", MEASURE, *map(str, paths[2:])]
    shares = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert len(shares) == 3
    assert max(map(float, shares)) < 2.0, shares
