import json

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from heteromics import _config
from heteromics.errors import DataError, MissingLayer, MissingModality, PriorError, RecipeError, UnreadableFile
from heteromics.priors import PriorStore, _set_weights
from heteromics.priors._streams import open_matrices
from heteromics.priors.pathways import PathwayConfig, build_pathways, estimate_pathways
from heteromics.priors.planning import PlanContext
from heteromics.priors.sources import AtHand
from tests.priors.prior_files import context_with, fits, tally, written

GMT = (
    "STRESS\thttp://one\tTP53\tJUN\tTP53\n"
    "\n"
    "SUGAR\ttwo\tGAPDH\tJUN\tTP53\r\n"
    "NONE\tthree\tMYC\tMAX\n"
    "EMPTY\tfour\n"
    "RNA\tfive\tY_RNA\tJUN\tENSG01.4\tTP53\n"
)


def test_gene_sets_join_by_id_symbol_and_case_and_name_the_rest(tmp_path):
    built = build_pathways(context_with({"gmt": written(tmp_path / "sets.gmt", GMT)}), PathwayConfig())
    assert fits(built)
    assert built.tables["pathway"].to_pylist() == [
        {"pathway_id": "STRESS", "description": "http://one", "size": 2},
        {"pathway_id": "SUGAR", "description": "two", "size": 3},
        {"pathway_id": "RNA", "description": "five", "size": 2},
    ]
    members = [(row["gene_id"], row["pathway_id"]) for row in built.tables["gene_pathway"].to_pylist()]
    assert members == [
        ("ENSG01", "STRESS"),
        ("ENSG03", "STRESS"),
        ("ENSG01", "SUGAR"),
        ("ENSG02", "SUGAR"),
        ("ENSG03", "SUGAR"),
        ("ENSG01", "RNA"),
        ("ENSG03", "RNA"),
    ]
    assert {(match.name, match.outcome, match.detail) for match in built.matches["gene_pathway"]} == {
        ("GAPDH", "case_folded", "joined ENSG02 (Gapdh)"),
        ("MYC", "absent", "not in the annotation"),
        ("MAX", "absent", "not in the annotation"),
        ("Y_RNA", "ambiguous", "fits ENSG04, ENSG05"),
        ("ENSG01.4", "version_stripped", "joined ENSG01 (TP53)"),
    }
    assert {(match.name, match.outcome) for match in built.matches["pathway"]} == {
        ("NONE", "absent"),
        ("EMPTY", "empty"),
    }
    # TP53 is listed again in STRESS, and once more by its id in RNA
    assert tally(built, "gene_pathway")["duplicated"] == 2


def test_members_that_the_recipe_leaves_out_are_told_why(recipe):
    text = recipe.with_name("genes.gtf").read_text()
    recipe.with_name("genes.gtf").write_text(
        text + text.splitlines()[1].replace("chr1", "chrUn_1").replace("01.4", "09.2").replace("ALPHA", "OMEGA") + "\n"
    )
    recipe.with_name("sets.gmt").write_text("SET\tna\tALPHA\tBETA\tENSG00000000009\tGAMMA\n")
    sets = ["nodes.gene.biotypes=[protein_coding]"]
    with PriorStore.build(recipe, recipe.with_name("p.duckdb"), sets=sets, progress=False) as store:
        assert store.match_report("gene_pathway")[["name", "outcome", "detail"]].values.tolist() == [
            ["BETA", "absent", "filtered: ENSG00000000002.1, biotype lncRNA"],
            ["ENSG00000000009", "absent", "wrong_assembly: ENSG00000000009.2, tiny has no chrUn_1"],
            ["GAMMA", "ambiguous", "fits ENSG00000000003, ENSG00000000004"],
        ]


def test_pairs_weigh_the_jaccard_index_of_memberships(tmp_path):
    built = build_pathways(context_with({"gmt": written(tmp_path / "sets.gmt", GMT)}), PathwayConfig())
    rows = {(row["gene_a"], row["gene_b"]): row for row in built.tables["gene_gene"].to_pylist()}
    assert list(rows) == [("ENSG01", "ENSG02"), ("ENSG01", "ENSG03"), ("ENSG02", "ENSG03")]
    assert rows["ENSG01", "ENSG02"]["weight"] == pytest.approx(1 / 3)
    assert rows["ENSG01", "ENSG03"]["weight"] == 1.0
    assert rows["ENSG01", "ENSG03"]["evidence"] == "gene sets of sets.gmt shared: 3"
    assert rows["ENSG01", "ENSG03"]["source"] == "pathway"


def test_large_sets_make_no_pairs_and_are_named(tmp_path):
    context = context_with({"gmt": written(tmp_path / "sets.gmt", GMT)})
    built = build_pathways(context, PathwayConfig(max_set_size=2))
    rows = {(row["gene_a"], row["gene_b"]): row["weight"] for row in built.tables["gene_gene"].to_pylist()}
    assert rows == {("ENSG01", "ENSG03"): 1.0}
    (match,) = built.matches["gene_gene"]
    assert (match.name, match.outcome, match.detail) == ("SUGAR", "filtered", "3 genes, more than 2")
    assert "gene_gene" not in build_pathways(context, PathwayConfig(gene_gene=False)).tables


def test_entrez_ids_reach_genes_through_the_string_aliases(tmp_path):
    aliases = (
        "#string_protein_id\talias\tsource\n"
        "9606.P1\tENSG01\tEnsembl_gene\n"
        "9606.P1\t7157\tEnsembl_HGNC_entrez_id\n"
        "9606.P2\tENSG03\tEnsembl_gene\n"
        "9606.P3\tENSG02\tEnsembl_gene\n"
        "9606.P2\t99\tUniProt_DR_GeneID\n"
        "9606.P3\t99\tUniProt_DR_GeneID\n"
        "9606.P1\t3725\tUniProt_AC\n"
        "9606.P4\t5\tUniProt_DR_GeneID\n"
    )
    files = {
        "gmt": written(tmp_path / "sets.gmt", "A\tx\t7157\t99\t3725\t5\n"),
        "string_aliases": written(tmp_path / "aliases.txt.gz", aliases),
    }
    built = build_pathways(context_with(files), PathwayConfig(ids="entrez"))
    assert built.tables["gene_pathway"]["gene_id"].to_pylist() == ["ENSG01"]
    found = {match.name: (match.outcome, match.detail) for match in built.matches["gene_pathway"]}
    assert found == {
        "7157": ("alias", "joined ENSG01 (TP53)"),
        "99": ("ambiguous", "fits ENSG02, ENSG03"),
        "3725": ("absent", "not in the STRING aliases"),
        "5": ("absent", "its protein joined no gene"),
    }
    assert [source.label for source in built.sources["gene_pathway"]] == ["sets.gmt", "aliases.txt.gz"]
    known = context_with(files)
    known.connection.execute(
        "CREATE TABLE mygene_answer (name VARCHAR, gene_id VARCHAR, entrez VARCHAR, symbol VARCHAR)"
    )
    known.connection.execute("INSERT INTO mygene_answer VALUES ('3725', 'ENSG77', '3725', 'AWAY')")
    matches = build_pathways(known, PathwayConfig(ids="entrez")).matches["gene_pathway"]
    said = {match.name: match.detail for match in matches}
    assert said["3725"] == "MyGene.info: AWAY (ENSG77), which is not in the annotation"  # what is known better stands
    assert said["5"] == "its protein joined no gene"


@pytest.mark.parametrize(
    ("members", "fix"),
    [("7157\t3725", "look like Entrez ids: set `ids: entrez`"), ("FBgn1\tFBgn2", "of one organism")],
)
def test_nothing_joined_is_an_error_that_guesses_why(tmp_path, members, fix):
    context = context_with({"gmt": written(tmp_path / "sets.gmt", f"A\tx\t{members}\n")})
    with pytest.raises(PriorError, match=rf"none of its 2 gene names is in table gene \(5 genes\)(.|\n)*{fix}"):
        build_pathways(context, PathwayConfig())


def test_sets_without_a_single_member_are_an_error(tmp_path):
    files = {
        "gmt": written(tmp_path / "sets.gmt", "A\tx\nB\ty\n"),
        "string_aliases": written(tmp_path / "a.txt", "1.P\tA\tB\n"),
    }
    for ids in ("symbol", "entrez"):
        with pytest.raises(PriorError, match=r"none of its 0 gene names(.|\n)*these are all empty"):
            build_pathways(context_with(files), PathwayConfig(ids=ids))


VALUES = np.array(
    [[3.0, 0, 3, 7], [4, 0, 0, 7], [0, 5, 1, 7], [9, 9, 9, 7]], np.float32
)  # the last cell is no training cell
COLUMNS = ["TP53", "ENSG02", "JUN", "MALAT1"]


@pytest.fixture
def measured(tmp_path):
    """Gene sets, cells, and the names of the three to look at."""
    data = anndata.AnnData(sparse.csr_matrix(VALUES), layers={"double": sparse.csr_matrix(2 * VALUES**2)})
    data.obs_names, data.var_names = [f"c{row}" for row in range(4)], COLUMNS
    data.write_h5ad(tmp_path / "rna.h5ad")
    return {
        "gmt": written(tmp_path / "sets.gmt", GMT),
        "summary_data": tmp_path / "rna.h5ad",
        "summary_cells": written(tmp_path / "cells.txt", "c2\nc0\n\nc1\n"),
    }


def weights(built):
    return {(row["gene_a"][-1], row["gene_b"][-1]): row["weight"] for row in built.tables["gene_gene"].to_pylist()}


def cosines(values):
    unit = values / np.linalg.norm(values, axis=0)
    return {
        (str(a + 1), str(b + 1)): pytest.approx(unit[:, a] @ unit[:, b], abs=1e-6) for a, b in ((0, 1), (0, 2), (1, 2))
    }


def test_pairs_weigh_the_cosine_of_expression_over_the_named_cells_alone(measured):
    built = build_pathways(context_with(measured), PathwayConfig(weight="cosine"))
    assert fits(built)
    assert weights(built) == cosines(VALUES[:3])
    assert weights(built)["1", "2"] == 0
    row = built.tables["gene_gene"].to_pylist()[1]
    assert row["evidence"] == "gene sets of sets.gmt, cosine over 3 cells of rna.h5ad, shared: 3"
    assert [source.label for source in built.sources["gene_gene"]] == ["sets.gmt", "rna.h5ad", "cells.txt"]
    alone = {name: path for name, path in measured.items() if name != "summary_cells"}
    every = build_pathways(context_with(alone), PathwayConfig(weight="cosine", all_cells=True))
    assert weights(every) == cosines(VALUES)
    layer = build_pathways(context_with(measured), PathwayConfig(weight="cosine", layer="double"))
    assert weights(layer) == cosines(VALUES[:3] ** 2)


@pytest.mark.parametrize("form", ["csr", "csc", "dense", "h5mu", "feature_types"])
def test_cosine_reads_every_form_of_expression(measured, tmp_path, form):
    make = {"csc": sparse.csc_matrix, "dense": np.asarray}.get(form, sparse.csr_matrix)
    data = anndata.AnnData(make(VALUES), obs=pd.DataFrame(index=[f"c{row}" for row in range(4)]))
    data.var_names = COLUMNS
    path = tmp_path / f"own.{'h5mu' if form == 'h5mu' else 'h5ad'}"
    if form == "h5mu":
        peaks = data[:, :1].copy()
        peaks.var_names = ["chr1:0-9"]
        with mudata.set_options(pull_on_update=False):
            mudata.MuData({"GEX": data, "atac": peaks}).write_h5mu(path)
    elif form == "feature_types":
        peaks = anndata.AnnData(sparse.csr_matrix(np.ones((4, 1), np.float32)), obs=data.obs)
        peaks.var_names = ["GAPDH"]
        both = anndata.concat([peaks, data], axis=1)
        both.var["feature_types"] = ["Peaks", *["Gene Expression"] * 4]
        both.write_h5ad(path)
    else:
        data.write_h5ad(path)
    built = build_pathways(context_with(measured | {"summary_data": path}), PathwayConfig(weight="cosine"))
    assert weights(built) == cosines(VALUES[:3])


@pytest.mark.parametrize("make", [sparse.csr_matrix, sparse.csc_matrix, np.asarray])
@pytest.mark.parametrize("entries", [1, 5, 1_000])
def test_rows_come_in_any_cut_and_columns_in_any_order(tmp_path, make, entries, monkeypatch):
    values = np.random.default_rng(0).poisson(0.6, (9, 7)).astype(np.float32)
    anndata.AnnData(make(values)).write_h5ad(tmp_path / "rna.h5ad")
    monkeypatch.setattr(_set_weights, "BLOCK_CELLS", 4)
    rows, columns = np.array([0, 2, 3, 5, 6, 7, 8]), np.array([6, 0, 3])
    with open_matrices(tmp_path / "rna.h5ad", {}) as matrices:
        rna = matrices["rna"]
        cut = type("Cut", (), {"features": rna.features, "blocks": lambda _, rows: rna.blocks(rows, entries)})()
        blocks = [block.toarray() for block in _set_weights.row_blocks(cut, rows, columns)]
    assert max(map(len, blocks)) <= 4
    np.testing.assert_array_equal(np.concatenate(blocks), values[rows][:, columns])


def test_cells_may_lie_in_several_files(measured, tmp_path):
    """Names of cells that only the peaks have are no error; RNA must be in one file."""
    peaks = anndata.AnnData(sparse.csr_matrix(np.ones((1, 1), np.float32)))
    peaks.obs_names, peaks.var_names = ["c9"], ["chr1:0-9"]
    peaks.write_h5ad(tmp_path / "atac.h5ad")
    files = measured | {
        "summary_data_atac": tmp_path / "atac.h5ad",
        "summary_cells": written(tmp_path / "own.txt", "c0\nc1\nc2\nc9\n"),
    }
    assert weights(build_pathways(context_with(files), PathwayConfig(weight="cosine"))) == cosines(VALUES[:3])
    twice = files | {"summary_data_atac": measured["summary_data"]}
    with pytest.raises(MissingModality, match="2 of them hold rna, expected one"):
        build_pathways(context_with(twice), PathwayConfig(weight="cosine"))


def test_genes_without_expression_make_no_pair_and_are_named(measured, tmp_path):
    data = anndata.read_h5ad(measured["summary_data"])[:, ["JUN", "TP53"]].copy()
    data.write_h5ad(tmp_path / "few.h5ad")
    built = build_pathways(
        context_with(measured | {"summary_data": tmp_path / "few.h5ad"}), PathwayConfig(weight="cosine")
    )
    assert list(weights(built)) == [("1", "3")]
    (match,) = built.matches["gene_gene"]
    assert (match.source, match.name, match.outcome) == ("few.h5ad", "ENSG02", "absent")
    assert tally(built, "gene_gene") == {"matched": 2, "absent": 1}


def test_cells_must_be_named_and_be_in_the_data(measured, tmp_path):
    assert PathwayConfig(weight="cosine").source_names() == ("gmt", "summary_data", "summary_cells")
    assert PathwayConfig(weight="cosine", all_cells=True).source_names() == ("gmt", "summary_data")
    config = PathwayConfig(weight="cosine")
    for text, said in (("c0\nd1\nd2\n", r"2 of 3 names are no cell of the data: d1, d2"), ("\n", "no cell in it")):
        files = measured | {"summary_cells": written(tmp_path / "own.txt", text)}
        with pytest.raises(DataError, match=said):
            build_pathways(context_with(files), config)
    with pytest.raises(RecipeError, match="all_cells is set, and source summary_cells names some"):
        build_pathways(context_with(measured), PathwayConfig(weight="cosine", all_cells=True))


def test_data_that_cannot_be_used_are_refused(measured, tmp_path):
    def build(data, **keys):
        data.write_h5ad(tmp_path / "own.h5ad")
        files = {"gmt": measured["gmt"], "summary_data": tmp_path / "own.h5ad"}
        return build_pathways(context_with(files), PathwayConfig(weight="cosine", all_cells=True, **keys))

    data = anndata.read_h5ad(measured["summary_data"])
    with pytest.raises(MissingLayer, match="has no layer 'counts': found X, double"):
        build(data, layer="counts")
    broken = data.copy()
    broken.X[0, 0] = np.nan
    with pytest.raises(DataError, match="values that are not finite"):
        build(broken)
    data.var_names = [f"FBgn{row}" for row in range(4)]
    with pytest.raises(PriorError, match=r"0 of its 4 genes are in a gene set, 4 of its 4 cells(.|\n)*genes: FBgn0"):
        build(data)
    data.var["feature_types"] = "Peaks"
    with pytest.raises(MissingModality, match="own.h5ad: 0 of them hold rna, expected one"):
        build(data)
    with pytest.raises(UnreadableFile, match="is not a readable HDF5 file"):
        build_pathways(context_with(measured | {"summary_data": measured["gmt"]}), PathwayConfig(weight="cosine"))


def test_msigdb_json_gives_what_gmt_gives(tmp_path):
    sets = {"STRESS": ["TP53", "JUN", "TP53"], "SUGAR": ["GAPDH", "JUN", "TP53"], "EMPTY": []}
    listed = {
        name: {"geneSymbols": members, "collection": "H", "exactSource": name[0]} for name, members in sets.items()
    }
    built = build_pathways(context_with({"gmt": written(tmp_path / "h.json.gz", json.dumps(listed))}), PathwayConfig())
    lines = "".join("\t".join([name, "x", *members]) + "\n" for name, members in sets.items())
    same = build_pathways(context_with({"gmt": written(tmp_path / "sets.gmt", lines)}), PathwayConfig())
    assert built.tables["pathway"]["description"].to_pylist() == ["H, S", "H, S"]
    for name, columns in (("gene_pathway", ["gene_id", "pathway_id"]), ("gene_gene", ["gene_a", "gene_b", "weight"])):
        assert built.tables[name].select(columns).equals(same.tables[name].select(columns))
    assert [(match.name, match.outcome) for match in built.matches["pathway"]] == [("EMPTY", "empty")]


def test_estimate_is_the_same_for_both_forms(tmp_path):
    sets = {"A": ["TP53", "JUN", "MYC"], "B": ["GAPDH", "JUN"], "C": []}
    text = json.dumps({name: {"geneSymbols": members, "collection": "H"} for name, members in sets.items()}, indent=1)
    lines = "".join("\t".join([name, "x", *members]) + "\n" for name, members in sets.items() if members)
    for path in (written(tmp_path / "h.json.gz", text), written(tmp_path / "h.gmt", lines)):
        plan = PlanContext(None, {"gmt": AtHand("gmt", "a", "file", path, 1)})
        made = estimate_pathways(plan, PathwayConfig())
        assert (made["gene_pathway"], made["gene_gene"]) == (5, 4)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"max_set_size": 1}, "found max_set_size 1, expected 2 or more"),
        ({"all_cells": True}, "layer and all_cells are for weight cosine"),
        ({"weight": "pearson"}, "found 'pearson', expected one of 'jaccard', 'cosine'"),
    ],
)
def test_recipe_keys_are_checked(keys, message):
    with pytest.raises(RecipeError, match=message):
        _config.build(PathwayConfig, keys, "edges.pathways")
