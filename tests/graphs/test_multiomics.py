import anndata as ad
import numpy as np
import pytest
import torch
from scipy import sparse

from heteromics.data.blocks import open_backed
from heteromics.data.synthetic import SyntheticConfig, simulate
from heteromics.errors import DataError, DuplicateNames, EmptyCells, GraphError, MissingModality, NotCounts, StoreError
from heteromics.graphs import HeteroGraph, cell_feature, graph_hash, multiomics, training_messages
from heteromics.graphs.multiomics import (
    ENCODED_BY,
    ENCODES,
    EXPRESSED_BY,
    EXPRESSES,
    GENE_GENE,
    OPENED_BY,
    OPENS,
    PROTEIN_PROTEIN,
    REACHED_BY,
    REACHES,
    REGULATES,
)
from heteromics.graphs.recipe import build, plan
from heteromics.priors import PriorStore
from tests.priors.toy_stores import write_store

CONFIG = SyntheticConfig(n_cells=80, n_cell_types=2, n_genes=60, n_peaks=200, n_tfs=6, n_proteins=12, n_chromosomes=2)
TRAINING = np.arange(80) < 55


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    made = simulate(CONFIG, seed=0)
    for part in made.mdata.mod.values():
        part.obs["part"] = np.where(TRAINING, "train", "test")
    folder = made.write(tmp_path_factory.mktemp("multiomics") / "synthetic")
    db = folder.parent / "priors.duckdb"
    PriorStore.build("demo", db, sets=[f"source.folder={folder}"], progress=False).close()
    return folder / "multiome.h5mu", db, dict(made.mdata.mod)


@pytest.fixture(scope="module")
def store(files):
    with PriorStore.open(files[1]) as store:
        yield store


@pytest.fixture
def data(files):
    return {name: part.copy() for name, part in files[2].items()}


def made(data, store, **options):
    return multiomics(data, store, **({"n_components": 8, "training_cells": TRAINING} | options)).validate()


def named(graph, etype, *columns):
    """Edges of a type by names, with their data."""
    indptr, indices, eids = graph.adjacency(etype)
    src = np.repeat(graph.names[etype[0]], np.diff(indptr.numpy()))
    dst = graph.names[etype[2]][indices.numpy()]
    values = [graph.edata(etype)[name][eids.long()].double().numpy().round(6).tolist() for name in columns]
    pairs = zip(src.tolist(), dst.tolist(), strict=True)
    found = dict(zip(pairs, zip(*values, strict=True) if values else src.tolist(), strict=True))
    assert len(found) == graph.num_edges(etype)  # no pair twice
    return found


def dense(graph, etype):
    indptr, indices, eids = graph.adjacency(etype)
    shape = graph.num_nodes(etype[0]), graph.num_nodes(etype[2])
    values = graph.edata(etype)["weight"][eids.long()].numpy()
    return sparse.csr_matrix((values, indices.numpy(), indptr.numpy()), shape=shape).toarray()


# Toy panel: six genes of known antibodies, STRING proteins for all, and the panel of another experiment.

GENES = {"E1": "CD3D", "E2": "CD3E", "E3": "CD4", "E4": "PTPRC", "E5": "ITGAL", "E6": "ITGB2", "E7": "FOXP3"}
PANEL = ["CD3", "CD4", "CD45RA", "CD45RO", "CD18", "Mouse-IgG1", "CD25", "9.P5"]


def toy_tables():
    genes = [
        {"gene_id": name, "symbol": symbol, "chrom": "chr1", "tss": 10 * row}
        for row, (name, symbol) in enumerate(GENES.items())
    ]
    string = [{"protein_id": f"9.P{row}", "symbol": symbol} for row, symbol in enumerate(GENES.values(), 1)]
    links = [("1", "2", 900), ("1", "3", 500), ("2", "3", 700), ("3", "4", 300), ("5", "6", 999), ("6", "7", 450)]
    listed = {("E1", "E2"): ("string", 0.9), ("E1", "E3"): ("string", 0.5), ("E3", "E4"): ("string", 0.3)}
    return {
        "chromosome": [{"chrom": "chr1", "code": 0, "size": 1_000}],
        "gene": genes,
        "gene_alias": [{"gene_id": "E7", "alias": "SCURFIN", "kind": "alias", "source": "names.txt"}],
        "protein": [
            *string,
            {"protein_id": "CD11a/CD18", "annotation": "surface protein, measured by an antibody"},
            {"protein_id": "Mouse-IgG1", "annotation": "isotype control of an antibody panel"},
        ],
        "gene_protein": [
            *({"gene_id": f"E{row}", "protein_id": f"9.P{row}"} for row in range(1, 8)),
            *({"gene_id": gene, "protein_id": "CD11a/CD18"} for gene in ("E5", "E6")),
        ],
        "protein_protein": [
            {"protein_a": f"9.P{a}", "protein_b": f"9.P{b}", "combined_score": score} for a, b, score in links
        ],
        "gene_gene": [
            *({"gene_a": a, "gene_b": b, "source": s, "weight": w} for (a, b), (s, w) in listed.items()),
            {"gene_a": "E1", "gene_b": "E2", "source": "pathway", "weight": 0.2},
            {"gene_a": "E2", "gene_b": "E7", "source": "pathway", "weight": 1.0},
            {"gene_a": "E5", "gene_b": "E7", "source": "pathway", "weight": 0.1},
        ],
        "tf_gene": [
            {"tf_id": "E7", "gene_id": "E3", "source": "a", "sign": 1, "weight": 0.4},
            {"tf_id": "E7", "gene_id": "E3", "source": "b", "sign": -1, "weight": 0.6},
            {"tf_id": "E7", "gene_id": "E7", "source": "a", "sign": 1, "weight": 1.0},
            {"tf_id": "E3", "gene_id": "E7", "source": "a", "sign": 0, "weight": 0.2},
            {"tf_id": "E5", "gene_id": "E3", "source": "b", "sign": 1, "weight": 0.8},
        ],
    }


@pytest.fixture
def toy(tmp_path):
    with PriorStore.open(write_store(tmp_path / "toy.duckdb", toy_tables(), {"recipe_hash": "1"})) as store:
        yield store


def toy_data(genes=("CD3D", "CD3E", "CD4", "PTPRC", "ITGB2", "SCURFIN", "UNHEARD"), panel=PANEL):
    rng = np.random.default_rng(0)
    rna = ad.AnnData(sparse.csr_matrix(rng.poisson(2, (9, len(genes))).astype(np.float32)))
    rna.var_names = list(genes)
    protein = ad.AnnData(np.ones((2, len(panel)), np.float32))
    protein.var_names = list(panel)
    return {"rna": rna, "protein": protein}


def both_ways(pairs):
    return pairs | {(b, a): value for (a, b), value in pairs.items()}


def test_proteins_meet_through_the_proteins_of_their_genes(toy):
    graph = multiomics(toy_data(), toy, n_components=3).validate()
    assert graph.names["protein"].tolist() == PANEL
    weights = {("CD3", "CD4"): (0.7,), ("CD4", "CD45RA"): (0.3,), ("CD4", "CD45RO"): (0.3,), ("CD18", "9.P5"): (0.999,)}
    assert named(graph, PROTEIN_PROTEIN, "weight") == both_ways(weights)
    assert set(named(graph, ENCODES)) == {
        ("CD3D", "CD3"), ("CD3E", "CD3"), ("CD4", "CD4"), ("PTPRC", "CD45RA"), ("PTPRC", "CD45RO"), ("ITGB2", "CD18"),
    }  # fmt: skip
    match = graph.meta["match"]
    assert match["protein"] == {
        "absent": 1, "alias": 4, "control": 1, "matched": 2, "unplaced": ["CD25", "Mouse-IgG1"],
    }  # fmt: skip
    # P1-P2 lies within antibody CD3, P1-P3 is weaker than P2-P3, P6-P7 ends at a protein that was not measured.
    assert match["protein_protein"] == {
        "rows": 6, "outside": 1, "within_one_node": 1, "merged": 1,
        "proteins_outside": {"number": 1, "examples": ["9.P7"]}, "edges": 8,
    }  # fmt: skip
    assert match["gene_protein"] == {
        "pairs": 7, "outside": 1, "genes_outside": {"number": 1, "examples": ["E5"]}, "edges": 6,
    }  # fmt: skip


def test_an_antibody_of_a_complex_lends_its_partner_to_no_other_antibody(toy):
    """CD18 is ITGB2 alone, although another panel measures ITGAL and ITGB2 with one antibody."""
    graph = multiomics(toy_data(panel=["CD18", "CD11a/CD18", "CD4"]), toy, n_components=3).validate()
    assert named(graph, PROTEIN_PROTEIN, "weight") == both_ways({("CD18", "CD11a/CD18"): (0.999,)})
    assert set(named(graph, ENCODES)) == {("ITGB2", "CD18"), ("ITGB2", "CD11a/CD18"), ("CD4", "CD4")}


def test_genes_join_by_all_their_names_and_the_rest_is_named(toy):
    graph = multiomics(toy_data(), toy, n_components=3).validate()
    assert named(graph, GENE_GENE, "weight") == both_ways(
        {("CD3D", "CD3E"): (0.9,), ("CD3D", "CD4"): (0.5,), ("CD4", "PTPRC"): (0.3,), ("CD3E", "SCURFIN"): (1.0,)}
    )
    match = graph.meta["match"]
    assert match["gene"] == {"absent": 1, "alias": 1, "matched": 5, "unplaced": ["UNHEARD"]}
    assert match["gene_gene"] == {
        "rows": 6, "sources": {"pathway": 3, "string": 3}, "outside": 1, "within_one_node": 0, "merged": 1,
        "genes_outside": {"number": 1, "examples": ["E5"]}, "edges": 8,
    }  # fmt: skip
    assert graph.ndata("gene")["store_row"].tolist() == [0, 1, 2, 3, 5, 6, -1]
    assert graph.ndata("gene")["chrom"].tolist() == [0] * 6 + [-1]
    assert graph.meta["tables_not_used"] == {"gene_peak": "the data have no peaks"}


def test_thresholds_and_sources_are_those_of_each_table(toy):
    graph = multiomics(
        toy_data(), toy, n_components=3,
        min_score={"protein_protein": 500, "gene_gene": 0.3}, sources={"gene_gene": ["string"], "tf_gene": ["a"]},
    ).validate()  # fmt: skip
    assert named(graph, PROTEIN_PROTEIN, "weight") == both_ways({("CD3", "CD4"): (0.7,), ("CD18", "9.P5"): (0.999,)})
    assert named(graph, GENE_GENE, "weight") == both_ways(
        {("CD3D", "CD3E"): (0.9,), ("CD3D", "CD4"): (0.5,), ("CD4", "PTPRC"): (0.3,)}
    )
    match = graph.meta["match"]["gene_gene"]
    assert match["sources"] == {"string": 3}
    assert [match[name] for name in ("rows", "other_sources", "below_score", "outside", "merged")] == [6, 3, 0, 0, 0]
    match = graph.meta["match"]["protein_protein"]
    assert [match[name] for name in ("rows", "below_score", "outside", "within_one_node", "merged")] == [6, 2, 0, 1, 1]
    assert named(graph, REGULATES, "sign") == {
        ("SCURFIN", "CD4"): (1,), ("SCURFIN", "SCURFIN"): (1,), ("CD4", "SCURFIN"): (0,),
    }  # fmt: skip


def test_regulation_keeps_its_direction_and_the_sign_of_the_strongest_source(toy):
    graph = multiomics(toy_data(), toy, n_components=3, edges=["tf_gene"]).validate()
    assert named(graph, REGULATES, "weight", "sign") == {
        ("SCURFIN", "CD4"): (0.6, -1), ("SCURFIN", "SCURFIN"): (1.0, 1), ("CD4", "SCURFIN"): (0.2, 0),
    }  # fmt: skip
    match = graph.meta["match"]["tf_gene"]
    assert [match[name] for name in ("rows", "outside", "merged", "signs_disputed", "edges")] == [5, 1, 1, 1, 3]
    assert graph.meta["tables_not_used"]["gene_gene"] == "not asked for"
    assert {GENE_GENE, PROTEIN_PROTEIN, ENCODES}.isdisjoint(graph.canonical_etypes)


def test_of_two_names_for_one_gene_the_one_that_needs_no_rule_is_joined(toy):
    graph = multiomics(toy_data(genes=("SCURFIN", "FOXP3", "CD4", "CD3E")), toy, n_components=2).validate()
    assert graph.meta["match"]["gene"]["second_names"] == ["SCURFIN"]
    assert graph.ndata("gene")["store_row"].tolist() == [-1, 6, 2, 1]
    assert ("FOXP3", "CD3E") in named(graph, GENE_GENE)


def test_edges_of_the_store_agree_with_whole_tables(data, store):
    """Pandas as oracle, on part of the genes and peaks, some under their identifiers."""
    data["rna"], data["atac"] = data["rna"][:, 5:50].copy(), data["atac"][::-1, 30:190].copy()
    gene = store.frame("gene")
    data["rna"].var_names = [
        gene["gene_id"][gene["symbol"] == name].item() if row % 3 == 0 else name
        for row, name in enumerate(data["rna"].var_names)
    ]
    del data["rna"].var["gene_id"]
    graph = made(data, store)
    of_gene = {}
    for row, name in enumerate(data["rna"].var_names):
        of_gene[name if row % 3 == 0 else gene["gene_id"][gene["symbol"] == name].item()] = name
    strongest = {}
    for a, b, weight in store.frame("gene_gene")[["gene_a", "gene_b", "weight"]].itertuples(index=False):
        if a in of_gene and b in of_gene:
            for pair in ((of_gene[a], of_gene[b]), (of_gene[b], of_gene[a])):
                strongest[pair] = max(strongest.get(pair, 0), weight)
    expected = {pair: (round(float(np.float32(weight)), 6),) for pair, weight in strongest.items()}
    assert named(graph, GENE_GENE, "weight") == expected
    near = store.frame("gene_peak")
    near = near[near["gene_id"].isin(of_gene) & near["peak_id"].isin(data["atac"].var_names)]
    expected = {(of_gene[row.gene_id], row.peak_id): row.distance for row in near.itertuples()}
    assert {pair: int(d) for pair, (d,) in named(graph, REACHES, "distance").items()} == expected
    assert set(named(graph, REACHED_BY)) == {(peak, one) for one, peak in expected}
    assert graph.meta["match"]["gene_peak"]["outside"] == len(store.frame("gene_peak")) - len(near) > 0
    links = store.frame("tf_gene")
    links = links[links["tf_id"].isin(of_gene) & links["gene_id"].isin(of_gene)]
    expected = {(of_gene[row.tf_id], of_gene[row.gene_id]): (row.sign,) for row in links.itertuples()}
    assert named(graph, REGULATES, "sign") == expected
    assert len(expected) > 20


def test_synthetic_proteins_have_the_links_of_their_string_proteins(data, store):
    graph = made(data, store)
    of = dict(zip(data["protein"].var["protein_id"], data["protein"].var_names, strict=True))
    expected = {
        (of[a], of[b]): (round(score / 1000, 6),)
        for a, b, score in store.frame("protein_protein")[["protein_a", "protein_b", "combined_score"]].values.tolist()
        if a in of and b in of
    }
    assert named(graph, PROTEIN_PROTEIN, "weight") == both_ways(expected)
    assert expected
    coded = set(zip(data["protein"].var["gene"], data["protein"].var_names, strict=True))
    assert set(named(graph, ENCODES)) == coded
    assert set(named(graph, ENCODED_BY)) == {(protein, gene) for gene, protein in coded}


def test_every_value_is_an_edge_both_ways(data, store):
    graph = made(data, store)
    np.testing.assert_array_equal(dense(graph, EXPRESSES), data["rna"].X.toarray())
    np.testing.assert_array_equal(dense(graph, OPENS), data["atac"].X.toarray())
    np.testing.assert_array_equal(dense(graph, EXPRESSED_BY), data["rna"].X.toarray().T)
    np.testing.assert_array_equal(dense(graph, OPENED_BY), data["atac"].X.toarray().T)
    assert graph.edata(EXPRESSED_BY)["weight"].data_ptr() == graph.edata(EXPRESSES)["weight"].data_ptr()
    assert graph.ndata("cell")["training"].tolist() == TRAINING.tolist()
    assert not {"protein"} & {end for etype in graph.canonical_etypes if "cell" in etype for end in etype}


def test_features_are_the_svd_of_training_cells_and_means_over_them(data, store):
    values = data["rna"].X.toarray().astype(np.float64)
    graph = made(data, store, n_components=8)
    _, _, right = np.linalg.svd(values[TRAINING], full_matrices=False)
    svd = graph.ndata("cell")["svd"].double().numpy()
    for component in range(4):  # the randomised solver is close for the leading ones
        expected = values @ right[component]
        same = np.sign(expected @ svd[:, component])
        np.testing.assert_allclose(svd[:, component], same * expected, atol=0.02 * np.abs(expected).max())
    for ntype, modality in (("gene", "rna"), ("peak", "atac")):
        training = data[modality].X.toarray()[TRAINING].astype(np.float64)
        np.testing.assert_allclose(
            graph.ndata(ntype)["svd"].numpy(), training.T @ svd[TRAINING] / TRAINING.sum(), rtol=1e-5, atol=1e-5
        )


def test_profiles_in_blocks_are_those_in_one(monkeypatch, data, store):
    whole = made(data, store).ndata("gene")["svd"]
    monkeypatch.setattr("heteromics.graphs._multiomics_features._BLOCK", 100)
    assert torch.allclose(made(data, store).ndata("gene")["svd"], whole, atol=1e-6)


def test_nothing_but_their_own_rows_depends_on_held_out_cells(data, store):
    """Strict induction: other values in held-out cells change their edges and their features alone."""
    before = made(data, store)
    rng = np.random.default_rng(7)
    for name in ("rna", "atac", "protein"):
        values = data[name].X.toarray()
        values[~TRAINING] = rng.poisson(3, values[~TRAINING].shape)
        data[name].X = sparse.csr_matrix(values)
    after = made(data, store)
    for ntype in ("gene", "peak"):
        for name in ("svd", "chrom", "store_row"):
            assert torch.equal(before.ndata(ntype)[name], after.ndata(ntype)[name])
    same = (before.ndata("cell")["svd"] == after.ndata("cell")["svd"]).all(1).numpy()
    assert same[TRAINING].all()
    assert not same[~TRAINING].any()
    measured = {EXPRESSES, EXPRESSED_BY, OPENS, OPENED_BY}
    known = [etype for etype in before.canonical_etypes if etype not in measured]
    assert len(known) == 7
    assert graph_hash(before, known) == graph_hash(after, known)
    assert before.meta == after.meta
    for etype in (EXPRESSES, OPENS):
        one, other = dense(before, etype), dense(after, etype)
        np.testing.assert_array_equal(one[TRAINING], other[TRAINING])
        assert (one[~TRAINING] != other[~TRAINING]).any(1).all()
    cut = [training_messages(graph).validate() for graph in (before, after)]
    assert graph_hash(cut[0], [*known, EXPRESSES, OPENS]) == graph_hash(cut[1], [*known, EXPRESSES, OPENS])
    leaky = [made(data, store, inductive=False), before]
    assert not torch.equal(leaky[0].ndata("gene")["svd"], after.ndata("gene")["svd"])


def test_without_induction_all_cells_count_alike(data, store):
    graph = made(data, store, inductive=False)
    everyone = made(data, store, training_cells=None)
    for ntype in ("cell", "gene", "peak"):
        assert torch.equal(graph.ndata(ntype)["svd"], everyone.ndata(ntype)["svd"])
    assert (graph.meta["features_from_cells"], graph.meta["parameters"]["training_cells"]) == (80, 55)
    assert graph.ndata("cell")["training"].sum() == 55
    assert everyone.ndata("cell")["training"].all()


def test_training_messages_keep_what_cells_gather(data, store, tmp_path):
    graph = made(data, store)
    cut = training_messages(graph).validate()
    for etype, back in ((EXPRESSES, EXPRESSED_BY), (OPENS, OPENED_BY)):
        np.testing.assert_array_equal(dense(cut, etype), dense(graph, etype) * TRAINING[:, None])
        np.testing.assert_array_equal(dense(cut, back), dense(graph, back))
        assert cut.edata(back)["weight"].data_ptr() == graph.edata(back)["weight"].data_ptr()
    assert cut.reverse == {ENCODED_BY: ENCODES, REACHED_BY: REACHES}
    assert cut.meta["transforms"] == [{"name": "training_messages", "training_cells": 55}]
    assert "transforms" not in graph.meta
    assert graph_hash(training_messages(cut), node_data=True) == graph_hash(cut, node_data=True)
    again = HeteroGraph.load(cut.save(tmp_path / "g"))
    assert graph_hash(again, node_data=True) == graph_hash(cut, node_data=True)
    with pytest.raises(GraphError, match="found a graph of kind 'cell_feature'"):
        training_messages(cell_feature(data["rna"]))


def test_training_messages_of_edges_stored_by_gene(data, store):
    from heteromics.graphs import Compressed

    graph = made({"rna": data["rna"]}, store, edges=["tf_gene"])
    indptr, indices, eids = graph.adjacency(EXPRESSES, by="dst")
    turned = HeteroGraph.from_compressed(
        {EXPRESSES: Compressed("dst", indptr, indices)},
        names=graph.names,
        ndata={ntype: graph.ndata(ntype) for ntype in graph.ntypes},
        edata={EXPRESSES: {"weight": graph.edata(EXPRESSES)["weight"][eids.long()]}},
        kind="multiomics",
        reverse={EXPRESSED_BY: EXPRESSES},
    )
    cut = training_messages(turned).validate()
    np.testing.assert_array_equal(dense(cut, EXPRESSES), dense(graph, EXPRESSES) * TRAINING[:, None])
    np.testing.assert_array_equal(dense(cut, EXPRESSED_BY), dense(graph, EXPRESSED_BY))


def test_the_order_of_cells_and_genes_does_not_matter(data, store):
    rng = np.random.default_rng(3)
    cells, genes = rng.permutation(80), rng.permutation(60)
    training = data["rna"].obs_names[TRAINING].tolist()
    graph = made(data, store, training_cells=training)
    moved = dict(data, rna=data["rna"][cells][:, genes].copy())
    other = made(moved, store, training_cells=training)
    for etype in (GENE_GENE, REACHES, REGULATES, OPENS, EXPRESSES):
        assert named(other, etype, "weight") == named(graph, etype, "weight")
    gene = other.index("gene", graph.names["gene"])
    one, two = graph.ndata("gene")["svd"][:, :4], other.ndata("gene")["svd"][torch.from_numpy(gene)][:, :4]
    assert torch.allclose(one, two, atol=0.03 * float(one.abs().max()))


def test_a_backed_file_gives_the_same_graph(files, data, store, tmp_path):
    path = tmp_path / "rna.h5ad"
    data["rna"].write_h5ad(path)
    expected = graph_hash(made(data, store), node_data=True)
    with open_backed(path, modality="rna", layer="X") as backed:
        assert graph_hash(made(dict(data, rna=backed), store), node_data=True) == expected


def test_rna_alone_and_one_training_cell(data, store):
    graph = made({"rna": data["rna"]}, store, training_cells=data["rna"].obs_names[:1], n_components=1)
    assert graph.ntypes == ["cell", "gene"]
    assert set(graph.canonical_etypes) == {EXPRESSES, EXPRESSED_BY, GENE_GENE, REGULATES}
    np.testing.assert_allclose(
        graph.ndata("gene")["svd"][:, 0].numpy(),
        data["rna"].X[0].toarray()[0] * float(graph.ndata("cell")["svd"][0, 0]),
        rtol=1e-5,
    )


def test_a_graph_without_an_edge_of_the_store_is_still_in_order(data, store, tmp_path):
    graph = made(data, store, min_score={"gene_gene": 5.0, "protein_protein": 2_000})
    assert (graph.num_edges(GENE_GENE), graph.num_edges(PROTEIN_PROTEIN)) == (0, 0)
    assert graph.meta["match"]["gene_gene"]["below_score"] == len(store.frame("gene_gene"))
    assert HeteroGraph.load(graph.save(tmp_path / "g")).num_edges(GENE_GENE) == 0


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"edges": ["gene_genes"]}, "unknown table 'gene_genes'. Did you mean 'gene_gene'"),
        ({"edges": ["gene_peak"]}, "gene_peak cannot be made from .*toy.duckdb: the data have no peaks"),
        (
            {"min_score": {"tf_peak": 1}},
            "min_score: found tf_peak, expected among the tables in use gene_gene, protein",
        ),
        ({"min_score": {"gene_protein": 1}}, "min_score: found gene_protein"),
        ({"sources": {"protein_protein": ["string"]}}, "sources: found protein_protein, .* use gene_gene, tf_gene"),
        ({"sources": {"gene_gene": ["biogrid"]}}, "none named biogrid. It has pathway, string"),
        ({"sources": {"gene_gene": "string"}}, r"found 'string' for gene_gene, expected a list, such as \['string'\]"),
        ({"min_score": {"gene_gene": np.nan}}, "min_score: found nan for gene_gene, expected a number"),
        ({"min_score": {"gene_gene": "high"}}, "min_score: found 'high' for gene_gene, expected a number"),
        ({"min_score": 0.4}, "min_score: found 0.4, expected it by table"),
        ({"n_components": 8}, "found 8, expected 1 to 7: the SVD is fitted on 9 cells with 7 genes"),
        ({"n_components": 0}, "found 0, expected 1 to 7"),
        ({"training_cells": [False] * 9}, "none of 9 cells is for training"),
        ({"training_cells": ["nobody"]}, "1 of 1 names are not among the 9 cells"),
        ({"expect": "any"}, "found expect='any'"),
    ],
)
def test_what_does_not_fit_is_refused(toy, options, match):
    with pytest.raises(GraphError, match=match):
        multiomics(toy_data(), toy, **({"n_components": 3} | options))


def test_a_table_the_store_lacks_names_the_keys_that_make_it(tmp_path):
    tables = {name: rows for name, rows in toy_tables().items() if name not in ("tf_gene", "gene_gene")}
    with PriorStore.open(write_store(tmp_path / "few.duckdb", tables)) as few:
        for table, keys in (
            ("tf_gene", "edges.regulons"),
            ("gene_gene", "edges.pathways or edges.interactions or edges.pairs"),
        ):
            with pytest.raises(GraphError, match=f"{table} .* does not have it. Fix: a store whose recipe has {keys}"):
                multiomics(toy_data(), few, edges=[table], n_components=3)
        graph = multiomics(toy_data(), few, n_components=3)
        assert graph.meta["tables_not_used"] == {
            "gene_gene": "the store does not have it", "gene_peak": "the data have no peaks",
            "tf_gene": "the store does not have it",
        }  # fmt: skip


def test_data_that_cannot_be_used_are_refused(data, store, toy):
    with pytest.raises(MissingModality, match="found modalities protein, expected rna"):
        multiomics({"protein": data["protein"]}, store)
    with pytest.raises(MissingModality, match="found modalities rna, adt"):
        multiomics({"rna": data["rna"], "adt": data["protein"]}, store)
    with pytest.raises(DataError, match="found 80 cells of rna and 75 of atac, 5 in rna alone .* and 0 in atac alone"):
        made(dict(data, atac=data["atac"][5:]), store)
    with pytest.raises(GraphError, match="none of 60 genes of the data is in"):
        multiomics({"rna": data["rna"]}, toy)
    with pytest.raises(GraphError, match="none of 1 proteins of the data has a gene"):
        multiomics(toy_data(panel=["Mouse-IgG1"]), toy, n_components=2)
    with pytest.raises(StoreError, match="no table 'peak'"):
        multiomics({**toy_data(), "atac": toy_data()["rna"]}, toy, n_components=2)
    half, empty = toy_data(), toy_data()
    half["rna"].X = half["rna"].X * 0.5
    empty["rna"].X = sparse.csr_matrix(empty["rna"].X.toarray() * (np.arange(9) != 4)[:, None])
    with pytest.raises(NotCounts):
        multiomics(half, toy, n_components=2, expect="counts")
    with pytest.raises(DuplicateNames):
        multiomics(toy_data(panel=["CD4", "CD4"]), toy, n_components=2)
    with pytest.raises(EmptyCells, match="rna: 1 of 9 cells"):
        multiomics(empty, toy, n_components=2)


def test_a_recipe_plans_and_builds_it(files, tmp_path):
    path, db, parts = files
    sets = ["n_components=6", "training.column=part", "atac={modality: atac}", "min_score={gene_gene: 0.3}"]
    planned, graph = plan("multiomics", path, db, sets=sets), build("multiomics", path, db, sets=sets).validate()
    assert planned.nodes == {ntype: graph.num_nodes(ntype) for ntype in ("cell", "gene", "protein", "peak")}
    there = {"-".join(etype): graph.num_edges(etype) for etype in graph.canonical_etypes}
    assert planned.edges.keys() == there.keys()
    known = {etype: number for etype, number in planned.edges.items() if number is not None}
    assert known == {etype: there[etype] for etype in known}
    assert len(known) == 4
    assert planned.bytes == 8 * (160 + there["cell-expresses-gene"] + there["cell-opens-peak"])
    assert graph.ndata("cell")["training"].tolist() == TRAINING.tolist()
    assert graph.meta["recipe"]["min_score"] == {"gene_gene": 0.3}
    total = parts["rna"].X.sum(1).A1
    np.testing.assert_allclose(np.expm1(dense(graph, EXPRESSES)).sum(1), 1e4 * (total > 0), rtol=1e-4)
    alone = plan("multiomics", path, db, sets=["protein=null"])
    assert set(alone.nodes) == {"cell", "gene"}
    assert "gene-encodes-protein" not in alone.edges


def test_the_same_seed_gives_the_same_graph(data, store):
    assert graph_hash(made(data, store), node_data=True) == graph_hash(made(data, store), node_data=True)
