import os

import pytest

from heteromics.errors import PriorError, UnreadableFile
from heteromics.priors import fasta as fasta_module
from heteromics.priors.fasta import FastaConfig, open_genome, outside, peaks, read_batches
from heteromics.priors.sequence import SequenceConfig, build_peak_sequence
from tests.priors.prior_files import written
from tests.priors.sequence_files import fasta, genome, with_peaks

CHR1, CHR2 = genome(1), genome(2)
PEAKS = [("chr2", 0, 500), ("chr1", 9_000, 10_000), ("chr1", 3, 4), ("chr1", 400, 1_333)]


@pytest.fixture
def both(tmp_path):
    folder = tmp_path / "genome"
    folder.mkdir()
    return written(folder / "genome.fa", fasta({"chr1": CHR1, "chr2": CHR2}))


def test_a_fasta_without_index_in_a_read_only_folder_is_read(both):
    both.chmod(0o444)
    both.parent.chmod(0o555)
    try:
        if os.access(both.parent, os.W_OK):  # root may write everywhere: then it is enough that nothing was written
            assert os.geteuid() == 0
        built = build_peak_sequence(with_peaks({"fasta": both}, PEAKS), SequenceConfig(fasta=True))
        assert built.tables["peak_attribute"]["gc"].null_count == 0
        assert list(both.parent.iterdir()) == [both]
    finally:
        both.parent.chmod(0o755)


def test_an_index_that_does_not_fit_the_assembly_is_named(both):
    both.with_name("genome.fa.fai").write_text("chr1\t9000\t11\t60\t61\nchr2\t10000\t10200\t60\t61\n")
    message = r"1 of 2 chromosomes are not as long as in toy.\n  chr1: 9,000 bp, assembly 10,000 bp"
    with (
        pytest.raises(PriorError, match=message),
        open_genome(with_peaks({"fasta": both}, PEAKS), FastaConfig(), "attributes.kmers"),
    ):
        pass


def test_a_fasta_shorter_than_its_index_says_is_told(both):
    index = "chr1\t10000\t11\t60\t61\nchr2\t10000\t10189\t60\t61\n"
    text = both.read_text()
    assert text[10189:].startswith(CHR2[:60])
    both.write_text(text[:-5_000])
    both.with_name("genome.fa.fai").write_text(index)
    context = with_peaks({"fasta": both}, [("chr2", 9_000, 9_100), ("chr2", 0, 500)])
    with pytest.raises(UnreadableFile, match=r"found 500 bases in 2 regions of chr2, expected 600 by its index"):
        build_peak_sequence(context, SequenceConfig(fasta=True))


@pytest.mark.parametrize(
    ("bases", "rows", "sizes"),
    [(10_000, None, [3, 1]), (10_000, 2, [2, 1, 1]), (1_000, None, [2, 1, 1]), (1, None, [1, 1, 1, 1])],
)
def test_batches_hold_what_they_may_and_all_of_it(both, monkeypatch, bases, rows, sizes):
    monkeypatch.setattr(fasta_module, "BATCH_BASES", bases)
    context = with_peaks({"fasta": both}, PEAKS)
    with open_genome(context, FastaConfig(), "k") as opened:
        regions = peaks(context)
        found = list(read_batches(regions, opened, most_rows=rows))
    assert [batch.rows.size for batch in found] == sizes
    assert [row for batch in found for row in batch.rows.tolist()] == [0, 1, 2, 3]
    text = b"".join(batch.bases.tobytes() for batch in found).decode()
    assert text == CHR1[3:4] + CHR1[400:1_333] + CHR1[9_000:] + CHR2[:500]
    assert [batch.offsets[-1] for batch in found] == [batch.bases.size for batch in found]


def test_no_region_inside_the_fasta_stops_the_build_even_where_it_may_be_partial(tmp_path):
    other = written(tmp_path / "genome.fa", fasta({"chr2": CHR2}))
    context = with_peaks({"fasta": other}, PEAKS[1:])
    config = FastaConfig(partial_fasta=True)
    message = r"3 of 3 regions of peak_kmer lie outside(.|\n)*Fix: give the whole genome, or leave this table out"
    with (
        open_genome(context, config, "attributes.kmers") as opened,
        pytest.raises(PriorError, match=message),
    ):
        outside(peaks(context), opened, "peak_kmer", config)
    empty = peaks(with_peaks({"fasta": other}, []))
    with open_genome(context, config, "attributes.kmers") as opened:
        assert outside(empty, opened, "peak_kmer", config) == []
