"""k-mers and bases of real peaks: they agree with the sequence itself and with each other."""

import gzip
from collections import Counter

import numpy as np
import pytest
from Bio.Seq import reverse_complement

from heteromics.errors import BeyondChromosome, PriorError
from heteromics.priors import PriorStore

pytestmark = pytest.mark.realdata

RECIPE = """
recipe: 1
assembly: {{name: GRCh38, sizes: {mirror}/prior_genome_tables/hg38.seqinfo.tsv, chrom_style: ucsc}}
sources:
  gtf: {mirror}/prior_gtf_grch38_chr1/ensembl_GRCh38_chr1.gtf.gz
  peaks: {mirror}/multiome_snareseq_h1_hg38/atac.h5ad
  fasta: {mirror}/prior_fasta_hg38_chr2_2.3Mb/chr2_1-2333275.fa.gz
nodes: {{gene: {{chrom_style: ucsc}}, peak: {{chrom_style: ucsc}}}}
attributes:
  sequence: {{fasta: true, partial_fasta: true}}
  kmers: {{k: 4, partial_fasta: true}}
  bases: {{width_bp: 256, partial_fasta: true}}
"""
FASTA_BP = 2_333_275


def build(mirror, folder, sets=()):
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(mirror=mirror))
    return PriorStore.build(recipe, folder / "priors.duckdb", sets=sets, progress=False)


@pytest.fixture(scope="module")
def h1(mirror, tmp_path_factory):
    with build(mirror, tmp_path_factory.mktemp("h1")) as store:
        yield store


@pytest.fixture(scope="module")
def inside(h1):
    return h1.frame("peak").query("chrom == 'chr2' and chrom_end <= @FASTA_BP")


@pytest.fixture(scope="module")
def chr2(mirror):
    packed = (mirror / "prior_fasta_hg38_chr2_2.3Mb" / "chr2_1-2333275.fa.gz").read_bytes()
    return "".join(gzip.decompress(packed).decode().split("\n")[1:]).upper()


@pytest.mark.parametrize("table", ["peak_attribute", "peak_kmer", "peak_bases"])
def test_peaks_outside_the_stretch_are_named_and_kept(h1, inside, table):
    assert len(inside) == 35
    assert len(h1.frame(table)) == len(h1.frame("peak"))
    report = h1.match_report(table)
    assert set(report["outcome"]) == {"absent"}
    assert set(h1.frame("peak")["peak_id"]) - set(report["name"]) == set(inside["peak_id"])


def test_kmers_agree_with_counting_and_with_gc(h1, inside, chr2):
    rows = h1.frame("peak_kmer").set_index("peak_id")
    frequency = np.stack(rows["frequency"])  # (peaks, 136)
    assert frequency.shape[1] == 136
    known = ~np.isnan(frequency).any(axis=1)
    assert set(rows.index[known]) == set(inside["peak_id"])
    np.testing.assert_allclose(frequency[known].sum(axis=1), 1, atol=1e-5)
    labels = h1.frame("array_label").query("table_name == 'peak_kmer'").sort_values("position")["label"].tolist()
    for row in inside.itertuples():
        text = chr2[row.chrom_start : row.chrom_end]
        words = [text[place : place + 4] for place in range(len(text) - 3)]
        counted = Counter(min(word, reverse_complement(word)) for word in words)
        expected = [counted[label] / len(words) for label in labels]
        np.testing.assert_allclose(rows.loc[row.peak_id, "frequency"], expected, rtol=1e-5)
    gc = np.array([sum(base in "GC" for base in label) / 4 for label in labels])
    told = h1.frame("peak_attribute").set_index("peak_id").loc[rows.index[known], "gc"]
    np.testing.assert_allclose(frequency[known] @ gc, told, atol=0.01)  # the ends count in fewer 4-mers


def test_bases_are_those_around_the_middle(h1, inside, chr2):
    rows = h1.frame("peak_bases").set_index("peak_id")["codes"]
    for row in inside.itertuples():
        first = (row.chrom_start + row.chrom_end) // 2 - 128
        assert "".join("ACGTN"[code] for code in rows[row.peak_id]) == chr2[first : first + 256]
    outside = rows.drop(inside["peak_id"])
    assert (np.stack(outside) == 4).all()


def test_a_stretch_is_not_taken_for_the_genome(mirror, tmp_path):
    message = r"1 of 1 chromosomes are not as long(.|\n)*chr2: 2,333,275 bp, assembly 242,193,529 bp"
    with pytest.raises(BeyondChromosome, match=message):
        build(mirror, tmp_path, ["attributes.kmers.partial_fasta=false"])


def test_promoters_of_another_chromosome_are_none_to_describe(mirror, tmp_path):
    message = r"2,653 of 2,653 regions of promoter_kmer lie outside the FASTA(.|\n)*the FASTA has no chr1"
    with pytest.raises(PriorError, match=message):
        build(mirror, tmp_path, ["attributes.kmers.promoters=true"])


def test_promoters_of_refgene_are_on_their_genes_strand(mirror, tmp_path, chr2):
    sets = [
        f"source.gtf={mirror}/prior_tss_gene_tables/GRCh38_refGene_chr1_chr2_chr22.txt.gz",
        "attributes.bases.promoters=true",
        "attributes.bases.width_bp=61",
        "attributes.sequence.promoters=true",
        "attributes.sequence.promoter_bp=500",
    ]
    with build(mirror, tmp_path, sets) as store:
        genes = store.frame("gene").query("chrom == 'chr2' and tss < @FASTA_BP - 600").set_index("gene_id")
        codes = store.frame("promoter_bases").set_index("gene_id")["codes"]
        gc = store.frame("promoter_attribute").set_index("gene_id")["gc"]
        assert len(genes) >= 10
        assert set(genes["strand"]) == {"+", "-"}
        for gene in genes.itertuples():
            window = chr2[gene.tss - 30 : gene.tss + 31]
            expected = reverse_complement(window) if gene.strand == "-" else window
            assert "".join("ACGTN"[code] for code in codes[gene.Index]) == expected
        assert gc[genes.index].mean() > gc_of(chr2) + 0.05  # promoters are rich in G and C
        assert len(store.match_report("promoter_bases")) == len(codes) - (np.stack(codes) < 4).any(axis=1).sum()


def gc_of(text):
    known = len(text) - text.count("N")
    return (text.count("G") + text.count("C")) / known
