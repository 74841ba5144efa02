import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from heteromics.errors import BeyondChromosome, ChromNamesDisagree, PriorError, UnreadableFile
from heteromics.priors import PriorStore
from heteromics.priors.identifiers import match_names, strip_version

GENE = "chr1\tsrc\tgene\t{start}\t{end}\t.\t{strand}\t.\t{attributes}\n"


def gene(attributes, start=11, end=20, strand="+"):
    return GENE.format(start=start, end=end, strand=strand, attributes=attributes)


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
