import gzip
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heteromics.errors import UnreadableFile
from heteromics.priors.gene_files import read_gene_models
from heteromics.priors.gene_models import Kind, transcription_start

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
        ("chr1\tsrc\tgene\t 1\t5\t.\t+\t.\tgene_id \"A\";", "found start ' 1' and end '5', expected whole numbers"),
        ("chr1\tsrc\tgene\t1\t99999999999999999999\t.\t+\t.\t", "found start '1' and end '99999999999999999999'"),
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


def test_copies_of_a_gene_without_gene_lines_are_several_places(tmp_path):
    """As in UCSC's GTF of refGene: copies share the gene id, their transcripts are numbered."""
    text = (
        line("transcript", 101, 200, gene_id="MIR9", transcript="NR_1")
        + line("exon", 101, 200, gene_id="MIR9", transcript="NR_1")
        + line("exon", 9_000_001, 9_000_100, gene_id="MIR9", transcript="NR_1_dup1")
        + line("exon", 151, 160, gene_id="MIR9", transcript="NR_2")
        + line("exon", 401, 450, gene_id="MIR9", transcript="NR_2")
        + line("exon", 1, 10, gene_id="B", transcript="")
        + line("exon", 51, 60, gene_id="B", transcript="")
    )
    models = read(tmp_path, text)
    assert models.genes[["gene_id", "chrom_start", "chrom_end"]].values.tolist() == [
        ["MIR9", 100, 450], ["MIR9", 9_000_000, 9_000_100], ["B", 0, 60],
    ]  # fmt: skip
    assert models.transcripts[["transcript_id", "gene"]].values.tolist() == [
        ["NR_1", 0], ["NR_1_dup1", 1], ["NR_2", 0],
    ]  # fmt: skip
    assert models.parts.gene.tolist() == [0, 1, 0, 0, 2, 2]
    assert models.aggregated == 3


def test_blocks_are_joined_across_their_borders(tmp_path):
    exon = 'chr1\tx\texon\t{}\t{}\t.\t+\t.\tgene_id "G{}"; gene_name "N{}"; note "{}";\n'
    text = "".join(exon.format(n + 1, n + 2, n // 1000, n // 1000, "x" * 900) for n in range(20_000))
    annotation = read(tmp_path, text)
    assert annotation.genes["symbol"].tolist() == [f"N{n}" for n in range(20)]
    assert annotation.genes["chrom_start"].tolist() == [1000 * n for n in range(20)]
    assert np.bincount(annotation.parts.gene).tolist() == [1000] * 20


LINE = '{}\tx\t{}\t{}\t{}\t.\t{}\t.\tgene_id "{}"; transcript_id "{}";{}\n'


def line(feature, start, end, gene_id="G", transcript="T", strand="+", chrom="chr1", more=""):
    return LINE.format(chrom, feature, start, end, strand, gene_id, transcript, more)


def parts_of(models):
    fields = (models.parts.kind, models.parts.gene, models.parts.transcript, models.parts.start, models.parts.end)
    return [(Kind(kind).name, *row) for kind, *row in zip(*(field.tolist() for field in fields), strict=True)]


def test_transcripts_and_parts_of_every_kind(tmp_path):
    more = ' gene_name "N"; transcript_name "N-1"; transcript_type "lncRNA";'
    text = (
        gene('gene_id "G"; gene_name "N"', 1, 100)
        + line("transcript", 1, 100, more=more)
        + line("exon", 1, 40, more=more)
        + line("CDS", 11, 40)
        + line("stop_codon", 61, 63)
        + line("start_codon", 11, 13)
        + line("Selenocysteine", 20, 22)
        + line("UTR", 1, 10)
        + line("five_prime_utr", 1, 10)
        + line("3UTR", 64, 100)
        + line("exon", 61, 100, transcript="")
    )
    models = read(tmp_path, text)
    assert models.transcripts.values.tolist() == [["T", 0, "N-1", "lncRNA", 0, 100]]
    assert parts_of(models) == [
        ("EXON", 0, 0, 0, 40),
        ("CODING", 0, 0, 10, 40),
        ("STOP", 0, 0, 60, 63),
        ("UTR", 0, 0, 0, 10),
        ("FIVE_PRIME", 0, 0, 0, 10),
        ("THREE_PRIME", 0, 0, 63, 100),
        ("EXON", 0, -1, 60, 100),
    ]


def test_a_transcript_without_a_line_reaches_over_its_parts(tmp_path):
    text = gene('gene_id "G"', 1, 90) + line("exon", 51, 90) + line("CDS", 11, 20) + line("exon", 5, 20)
    assert read(tmp_path, text).transcripts[["chrom_start", "chrom_end"]].values.tolist() == [[4, 90]]


def test_one_transcript_id_at_two_places_is_two_transcripts(tmp_path):
    text = line("exon", 1, 9) + line("exon", 11, 19, chrom="chrY") + line("exon", 21, 29, gene_id="H")
    models = read(tmp_path, text)
    assert models.transcripts[["transcript_id", "gene", "chrom_start"]].values.tolist() == [
        ["T", 0, 0], ["T", 1, 10], ["T", 2, 20],
    ]  # fmt: skip
    assert models.parts.transcript.tolist() == [0, 1, 2]


def test_ids_are_found_wherever_they_stand(tmp_path):
    forms = [
        'transcript_id "T"; gene_id "G";',
        'note "a; transcript_id of none"; gene_id "G"; transcript_id "T";',
        "gene_id G; transcript_id T",
        'gene_id "G";transcript_id "T"',
        'gene_id "G"; gene_version "1"; transcript_id "T"; transcript_version "1"',
        'old_gene_id "H"; gene_id "G"; old_transcript_id "U"; transcript_id "T"',
    ]
    text = "".join(f"chr1\tx\texon\t1\t9\t.\t+\t.\t{form}\n" for form in forms)
    models = read(tmp_path, text)
    assert models.genes["gene_id"].tolist() == ["G"]
    assert models.transcripts["transcript_id"].tolist() == ["T"]
    assert models.parts.transcript.tolist() == [0] * len(forms)


def test_a_line_made_a_comment_is_none(tmp_path):
    models = read(tmp_path, "#" + gene('gene_id "OUT"') + gene('gene_id "IN"') + "#chr1\tx\texon\tone\tx\t.\t.\t.\t\n")
    assert models.genes["gene_id"].tolist() == ["IN"]


def test_ncbi_copies_of_one_gene_share_its_id(tmp_path):
    par = 'gene_id "{}"; transcript_id ""; db_xref "GeneID:64109"; db_xref "HGNC:HGNC:14281"; gene "CRLF2";'
    text = (
        gene(par.format("CRLF2"))
        + gene(par.format("CRLF2_1")).replace("chr1", "chr2")
        + line("exon", 11, 15, gene_id="CRLF2_1", chrom="chr2")
    )
    models = read(tmp_path, text)
    assert models.genes[["gene_id", "chrom"]].values.tolist() == [["CRLF2", "chr1"], ["CRLF2", "chr2"]]
    assert models.parts.gene.tolist() == [1]


def test_parts_of_a_gene_written_twice_on_one_strand_go_to_the_line_that_holds_them(tmp_path):
    text = (
        gene('gene_id "G"', 1, 100)
        + gene('gene_id "G"', 501, 600)
        + line("exon", 501, 520, transcript="U")
        + line("exon", 11, 20)
        + line("exon", 300, 310, transcript="V")
    )
    models = read(tmp_path, text)
    assert models.genes[["chrom_start", "chrom_end"]].values.tolist() == [[0, 100], [500, 600]]
    assert models.parts.gene.tolist() == [1, 0, 0]
    assert models.transcripts[["transcript_id", "gene"]].values.tolist() == [["U", 1], ["T", 0], ["V", 0]]


def test_lines_away_from_the_gene_line_make_a_second_place(tmp_path):
    models = read(tmp_path, line("exon", 1, 9, strand="-") + gene('gene_id "G"') + line("exon", 11, 15))
    assert models.genes[["gene_id", "strand"]].values.tolist() == [["G", "+"], ["G", "-"]]
    assert models.parts.gene.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "chr1\t10\t20\tA\t0\t+\n",
            "line 1: found 6 tab-separated columns, expected 9. This looks like BED; genes",
        ),
        ("chr1\t10\t20\n", "line 1: found 3 tab-separated columns, expected 9. This looks like BED"),
        ("chr1\t10\t20\tA\t0\t+\t10\t20\t0,0,0\n", "line 1: found start 'A' and end '0', expected whole numbers. This"),
        (">chr1\nACGT\n", "line 1: found 1 tab-separated columns, expected 9. Were tabs replaced by blanks?"),
        ("gene_id,gene_name\nA,B\n", "line 1: found 1 tab-separated columns"),
        ("chr1\tx\tsomething\t1\t5\t.\t+\t.\tgene_id A\n", "no gene, transcript or exon line in it (1 lines read)"),
        ("chr1\tx\tgene\t1\t5\t.\t+\t.\t.\n", "line 1: found no gene_id among the attributes."),
    ],
)
def test_files_of_other_kinds_are_told(tmp_path, text, said):
    with pytest.raises(UnreadableFile) as error:
        read(tmp_path, text)
    assert said in str(error.value)


def test_bytes_that_are_no_text_are_an_error(tmp_path):
    with pytest.raises(UnreadableFile, match="not UTF-8 text"):
        read(tmp_path, gene('gene_id "A"').encode() + b"chr1\tx\tgene\t\xff\xfe\n")


def test_dialects_may_be_mixed_in_one_file(tmp_path):
    text = (
        gene('gene_id "ENSG1"; gene_version "2"; gene_name "A"; gene_biotype "x"; level 2;')
        + "chr1\tx\texon\t11\t20\t.\t+\t.\ttranscript_id T1; gene_id ENSG1\n"
        + line("exon", 101, 200, gene_id="GFP", transcript="GFP", chrom="GFP", more=' gene_name "GFP"')
        + 'chr1\tx\texon\t31\t40\t.\t-\t.\tgene_id "SYM"; transcript_id "NM_1_dup1";  gene_name "SYM";\n'
    )
    models = read(tmp_path, text)
    assert models.genes[["gene_id", "symbol", "chrom", "chrom_start"]].values.tolist() == [
        ["ENSG1", "A", "chr1", 10], ["GFP", "GFP", "GFP", 100], ["SYM", "SYM", "chr1", 30],
    ]  # fmt: skip
    assert models.transcripts["transcript_id"].tolist() == ["T1", "GFP", "NM_1_dup1"]


FORMS = [
    'gene_id "{g}"; transcript_id "{t}"; gene_name "{g}n"; transcript_name "{t}n";',
    'gene_name "{g}n"; transcript_name "{t}n"; transcript_id "{t}"; gene_id "{g}"',
    'gene_id {g}; note "a; b"; transcript_id {t}; gene_name {g}n; transcript_name {t}n',
]
DRAWN = st.tuples(
    st.sampled_from(["transcript", "exon", "CDS", "UTR", "gene"]),
    st.sampled_from(["A", "B", "C"]),
    st.integers(1, 3),
    st.sampled_from(["chr1", "chr2"]),
    st.sampled_from("+-"),
    st.integers(1, 90),
    st.integers(0, 20),
    st.sampled_from(FORMS),
)


def merged(spans):
    """Merge intervals that overlap or touch, one after the other."""
    found = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


@settings(deadline=None)
@given(st.lists(DRAWN, min_size=1, max_size=30).filter(lambda rows: any(row[0] not in {"CDS", "UTR"} for row in rows)))
def test_agrees_with_a_plain_reading(tmp_path_factory, rows):
    """One gene line at most for each id and place; bounds are those of the gene line, else of its transcripts."""
    seen, kept = set(), []
    for row in rows:
        place = (row[1], row[3], row[4])
        if row[0] != "gene" or place not in seen:
            kept.append(row)
            seen |= {place} if row[0] == "gene" else set()
    text, places, written, transcripts = "", set(), {}, {}
    for feature, gene_id, n, chrom, strand, start, width, form in kept:
        name = f"{gene_id}{n}"
        attributes = form.format(g=gene_id, t=name) if feature != "gene" else f'gene_id "{gene_id}"'
        text += f"{chrom}\tx\t{feature}\t{start}\t{start + width}\t.\t{strand}\t.\t{attributes}\n"
        place = (gene_id, chrom, strand)
        places.add(place)
        if feature == "gene":
            written[place] = [(start - 1, start + width)]
        else:
            before = transcripts.get((name, *place), (start - 1, start + width))
            transcripts[name, *place] = min(before[0], start - 1), max(before[1], start + width)
    models = read(tmp_path_factory.mktemp("gtf"), text)
    loci = {place: merged(span for key, span in transcripts.items() if key[1:] == place) for place in places}
    columns = ["gene_id", "chrom", "strand", "chrom_start", "chrom_end"]
    rows_of_genes = [tuple(row) for row in models.genes[columns].values.tolist()]
    expected = {(*place, *span) for place, spans in {**loci, **written}.items() for span in spans}
    assert set(rows_of_genes) == expected
    assert len(rows_of_genes) == len(expected)
    assert models.aggregated == len(expected) - len(written)
    listed = models.transcripts[["transcript_id", "symbol", "gene", "chrom_start", "chrom_end"]].values.tolist()
    assert {(name, *rows_of_genes[row][:3]): (start, end) for name, _, row, start, end in listed} == transcripts
    for *_, row, start, end in listed:
        *place, low, high = rows_of_genes[row]
        assert tuple(place) in written or low <= start < end <= high
    assert all(symbol == f"{name}n" for name, symbol, *_ in listed)
    assert models.parts.kind.size == sum(row[0] in {"exon", "CDS", "UTR"} for row in kept)
