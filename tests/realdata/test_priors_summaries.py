"""Summaries of real cells against scanpy on the same cells, and which features join no node and why."""

import anndata
import numpy as np
import pytest
import scanpy

from heteromics.errors import DataError, NotCounts
from heteromics.priors import PriorStore

pytestmark = pytest.mark.realdata

MOUSE = """
recipe: 1
assembly: {{name: GRCm38, sizes: {mirror}/prior_genome_tables/mm10.seqinfo.tsv, chrom_style: ucsc}}
sources:
  gtf: {mirror}/prior_gtf_mm10_gencode_vM25/gencode.vM25.genes_only.gtf.gz
  peaks: {mirror}/multiome_snareseq_mop/atac.h5ad
  summary_data: {mirror}/multiome_snareseq_mop/rna.h5ad
  summary_data_atac: {mirror}/multiome_snareseq_mop/atac.h5ad
  summary_cells: {folder}/train.txt
nodes: {{gene: {{chrom_style: ucsc}}, peak: {{}}}}
attributes: {{summaries: {{}}, sequence: false}}
"""

HUMAN = """
recipe: 1
assembly: {{name: GRCh38, sizes: {mirror}/prior_genome_tables/hg38.seqinfo.tsv, chrom_style: ucsc}}
sources:
  gtf: {mirror}/prior_gtf_grch38_chr1/ensembl_GRCh38_chr1.gtf.gz
  summary_data: {mirror}/{file}
nodes: {{gene: {{chrom_style: ucsc}}}}
attributes: {{summaries: {{all_cells: true, {keys}}}}}
"""


def build(text, folder, **values):
    recipe = folder / "recipe.yaml"
    recipe.write_text(text.format(folder=folder, **values))
    return PriorStore.build(recipe, folder / "priors.duckdb", progress=False)


@pytest.fixture(scope="module")
def cells(mirror):
    names = np.array(anndata.read_h5ad(mirror / "multiome_snareseq_mop/rna.h5ad", backed="r").obs_names)
    return np.random.default_rng(0).permutation(names)[:6_000]


@pytest.fixture(scope="module")
def mouse(mirror, cells, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mouse")
    (folder / "train.txt").write_text("\n".join(cells))
    with build(MOUSE, folder, mirror=mirror) as store:
        yield store


@pytest.mark.parametrize(("file", "table", "top"), [("rna", "gene_summary", 2_000), ("atac", "peak_summary", 20_000)])
def test_summaries_are_those_of_scanpy_on_the_training_cells(mirror, mouse, cells, file, table, top):
    data = anndata.read_h5ad(mirror / f"multiome_snareseq_mop/{file}.h5ad")[np.sort(cells)].copy()
    theirs = scanpy.pp.highly_variable_genes(data, flavor="seurat_v3", n_top_genes=top, inplace=False)
    ours = mouse.frame(table).set_index("feature")
    theirs = theirs.loc[ours.index]
    assert set(ours["cells"]) == {6_000}
    np.testing.assert_allclose(ours["mean"], theirs["means"], rtol=1e-6)
    np.testing.assert_allclose(ours["variance"], theirs["variances"], rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(ours["normalised_variance"], theirs["variances_norm"], rtol=1e-4, atol=1e-6)
    zeros = 1 - (data[:, ours.index].X > 0).mean(axis=0)
    np.testing.assert_allclose(ours["dropout"], np.asarray(zeros).ravel(), atol=1e-12)
    assert (ours["highly_variable"] == theirs["highly_variable"]).mean() > 0.999


def test_the_cells_looked_at_are_kept(mouse, cells):
    kept = mouse.frame("summary_cell")
    assert kept.groupby("modality").size().to_dict() == {"atac": 6_000, "rna": 6_000}
    assert set(kept["cell_id"]) == set(cells)


def test_features_without_a_node_are_named(mouse):
    """All peaks are those of table peak; the genes that do not join carry names older than GENCODE vM25."""
    assert len(mouse.frame("peak_summary")) == 25_734
    report = mouse.match_report("gene_summary")
    assert len(mouse.frame("gene_summary")) == 1_656
    assert set(report["outcome"]) == {"absent"}
    assert len(report) == 21
    assert {"Park2", "Sept4", "Fam19a1"} <= set(report["name"])


@pytest.mark.filterwarnings("ignore::anndata.OldFormatWarning")
def test_ids_of_10x_join_where_symbols_changed(mirror, tmp_path):
    """The annotation is of chromosome 1, where 40 of these 1,000 genes of bone marrow lie; the others are absent."""
    file = "cite_bmmc_neurips2021/common.output_rna.h5ad"
    with build(HUMAN, tmp_path, mirror=mirror, file=file, keys="layers: {rna: counts}, span: 0.5") as store:
        summary, genes = store.frame("gene_summary"), store.frame("gene").set_index("gene_id")
    ids = anndata.read_h5ad(mirror / file, backed="r").var["gene_ids"]
    here = ids[ids.isin(genes.index)]
    assert set(here.index) <= set(summary["feature"])
    assert (summary.set_index("feature")["gene_id"].loc[here.index] == here).all()
    assert len(summary) == 40
    assert set(summary["cells"]) == {600}


def test_values_that_are_no_counts_are_refused(mirror, tmp_path):
    with pytest.raises(NotCounts, match=r"expected counts(.|\n)*fractional"):
        build(HUMAN, tmp_path, mirror=mirror, file="cite_bmmc_neurips2021/common.output_rna.h5ad", keys="span: 0.3")


def test_forty_cells_are_too_few_for_a_curve_that_looks_at_a_third_of_the_features(mirror, tmp_path):
    """Most of 36,601 genes are seen in one cell of 40, so that means are tied; a wider span has others beside them."""
    file = "multiome_pbmc_tiny_hg38/rna.h5ad"
    with pytest.raises(DataError, match="no curve of variance over mean fits the 12,685 features(.|\n)*above 0.3"):
        build(HUMAN, tmp_path, mirror=mirror, file=file, keys="span: 0.3")
    with build(HUMAN, tmp_path, mirror=mirror, file=file, keys="span: 0.5") as store:
        summary, genes = store.frame("gene_summary"), store.frame("gene")
        report = store.match_report("gene_summary")
    coding = genes[genes["biotype"] == "protein_coding"]
    joined = coding["gene_id"].isin(summary["gene_id"])
    assert joined.sum() == 942  # of 1,030; 10x lists no pseudogenes and few short RNAs, 112 other genes join
    assert len(summary) == 1_054
    lost = set(coding["symbol"][~joined])
    assert {"SEPN1", "TCEB3", "FAM46B", "KIAA1751"} <= lost  # the annotation of 2014 has names that changed since
    ambiguous = report.query("outcome == 'ambiguous'")
    assert set(ambiguous["name"]) == {"TARDBP", "PRAMEF11", "HNRNPCL2", "KCNA3"}  # two genes each in that annotation
    assert set(report["outcome"]) == {"absent", "ambiguous"}
    assert summary["highly_variable"].sum() > 50
