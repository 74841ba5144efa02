import numpy as np
import pytest
from Bio import motifs as bio_motifs
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from heteromics import _config
from heteromics.errors import PriorError, RecipeError
from heteromics.priors.motifs import (
    JasparConfig,
    MotifConfig,
    build_motifs,
    consensus,
    information,
    probabilities,
    read_jaspar,
)
from tests.priors.prior_files import context_with, fits, tally, written

MOTIFS = """\
>M1 TP53
9 1 0 0
0 0 10 0
>M2 gapdh::JUN
5 5 0 0
>M3 NOSUCH(var.2)
3 3 3 1
>M4 Y_RNA
0 0 0 8
"""
COUNTS = arrays(np.float64, (6, 4), elements=st.integers(0, 50).map(float)).filter(lambda c: c.sum(axis=1).all())


@pytest.fixture
def files(tmp_path):
    return {"motifs": written(tmp_path / "motifs.pfm", MOTIFS)}


def biopython(counts):
    return bio_motifs.Motif(counts={base: counts[:, row].tolist() for row, base in enumerate("ACGT")})


@given(COUNTS, st.floats(0.01, 5))
def test_probabilities_agree_with_biopython(counts, pseudocount):
    ours = probabilities(counts, pseudocount)
    theirs = biopython(counts).counts.normalize(pseudocounts=pseudocount / 4)
    np.testing.assert_allclose(ours, np.array([theirs[base] for base in "ACGT"]).T)
    np.testing.assert_allclose(ours.sum(axis=1), 1)
    assert (ours > 0).all()


@given(COUNTS)
def test_information_agrees_with_biopython(counts):
    p = probabilities(counts, 0.1)
    pwm = biopython(counts).counts.normalize(pseudocounts=0.025)
    assert information(p) == pytest.approx(pwm.log_odds().mean(), abs=1e-6)
    assert 0 <= information(p) + 1e-9 <= 2 * len(p)


@given(COUNTS)
def test_consensus_agrees_with_biopython(counts):
    assert consensus(counts) == str(biopython(counts).degenerate_consensus)


def test_motifs_and_their_factors(files):
    built = build_motifs(context_with(files), MotifConfig(pseudocount=1.0))
    assert fits(built)
    rows = {row["motif_id"]: row for row in built.tables["motif"].to_pylist()}
    assert list(rows) == ["M1", "M2", "M3", "M4"]
    assert rows["M1"]["probabilities"] == pytest.approx(
        [9.25 / 11, 1.25 / 11, 0.25 / 11, 0.25 / 11, 0.25 / 11, 0.25 / 11, 10.25 / 11, 0.25 / 11]
    )
    assert [(row["length"], row["consensus"], row["factors"]) for row in rows.values()] == [
        (2, "AG", "TP53"),
        (1, "M", "gapdh,JUN"),
        (1, "N", "NOSUCH"),
        (1, "T", "Y_RNA"),
    ]
    assert {row["source"] for row in rows.values()} == {"motifs.pfm"}
    links = [(row["motif_id"], row["gene_id"]) for row in built.tables["motif_tf"].to_pylist()]
    assert links == [("M1", "ENSG01"), ("M2", "ENSG02"), ("M2", "ENSG03")]
    assert built.tables["motif_tf"]["evidence"][1].as_py() == "motifs.pfm names gapdh"
    assert tally(built, "motif") == {"matched": 4}
    assert tally(built, "motif_tf") == {"matched": 2, "case_folded": 1, "absent": 1, "ambiguous": 1}
    named = {match.name: match.outcome for match in built.matches["motif_tf"]}
    assert named == {"gapdh": "case_folded", "NOSUCH": "absent", "Y_RNA": "ambiguous"}


def test_a_table_of_factors_goes_before_the_names(files, tmp_path):
    table = "Motif\tFactor\tEvidence\tCurated\nM1\tJUN\tSELEX\tY\nM1\tENSG03\t\tN\nM3\tTP53\t\t\nM9\tGATA1\t\t\n"
    files["motif_factors"] = written(tmp_path / "factors.txt", table)
    built = build_motifs(context_with(files), MotifConfig())
    assert fits(built)
    assert built.tables["motif_tf"].to_pylist() == [
        {"motif_id": "M1", "gene_id": "ENSG03", "evidence": "factors.txt names JUN (SELEX, curated)"},
        {"motif_id": "M3", "gene_id": "ENSG01", "evidence": "factors.txt names TP53"},
    ]
    assert built.tables["motif"]["factors"].to_pylist() == ["JUN,ENSG03", "", "TP53", ""]
    named = [(match.name, match.outcome, match.detail) for match in built.matches["motif_tf"]]
    assert named == [
        ("M9", "absent", "no motif has this id"),
        ("M2", "empty", "no factor is named"),
        ("M4", "empty", "no factor is named"),
    ]
    assert tally(built, "motif_tf") == {"matched": 3, "absent": 1, "empty": 2}
    assert [source.label for source in built.sources["motif_tf"]] == ["motifs.pfm", "factors.txt"]


def test_a_table_of_other_motifs_is_an_error(files, tmp_path):
    files["motif_factors"] = written(tmp_path / "factors.txt", "Motif\tFactor\nM7\tTP53\n")
    message = r"factors.txt names none of the 4 motifs of motifs.pfm.\n  motifs: M1, M2, M3(.|\n)*the table's: M7"
    with pytest.raises(PriorError, match=message):
        build_motifs(context_with(files), MotifConfig())


def test_jaspar_comes_with_its_release():
    motifs, source = read_jaspar(JasparConfig())
    assert len(motifs) == 879
    assert len({motif.motif_id for motif in motifs}) == 879
    assert source.label.startswith("JASPAR2024 (pyjaspar ")
    assert (source.version, source.licence, len(source.sha256)) == ("2024", "CC BY 4.0", 64)
    human, _ = read_jaspar(JasparConfig(species=(9606,)))
    assert {motif.motif_id for motif in human} < {motif.motif_id for motif in motifs}
    ctcf = next(motif for motif in motifs if motif.motif_id == "MA0139.2")
    assert (ctcf.name, consensus(ctcf.counts)) == ("CTCF", "RCCASYAGRKGGCRS")


def test_jaspar_builds_without_a_source():
    assert MotifConfig(jaspar=JasparConfig()).source_names() == ()
    assert MotifConfig().source_names() == ("motifs",)
    built = build_motifs(context_with({}), MotifConfig(jaspar=JasparConfig(species=(9606,))))
    assert fits(built)
    symbols = {"ENSG01": "TP53", "ENSG02": "Gapdh", "ENSG03": "JUN"}
    assert {symbols[gene] for gene in built.tables["motif_tf"]["gene_id"].to_pylist()} == {"TP53", "JUN"}
    assert tally(built, "motif_tf")["matched"] == 2


def test_what_jaspar_does_not_have_is_said():
    with pytest.raises(
        PriorError, match=r"no motif of collection 'NOPE', tax_groups \['vertebrates'\] and species \[\]"
    ):
        read_jaspar(JasparConfig(collection="NOPE"))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"jaspar": {"release": "JASPAR1999"}}, r"jaspar: found release 'JASPAR1999', expected one of JASPAR2014,"),
        ({"jaspar": {"taxgroups": ["plants"]}}, r"unknown key 'taxgroups'. .*tax_groups"),
        ({"pseudocount": 0}, r"found pseudocount 0, expected more than 0"),
        ({"pseudocount": float("inf")}, r"found pseudocount inf, expected more than 0"),
    ],
)
def test_recipe_keys_are_checked(keys, message):
    with pytest.raises(RecipeError, match=message):
        _config.build(MotifConfig, keys, "nodes.motif")
