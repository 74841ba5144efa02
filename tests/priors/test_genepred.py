"""UCSC gene tables in their forms, genes put together from transcripts, and what may go wrong."""

import gzip
import re

import pytest

from heteromics.errors import UnreadableFile
from heteromics.priors.gene_files import read_gene_models
from heteromics.priors.gene_models import Kind

HEADER = (
    "bin\tname\tchrom\tstrand\ttxStart\ttxEnd\tcdsStart\tcdsEnd\texonCount\texonStarts\texonEnds\tscore\tname2"
    "\tcdsStartStat\tcdsEndStat\texonFrames\n"
)


def plain(name="NM_1", chrom="chr1", strand="+", start=100, end=500, coding=(150, 420), starts="100,300,", ends=None):
    ends = ends or f"200,{end},"
    return f"{name}\t{chrom}\t{strand}\t{start}\t{end}\t{coding[0]}\t{coding[1]}\t2\t{starts}\t{ends}"


def extended(symbol="A", **row):
    return f"585\t{plain(**row)}\t0\t{symbol}\tcmpl\tcmpl\t0,1,\n"


def read(tmp_path, text, name="refGene.txt"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_gene_models(path)


@pytest.mark.parametrize(
    ("text", "symbol"),
    [
        pytest.param(HEADER + extended(), "A", id="refGene with header"),
        pytest.param("#" + HEADER + extended(), "A", id="header as a comment"),
        pytest.param(extended(), "A", id="refGene as UCSC gives it"),
        pytest.param(extended().partition("\t")[2], "A", id="without bin"),
        pytest.param(f"A\t{plain()}\n", "A", id="refFlat"),
        pytest.param(plain() + "\n", "NM_1", id="plain genePred"),
        pytest.param("585\t" + plain() + "\n", "NM_1", id="plain genePred with bin"),
        pytest.param((HEADER + extended()).replace("\n", "\r\n"), "A", id="DOS"),
        pytest.param(gzip.compress((HEADER + extended()).encode()), "A", id="gzip"),
    ],
)
def test_forms(tmp_path, text, symbol):
    models = read(tmp_path, text)
    assert models.genes.values.tolist() == [[symbol, symbol, "", "chr1", 100, 500, "+"]]
    assert models.transcripts[["transcript_id", "gene", "chrom_start", "chrom_end"]].values.tolist() == [
        ["NM_1", 0, 100, 500]
    ]
    parts = models.parts
    assert list(zip(parts.kind, parts.start, parts.end, strict=True)) == [
        (Kind.EXON, 100, 200),
        (Kind.EXON, 300, 500),
        (Kind.CODING, 150, 200),
        (Kind.CODING, 300, 420),
    ]
    assert models.aggregated == 1


def test_a_symbol_at_several_places_has_a_row_for_each_the_one_to_keep_first(tmp_path):
    text = (
        extended(name="NR_1", chrom="chr6_GL000250v2_alt")
        + extended(name="NM_1", start=9_000, end=9_500, starts="9000,9300,", ends="9200,9500,")
        + extended(name="NM_2")
        + extended(name="NM_3", start=490, end=700, starts="490,600,", ends="550,700,")
        + extended(name="NM_4", start=700, end=900, starts="700,800,", ends="750,900,")
        + extended(name="NM_5", strand="-")
        + extended(name="NM_6", symbol="B", coding=(500, 500))
    )
    models = read(tmp_path, text)
    assert models.genes[["gene_id", "chrom", "chrom_start", "chrom_end", "strand"]].values.tolist() == [
        ["A", "chr1", 100, 700, "+"],
        ["A", "chr1", 700, 900, "+"],
        ["A", "chr1", 9_000, 9_500, "+"],
        ["A", "chr1", 100, 500, "-"],
        ["B", "chr1", 100, 500, "+"],
        ["A", "chr6_GL000250v2_alt", 100, 500, "+"],
    ]
    assert models.transcripts[["transcript_id", "gene"]].values.tolist() == [
        ["NR_1", 5], ["NM_1", 2], ["NM_2", 0], ["NM_3", 0], ["NM_4", 1], ["NM_5", 3], ["NM_6", 4],
    ]  # fmt: skip
    coding = models.parts.of(Kind.CODING)
    assert 6 not in coding.transcript  # cdsStart == cdsEnd: not coding


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (extended().replace("\t", " "), "found 1 tab-separated columns, expected 16"),
        (extended(strand="x"), "found strand 'x', expected + or -"),
        (extended(start=500, end=100), "found txStart 500 and txEnd 100, expected whole numbers, txStart < txEnd"),
        (extended(starts="1,x,"), "found exonStarts or exonEnds that are no list of whole numbers"),
        (extended(starts="100,"), "found 1 exonStarts and 2 exonEnds, expected as many of both, start < end"),
        (extended(ends="90,500,"), "found 2 exonStarts and 2 exonEnds, expected as many of both, start < end"),
    ],
)
def test_a_broken_row_is_named(tmp_path, broken, said):
    with pytest.raises(UnreadableFile) as error:
        read(tmp_path, HEADER + extended() + broken)
    assert re.match(r".*refGene\.txt, line 3: ", str(error.value))
    assert said in str(error.value)


def test_a_table_without_rows_and_one_cut_short(tmp_path):
    with pytest.raises(UnreadableFile, match="no transcript in it"):
        read(tmp_path, HEADER)
    rows = "".join(extended(name=f"NM_{n}") for n in range(2_000))
    with pytest.raises(UnreadableFile, match="truncated or damaged gzip"):
        read(tmp_path, gzip.compress((HEADER + rows).encode())[:-100])


def test_a_header_without_the_columns_needed_is_named(tmp_path):
    text = "#chrom\tstrand\tname\texonStarts\texonEnds\nchr1\t+\tNM_1\t1,\t5,\n"
    with pytest.raises(
        UnreadableFile, match="line 1: the header lacks txStart, txEnd, cdsStart, cdsEnd; they are needed"
    ):
        read(tmp_path, text)
