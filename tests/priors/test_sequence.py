import gzip
import subprocess

import numpy as np
import pytest
from Bio import bgzf
from Bio.SeqUtils import gc_fraction

from heteromics import _config
from heteromics.errors import BeyondChromosome, ChromNamesDisagree, PriorError, RecipeError, UnreadableFile
from heteromics.priors import fasta as fasta_module
from heteromics.priors.fasta import open_fasta
from heteromics.priors.sequence import SequenceConfig, build_peak_sequence, composition
from tests.priors.prior_files import fits, tally, written
from tests.priors.sequence_files import fasta, genome, with_peaks

CHR1, CHR2 = genome(1), genome(2)


@pytest.fixture
def both(tmp_path):
    return written(tmp_path / "genome.fa", fasta({"chr1": CHR1, "chr2": CHR2}))


def by_hand(text):
    upper = text.upper()
    c, g = upper.count("C"), upper.count("G")
    known = c + g + upper.count("A") + upper.count("T")
    cpg = sum(upper[place : place + 2] == "CG" for place in range(len(upper)))
    return (
        (c + g) / known if known else np.nan,
        cpg * known / (c * g) if c * g else np.nan,
        1 - known / len(upper),
    )


def test_composition_agrees_with_counting_letters():
    rng = np.random.default_rng(5)
    lengths = [1, 2, 3, 1, 40, 300, 5]
    texts = ["".join(rng.choice(list("ACGTNacgtnRC"), length)) for length in lengths]
    bases = np.frombuffer("".join(texts).encode(), np.uint8)
    found = composition(bases, np.concatenate([[0], np.cumsum(lengths)]))
    assert pytest.approx(np.array([by_hand(text) for text in texts]), nan_ok=True) == np.array(found).T


def test_gc_agrees_with_biopython():
    text = genome(9, 5_000)
    found = composition(np.frombuffer(text.encode(), np.uint8), np.array([0, 5_000]))
    assert found.gc[0] == pytest.approx(gc_fraction(text, ambiguous="remove"))


def test_a_cpg_across_two_sequences_counts_for_neither():
    found = composition(np.frombuffer(b"CCGG", np.uint8), np.array([0, 2, 4]))
    assert np.isnan(found.cpg_oe).all()
    assert composition(np.frombuffer(b"CGCG", np.uint8), np.array([0, 2, 4])).cpg_oe.tolist() == [2.0, 2.0]


def test_unknown_bases_alone_are_undefined_and_nothing_gives_nothing():
    found = composition(np.frombuffer(b"NNNN", np.uint8), np.array([0, 4]))
    assert np.isnan(found.gc[0])
    assert found.n_share.tolist() == [1.0]
    assert composition(np.empty(0, np.uint8), np.zeros(1, np.int64)).gc.size == 0
    assert np.isnan(composition(np.frombuffer(b"ACG", np.uint8), np.array([0, 0, 3, 3])).gc).tolist() == [1, 0, 1]


PEAKS = [("chr2", 0, 500), ("chr1", 9_000, 10_000), ("chr1", 3, 4), ("chr1", 400, 1_333)]


@pytest.mark.parametrize("batch", [1, 700, 8_000_000])
def test_peaks_are_described_whatever_the_batch(both, monkeypatch, batch):
    monkeypatch.setattr(fasta_module, "BATCH_BASES", batch)
    built = build_peak_sequence(with_peaks({"fasta": both}, PEAKS), SequenceConfig(fasta=True))
    assert fits(built)
    rows = built.tables["peak_attribute"].to_pylist()
    assert [row["peak_id"] for row in rows] == ["chr1:3-4", "chr1:400-1333", "chr1:9000-10000", "chr2:0-500"]
    for row in rows:
        chrom, place = row["peak_id"].split(":")
        start, end = map(int, place.split("-"))
        expected = by_hand({"chr1": CHR1, "chr2": CHR2}[chrom][start:end])
        found = [np.nan if row[name] is None else row[name] for name in ("gc", "cpg_oe", "n_share")]
        assert row["width"] == end - start
        assert found == pytest.approx(expected, nan_ok=True)
    assert tally(built, "peak_attribute") == {"matched": 4}


def test_without_fasta_only_widths_are_known():
    assert SequenceConfig().source_names() == ()
    built = build_peak_sequence(with_peaks({}, PEAKS), SequenceConfig())
    assert fits(built)
    table = built.tables["peak_attribute"]
    assert table["width"].to_pylist() == [1, 933, 1_000, 500]
    assert table["gc"].null_count == table["cpg_oe"].null_count == table["n_share"].null_count == 4


def test_promoters_lie_upstream_of_the_strand_and_end_at_the_chromosome(both):
    config = SequenceConfig(fasta=True, promoters=True, promoter_bp=600)
    built = build_peak_sequence(with_peaks({"fasta": both}, PEAKS), config)
    assert fits(built)
    rows = {row["gene_id"]: row for row in built.tables["promoter_attribute"].to_pylist()}
    assert rows["ENSG01"]["gc"] == pytest.approx(by_hand(CHR1[401:1_001])[0])
    assert rows["ENSG02"]["width"] == 501  # on minus, from the start at 9,499 to the end of chr1
    assert rows["ENSG02"]["gc"] == pytest.approx(by_hand(CHR1[9_499:10_000])[0])
    assert rows["ENSG03"]["width"] == 101


def test_nothing_is_written_beside_the_fasta(both):
    before = sorted(both.parent.iterdir())
    build_peak_sequence(with_peaks({"fasta": both}, PEAKS), SequenceConfig(fasta=True))
    assert sorted(both.parent.iterdir()) == before


def test_index_beside_the_fasta_is_used_unless_it_is_older(both):
    index = both.with_name("genome.fa.fai")
    index.write_text("chr1\t4\t11\t4\t5\n")
    with open_fasta(both) as opened:
        assert list(opened.keys()) == ["chr1"]
        assert len(opened["chr1"]) == 4
    subprocess.run(["touch", "-d", "2001-01-01", str(index)], check=True)
    with open_fasta(both) as opened:
        assert list(opened.keys()) == ["chr1", "chr2"]


def test_bgzip_and_gzip_are_read_and_damage_is_named(tmp_path):
    text = fasta({"chr1": CHR1, "chr2": CHR2})
    with bgzf.BgzfWriter(tmp_path / "bgzip.fa.gz") as out:
        out.write(text)
    (tmp_path / "gzip.fa.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("bgzip.fa.gz", "gzip.fa.gz"):
        peaks = with_peaks({"fasta": tmp_path / name}, PEAKS)
        built = build_peak_sequence(peaks, SequenceConfig(fasta=True))
        assert built.tables["peak_attribute"]["gc"][3].as_py() == pytest.approx(by_hand(CHR2[:500])[0])
    (tmp_path / "cut.fa.gz").write_bytes(gzip.compress(text.encode())[:3_000])
    with pytest.raises(UnreadableFile, match=r"cut.fa.gz: truncated or damaged gzip"):
        build_peak_sequence(with_peaks({"fasta": tmp_path / "cut.fa.gz"}, PEAKS), SequenceConfig(fasta=True))
    assert len(list(tmp_path.iterdir())) == 3


def test_lengths_must_be_those_of_the_assembly(tmp_path):
    short = written(tmp_path / "genome.fa", fasta({"chr1": CHR1[:2_000], "chr2": CHR2}))
    message = r"1 of 2 chromosomes are not as long as in toy.\n  chr1: 2,000 bp, assembly 10,000 bp(.|\n)*partial_fasta"
    with pytest.raises(BeyondChromosome, match=message):
        build_peak_sequence(with_peaks({"fasta": short}, PEAKS), SequenceConfig(fasta=True))
    long = written(tmp_path / "long.fa", fasta({"chr1": CHR1 + "ACGT", "chr2": CHR2}))
    with pytest.raises(BeyondChromosome, match=r"chr1: 10,004 bp, assembly 10,000 bp"):
        build_peak_sequence(with_peaks({"fasta": long}, PEAKS), SequenceConfig(fasta=True, partial_fasta=True))


def test_peaks_outside_the_fasta_are_named_and_never_dropped(tmp_path):
    whole = written(tmp_path / "whole.fa", fasta({"chr2": CHR2}))
    message = r"3 of 4 regions of peak_attribute lie outside the FASTA: chr1:3-4 \(the FASTA has no chr1\)"
    with pytest.raises(PriorError, match=message):
        build_peak_sequence(with_peaks({"fasta": whole}, PEAKS), SequenceConfig(fasta=True))
    short = written(tmp_path / "genome.fa", fasta({"chr1": CHR1[:1_000], "chr2": CHR2}))
    built = build_peak_sequence(with_peaks({"fasta": short}, PEAKS), SequenceConfig(fasta=True, partial_fasta=True))
    rows = {row["peak_id"]: row for row in built.tables["peak_attribute"].to_pylist()}
    assert len(rows) == 4
    assert rows["chr1:400-1333"]["gc"] is None
    assert rows["chr1:400-1333"]["width"] == 933
    assert rows["chr2:0-500"]["gc"] is not None
    named = {match.name: (match.outcome, match.detail) for match in built.matches["peak_attribute"]}
    assert named["chr1:400-1333"] == ("absent", "ends at 1,333, the FASTA's chr1 at 1,000")
    assert set(named) == {"chr1:400-1333", "chr1:9000-10000"}
    assert tally(built, "peak_attribute") == {"matched": 2, "absent": 2}


def test_other_chromosome_style_is_said_and_can_be_converted(tmp_path):
    other = written(tmp_path / "genome.fa", fasta({"1": CHR1, "2": CHR2}))
    with pytest.raises(ChromNamesDisagree, match=r"attributes.sequence.chrom_style"):
        build_peak_sequence(with_peaks({"fasta": other}, PEAKS), SequenceConfig(fasta=True))
    built = build_peak_sequence(with_peaks({"fasta": other}, PEAKS), SequenceConfig(fasta=True, chrom_style="ucsc"))
    assert built.tables["peak_attribute"]["n_share"].null_count == 0


def test_no_fasta_at_all(tmp_path):
    broken = written(tmp_path / "genome.fa", "chr1\t3\t4\n")
    with pytest.raises(UnreadableFile, match=r"genome.fa is no readable FASTA"):
        build_peak_sequence(with_peaks({"fasta": broken}, PEAKS), SequenceConfig(fasta=True))


def test_promoters_need_genes(both):
    context = with_peaks({"fasta": both}, PEAKS)
    context.connection.execute("DROP TABLE gene")
    with pytest.raises(RecipeError, match=r"the recipe builds no genes. Fix: add `nodes.gene`"):
        build_peak_sequence(context, SequenceConfig(fasta=True, promoters=True))


@pytest.mark.parametrize(
    ("keys", "message"),
    [({"promoters": True}, "need `fasta: true`"), ({"promoter_bp": 0}, "found promoter_bp 0, expected 1 or more")],
)
def test_recipe_keys_are_checked(keys, message):
    with pytest.raises(RecipeError, match=message):
        _config.build(SequenceConfig, keys, "attributes.sequence")
