import numpy as np
import pytest
from Bio.Seq import reverse_complement as complement_of_text
from hypothesis import given
from hypothesis import strategies as st

from heteromics import _config
from heteromics.errors import RecipeError
from heteromics.priors import fasta as fasta_module
from heteromics.priors.bases import BasesConfig, build_bases, encode_bases, one_hot, reverse_complement
from tests.priors.prior_files import fits, tally, written
from tests.priors.sequence_files import fasta, genome, with_peaks

CHR1, CHR2 = genome(1), genome(2)
PEAKS = [("chr2", 0, 500), ("chr1", 9_900, 10_000), ("chr1", 3, 4), ("chr1", 400, 1_333)]


def coded(text):
    return ["ACGT".find(letter) if letter in "ACGT" else 4 for letter in text.upper()]


def codes_of(text):
    return encode_bases(np.frombuffer(text.encode(), np.uint8))


@pytest.fixture
def both(tmp_path):
    return written(tmp_path / "genome.fa", fasta({"chr1": CHR1, "chr2": CHR2}))


@given(st.text("ACGTacgtNRY-"))
def test_codes_and_the_other_strand_agree_with_letters(text):
    assert codes_of(text).tolist() == coded(text)
    plain = "".join("ACGTN"[code] for code in coded(text))
    assert reverse_complement(codes_of(text)).tolist() == coded(complement_of_text(plain))
    assert one_hot(codes_of(text)).tolist() == [[int(code == base) for base in range(4)] for code in coded(text)]


def window(text, first, width):
    return coded("".join(text[place] if 0 <= place < len(text) else "N" for place in range(first, first + width)))


@pytest.mark.parametrize("width", [1, 7, 64])
@pytest.mark.parametrize("batch", [1, 100, 10**6])
def test_windows_lie_around_the_middle_and_are_padded_at_the_ends(both, monkeypatch, width, batch):
    monkeypatch.setattr(fasta_module, "BATCH_BASES", batch)
    built = build_bases(with_peaks({"fasta": both}, PEAKS), BasesConfig(width_bp=width))
    assert fits(built)
    rows = {row["peak_id"]: row["codes"] for row in built.tables["peak_bases"].to_pylist()}
    assert rows == {
        "chr1:3-4": window(CHR1, 3 - width // 2, width),
        "chr1:400-1333": window(CHR1, 866 - width // 2, width),
        "chr1:9900-10000": window(CHR1, 9_950 - width // 2, width),
        "chr2:0-500": window(CHR2, 250 - width // 2, width),
    }
    assert tally(built, "peak_bases") == {"matched": 4}


@pytest.mark.parametrize("width", [6, 9])
def test_promoters_are_on_the_genes_strand_with_the_start_in_the_middle(both, width):
    built = build_bases(with_peaks({"fasta": both}, PEAKS), BasesConfig(width_bp=width, promoters=True))
    assert fits(built)
    rows = {row["gene_id"]: row["codes"] for row in built.tables["promoter_bases"].to_pylist()}
    half = width // 2
    assert rows["ENSG01"] == window(CHR1, 1_000 - half, width)
    before, after = 9_499 - (width - half - 1), 9_499 + half
    turned = complement_of_text("".join("ACGTN"[code] for code in window(CHR1, before, width)))
    assert after - before + 1 == width
    assert rows["ENSG02"] == coded(turned)
    assert rows["ENSG02"][half] == coded(complement_of_text(CHR1[9_499].upper()))[0]


def test_one_hot_has_four_places_a_base_and_labels_say_which(both):
    config = BasesConfig(width_bp=4, form="one_hot")
    built = build_bases(with_peaks({"fasta": both}, PEAKS), config)
    plain = build_bases(with_peaks({"fasta": both}, PEAKS), BasesConfig(width_bp=4))
    assert fits(built)
    codes = np.array(plain.tables["peak_bases"]["codes"].to_pylist(), np.uint8)
    assert np.array(built.tables["peak_bases"]["codes"].to_pylist()).tolist() == one_hot(codes).reshape(4, 16).tolist()
    assert plain.labels == {("peak_bases", "codes"): ["-2", "-1", "0", "+1"]}
    labels = built.labels["peak_bases", "codes"]
    assert (labels[:5], labels[-1], len(labels)) == (["-2 A", "-2 C", "-2 G", "-2 T", "-1 A"], "+1 T", 16)


def test_windows_outside_the_fasta_are_unknown_and_named(tmp_path):
    cut = written(tmp_path / "genome.fa", fasta({"chr1": CHR1[:870], "chr2": CHR2}))
    built = build_bases(with_peaks({"fasta": cut}, PEAKS), BasesConfig(width_bp=16, partial_fasta=True))
    rows = {row["peak_id"]: row["codes"] for row in built.tables["peak_bases"].to_pylist()}
    assert rows["chr1:400-1333"] == rows["chr1:9900-10000"] == [4] * 16  # 858 to 874 is not all there
    assert rows["chr1:3-4"] == window(CHR1, -5, 16)
    assert {match.name: match.detail for match in built.matches["peak_bases"]} == {
        "chr1:400-1333": "ends at 874, the FASTA's chr1 at 870",
        "chr1:9900-10000": "ends at 9,958, the FASTA's chr1 at 870",
    }
    assert tally(built, "peak_bases") == {"matched": 2, "absent": 2}


def test_recipe_keys_are_checked(both):
    with pytest.raises(RecipeError, match=r"found width_bp 0, expected 1 or more"):
        _config.build(BasesConfig, {"width_bp": 0}, "attributes.bases")
    with pytest.raises(RecipeError, match=r"found 'onehot', expected one of 'integer', 'one_hot'"):
        _config.build(BasesConfig, {"form": "onehot"}, "attributes.bases")
    context = with_peaks({"fasta": both}, PEAKS)
    context.connection.execute("DROP TABLE gene")
    with pytest.raises(RecipeError, match=r"attributes.bases.promoters: the recipe builds no genes"):
        build_bases(context, BasesConfig(promoters=True))
