from collections import Counter

import numpy as np
import pytest
from Bio.Seq import reverse_complement
from hypothesis import given
from hypothesis import strategies as st

from heteromics import _config
from heteromics.errors import PriorError, RecipeError
from heteromics.priors import fasta as fasta_module
from heteromics.priors import kmers
from heteromics.priors.kmers import KmerConfig, build_kmers, canonical_kmers, kmer_frequencies
from tests.priors.prior_files import fits, tally, written
from tests.priors.sequence_files import fasta, genome, with_peaks

CHR1, CHR2 = genome(1), genome(2)
PEAKS = [("chr2", 0, 500), ("chr1", 9_000, 10_000), ("chr1", 3, 5), ("chr1", 400, 1_333)]


def by_hand(text, k):
    words = (text[place : place + k].upper() for place in range(len(text) - k + 1))
    counted = Counter(min(word, reverse_complement(word)) for word in words if set(word) <= set("ACGT"))
    return [counted[word] / counted.total() if counted else np.nan for word in canonical_kmers(k)]


def joined(texts):
    return np.frombuffer("".join(texts).encode(), np.uint8), np.cumsum([0, *map(len, texts)])


@pytest.fixture
def both(tmp_path):
    return written(tmp_path / "genome.fa", fasta({"chr1": CHR1, "chr2": CHR2}))


@pytest.mark.parametrize(("k", "number"), [(1, 2), (2, 10), (3, 32), (4, 136), (5, 512), (6, 2_080), (8, 32_896)])
def test_canonical_kmers_are_all_kmers_up_to_the_strand(k, number):
    found = canonical_kmers(k)
    assert len(found) == number
    assert found == sorted(found)
    both_strands = set(found) | {reverse_complement(word) for word in found}
    assert len(both_strands) == 4**k
    assert all(word <= reverse_complement(word) for word in found)


@given(st.lists(st.text("ACGTacgtNR", max_size=30), max_size=6), st.integers(1, 5))
def test_frequencies_agree_with_counting_words(texts, k):
    found = kmer_frequencies(*joined(texts), k)
    assert found.dtype == np.float32
    assert found.shape == (len(texts), len(canonical_kmers(k)))
    expected = np.array([by_hand(text, k) for text in texts]).reshape(found.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@given(st.text("ACGTN", max_size=60), st.integers(1, 8))
def test_the_other_strand_has_the_same_frequencies(text, k):
    one, other = kmer_frequencies(*joined([text, reverse_complement(text)]), k)
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("k", [0, 9])
def test_k_is_one_to_eight(k):
    with pytest.raises(ValueError, match=rf"found k {k}, expected 1 to 8"):
        kmer_frequencies(np.zeros(3, np.uint8), np.array([0, 3]), k)
    with pytest.raises(RecipeError, match=rf"attributes.kmers: found k {k}, expected 1 to 8"):
        _config.build(KmerConfig, {"k": k}, "attributes.kmers")


@pytest.mark.parametrize(("batch_bases", "counts"), [(1, 136), (700, 10**7), (10**7, 300)])
def test_peaks_are_counted_whatever_the_batch(both, monkeypatch, batch_bases, counts):
    monkeypatch.setattr(fasta_module, "BATCH_BASES", batch_bases)
    monkeypatch.setattr(kmers, "_COUNTS", counts)
    built = build_kmers(with_peaks({"fasta": both}, PEAKS), KmerConfig())
    assert fits(built)
    assert built.labels == {("peak_kmer", "frequency"): canonical_kmers(4)}
    assert str(built.tables["peak_kmer"].schema.field("frequency").type) == "fixed_size_list<item: float>[136]"
    sequence = {"chr1": CHR1, "chr2": CHR2}
    rows = built.tables["peak_kmer"].to_pylist()
    assert [row["peak_id"] for row in rows] == ["chr1:3-5", "chr1:400-1333", "chr1:9000-10000", "chr2:0-500"]
    for row in rows:
        chrom, place = row["peak_id"].split(":")
        start, end = map(int, place.split("-"))
        expected = by_hand(sequence[chrom][start:end], 4)
        np.testing.assert_allclose(row["frequency"], expected, rtol=1e-6)
    assert np.isnan(rows[0]["frequency"]).all()  # two bases hold no 4-mer
    assert tally(built, "peak_kmer") == {"matched": 4}


def test_promoters_are_those_of_the_sequence_attributes(both):
    built = build_kmers(with_peaks({"fasta": both}, PEAKS), KmerConfig(k=2, promoters=True, promoter_bp=600))
    assert fits(built)
    rows = {row["gene_id"]: row["frequency"] for row in built.tables["promoter_kmer"].to_pylist()}
    np.testing.assert_allclose(rows["ENSG01"], by_hand(CHR1[401:1_001], 2), rtol=1e-6)
    np.testing.assert_allclose(rows["ENSG02"], by_hand(CHR1[9_499:10_000], 2), rtol=1e-6)
    assert built.labels.keys() == {("peak_kmer", "frequency"), ("promoter_kmer", "frequency")}


def test_peaks_outside_the_fasta_are_named_and_not_a_number(tmp_path):
    cut = written(tmp_path / "genome.fa", fasta({"chr1": CHR1[:1_400], "chr2": CHR2}))
    context = with_peaks({"fasta": cut}, PEAKS)
    message = r"chr1: 1,400 bp, assembly 10,000 bp(.|\n)*`attributes.kmers.partial_fasta: true`"
    with pytest.raises(PriorError, match=message):
        build_kmers(context, KmerConfig())
    built = build_kmers(context, KmerConfig(partial_fasta=True))
    rows = {row["peak_id"]: row["frequency"] for row in built.tables["peak_kmer"].to_pylist()}
    assert len(rows) == 4
    assert np.isnan(rows["chr1:9000-10000"]).all()
    assert not np.isnan(rows["chr1:400-1333"]).any()
    assert [match.name for match in built.matches["peak_kmer"]] == ["chr1:9000-10000"]
    assert tally(built, "peak_kmer") == {"matched": 3, "absent": 1}


def test_promoters_need_genes(both):
    context = with_peaks({"fasta": both}, PEAKS)
    context.connection.execute("DROP TABLE gene")
    with pytest.raises(RecipeError, match=r"attributes.kmers.promoters: the recipe builds no genes"):
        build_kmers(context, KmerConfig(promoters=True))
