import gzip
import re

import numpy as np
import pytest

from heteromics.errors import UnreadableFile
from heteromics.priors.gene_files import read_gene_models
from heteromics.priors.gene_models import transcription_start

GENE = "chr1\tsrc\tgene\t{start}\t{end}\t.\t{strand}\t.\t{attributes}\n"


def gene(attributes, start=11, end=20, strand="+"):
    return GENE.format(start=start, end=end, strand=strand, attributes=attributes)


def read(tmp_path, text, name="genes.gtf"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_gene_models(path)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        pytest.param(
            'gene_id "ENSG1"; gene_version "5"; gene_name "A1"; gene_source "x"; gene_biotype "lncRNA";',
            ("ENSG1", "A1", "lncRNA"), id="Ensembl",
        ),
        pytest.param(
            'gene_id "ENSG1.5"; gene_type "miRNA"; gene_name "A1"; level 2; tag "ncRNA_host"; tag "basic";',
            ("ENSG1.5", "A1", "miRNA"), id="GENCODE",
        ),
        pytest.param(
            'gene_id "A1"; transcript_id ""; db_xref "GeneID:1"; description "a; gene_name of none"; gene "A1";'
            ' gene_biotype "misc";',
            ("A1", "A1", "misc"), id="NCBI",
        ),
        pytest.param("gene_name A1; gene_id 17;gene_type x", ("17", "A1", "x"), id="unquoted, other order, no end"),
        pytest.param('gene_id "ENSG1"; gene_biotype "x";', ("ENSG1", "", "x"), id="no name"),
        pytest.param('gene_id "ENSG1"', ("ENSG1", "", ""), id="id alone"),
    ],
)  # fmt: skip
def test_dialects_of_attributes(tmp_path, attributes, expected):
    genes = read(tmp_path, gene(attributes)).genes
    assert tuple(genes.loc[0, ["gene_id", "symbol", "biotype"]]) == expected


def test_coordinates_become_half_open_and_the_start_follows_the_strand(tmp_path):
    text = "".join(gene(f'gene_id "{name}"', strand=name) for name in "+-.?")
    genes = read(tmp_path, text).genes
    assert genes["chrom_start"].tolist() == [10] * 4
    assert genes["chrom_end"].tolist() == [20] * 4
    assert genes["strand"].tolist() == ["+", "-", ".", "."]
    start, end = genes["chrom_start"].to_numpy(), genes["chrom_end"].to_numpy()
    assert transcription_start(start, end, genes["strand"].to_numpy(str)).tolist() == [10, 19, 10, 10]


MANY = "##c\n" + "".join(gene(f'gene_id "G{n}"; gene_name "N{n}";', 10 * n + 1, 10 * n + 9) for n in range(500))


@pytest.mark.parametrize("name", ["genes.gtf", "genes.gtf.gz", "genes.txt"])
@pytest.mark.parametrize(
    "pack",
    [
        pytest.param(bytes, id="plain"),
        pytest.param(gzip.compress, id="gzip"),
        pytest.param(lambda text: gzip.compress(text[:7_000]) + gzip.compress(text[7_000:]), id="gzip in parts"),
        pytest.param(lambda text: text.replace(b"\n", b"\r\n"), id="DOS"),
        pytest.param(lambda text: b"# a\tb\n\n" + text + b"\n\n#end", id="comments and empty lines"),
    ],
)
def test_the_bytes_decide_how_a_file_is_read_not_its_name(tmp_path, name, pack):
    annotation = read(tmp_path, pack(MANY.encode()), name)
    assert annotation.genes["gene_id"].tolist() == [f"G{n}" for n in range(500)]
    assert annotation.genes["symbol"].tolist() == [f"N{n}" for n in range(500)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("chr1\tsrc\tgene\t1\t5\t.\t+\tgene_id \"A\";", "found 8 tab-separated columns, expected 9"),
        ("chr1 src gene 1 5 . + . gene_id \"A\";", "found 1 tab-separated columns, expected 9. Were tabs replaced"),
        ("chr1\tsrc\tgene\tone\t5\t.\t+\t.\tgene_id \"A\";", "found start 'one' and end '5', expected whole numbers"),
        ("chr1\tsrc\tCDS\t1\t5e3\t.\t+\t.\tgene_id \"A\";", "found start '1' and end '5e3', expected whole numbers"),
        ("chr1\tsrc\tgene\t0\t5\t.\t+\t.\tgene_id \"A\";", "found start 0 and end 5, expected 1 <= start <= end"),
        ("chr1\tsrc\texon\t9\t5\t.\t+\t.\tgene_id \"A\";", "found start 9 and end 5"),
        ("chr1\tsrc\tgene\t1\t5\t.\tplus\t.\tgene_id \"A\";", "found strand 'plus', expected one of +, -, ., ?"),
        ("chr1\tsrc\tgene\t1\t5\t.\t+\t.\tgene_name \"A\";", "found no gene_id among the attributes."),
        ("chr1\tsrc\tgene\t1\t5\t.\t+\t.\tID=gene:A;Name=A", "This looks like GFF3, the lines before it like GTF"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_broken_line_is_named(tmp_path, line, said, pack):
    text = "#c\n\n" + gene('gene_id "OK"') + line + "\n" + gene('gene_id "LATER"')
    with pytest.raises(UnreadableFile) as error:
        read(tmp_path, pack(text.encode()))
    assert re.match(r".*genes\.gtf, line 4: ", str(error.value))
    assert said in str(error.value)
    assert line[:60] in str(error.value)


def test_a_truncated_gzip_is_no_short_file(tmp_path):
    with pytest.raises(UnreadableFile, match=r"genes\.gtf: truncated or damaged gzip(.|\n)*fetch the file again"):
        read(tmp_path, gzip.compress(MANY.encode())[:-200])


@pytest.mark.parametrize("text", ["", "#only\n#comments\n", 'chr1\tx\tCDS\t1\t5\t.\t+\t.\tgene_id "A"\n'])
def test_a_file_without_genes_is_an_error(tmp_path, text):
    with pytest.raises(
        UnreadableFile, match=r"genes\.gtf.*(is empty|no gene, transcript or exon line|no line in it but comments)"
    ):
        read(tmp_path, text)


def test_genes_without_a_gene_line_come_from_their_exons_and_transcripts(tmp_path):
    line = '{}\tx\t{}\t{}\t{}\t.\t{}\t.\tgene_id "{}"; transcript_id "T"; gene_name "{}";\n'
    text = (
        line.format("chr1", "exon", 101, 200, "-", "B", "NB")
        + line.format("chr1", "exon", 51, 80, "-", "B", "NB")
        + line.format("chr1", "transcript", 41, 300, "+", "A", "NA")
        + line.format("chr1", "gene", 901, 950, "+", "C", "NC")
        + line.format("chr1", "exon", 901, 920, "+", "C", "NC")
        + line.format("chr2", "exon", 11, 20, "-", "B", "NB")
    )
    annotation = read(tmp_path, text)
    places = annotation.genes[["gene_id", "symbol", "chrom", "chrom_start", "chrom_end", "strand"]].values.tolist()
    assert places == [
        ["C", "NC", "chr1", 900, 950, "+"],
        ["B", "NB", "chr1", 50, 200, "-"],
        ["A", "NA", "chr1", 40, 300, "+"],
        ["B", "NB", "chr2", 10, 20, "-"],
    ]
    assert annotation.aggregated == 3
    parts = annotation.parts
    exons = zip(parts.gene, parts.start, parts.end, strict=True)
    assert sorted(exons) == [(0, 900, 920), (1, 50, 80), (1, 100, 200), (3, 10, 20)]


def test_blocks_are_joined_across_their_borders(tmp_path):
    exon = 'chr1\tx\texon\t{}\t{}\t.\t+\t.\tgene_id "G{}"; gene_name "N{}"; note "{}";\n'
    text = "".join(exon.format(n + 1, n + 2, n // 1000, n // 1000, "x" * 900) for n in range(20_000))
    annotation = read(tmp_path, text)
    assert annotation.genes["symbol"].tolist() == [f"N{n}" for n in range(20)]
    assert annotation.genes["chrom_start"].tolist() == [1000 * n for n in range(20)]
    assert np.bincount(annotation.parts.gene).tolist() == [1000] * 20
