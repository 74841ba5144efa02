"""Chromosomes held out in a real store: folds that weigh alike, and no link across train and test."""

import numpy as np
import pytest

from heteromics.priors import PriorStore
from heteromics.priors.splits import chromosome_blocks, chromosome_codes, held_out, same_chromosome

pytestmark = pytest.mark.realdata

RECIPE = """
recipe: 1
assembly: {{name: GRCm38, sizes: {mirror}/prior_genome_tables/mm10.seqinfo.tsv, chrom_style: ucsc}}
sources:
  gtf: {mirror}/prior_gtf_mm10_gencode_vM25/gencode.vM25.genes_only.gtf.gz
  peaks: {mirror}/multiome_snareseq_mop/atac.h5ad
nodes: {{gene: {{chrom_style: ucsc}}, peak: {{}}}}
edges: {{gene_peak: {{}}}}
attributes: {{sequence: false, splits: {{hold_out: [chr8, chr9], folds: 5}}}}
"""


@pytest.fixture(scope="module")
def store(mirror, tmp_path_factory):
    folder = tmp_path_factory.mktemp("splits")
    (folder / "recipe.yaml").write_text(RECIPE.format(mirror=mirror))
    with PriorStore.build(folder / "recipe.yaml", folder / "priors.duckdb", progress=False) as store:
        yield store


@pytest.fixture(scope="module")
def links(store):
    rows = store.frame("gene_peak")
    for end in ("gene", "peak"):
        names = store.frame(end)[f"{end}_id"]
        rows[end] = rows[f"{end}_id"].map(dict(zip(names, range(len(names)), strict=True)))
    return rows


def test_folds_hold_links_alike_and_each_link_once(store, links):
    parts = [held_out(store, f"fold_{number}") for number in range(5)]
    sizes = [int(gene[links["gene"]].sum()) for gene, _ in parts]
    assert sum(sizes) == len(links)
    assert max(sizes) < 1.05 * len(links) / 5
    for gene, peak in parts:
        assert (gene[links["gene"]] == peak[links["peak"]]).all()


def test_named_chromosomes_are_the_test_part(store):
    gene, _ = held_out(store)
    chrom = store.frame("gene")["chrom"].to_numpy()
    assert set(chrom[gene]) == {"chr8", "chr9"}
    assert not set(chrom[~gene]) & {"chr8", "chr9"}


def test_chromosomes_in_no_fold_are_those_without_a_link(store, links):
    """chrM and the unplaced scaffolds have genes but none of these peaks; chrY has no peak in this tissue's data."""
    linked = set(store.frame("gene")["chrom"].to_numpy()[links["gene"].unique()])
    report = store.match_report("chromosome_split")
    assert set(report["name"]) == set(store.frame("chromosome")["chrom"]) - linked
    assert set(report["outcome"]) == {"empty"}
    assert linked >= {f"chr{number}" for number in range(1, 20)} | {"chrX"}


def test_the_mask_of_codes_lets_all_links_through_and_a_twentieth_of_all_pairs(store, links):
    gene, peak = chromosome_codes(store)
    assert same_chromosome(gene, peak, links["gene"].to_numpy(), links["peak"].to_numpy()).all()
    inside = sum(block.gene.size * block.peak.size for block in chromosome_blocks(gene, peak))
    assert inside == (np.bincount(gene, minlength=99) * np.bincount(peak, minlength=99)).sum()
    assert 0.04 < inside / (gene.size * peak.size) < 0.07
