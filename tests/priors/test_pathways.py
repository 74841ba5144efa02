from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from heteromics import _config
from heteromics.errors import PriorError, RecipeError, UnreadableFile
from heteromics.priors import PriorStore
from heteromics.priors.pathways import PathwayConfig, build_pathways, read_gmt, shared_sets
from tests.priors.prior_files import context_with, fits, tally, written

GMT = (
    "STRESS\thttp://one\tTP53\tJUN\tTP53\n"
    "\n"
    "SUGAR\ttwo\tGAPDH\tJUN\tTP53\r\n"
    "NONE\tthree\tMYC\tMAX\n"
    "EMPTY\tfour\n"
    "RNA\tfive\tY_RNA\tJUN\tENSG01.4\tTP53\n"
)


def test_gmt_is_read_with_repeats_counted_and_empty_sets_kept(tmp_path):
    for name in ("sets.gmt", "sets.gmt.gz"):
        sets = read_gmt(written(tmp_path / name, GMT))
        assert [one.name for one in sets] == ["STRESS", "SUGAR", "NONE", "EMPTY", "RNA"]
        assert sets[0] == ("STRESS", "http://one", ("TP53", "JUN"), 1)
        assert sets[1].members == ("GAPDH", "JUN", "TP53")
        assert sets[3].members == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A\tx\tTP53\nB TP53 JUN\n", r"line 2: found 'B TP53 JUN', expected name, description and genes separated by"),
        ("A\tx\tTP53\n\nB\ty\tJUN\nA\tz\tJUN\n", r"line 4: gene set A was given in line 1 already"),
        ("\n", "no gene set in it"),
        ("\tx\tTP53\n", "line 1: found"),
    ],
)
def test_broken_gmt_lines_are_named(tmp_path, text, message):
    with pytest.raises(UnreadableFile, match=message):
        read_gmt(written(tmp_path / "sets.gmt", text))


@given(st.lists(st.sets(st.integers(0, 7)), min_size=1, max_size=8))
@settings(max_examples=80, deadline=None)
def test_shared_sets_agree_with_looking_at_every_pair(sets):
    member = np.zeros((8, len(sets)), bool)
    for column, rows in enumerate(sets):
        member[sorted(rows), column] = True
    pairs = shared_sets(sparse.csr_array(member))
    expected = []
    for a, b in combinations(range(8), 2):
        both, either = (member[a] & member[b]).sum(), (member[a] | member[b]).sum()
        if both:
            expected.append((a, b, both, both / either))
    np.testing.assert_allclose(np.array(pairs).T, np.array(expected).reshape(-1, 4))


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
    assert PathwayConfig(ids="entrez").source_names() == ("gmt", "string_aliases")
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


@pytest.mark.parametrize(
    ("members", "fix"),
    [("7157\t3725", "look like Entrez ids: set `ids: entrez`"), ("FBgn1\tFBgn2", "of one organism")],
)
def test_nothing_joined_is_an_error_that_guesses_why(tmp_path, members, fix):
    context = context_with({"gmt": written(tmp_path / "sets.gmt", f"A\tx\t{members}\n")})
    with pytest.raises(PriorError, match=rf"none of its 2 gene names is in table gene \(5 genes\)(.|\n)*{fix}"):
        build_pathways(context, PathwayConfig())


def test_recipe_keys_are_checked():
    with pytest.raises(RecipeError, match="found max_set_size 1, expected 2 or more"):
        _config.build(PathwayConfig, {"max_set_size": 1}, "edges.pathways")
