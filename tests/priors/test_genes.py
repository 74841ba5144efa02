import gzip
import re

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from heteromics.errors import BeyondChromosome, ChromNamesDisagree, PriorError, UnreadableFile
from heteromics.priors import PriorStore
from heteromics.priors.genes import transcription_start
from heteromics.priors.gtf import exon_union_length, read_gtf
from heteromics.priors.identifiers import match_names, strip_version

GENE = "chr1\tsrc\tgene\t{start}\t{end}\t.\t{strand}\t.\t{attributes}\n"


def gene(attributes, start=11, end=20, strand="+"):
    return GENE.format(start=start, end=end, strand=strand, attributes=attributes)


def read(tmp_path, text, name="genes.gtf"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_gtf(path)


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
        ("chr1\tsrc\tgene\t1\t5\t.\t+\t.\tID=gene:A;Name=A", "This looks like GFF3; give the GTF"),
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
    with pytest.raises(UnreadableFile, match=r"genes\.gtf.*(is empty|no gene, transcript or exon line|Empty CSV)"):
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
    exons = zip(annotation.exon_gene, annotation.exon_start, annotation.exon_end, strict=True)
    assert sorted(exons) == [(0, 900, 920), (1, 50, 80), (1, 100, 200), (3, 10, 20)]


def test_blocks_are_joined_across_their_borders(tmp_path):
    exon = 'chr1\tx\texon\t{}\t{}\t.\t+\t.\tgene_id "G{}"; gene_name "N{}"; note "{}";\n'
    text = "".join(exon.format(n + 1, n + 2, n // 1000, n // 1000, "x" * 900) for n in range(20_000))
    annotation = read(tmp_path, text)
    assert annotation.genes["symbol"].tolist() == [f"N{n}" for n in range(20)]
    assert annotation.genes["chrom_start"].tolist() == [1000 * n for n in range(20)]
    assert np.bincount(annotation.exon_gene).tolist() == [1000] * 20


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-50, 60), st.integers(1, 40)), max_size=40))
def test_exon_union_counts_each_base_once(exons):
    covered = [set() for _ in range(5)]
    for row, start, width in exons:
        covered[row] |= set(range(start, start + width))
    row, start, width = (
        np.array(column, dtype=np.int64) for column in (zip(*exons, strict=True) if exons else [[]] * 3)
    )
    assert exon_union_length(row, start, start + width, 5).tolist() == [len(bases) for bases in covered]


@pytest.mark.parametrize(
    ("name", "stripped"),
    [
        ("ENSG00000223972.5", "ENSG00000223972"),
        ("ENSMUSG00000102693.1", "ENSMUSG00000102693"),
        ("ENSG00000182378.15_PAR_Y", "ENSG00000182378"),
        ("MGP_C57BL6NJ_G0000001.1", "MGP_C57BL6NJ_G0000001"),
        ("ENSG00000223972", "ENSG00000223972"),
        ("AL627309.1", "AL627309.1"),
        ("Y74C9A.3", "Y74C9A.3"),
    ],
)
def test_only_versions_are_stripped(name, stripped):
    assert strip_version(name) == stripped
    assert strip_version(stripped) == stripped


def test_names_join_by_the_first_rule_that_fits():
    gene_id = ["ENSG00000000001", "ENSG00000000002", "ENSG00000000003", "ENSG00000000004"]
    symbol = ["TP53", "Actb", "DUP", "DUP"]
    names = ["ENSG00000000002", "ENSG00000000001.7", "TP53", "ACTB", "DUP", "dup", "NOPE"]
    rows, outcome = match_names(names, gene_id, symbol)
    assert rows.tolist() == [1, 0, 0, 1, -1, -1, -1]
    assert outcome == ["matched", "version_stripped", "matched", "case_folded", "ambiguous", "ambiguous", "absent"]


OFF = ("nodes.peak=false", "edges.gene_peak=false", "edges.pathways=false")


def build(recipe, *sets, **files):
    """Build the genes alone; ``gtf`` and ``genes`` are texts to be given as these sources."""
    for name, text in files.items():
        (recipe.parent / name).write_text(text)
        sets = (*sets, f"source.{name}={recipe.parent / name}")
    return PriorStore.build(recipe, recipe.with_name("g.duckdb"), sets=[*OFF, *sets], force=True, progress=False)


def test_tables_are_as_worked_out_by_hand(recipe):
    with build(recipe) as store:
        assert store.frame("gene").values.tolist() == [
            ["ENSG00000000001", "ALPHA", "chr1", 1000, 2000, "+", 1000, "protein_coding"],
            ["ENSG00000000002", "BETA", "chr1", 5000, 6000, "-", 5999, "lncRNA"],
            ["ENSG00000000003", "GAMMA", "chr2", 100, 400, "+", 100, "protein_coding"],
            ["ENSG00000000004", "GAMMA", "chr2", 500, 900, "+", 500, "protein_coding"],
        ]
        attributes = store.frame("gene_attribute")
        assert attributes["strand_sign"].tolist() == [1, -1, 1, 1]
        assert attributes["length"].tolist() == [1000, 1000, 300, 400]
        assert attributes["exon_length"].isna().tolist() == [False, True, True, True]
        assert attributes["exon_length"][0] == 300
        assert attributes["biotype_code"].tolist() == [1, 0, 1, 1]
        assert store.match_report().empty


def test_a_missing_gene_name_is_counted_and_its_id_stands_in(recipe):
    text = gene('gene_id "G1"; gene_name "ONE"') + gene('gene_id "G2"', 31, 40) + gene('gene_id "G3"', 51, 60)
    with build(recipe, gtf=text) as store:
        assert store.frame("gene")["symbol"].tolist() == ["ONE", "G2", "G3"]
        assert store.match_report("gene", "symbol_missing")["name"].tolist() == ["G2", "G3"]
        summary = store.match_summary().query("table_name == 'gene'").set_index("outcome")["n"]
        assert summary.to_dict() == {"matched": 1, "symbol_missing": 2}


def test_one_id_at_two_places_keeps_the_first_and_names_the_other(recipe):
    text = (
        gene('gene_id "ENSG00000000009.1"; gene_name "PAR"', 101, 200)
        + 'chr1\tx\texon\t101\t150\t.\t+\t.\tgene_id "ENSG00000000009.1"\n'
        + gene('gene_id "ENSG00000000009.1_PAR_Y"; gene_name "PAR"', 301, 400).replace("chr1", "chr2")
        + 'chr2\tx\texon\t301\t400\t.\t+\t.\tgene_id "ENSG00000000009.1_PAR_Y"\n'
        + gene('gene_id "G"; gene_name "SAME"')
        + gene('gene_id "G"; gene_name "SAME"')
    )
    with build(recipe, gtf=text) as store:
        assert store.frame("gene")[["gene_id", "chrom"]].values.tolist() == [["G", "chr1"], ["ENSG00000000009", "chr1"]]
        assert store.frame("gene_attribute")["exon_length"].dropna().tolist() == [50]
        report = store.match_report("gene")
        assert report[["name", "outcome", "detail"]].values.tolist() == [
            ["ENSG00000000009.1_PAR_Y", "two_loci", "PAR: chr2:300-400(+), chr1:100-200(+) stands"],
            ["G", "duplicated", "SAME: chr1:10-20(+), chr1:10-20(+) stands"],
        ]
    with build(recipe, "nodes.gene.strip_version=false", gtf=text) as store:
        assert store.frame("gene")["gene_id"].tolist() == ["G", "ENSG00000000009.1", "ENSG00000000009.1_PAR_Y"]


def test_biotypes_filter_and_name_what_they_leave_out(recipe):
    with build(recipe, "nodes.gene.biotypes=[lncRNA]") as store:
        assert store.frame("gene")["symbol"].tolist() == ["BETA"]
        assert store.match_report("gene", "filtered")["detail"].tolist() == [
            "ALPHA: biotype protein_coding", "GAMMA: biotype protein_coding", "GAMMA: biotype protein_coding",
        ]  # fmt: skip
    with pytest.raises(
        PriorError, match=r"none of 4 has a biotype the recipe asks for \(tRNA\)\.\n  Found: lncRNA, protein"
    ):
        build(recipe, "nodes.gene.biotypes=[tRNA]")


def test_chromosome_styles_that_disagree_are_explained(recipe):
    text = (recipe.parent / "genes.gtf").read_text().replace("chr", "")
    with pytest.raises(ChromNamesDisagree) as error:
        build(recipe, gtf=text)
    assert str(error.value).startswith("genes of gtf and assembly tiny have no chromosome name in common.")
    assert "With a 'chr' prefix, 2 of 2 names would match." in str(error.value)
    assert "Fix: set `nodes.gene.chrom_style: ucsc` in the recipe" in str(error.value)
    with build(recipe, "nodes.gene.chrom_style=ucsc", gtf=text) as store:
        assert store.frame("gene")["chrom"].unique().tolist() == ["chr1", "chr2"]


def test_genes_beyond_the_chromosome_are_of_another_assembly(recipe):
    with pytest.raises(BeyondChromosome, match="1 of 2 genes of gtf end beyond their chromosome in tiny"):
        build(recipe, gtf=gene('gene_id "IN"', 1, 10_000) + gene('gene_id "OUT"', 1, 10_001))


def test_every_gene_name_of_the_data_that_joins_no_gene_is_named(recipe):
    scaffold = gene('gene_id "ENSG00000000005.2"; gene_name "OMEGA"').replace("chr1", "chrUn_7")
    text = (recipe.parent / "genes.gtf").read_text() + scaffold
    names = "ALPHA\nbeta\nENSG00000000003.9\nGAMMA\nOMEGA\nENSG00000000005\nNOPE\n"
    with build(recipe, gtf=text, genes=names) as store:
        report = store.match_report("gene")
        data = report[report["source"] == "genes"]
        assert data[["name", "outcome", "detail"]].values.tolist() == [
            ["beta", "case_folded", "joined ENSG00000000002 (BETA)"],
            ["ENSG00000000003.9", "version_stripped", "joined ENSG00000000003 (GAMMA)"],
            ["GAMMA", "ambiguous", "fits ENSG00000000003, ENSG00000000004"],
            ["OMEGA", "absent", "wrong_assembly: ENSG00000000005.2, tiny has no chrUn_7"],
            ["ENSG00000000005", "absent", "wrong_assembly: ENSG00000000005.2, tiny has no chrUn_7"],
            ["NOPE", "absent", "not in the annotation"],
        ]
        summary = store.match_summary().query("source == 'genes'").set_index("outcome")["n"].to_dict()
        assert summary == {"matched": 1, "absent": 3, "ambiguous": 1, "case_folded": 1, "version_stripped": 1}


def test_an_id_that_fits_two_versions_is_ambiguous(recipe):
    text = gene('gene_id "ENSG00000000009.1"') + gene('gene_id "ENSG00000000009.1_PAR_Y"', 31, 40)
    with build(recipe, "nodes.gene.strip_version=false", gtf=text, genes="ENSG00000000009\n") as store:
        assert store.match_report("gene", "ambiguous")[["name", "detail"]].values.tolist() == [
            ["ENSG00000000009", "fits ENSG00000000009.1, ENSG00000000009.1_PAR_Y"]
        ]


def test_gene_names_are_read_from_the_rna_modality(recipe):
    path = recipe.with_name("rna.h5ad")
    ad.AnnData(sparse.csr_matrix((1, 2), dtype=np.float32), var=pd.DataFrame(index=["ALPHA", "NOPE"])).write_h5ad(path)
    with build(recipe, f"source.genes={path}") as store:
        assert store.match_report("gene")["name"].tolist() == ["NOPE"]


def test_an_empty_list_of_names_is_an_error(recipe):
    with pytest.raises(UnreadableFile, match="no gene name in it"):
        build(recipe, genes="# nothing\n")
