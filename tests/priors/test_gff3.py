"""GFF3 of NCBI, Ensembl, GENCODE and others: a gene model in the words of each, and what may go wrong."""

import gzip
import re

import numpy as np
import pandas as pd
import pytest

from heteromics.errors import UnreadableFile
from heteromics.priors.gene_files import read_gene_models
from heteromics.priors.gene_models import Kind

NCBI = """\
##gff-version 3
#!genome-build GRCh38.p14
##sequence-region NC_000001.11 1 248956422
NC_000001.11\tRefSeq\tregion\t1\t248956422\t.\t+\t.\tID=NC_000001.11:1..248956422;Dbxref=taxon:9606;Name=1;gbkey=Src
NC_000001.11\tBestRefSeq\tpseudogene\t11874\t14409\t.\t+\t.\tID=gene-DDX11L1;Dbxref=GeneID:100287102,HGNC:HGNC:37102;\
Name=DDX11L1;description=DEAD/H-box%3B helicase;gbkey=Gene;gene=DDX11L1;gene_biotype=transcribed_pseudogene
NC_000001.11\tBestRefSeq\ttranscript\t11874\t14409\t.\t+\t.\tID=rna-NR_046018.2;Parent=gene-DDX11L1;\
Dbxref=GeneID:100287102;Name=NR_046018.2;gene=DDX11L1;transcript_id=NR_046018.2
NC_000001.11\tBestRefSeq\texon\t11874\t12227\t.\t+\t.\tID=exon-NR_046018.2-1;Parent=rna-NR_046018.2
NC_000001.11\tBestRefSeq\texon\t12613\t14409\t.\t+\t.\tID=exon-NR_046018.2-2;Parent=rna-NR_046018.2
NC_000001.11\tBestRefSeq\tgene\t17369\t17436\t.\t-\t.\tID=gene-MIR6859-1;Dbxref=GeneID:102466751;Name=MIR6859-1;\
gene=MIR6859-1;gene_biotype=miRNA
NC_000001.11\tBestRefSeq\tprimary_transcript\t17369\t17436\t.\t-\t.\tID=rna-NR_106918.1;Parent=gene-MIR6859-1;\
Name=NR_106918.1;transcript_id=NR_106918.1
NC_000001.11\tBestRefSeq\texon\t17369\t17436\t.\t-\t.\tID=exon-NR_106918.1-1;Parent=rna-NR_106918.1
NC_000001.11\tBestRefSeq\tmiRNA\t17369\t17391\t.\t-\t.\tID=rna-MIR6859-1;Parent=rna-NR_106918.1;product=hsa-miR-6859-3p
NC_000001.11\tBestRefSeq\texon\t17369\t17391\t.\t-\t.\tID=exon-MIR6859-1-1;Parent=rna-MIR6859-1
NC_000001.11\tCurated Genomic\tV_gene_segment\t20001\t20300\t.\t+\t.\tID=id-IGKV1-5;Parent=gene-IGKV1-5;gene=IGKV1-5
NC_000001.11\tCurated Genomic\tgene\t20001\t20300\t.\t+\t.\tID=gene-IGKV1-5;Dbxref=GeneID:28299;gene=IGKV1-5;\
gene_biotype=V_segment
NC_000001.11\tCurated Genomic\texon\t20001\t20300\t.\t+\t.\tID=id-IGKV1-5-1;Parent=id-IGKV1-5
NC_000001.11\tCurated Genomic\tCDS\t20011\t20300\t.\t+\t0\tID=cds-IGKV1-5;Parent=id-IGKV1-5
NC_000001.11\tRefSeq\tcDNA_match\t300\t400\t.\t+\t.\tID=e7b2;Target=NM_1 1 100 +
NC_012920.1\tRefSeq\tgene\t3307\t4262\t.\t+\t.\tID=gene-MT-ND1;Dbxref=GeneID:4535;gene=ND1;gene_biotype=protein_coding
NC_012920.1\tRefSeq\tCDS\t3307\t4262\t.\t+\t0\tID=cds-YP_003024026.1;Parent=gene-MT-ND1
NC_000023.11\tBestRefSeq\tgene\t1190449\t1212750\t.\t-\t.\tID=gene-CRLF2;Dbxref=GeneID:64109;gene=CRLF2
NC_000024.10\tBestRefSeq\tgene\t1190449\t1212750\t.\t-\t.\tID=gene-CRLF2-2;Dbxref=GeneID:64109;gene=CRLF2
###
"""

ENSEMBL = """\
##gff-version 3
1\tGRCh38\tchromosome\t1\t248956422\t.\t.\t.\tID=chromosome:1;Alias=CM000663.2
1\thavana\tncRNA_gene\t29554\t31109\t.\t+\t.\tID=gene:ENSG00000243485;Name=MIR1302-2HG;biotype=lncRNA;\
gene_id=ENSG00000243485;version=5
1\thavana\tlnc_RNA\t29554\t31097\t.\t+\t.\tID=transcript:ENST00000473358;Parent=gene:ENSG00000243485;\
Name=MIR1302-2HG-202;biotype=lncRNA;transcript_id=ENST00000473358;version=1
1\thavana\texon\t29554\t30039\t.\t+\t.\tParent=transcript:ENST00000473358;Name=ENSE00001947070
###
1\thavana\tgene\t65419\t71585\t.\t+\t.\tID=gene:ENSG00000186092;biotype=protein_coding;gene_id=ENSG00000186092
1\thavana\tmRNA\t65419\t71585\t.\t+\t.\tID=transcript:ENST00000641515;Parent=gene:ENSG00000186092;\
biotype=protein_coding;transcript_id=ENST00000641515
1\thavana\tfive_prime_UTR\t65419\t65433\t.\t+\t.\tParent=transcript:ENST00000641515
1\thavana\texon\t65419\t71585\t.\t+\t.\tParent=transcript:ENST00000641515
1\thavana\tCDS\t65434\t70008\t.\t+\t0\tID=CDS:ENSP1;Parent=transcript:ENST00000641515
1\thavana\tthree_prime_UTR\t70009\t71585\t.\t+\t.\tParent=transcript:ENST00000641515
"""

GENCODE = """\
##gff-version 3
chr1\tHAVANA\tgene\t11869\t14409\t.\t+\t.\tID=ENSG00000290825.1;gene_id=ENSG00000290825.1;gene_type=lncRNA;gene_name=D2
chr1\tHAVANA\ttranscript\t11869\t14409\t.\t+\t.\tID=ENST00000456328.2;Parent=ENSG00000290825.1;\
gene_id=ENSG00000290825.1;transcript_id=ENST00000456328.2;gene_name=D2;transcript_type=lncRNA;transcript_name=D2-202
chr1\tHAVANA\texon\t11869\t12227\t.\t+\t.\tID=exon:ENST00000456328.2:1;Parent=ENST00000456328.2;gene_name=D2
"""

TAIR = """\
Chr1\tTAIR10\tgene\t3631\t5899\t.\t+\t.\tID=AT1G01010;Name=AT1G01010;symbol=NAC%20001
Chr1\tTAIR10\tmRNA\t3631\t5899\t.\t+\t.\tID=AT1G01010.1;Parent=AT1G01010;Name=AT1G01010.1
Chr1\tTAIR10\tmRNA\t3631\t5000\t.\t+\t.\tID=AT1G01010.2;Parent=AT1G01010;Name=AT1G01010.2
Chr1\tTAIR10\texon\t3631\t3913\t.\t+\t.\tParent=AT1G01010.1,AT1G01010.2
##FASTA
>Chr1
ACGT
"""


def read(tmp_path, text):
    path = tmp_path / "annotation.txt"
    path.write_text(text)
    return read_gene_models(path)


def listed(models):
    """Return exons and the like as (kind, gene, transcript or None, start, end)."""
    genes, names = models.genes["gene_id"].tolist(), models.transcripts["transcript_id"].tolist()
    parts = models.parts
    return [
        (Kind(kind).name, genes[gene], names[transcript] if transcript >= 0 else None, start, end)
        for kind, gene, transcript, start, end in zip(
            parts.kind, parts.gene, parts.transcript, parts.start, parts.end, strict=True
        )
    ]


def test_ncbi(tmp_path):
    models = read(tmp_path, NCBI)
    assert models.genes.values.tolist() == [
        ["DDX11L1", "DDX11L1", "transcribed_pseudogene", "NC_000001.11", 11873, 14409, "+"],
        ["MIR6859-1", "MIR6859-1", "miRNA", "NC_000001.11", 17368, 17436, "-"],
        ["IGKV1-5", "IGKV1-5", "V_segment", "NC_000001.11", 20000, 20300, "+"],
        ["MT-ND1", "ND1", "protein_coding", "NC_012920.1", 3306, 4262, "+"],
        ["CRLF2", "CRLF2", "", "NC_000023.11", 1190448, 1212750, "-"],
        ["CRLF2", "CRLF2", "", "NC_000024.10", 1190448, 1212750, "-"],
    ]
    assert models.transcripts[["transcript_id", "gene", "biotype"]].values.tolist() == [
        ["NR_046018.2", 0, "transcript"],
        ["NR_106918.1", 1, "primary_transcript"],
        ["MIR6859-1", 1, "miRNA"],
        ["id-IGKV1-5", 2, "V_gene_segment"],
    ]
    assert listed(models) == [
        ("EXON", "DDX11L1", "NR_046018.2", 11873, 12227),
        ("EXON", "DDX11L1", "NR_046018.2", 12612, 14409),
        ("EXON", "MIR6859-1", "NR_106918.1", 17368, 17436),
        ("EXON", "MIR6859-1", "MIR6859-1", 17368, 17391),
        ("EXON", "IGKV1-5", "id-IGKV1-5", 20000, 20300),
        ("CODING", "IGKV1-5", "id-IGKV1-5", 20010, 20300),
        ("CODING", "MT-ND1", None, 3306, 4262),
    ]
    assert models.astray == 0


def test_ensembl(tmp_path):
    models = read(tmp_path, ENSEMBL)
    assert models.genes.values.tolist() == [
        ["ENSG00000243485", "MIR1302-2HG", "lncRNA", "1", 29553, 31109, "+"],
        ["ENSG00000186092", "", "protein_coding", "1", 65418, 71585, "+"],
    ]
    assert models.transcripts[["transcript_id", "gene", "symbol", "biotype"]].values.tolist() == [
        ["ENST00000473358", 0, "MIR1302-2HG-202", "lncRNA"],
        ["ENST00000641515", 1, "", "protein_coding"],
    ]
    assert [part[0] for part in listed(models)] == ["EXON", "FIVE_PRIME", "EXON", "CODING", "THREE_PRIME"]


def test_gencode(tmp_path):
    models = read(tmp_path, GENCODE)
    assert models.genes.values.tolist() == [["ENSG00000290825.1", "D2", "lncRNA", "chr1", 11868, 14409, "+"]]
    assert models.transcripts.loc[0, ["transcript_id", "symbol", "biotype"]].tolist() == [
        "ENST00000456328.2", "D2-202", "lncRNA",
    ]  # fmt: skip


def test_several_parents_percent_encoding_and_sequence_at_the_end(tmp_path):
    models = read(tmp_path, TAIR)
    assert models.genes.loc[0, ["gene_id", "symbol"]].tolist() == ["AT1G01010", "NAC 001"]
    assert listed(models) == [
        ("EXON", "AT1G01010", "AT1G01010.1", 3630, 3913),
        ("EXON", "AT1G01010", "AT1G01010.2", 3630, 3913),
    ]


LINE = "chr1\tx\t{}\t{}\t{}\t.\t{}\t.\t{}\n"


def line(feature, attributes, start=1, end=9, strand="+", chrom="chr1"):
    return LINE.format(feature, start, end, strand, attributes).replace("chr1", chrom)


def test_encoded_names_meet_their_parents(tmp_path):
    text = line("gene", "ID=g%3B1;Name=a%2Cb") + line("mRNA", "ID=t%2C1;Parent=g%3B1") + line("exon", "Parent=t%2C1")
    models = read(tmp_path, text)
    assert models.genes.loc[0, ["gene_id", "symbol"]].tolist() == ["g;1", "a,b"]
    assert models.transcripts["transcript_id"].tolist() == ["t,1"]
    assert listed(models) == [("EXON", "g;1", "t,1", 0, 9)]


def test_one_id_on_two_chromosomes_keeps_its_own_children(tmp_path):
    place = [line("gene", "ID=g;Name=G"), line("mRNA", "ID=t;Parent=g"), line("exon", "Parent=t")]
    text = "".join(place) + "".join(one.replace("chr1", "chr2").replace("\t9\t", "\t7\t") for one in place)
    models = read(tmp_path, text)
    assert models.genes[["gene_id", "chrom"]].values.tolist() == [["g", "chr1"], ["g", "chr2"]]
    assert models.transcripts["gene"].tolist() == [0, 1]
    assert models.parts.gene.tolist() == [0, 1]
    assert models.parts.end.tolist() == [9, 7]


def test_transcripts_without_a_name_are_named_by_type_and_place(tmp_path):
    text = line("gene", "ID=g") + line("tRNA", "Parent=g", end=4) + line("tRNA", "Parent=g", start=6)
    assert read(tmp_path, text).transcripts[["transcript_id", "gene"]].values.tolist() == [
        ["tRNA:chr1:0-4", 0], ["tRNA:chr1:5-9", 0],
    ]  # fmt: skip


def test_parts_that_lead_to_no_gene_are_counted(tmp_path):
    text = (
        line("gene", "ID=g")
        + line("mRNA", "ID=lost;Parent=nowhere")
        + line("exon", "Parent=lost")
        + line("exon", "Parent=unknown")
        + line("exon", "ID=e")
        + line("mRNA", "ID=a;Parent=b")
        + line("mRNA", "ID=b;Parent=a")
        + line("exon", "Parent=a")
    )
    models = read(tmp_path, text)
    assert models.astray == 4
    assert models.transcripts.empty
    assert models.parts.kind.size == 0


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (line("gene", "ID=g", 9, 5), "found start 9 and end 5, expected 1 <= start <= end"),
        (line("gene", "ID=g", strand="plus"), "found strand 'plus', expected one of +, -, ., ?"),
        (line("exon", "Parent=g", start="x"), "found start 'x' and end '9', expected whole numbers"),
        (line("mRNA", "Parent=g").replace("\t", " "), "found 1 tab-separated columns, expected 9. Were tabs replaced"),
        (line("gene", "note=none"), "found no ID, gene_id or Name among the attributes of a gene."),
        (line("exon", 'gene_id "A";'), "found no attribute of the form key=value. This looks like GTF"),
        (line("gene", 'gene_id "A";'), "This looks like GTF, the lines before it like GFF3"),
    ],
)
def test_a_broken_line_is_named(tmp_path, broken, said):
    with pytest.raises(UnreadableFile) as error:
        read(tmp_path, "##gff-version 3\n" + line("gene", "ID=ok") + broken)
    assert re.match(r".*annotation\.txt, line 3: ", str(error.value))
    assert said in str(error.value)


def test_a_file_without_genes_says_so(tmp_path):
    with pytest.raises(UnreadableFile, match=r"no gene line in it: no feature gene, pseudogene(.|\n)*2 lines read"):
        read(tmp_path, line("mRNA", "ID=t") + line("exon", "Parent=t"))


def test_blocks_are_joined_across_their_borders(tmp_path):
    gene = line("gene", "ID=g{0};Name=n{0};note=" + "x" * 900) + line("mRNA", "ID=t{0};Parent=g{0}")
    exon = line("exon", "Parent=t{0};note=" + "x" * 900)
    text = "".join(gene.format(n) + exon.format(n) * 9 for n in range(1_500))
    models = read(tmp_path, text)
    assert models.genes["symbol"].tolist() == [f"n{n}" for n in range(1_500)]
    assert np.bincount(models.parts.gene).tolist() == [9] * 1_500
    assert (models.parts.transcript == models.parts.gene).all()


@pytest.mark.parametrize("pack", [lambda text: text.replace(b"\n", b"\r\n"), gzip.compress], ids=["DOS", "gzip"])
def test_the_bytes_decide_how_a_file_is_read(tmp_path, pack):
    path = tmp_path / "annotation.gtf"
    path.write_bytes(pack(NCBI.encode()))
    pd.testing.assert_frame_equal(read_gene_models(path).genes, read(tmp_path, NCBI).genes)


def test_a_truncated_gzip_is_no_short_file(tmp_path):
    path = tmp_path / "annotation.gff3.gz"
    path.write_bytes(gzip.compress((NCBI * 200).encode())[:-100])
    with pytest.raises(UnreadableFile, match=r"truncated or damaged gzip(.|\n)*fetch the file again"):
        read_gene_models(path)
