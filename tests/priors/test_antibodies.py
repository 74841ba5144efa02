import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from heteromics.errors import MissingModality, PriorError, UnreadableFile
from heteromics.priors import PriorStore
from heteromics.priors.antibodies import AntibodyConfig, build_antibodies, read_antibodies, symbols_of
from heteromics.priors.antibody_names import GREEK, read_name, rules
from tests.priors.prior_files import context_with, fits, tally, written


@pytest.mark.parametrize(
    ("name", "symbols"),
    [
        ("CD3", "CD3D CD3E CD3G"),
        ("CD3_TotalSeqB", "CD3D CD3E CD3G"),
        ("CD3_UCHT1", "CD3D CD3E CD3G"),
        ("CD3-1", "CD3D CD3E CD3G"),  # the first of two, not CD31
        ("cd4.1", "CD4"),
        ("CD4-A0072", "CD4"),
        ("Hu.CD101", "CD101"),
        ("anti-human CD56 (NCAM)", "NCAM1"),
        ("anti-mouse/human CD44", "CD44"),
        ("ADT_CD19", "CD19"),
        ("CD8", "CD8A"),
        ("CD8a", "CD8A"),
        ("CD8 beta", "CD8B"),
        ("CD8β", "CD8B"),
        ("CD3ε", "CD3E"),
        ("CD45", "PTPRC"),
        ("CD45RA", "PTPRC"),
        ("CD45RO-A0087", "PTPRC"),
        ("CD4_B0072", "CD4"),
        ("CD11a/CD18", "ITGAL ITGB2"),
        ("cd11a.cd18", "ITGAL ITGB2"),
        ("CD66a/c/e", "CEACAM1 CEACAM5 CEACAM6"),
        ("CD235a/b", "GYPA GYPB"),
        ("CD172a/b", "SIRPA SIRPB1"),
        ("CD158b1/b2", "KIR2DL2 KIR2DL3"),
        ("CD158e/k", "KIR3DL1 KIR3DL2"),
        ("CD11b/c_OX-42", "ITGAM ITGAX"),
        ("CD45R/B220", "PTPRC"),
        ("B7-H1", "CD274"),
        ("CD300f", "CD300LF"),
        ("CD307c/FcRL3", "FCRL3"),
        ("CD158e1 (KIR3DL1, NKB1)", "KIR3DL1"),
        ("CD158b", "KIR2DL2 KIR2DL3"),
        ("CD56(NCAM)Recombinant", "NCAM1"),
        ("CD138-1(Syndecan-1)", "SDC1"),
        ("CDw199", "CCR9"),
        ("CD62L", "SELL"),
        ("CD16/32", "FCGR2A FCGR2B FCGR2C FCGR3A FCGR3B"),
        ("HLA-DR", "HLA-DRA HLA-DRB1 HLA-DRB5"),
        ("hla.dr", "HLA-DRA HLA-DRB1 HLA-DRB5"),
        ("HLA-A,B,C", "HLA-A HLA-B HLA-C"),
        ("TCR α/β", "TRAC TRBC1 TRBC2"),
        ("tcrgd", "TRDC TRGC1 TRGC2"),
        ("TCR Vα7.2", "TRAV1-2"),
        ("TCRVa7.2", "TRAV1-2"),
        ("TCRVd2", "TRDV2"),
        ("TCR_V_24-J_18", "TRAV10 TRAJ18"),
        ("IgM", "IGHM"),
        ("anti-human IgD", "IGHD"),
        ("Ig light chain κ", "IGKC"),
        ("Integrin β7", "ITGB7"),
        ("integrinB7", "ITGB7"),
        ("integrin_7", "ITGB7"),
        ("FcεRIα", "FCER1A"),
        ("FceRIa", "FCER1A"),
        ("PD-1_TotalSeqB", "PDCD1"),
        ("PD-L1", "CD274"),
        ("Podoplanin", "PDPN"),
        ("LOX-1", "OLR1"),
        ("TIM-4", "TIMD4"),
        ("KLRG1", "KLRG1"),
        ("TIGIT-2", "TIGIT-2 TIGIT"),  # no rule: both are tried
        ("CD999", "CD999"),
        ("TCR_Vb13", "TCR_Vb13"),  # not any TCR
    ],
)
def test_what_an_antibody_binds(name, symbols):
    assert symbols_of(name) == tuple(symbols.split())
    assert read_name(name).kind == "antibody"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Mouse-IgG1", "control"),
        ("RAT-IGG2B", "control"),
        ("Rat IgG2b, κ Isotype Ctrl", "control"),
        ("IgG1_control_TotalSeqB", "control"),
        ("IgG2a", "control"),
        ("Isotype_MOPC.21", "control"),
        ("Armenian Hamster IgG", "control"),
        ("mouse_IgM", "control"),
        ("IgG1", "either"),
        ("IgG", "either"),
        ("IgG Fc", "antibody"),
        ("IgM", "antibody"),
        ("Mouse CD4", "antibody"),
    ],
)
def test_isotype_controls_are_named_as_such(name, kind):
    assert read_name(name).kind == kind


def test_the_table_holds_together():
    assert len(rules()) > 500
    for name, symbols in rules().items():
        assert name == name.lower()
        assert symbols
        assert len(set(symbols)) == len(symbols)
        assert symbols_of(name) == symbols, name  # no rule hides behind another


@given(
    st.sampled_from(sorted(rules())),
    st.sampled_from(["", "anti-human ", "Hu.", "adt_"]),
    st.sampled_from(["", "_TotalSeqB", "-A0123", " (clone-1)", "_prot"]),
    st.booleans(),
)
def test_vendors_and_case_change_nothing(name, prefix, suffix, upper):
    written = prefix + (name.upper() if upper else name) + suffix
    assert symbols_of(written) == rules()[name]


@given(st.text(min_size=1, max_size=20))
def test_any_text_is_a_name(name):
    antibody = read_name(name)
    assert antibody.kind in {"antibody", "control", "either"}
    assert bool(antibody.symbols) == (antibody.kind == "antibody")


def test_greek_letters_may_be_spelled():
    for letter, spelled in GREEK.items():
        assert symbols_of(f"CD79{letter}") == symbols_of(f"CD79{spelled}")


GENES = (
    "INSERT INTO gene SELECT 'E-' || s, s, 'chr1', 1, 2, '+', 1, '' FROM (SELECT unnest(?::VARCHAR[]) AS s)",
    [["CD3D", "CD3E", "CD4", "PTPRC", "NCAM1", "HLA-DRA", "KLRG1", "TIGIT", "Cd19"]],
)
PANEL = "# panel\nCD3\nCD4\nCD45RA\nCD45RO\nTIGIT-2\ncd56.1\nHLA-DR\nKLRG1\nCD19\nMouse-IgG1\nIgG1\nCD8\nY_RNA\nCD4\n"


@pytest.fixture
def built(tmp_path):
    context = context_with({"antibodies": written(tmp_path / "panel.txt", PANEL)})
    context.connection.execute(*GENES)
    return build_antibodies(context, AntibodyConfig())


def test_tables_of_a_panel(built):
    assert fits(built)
    rows = {row["protein_id"]: (row["symbol"], row["gene_id"]) for row in built.tables["protein"].to_pylist()}
    assert list(rows) == list(dict.fromkeys(PANEL.split("\n")[1:-1]))
    assert rows["CD3"] == ("CD3D/CD3E", None)
    assert rows["CD45RA"] == rows["CD45RO"] == ("PTPRC", "E-PTPRC")
    assert rows["CD4"] == ("CD4", "E-CD4")
    assert rows["CD19"] == ("Cd19", "E-Cd19")
    assert rows["Mouse-IgG1"] == ("Mouse-IgG1", None)
    edges = {(row["protein_id"], row["gene_id"]) for row in built.tables["gene_protein"].to_pylist()}
    assert edges == {
        ("CD3", "E-CD3D"), ("CD3", "E-CD3E"), ("CD4", "E-CD4"), ("CD45RA", "E-PTPRC"), ("CD45RO", "E-PTPRC"),
        ("TIGIT-2", "E-TIGIT"), ("cd56.1", "E-NCAM1"), ("HLA-DR", "E-HLA-DRA"), ("KLRG1", "E-KLRG1"),
        ("CD19", "E-Cd19"),
    }  # fmt: skip
    evidence = built.tables["gene_protein"].to_pylist()[0]["evidence"]
    assert evidence == "antibody of panel.txt, rule cd3: CD3D"
    kinds = dict(zip(rows, built.tables["protein"]["annotation"].to_pylist(), strict=True))
    assert kinds["Mouse-IgG1"] == "isotype control of an antibody panel"
    assert kinds["CD4"] == "surface protein, measured by an antibody"


def test_every_antibody_has_an_outcome(built):
    said = [(match.name, match.outcome, match.detail) for match in built.matches["protein"]]
    assert said[0] == ("CD4", "duplicated", "listed 2 times")
    assert {name: outcome for name, outcome, _ in said[1:]} == {
        "CD3": "alias", "CD45RA": "alias", "CD45RO": "alias", "TIGIT-2": "alias", "cd56.1": "alias", "HLA-DR": "alias",
        "CD19": "alias", "Mouse-IgG1": "control", "IgG1": "ambiguous", "CD8": "absent", "Y_RNA": "ambiguous",
    }  # fmt: skip
    details = {name: detail for name, _, detail in said}
    assert details["CD3"] == "CD3D, CD3E; not found: CD3G"
    assert details["CD8"] == "CD8A: not in the annotation"
    assert details["Y_RNA"] == "fits ENSG04, ENSG05"
    assert tally(built, "protein") == {
        "matched": 2, "alias": 7, "absent": 1, "ambiguous": 2, "control": 1, "duplicated": 1,
    }  # fmt: skip
    assert [(match.name, match.detail) for match in built.matches["gene_protein"]] == [
        ("CD3", "CD3G: not in the annotation"),
        ("HLA-DR", "HLA-DRB1: not in the annotation"),
        ("HLA-DR", "HLA-DRB5: not in the annotation"),
    ]
    assert tally(built, "gene_protein") == {"matched": 10, "absent": 3}


def names_of(path, write):
    write(path)
    return read_antibodies(path)


def matrix(names, **var):
    return ad.AnnData(sparse.csr_matrix((2, len(names)), dtype=np.float32), var=pd.DataFrame(var, index=names))


def test_names_from_files_of_cells(tmp_path):
    adt, rna = matrix(["CD4", "CD8"]), matrix(["A", "B", "C"])
    assert names_of(tmp_path / "a.h5ad", adt.write_h5ad) == ["CD4", "CD8"]
    with mudata.set_options(pull_on_update=False):
        both = mudata.MuData({"rna": rna, "adt": adt})
        assert names_of(tmp_path / "a.h5mu", both.write_h5mu) == ["CD4", "CD8"]
    mixed = matrix(["A", "CD4"], feature_types=["Gene Expression", "Antibody Capture"])
    assert names_of(tmp_path / "b.h5ad", mixed.write_h5ad) == ["CD4"]
    rna.obsm["protein_expression"] = np.ones((2, 2))
    with pytest.raises(UnreadableFile, match=r"obsm\['protein_expression'\] has no names(.|\n)*Fix: write them there"):
        names_of(tmp_path / "c.h5ad", rna.write_h5ad)
    rna.uns["protein_names"] = np.array(["CD19", "CD20"])
    assert names_of(tmp_path / "d.h5ad", rna.write_h5ad) == ["CD19", "CD20"]
    rna.obsm["protein_expression"] = pd.DataFrame(np.ones((2, 2)), columns=["CD1", "CD2"], index=rna.obs_names)
    del rna.uns["protein_names"]
    assert names_of(tmp_path / "e.h5ad", rna.write_h5ad) == ["CD1", "CD2"]


def test_lists_that_hold_nothing(tmp_path):
    with pytest.raises(UnreadableFile, match="no antibody name in it"):
        read_antibodies(written(tmp_path / "a.txt", "# none\n\n"))
    genes = matrix(["A"], feature_types=["Gene Expression"])
    with pytest.raises(MissingModality, match="holds no protein modality"):
        names_of(tmp_path / "b.h5ad", genes.write_h5ad)
    with pytest.raises(UnreadableFile, match="not a readable HDF5 file"):
        read_antibodies(written(tmp_path / "c.h5ad", "text"))


def test_a_panel_of_another_organism_is_an_error(tmp_path):
    context = context_with({"antibodies": written(tmp_path / "panel.txt", "CD4\nCD8\nMouse-IgG1\n")})
    with pytest.raises(PriorError, match=r"none of its 3 antibodies has a gene in table gene \(5 genes\)(.|\n)*Fix"):
        build_antibodies(context, AntibodyConfig())


def test_antibodies_join_the_proteins_of_a_store(recipe):
    path = written(recipe.with_name("adt.txt"), "ALPHA\nbeta\nCD4\nIgG2a\n")
    sets = ["edges.antibodies={}", f"source.antibodies={path}", "nodes.peak=false", "edges.gene_peak=false"]
    with PriorStore.build(recipe, recipe.with_name("a.duckdb"), sets=sets, progress=False) as store:
        assert store.frame("protein")["gene_id"].fillna("").tolist() == ["ENSG00000000001", "ENSG00000000002", "", ""]
        assert store.match_report("protein").set_index("name")["outcome"].to_dict() == {
            "beta": "case_folded", "CD4": "absent", "IgG2a": "control",
        }  # fmt: skip
    plan = PriorStore.plan(recipe, sets=sets)
    assert {table.table: table.rows for table in plan.tables}["protein"] == 4
