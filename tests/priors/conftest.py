"""A small genome whose every table can be worked out by hand, and a store built from it."""

import gzip
import shutil

import pytest

from heteromics.priors import PriorStore

GTF = """\
#!genome-build tiny
chr1\thavana\tgene\t1001\t2000\t.\t+\t.\tgene_id "ENSG00000000001.4"; gene_name "ALPHA"; gene_type "protein_coding";
chr1\thavana\texon\t1001\t1200\t.\t+\t.\tgene_id "ENSG00000000001.4"; transcript_id "T1";
chr1\thavana\texon\t1101\t1300\t.\t+\t.\tgene_id "ENSG00000000001.4"; transcript_id "T2";
chr1\thavana\tgene\t5001\t6000\t.\t-\t.\tgene_id "ENSG00000000002.1"; gene_name "BETA"; gene_type "lncRNA";
chr2\thavana\tgene\t101\t400\t.\t+\t.\tgene_id "ENSG00000000003.1"; gene_name "GAMMA"; gene_type "protein_coding";
chr2\thavana\tgene\t501\t900\t.\t+\t.\tgene_id "ENSG00000000004.1"; gene_name "GAMMA"; gene_type "protein_coding";
"""

RECIPE = """\
recipe: 1
assembly: {name: tiny, sizes: chrom.sizes, chrom_style: ucsc}
sources: {gtf: genes.gtf, peaks: peaks.bed, gmt: sets.gmt}
nodes:
  gene: {strip_version: true}
  peak: {}
edges:
  gene_peak: {within_bp: 500}
  pathways: {ids: symbol}
"""


def sources_in(tmp_path):
    """Write recipe and sources: 4 genes, 4 peaks, 2 chromosomes, 2 gene sets."""
    (tmp_path / "chrom.sizes").write_text("chr1\t10000\nchr2\t5000\n")
    (tmp_path / "genes.gtf").write_text(GTF)
    (tmp_path / "peaks.bed").write_text("chr1\t900\t1100\nchr1\t6300\t6400\nchr2\t200\t300\nchr1\t9000\t9100\n")
    (tmp_path / "sets.gmt").write_text("SET_ONE\thttp://one\tALPHA\tBETA\nSET_TWO\tna\tBETA\tNOGENE\n")
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    return tmp_path


@pytest.fixture
def folder(tmp_path):
    return sources_in(tmp_path)


@pytest.fixture
def recipe(folder):
    return folder / "tiny.yaml"


@pytest.fixture(scope="session")
def built_once(tmp_path_factory):
    folder = sources_in(tmp_path_factory.mktemp("tiny"))
    with PriorStore.build(folder / "tiny.yaml", folder / "tiny.duckdb", progress=False) as store:
        return store.path


@pytest.fixture
def store(folder, built_once):
    """The store of the recipe in ``folder``, beside it."""
    with PriorStore.open(shutil.copy(built_once, folder / "tiny.duckdb")) as store:
        yield store


def write_gz(path, text):
    with gzip.open(path, "wb") as file:
        file.write(text.encode())
    return path
