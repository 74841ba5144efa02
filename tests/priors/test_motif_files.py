import gzip

import numpy as np
import pytest
from Bio import motifs as bio_motifs
from hypothesis import given
from hypothesis import strategies as st

from heteromics.errors import UnreadableFile
from heteromics.priors.motif_files import Factor, factor_names, read_factors, read_motifs
from tests.priors.prior_files import written

MEME = """\
MEME version 4

ALPHABET= ACGT

strands: + -

Background letter frequencies
A 0.25 C 0.25 G 0.25 T 0.25

MOTIF MA0004.1 Arnt
letter-probability matrix: alength= 4 w= 3 nsites= 10 E= 0
 0.200000  0.800000  0.000000  0.000000
 1.000000  0.000000  0.000000  0.000000
 0.000000  0.500000  0.500000  0.000000
URL http://jaspar.example/MA0004.1

MOTIF second
letter-probability matrix: alength= 4 w= 1
0.1 0.2 0.3 0.4
"""
JASPAR = """\
>MA0004.1 Arnt
A [ 4 19 0 ]
C [16  0 20 ]
G [ 0  1 0 ]
T [ 0  0 0 ]
>MA0006.1\tAhr::Arnt
A [ 3 0 ]
C [ 8 0 ]
G [ 2 23 ]
T [11 1 ]
"""
ARNT = [[4, 16, 0, 0], [19, 0, 1, 0], [0, 20, 0, 0]]
AHR = [[3, 8, 2, 11], [0, 0, 23, 1]]


def read(tmp_path, text, name="motifs.txt"):
    return read_motifs(written(tmp_path / name, text))


def test_meme_probabilities_become_counts_of_the_sites_it_states(tmp_path):
    first, second = read(tmp_path, MEME)
    assert (first.motif_id, first.name, second.motif_id, second.name) == ("MA0004.1", "Arnt", "second", "second")
    assert first.counts.tolist() == [[2, 8, 0, 0], [10, 0, 0, 0], [0, 5, 5, 0]]
    np.testing.assert_allclose(second.counts, [[2, 4, 6, 8]])  # 20 sites where none are stated


def test_meme_agrees_with_biopython(tmp_path):
    path = written(tmp_path / "motifs.meme", MEME.replace("w= 1\n", "w= 1 nsites= 20 E= 0\n"))
    with path.open() as file:
        theirs = bio_motifs.parse(file, "minimal")
    for ours, other in zip(read_motifs(path), theirs, strict=True):
        np.testing.assert_allclose(ours.counts, np.array([other.counts[base] for base in "ACGT"]).T, atol=0.51)
        p = ours.counts / ours.counts.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(p, np.array([other.pwm[base] for base in "ACGT"]).T, atol=0.06)


def test_sites_may_be_written_with_an_exponent(tmp_path):
    text = "MEME version 4\nMOTIF a\nletter-probability matrix: alength= 4 w= 1 nsites= 1e+3 E= 1e-9\n0.5 0.5 0 0\n"
    assert read_motifs(written(tmp_path / "motifs.meme", text))[0].counts.tolist() == [[500, 500, 0, 0]]


@pytest.mark.parametrize(
    "text",
    [
        JASPAR,
        JASPAR.replace("\n", "\r\n"),
        JASPAR.replace("[", "").replace("]", ""),
        "".join(line.lstrip("ACGT") if line[0] != ">" else line for line in JASPAR.splitlines(keepends=True)),
        JASPAR.replace("A [", " [").replace("C [", " [").replace("G [", " [").replace("T [", " [")
        .replace("[", "").replace("]", ""),
        "# a comment\n\n>MA0004.1 Arnt\n4 16 0 0\n19\t0\t1\t0\n0 20 0 0\n\n>MA0006.1 Ahr::Arnt\n3 8 2 11\n0 0 23 1.0\n",
    ],
    ids=["jaspar", "dos line ends", "no brackets", "no letters", "bare lines", "a line a position"],
)  # fmt: skip
def test_jaspar_and_plain_matrices_are_told_apart(tmp_path, text):
    first, second = read(tmp_path, text)
    assert (first.motif_id, first.name, second.motif_id, second.name) == ("MA0004.1", "Arnt", "MA0006.1", "Ahr::Arnt")
    assert first.counts.tolist() == ARNT
    assert second.counts.tolist() == AHR


def test_jaspar_agrees_with_biopython(tmp_path):
    path = written(tmp_path / "motifs.jaspar", JASPAR)
    with path.open() as file:
        theirs = bio_motifs.parse(file, "jaspar")
    for ours, other in zip(read_motifs(path), theirs, strict=True):
        assert (ours.motif_id, ours.name) == (other.matrix_id, other.name)
        assert ours.counts.tolist() == np.array([other.counts[base] for base in "ACGT"]).T.tolist()


def test_gzip_and_ids_of_the_database_before_the_name(tmp_path):
    motif = ">MA0004.1_MA0004.1.Arnt\n4 16 0 0\n"
    (only,) = read(tmp_path, motif, "motifs.pfm.gz")
    assert (only.motif_id, only.name) == ("MA0004.1_MA0004.1.Arnt", "Arnt")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(motif.encode() * 500)[:-9])
    with pytest.raises(UnreadableFile, match=r"truncated or damaged gzip"):
        read_motifs(tmp_path / "cut.gz")


def test_a_matrix_of_probabilities_counts_as_twenty_sites(tmp_path):
    (only,) = read(tmp_path, ">one\n0.1 0.2 0.3 0.4\n1 0 0 0\n")
    np.testing.assert_allclose(only.counts, [[2, 4, 6, 8], [20, 0, 0, 0]])


@given(
    st.lists(
        st.lists(st.lists(st.integers(0, 900), min_size=4, max_size=4).filter(any), min_size=5, max_size=9),
        min_size=1,
        max_size=4,
    )
)
def test_what_is_written_is_read_in_both_orientations(tmp_path_factory, matrices):
    folder = tmp_path_factory.mktemp("motifs")
    upright = "".join(
        f">m{row} N{row}\n" + "".join(" ".join(map(str, line)) + "\n" for line in matrix)
        for row, matrix in enumerate(matrices)
    )
    lying = "".join(
        f">m{row} N{row}\n"
        + "".join(
            f"{base} [{' '.join(map(str, line))}]\n"
            for base, line in zip("ACGT", zip(*matrix, strict=True), strict=True)
        )
        for row, matrix in enumerate(matrices)
    )
    for text in (upright, lying):
        found = read(folder, text)
        assert [motif.motif_id for motif in found] == [f"m{row}" for row in range(len(matrices))]
        for motif, matrix in zip(found, matrices, strict=True):
            expected = np.array(matrix, float)
            scale = 20 if (expected.sum(axis=1) == 1).all() else 1
            assert (motif.counts == expected * scale).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"no motif in it. Expected MEME, JASPAR"),
        ("ID\tA\tC\n", r"line 1: found 'ID\\tA\\tC', expected 'MEME version', or '>' and a motif"),
        ("MEME version 4\nALPHABET= ACGT\n", r"a MEME file without a motif"),
        ("MEME version 4\nALPHABET= ACDEFGHIKLMNPQRSTVWY\nMOTIF x\n", r"line 2: .*expected motifs of DNA"),
        ("MEME version 4\nMOTIF x\nURL y\n", r"line 2: motif x has no letter-probability matrix"),
        ("MEME version 4\nMOTIF x\nletter-probability matrix: alength= 4 w= 0\n", r"line 2: motif x has no positions"),
        (MEME.replace("0.800000", "0.700000"), r"line 12: motif MA0004.1: found '0.200000.* that sum to 1"),
        (MEME.replace("w= 3", "w= 4"), r"line 10: motif MA0004.1: found 3 positions, expected 4"),
        (MEME.replace("MOTIF second", "MOTIF MA0004.1"), r"line 17: motif MA0004.1 was given in line 10 already"),
        (JASPAR.replace("MA0006.1", "MA0004.1"), r"line 6: motif MA0004.1 was given in line 1 already"),
        (JASPAR.replace("[ 3 0", "[-3 0"), r"line 7: motif MA0006.1: found '-3 0.*expected 2 numbers, 0 or more"),
        (JASPAR.replace("[ 3 0", "[ x 0"), r"line 7: .*expected 2 numbers, 0 or more"),
        (JASPAR.replace("[ 8 0", "[ 8 nan"), r"line 8: .*expected 2 numbers, 0 or more"),
        (JASPAR.replace("[ 8 0", "[ 8 0 1"), r"line 8: .*found '8 0 1.*expected 2 numbers"),
        (JASPAR.replace("T [11 1 ]\n", ""), r"line 6: motif MA0006.1: found 3 lines for ACG, expected 4"),
        (JASPAR.replace("T [11 1 ]", "G [11 1 ]"), r"line 6: motif MA0006.1: found 4 lines for ACGG"),
        (">one\n4 16 0 0\n0 0 0 0\n", r"line 1: motif one: position 2 has no counts"),
        (">one\n4 16 0 0\n-1 5 0 0\n", r"line 3: motif one: found '-1 5 0 0', expected 4 numbers, 0 or more"),
        (">one\n>two\n4 16 0 0\n", r"line 1: motif one has no positions"),
        (">one\nA []\nC []\nG []\nT []\n", r"line 1: motif one has no positions"),
        (">\n4 16 0 0\n", r"line 1: found '>' alone"),
        ("MEME version 4\nMOTIF\n", r"line 2: found 'MOTIF' alone, expected 'MOTIF' and a motif's id"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said_with_its_line(tmp_path, text, message):
    with pytest.raises(UnreadableFile, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("name", "factors"),
    [
        ("CTCF", ["CTCF"]),
        ("MAX::MYC", ["MAX", "MYC"]),
        ("FOS::JUN(var.2)", ["FOS", "JUN"]),
        ("NKX3-2", ["NKX3-2"]),
        ("JUN::JUN", ["JUN"]),
        ("C097:HNF_POU4F:Homeodomain+POU", ["HNF", "POU4F"]),
    ],
)
def test_names_of_motifs_name_factors(name, factors):
    assert factor_names(name) == factors


def test_factor_tables_keep_how_a_factor_is_known(tmp_path):
    text = (
        "Motif\tFactor\tEvidence\tCurated\n"
        "M1\tMA0006.1.Ahr\tSELEX\tY\n\nM1\tArnt\t\tN\nM1\tArnt\tPBM\tY\nM2\tCTCF\tChIP-seq\n"
    )
    assert read_factors(written(tmp_path / "factors.txt.gz", text)) == [
        Factor("M1", "Ahr", "SELEX, curated"),
        Factor("M1", "Arnt", "not curated"),
        Factor("M2", "CTCF", "ChIP-seq"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"found columns '', expected Motif and Factor"),
        ("Motif Factor\nM1 CTCF\n", r"found columns 'Motif Factor', expected Motif and Factor, by tabs"),
        ("Motif\tFactor\n", r"a header and no factor below it"),
        ("Motif\tFactor\nM1\tCTCF\nM2\n", r"line 3: found \['M2'\], expected a motif and a factor"),
    ],
)
def test_factor_tables_that_are_none(tmp_path, text, message):
    with pytest.raises(UnreadableFile, match=message):
        read_factors(written(tmp_path / "factors.txt", text))
