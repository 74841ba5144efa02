"""Tables transcript and gene_part of a store, from annotations of all formats."""

import pytest

from heteromics.priors import PriorStore
from tests.priors.test_gff3 import NCBI

OFF = ("nodes.peak=false", "edges.gene_peak=false", "edges.pathways=false")
LINE = '{}\tx\t{}\t{}\t{}\t.\t{}\t.\tgene_id "{}"; transcript_id "{}"; gene_name "N"; transcript_biotype "{}";\n'


def line(
    feature, start, end, gene="ENSG00000000001.2", transcript="ENST00000000001.1", strand="-", chrom="chr1", kind="x"
):
    return LINE.format(chrom, feature, start, end, strand, gene, transcript, kind)


def build(recipe, text, *sets):
    path = recipe.with_name("annotation")
    path.write_text(text)
    given = [*OFF, f"source.gtf={path}", *sets]
    return PriorStore.build(recipe, recipe.with_name("g.duckdb"), sets=given, force=True, progress=False)


def rows(store, table):
    return store.frame(table).values.tolist()


def outcomes(store, table):
    summary = store.match_summary().query("table_name == @table")
    return dict(zip(summary["outcome"], summary["n"], strict=True))


TWO = (
    line("gene", 101, 600, transcript="")
    + line("transcript", 101, 600)
    + line("exon", 501, 600)
    + line("exon", 101, 200)
    + line("exon", 151, 250)
    + line("CDS", 181, 200)
    + line("CDS", 501, 550)
    + line("transcript", 101, 300, transcript="ENST00000000002.7")
)


def test_tables_are_as_worked_out_by_hand(recipe):
    with build(recipe, TWO) as store:
        gene = "ENSG00000000001"
        assert store.frame("transcript").fillna(-1).values.tolist() == [
            ["ENST00000000002", gene, "ENST00000000002", "chr1", 100, 300, "-", 299, -1, "x"],
            ["ENST00000000001", gene, "ENST00000000001", "chr1", 100, 600, "-", 599, 250, "x"],
        ]
        assert rows(store, "gene_part") == [
            [gene, "exon", 100, 250],
            [gene, "exon", 500, 600],
            [gene, "coding", 180, 200],
            [gene, "coding", 500, 550],
            [gene, "five_prime_utr", 550, 600],
            [gene, "three_prime_utr", 100, 180],
        ]
        assert store.frame("gene_attribute")[["exon_length", "transcripts"]].values.tolist() == [[250, 2]]
        assert outcomes(store, "transcript") == {"matched": 2}


def test_tables_can_be_left_out_and_versions_kept(recipe):
    with build(recipe, TWO, "nodes.gene.transcripts=false", "nodes.gene.parts=false") as store:
        assert not {"transcript", "gene_part"} & set(store.tables())
    with build(recipe, TWO, "nodes.gene.strip_version=false") as store:
        assert store.frame("transcript")["transcript_id"].tolist() == ["ENST00000000002.7", "ENST00000000001.1"]


def test_an_annotation_of_genes_alone_gives_empty_tables(recipe):
    with build(recipe, line("gene", 1, 9, transcript="")) as store:
        assert rows(store, "transcript") == rows(store, "gene_part") == []
        assert store.frame("gene_attribute")[["exon_length", "transcripts"]].isna().all(axis=None)


def test_transcripts_of_genes_left_out_are_counted_and_second_places_named(recipe):
    text = (
        line("exon", 101, 200, "A", "T1")
        + line("exon", 101, 200, "A", "T1", chrom="chr2")
        + line("exon", 301, 400, "B", "T1")
        + line("exon", 301, 400, "B", "ENST00000000003.1")
        + line("exon", 301, 400, "B", "ENST00000000003.2")
        + line("exon", 1, 50, "C", "T9", chrom="chrUn")
        + line("exon", 1, 50, "C", "T8", chrom="chrUn")
    )
    with build(recipe, text) as store:
        transcripts = store.frame("transcript")
        assert transcripts[["transcript_id", "gene_id"]].values.tolist() == [["T1", "A"], ["ENST00000000003", "B"]]
        assert outcomes(store, "transcript") == {"matched": 2, "duplicated": 1, "two_loci": 2, "wrong_assembly": 2}
        named = store.match_report("transcript")[["name", "outcome", "detail"]].values.tolist()
        assert named == [
            ["T1", "two_loci", "chr1:300-400, chr1:100-200 stands"],
            ["ENST00000000003.2", "duplicated", "chr1:300-400, chr1:300-400 stands"],
        ]
        assert outcomes(store, "gene")["two_loci"] == 1


GFF3 = """\
chr1\tx\tgene\t101\t600\t.\t-\t.\tID=gene-G;Name=G;gene_biotype=protein_coding
chr1\tx\tmRNA\t101\t600\t.\t-\t.\tID=rna-T;Parent=gene-G
chr1\tx\texon\t101\t200\t.\t-\t.\tParent=rna-T
chr1\tx\texon\t501\t600\t.\t-\t.\tParent=rna-T
chr1\tx\tCDS\t181\t200\t.\t-\t0\tParent=rna-T
chr1\tx\tCDS\t501\t550\t.\t-\t0\tParent=rna-T
chr1\tx\texon\t501\t550\t.\t-\t0\tParent=nothing
"""
REFGENE = "0\tT\tchr1\t-\t100\t600\t180\t550\t2\t100,500,\t200,600,\t0\tG\tcmpl\tcmpl\t0,0,\n"
GTF = "".join(
    line(feature, start, end, "G", "T", kind="mRNA")
    for feature, start, end in (
        ("gene", 101, 600),
        ("exon", 101, 200),
        ("exon", 501, 600),
        ("CDS", 501, 550),
        ("CDS", 184, 200),
        ("stop_codon", 181, 183),
    )
).replace('"N"', '"G"')


@pytest.mark.parametrize("text", [GFF3, REFGENE, GTF], ids=["GFF3", "refGene", "GTF"])
def test_all_formats_give_the_same_gene(recipe, text):
    with build(recipe, text) as store:
        columns = ["gene_id", "symbol", "chrom", "chrom_start", "chrom_end", "strand", "tss"]
        assert store.frame("gene")[columns].values.tolist() == [["G", "G", "chr1", 100, 600, "-", 599]]
        assert store.frame("transcript").drop(columns="biotype").values.tolist() == [
            ["T", "G", "T", "chr1", 100, 600, "-", 599, 200]
        ]
        assert rows(store, "gene_part") == [
            ["G", "exon", 100, 200],
            ["G", "exon", 500, 600],
            ["G", "coding", 180, 200],
            ["G", "coding", 500, 550],
            ["G", "five_prime_utr", 550, 600],
            ["G", "three_prime_utr", 100, 180],
        ]
        assert outcomes(store, "gene_part") == ({"absent": 1} if text is GFF3 else {})


def test_refseq_gff3_joins_an_assembly_of_ucsc_names(tmp_path):
    (tmp_path / "sizes").write_text("chr1\t248956422\nchrX\t156040895\nchrY\t57227415\nchrM\t16569\n")
    recipe = tmp_path / "refseq.yaml"
    recipe.write_text(
        "recipe: 1\nassembly: {name: GRCh38, sizes: sizes, chrom_style: ucsc}\nnodes: {gene: {chrom_style: ucsc}}\n"
    )
    with build(recipe, NCBI) as store:
        assert store.frame("gene")[["gene_id", "chrom"]].values.tolist() == [
            ["DDX11L1", "chr1"], ["MIR6859-1", "chr1"], ["IGKV1-5", "chr1"], ["CRLF2", "chrX"], ["MT-ND1", "chrM"],
        ]  # fmt: skip
        assert store.match_report("gene")[["name", "outcome", "detail"]].values.tolist() == [
            ["CRLF2", "two_loci", "CRLF2: chrY:1190448-1212750(-), chrX:1190448-1212750(-) stands"]
        ]
        assert len(store.frame("transcript")) == 4
