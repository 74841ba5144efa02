"""Whole stores of man and mouse from real files: every table, what joins, and why the rest does not."""

import pytest

from heteromics.priors import PriorStore
from heteromics.priors.schemas import SCHEMAS

pytestmark = [pytest.mark.realdata, pytest.mark.slow]

HUMAN = """
recipe: 1
assembly: {{name: GRCh38, sizes: {mirror}/prior_genome_tables/hg38.seqinfo.tsv, chrom_style: ucsc}}
sources:
  gtf: {mirror}/prior_tss_gene_tables/GRCh38_refGene_chr1_chr2_chr22.txt.gz
  peaks: {mirror}/multiome_pbmc_tiny_hg38/atac.h5ad
  genes: {mirror}/multiome_pbmc_tiny_hg38/rna.h5ad
  blacklist: {mirror}/prior_genome_tables/hg38-blacklist.v2.bed.gz
  fasta: {mirror}/prior_fasta_hg38_chr2_2.3Mb/chr2_1-2333275.fa.gz
  gmt: {mirror}/prior_msigdb_hallmark_v7.4/h.all.v7.4.symbols.gmt
  aliases_symbols: {mirror}/prior_tss_gene_tables/human_gene_id2symbol.tsv.gz
  string_links: {mirror}/prior_string_v11_sample/STRING11_9606_links.txt.gz
  string_aliases: {mirror}/prior_string_v11_sample/STRING11_9606_aliases.txt.gz
  pairs_irefindex: {mirror}/prior_ppi_irefindex_symbols/ppi_symbols.csv.gz
  regulons_dorothea: {mirror}/prior_tf_target_dorothea/dorothea_human_ABC.csv.gz
  regions_ccre: {mirror}/prior_ccre_hg38/human_cCREs_chr1_chr2_chr22.bed.gz
  regions_cd4_44092: {mirror}/prior_chip_cd4_hg38/44092_peaks.bed
  regions_cd4_44094: {mirror}/prior_chip_cd4_hg38/44094_peaks.bed
  regions_cd4_47435: {mirror}/prior_chip_cd4_hg38/47435_peaks.bed
  antibodies: {mirror}/cite_bmmc_neurips2021/common.output_mod2.h5ad
nodes:
  gene: {{chrom_style: ucsc}}
  peak: {{chrom_style: ucsc}}
  region: {{chrom_style: ucsc}}
  motif: {{jaspar: {{release: JASPAR2024}}}}
edges:
  gene_peak: {{within_bp: 150_000}}
  peak_region: {{}}
  pathways: {{}}
  interactions: {{min_score: 400}}
  pairs: {{}}
  regulons: {{}}
  motif_peak: {{partial_fasta: true}}
  antibodies: {{}}
attributes:
  sequence: {{fasta: true, partial_fasta: true}}
  annotation: {{}}
  kmers: {{k: 4, partial_fasta: true}}
  splits: {{hold_out: [chr22]}}
"""

MOUSE = """
recipe: 1
assembly: {{name: GRCm38, sizes: {mirror}/prior_genome_tables/mm10.seqinfo.tsv, chrom_style: ucsc}}
sources:
  gtf: {mirror}/prior_gtf_mm10_gencode_vM25/gencode.vM25.genes_only.gtf.gz
  peaks: {mirror}/multiome_snareseq_mop/atac.h5ad
  genes: {mirror}/multiome_snareseq_mop/rna.h5ad
  blacklist: {mirror}/prior_genome_tables/mm10-blacklist.v2.bed.gz
  regulons_dorothea: {mirror}/prior_tf_target_dorothea/dorothea_mouse_ABC.csv.gz
nodes:
  gene: {{chrom_style: ucsc}}
  peak: {{}}
  motif: {{jaspar: {{release: JASPAR2024}}}}
edges:
  gene_peak: {{within_bp: 150_000}}
  regulons: {{}}
attributes:
  annotation: {{}}
  splits: {{hold_out: [chr8, chr9], folds: 5}}
"""


def built(text, mirror, folder):
    recipe = folder / "whole.yaml"
    recipe.write_text(text.format(mirror=mirror))
    return PriorStore.build(recipe, folder / "whole.duckdb", progress=False)


@pytest.fixture(scope="module")
def human(mirror, tmp_path_factory):
    with built(HUMAN, mirror, tmp_path_factory.mktemp("human")) as store:
        yield store


@pytest.fixture(scope="module")
def mouse(mirror, tmp_path_factory):
    with built(MOUSE, mirror, tmp_path_factory.mktemp("mouse")) as store:
        yield store


def tally(store):
    """Number of names by (table, last part of the source, outcome)."""
    rows = store.match_summary().itertuples()
    return {(row.table_name, row.source.split("/")[-1], row.outcome): row.n for row in rows}


def share(counts, table, source, *joined):
    all_of_it = {outcome: n for (name, label, outcome), n in counts.items() if (name, label) == (table, source)}
    return sum(all_of_it.get(outcome, 0) for outcome in joined) / sum(all_of_it.values())


def test_every_edge_of_the_human_store_ends_at_nodes_that_are_there(human):
    for name in human.tables():
        for column, node in SCHEMAS[name].ends:
            key = SCHEMAS[node].key[0]
            sql = f'SELECT count(*) FROM "{name}" ANTI JOIN "{node}" ON "{name}"."{column}" = "{node}"."{key}"'
            assert human.connection.execute(sql).fetchall() == [(0,)], (name, column)


def test_human_names_join_as_far_as_three_chromosomes_reach(human):
    """Genes of chr1, chr2 and chr22 only: about one gene in seven of the genome, so most names find no gene here."""
    counts = tally(human)
    assert counts["gene", "GRCh38_refGene_chr1_chr2_chr22.txt.gz", "matched"] == 5_299
    assert counts["gene", "GRCh38_refGene_chr1_chr2_chr22.txt.gz", "two_loci"] == 266
    assert counts["peak", "atac.h5ad", "matched"] == 107_768
    assert counts["peak", "atac.h5ad", "filtered"] == 609  # in the blacklist
    assert counts["gene", "rna.h5ad", "matched"] == 4_229
    chosen = {"chr1", "chr2", "chr22"}
    there = human.frame("gene_peak").merge(human.frame("peak"), on="peak_id")["chrom"]
    assert set(there) == chosen
    assert share(counts, "gene_pathway", "h.all.v7.4.symbols.gmt", "matched", "alias") > 0.19
    assert share(counts, "tf_gene", "dorothea_human_ABC.csv.gz, TFs", "matched", "alias") > 0.15
    assert share(counts, "motif_tf", "JASPAR2024 (pyjaspar 4.0.0)", "matched", "case_folded", "alias") > 0.17
    assert share(counts, "protein", "common.output_mod2.h5ad", "matched", "alias") > 0.27
    assert counts["motif_peak", "chr2_1-2333275.fa.gz", "matched"] == 57  # peaks inside the 2.3 Mb of the FASTA


def test_names_not_joined_are_genes_of_other_chromosomes(human, mirror):
    """Antibodies' genes without a place here are on none of the three chromosomes in an independent table."""
    import pandas as pd

    starts = pd.read_csv(mirror / "prior_tss_gene_tables" / "hg38_tss_info.bed.gz", sep="\t", header=None)
    place = dict(zip(starts[3], starts[0], strict=True))
    absent = human.match_report("protein", "absent")
    symbols = {part.split(":")[0].strip() for detail in absent["detail"] for part in detail.split(";") if ":" in part}
    known = {symbol: place[symbol] for symbol in symbols if symbol in place}
    assert len(known) > 60
    elsewhere = sum(chrom not in {"chr1", "chr2", "chr22"} for chrom in known.values())
    assert elsewhere / len(known) > 0.97


def test_human_regions_and_motifs_support_links(human):
    overlap = human.connection.execute(
        "SELECT region_set, count(DISTINCT region_id) FROM peak_region JOIN region USING (region_id) GROUP BY ALL"
    ).fetchall()
    assert dict(overlap) == {"ccre": 59_499, "cd4_44092": 15_099, "cd4_44094": 14_208, "cd4_47435": 7_579}
    supported = human.connection.execute(
        "SELECT gene_id, peak_id FROM gene_peak JOIN tf_peak USING (peak_id) ORDER BY ALL LIMIT 1"
    ).fetchall()
    row = human.why(*supported[0])
    assert len(row) == 1
    assert row.loc[0, "gene_peak.distance"] <= 150_000


def test_mouse_names_join(mouse):
    counts = tally(mouse)
    assert counts["gene", "gencode.vM25.genes_only.gtf.gz", "matched"] == 55_487
    assert counts["gene", "rna.h5ad", "matched"] == 1_656
    assert counts["peak", "atac.h5ad", "filtered"] == 89  # in the blacklist
    assert share(counts, "tf_gene", "dorothea_mouse_ABC.csv.gz, TFs", "matched") == 1
    assert share(counts, "tf_gene", "dorothea_mouse_ABC.csv.gz, targets", "matched") > 0.99
    ambiguous = mouse.match_report("tf_gene", "ambiguous")
    assert len(ambiguous) == 13  # symbols that GENCODE gives to two or three genes
    assert ambiguous["detail"].str.startswith("fits ENSMUSG").all()


def test_motifs_of_mouse_factors_join_whatever_their_case_and_the_rest_are_names_of_other_species(mouse):
    counts = tally(mouse)
    assert share(counts, "motif_tf", "JASPAR2024 (pyjaspar 4.0.0)", "matched", "case_folded") > 0.85
    absent = set(mouse.match_report("motif_tf", "absent")["name"])
    assert {"TBXT", "ZNF384"} & absent  # T and Zfp384 in mouse: orthologs with other names


def test_both_assemblies_speak_for_themselves(human, mouse):
    for store, ratio in ((human, 2), (mouse, 3)):
        check = store.frame("assembly_check").set_index("check_name")
        assert set(check["verdict"]) == {"fits"}
        starts = check.loc["peaks at transcription starts"]
        assert starts["found"] / starts["expected"] > ratio


def test_splits_hold_whole_chromosomes_out(mouse):
    split = mouse.frame("chromosome_split")
    held = split[(split["split"] == "hold_out") & (split["part"] == "test")]["chrom"]
    assert sorted(held) == ["chr8", "chr9"]
    tested = split[split["split"].str.startswith("fold_") & (split["part"] == "test")]["chrom"]
    assert not tested.duplicated().any()


def test_a_second_build_keeps_every_step(mouse, mirror):
    before = mouse.path.stat().st_mtime_ns
    with PriorStore.build(mouse.path.with_name("whole.yaml"), mouse.path, progress=False):
        assert mouse.path.stat().st_mtime_ns == before
