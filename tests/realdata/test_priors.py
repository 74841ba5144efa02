"""Priors from real files: what joins, what does not and why, and whether links agree with those others made."""

import gzip

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from heteromics.errors import BeyondChromosome, PriorError
from heteromics.priors import PriorStore

pytestmark = pytest.mark.realdata

MOUSE = """
recipe: 1
assembly: {{name: GRCm38, sizes: {mirror}/prior_genome_tables/mm10.seqinfo.tsv, chrom_style: ucsc}}
sources:
  gtf: {mirror}/prior_gtf_mm10_gencode_vM25/gencode.vM25.genes_only.gtf.gz
  peaks: {mirror}/multiome_snareseq_mop/atac.h5ad
  genes: {mirror}/multiome_snareseq_mop/rna.h5ad
nodes: {{gene: {{chrom_style: ucsc}}, peak: {{}}}}
edges: {{gene_peak: {{within_bp: 150_000}}}}
attributes: {{sequence: {{}}}}
"""

HUMAN = """
recipe: 1
assembly: {{name: GRCh38, sizes: {mirror}/prior_genome_tables/hg38.seqinfo.tsv, chrom_style: ucsc}}
sources:
  gtf: {mirror}/prior_gtf_grch38_chr1/ensembl_GRCh38_chr1.gtf.gz
  peaks: {mirror}/multiome_pbmc_tiny_hg38/atac.h5ad
  fasta: {mirror}/prior_fasta_hg38_chr2_2.3Mb/chr2_1-2333275.fa.gz
  gmt: {mirror}/prior_msigdb_hallmark_v7.4/h.all.v7.4.symbols.gmt
  string_links: {mirror}/prior_string_v11_sample/STRING11_9606_links.txt.gz
  string_aliases: {mirror}/prior_string_v11_sample/STRING11_9606_aliases.txt.gz
nodes: {{gene: {{chrom_style: ucsc}}, peak: {{chrom_style: ucsc}}}}
edges: {{gene_peak: {{within_bp: 150_000}}, pathways: {{}}, interactions: {{min_score: 400}}}}
attributes: {{sequence: {{fasta: true, partial_fasta: true}}}}
"""

# Names of an older annotation; vM25 says Prkn for Park2, Tafa1 for Fam19a1, and knows some not at all.
SNARE_NOT_IN_VM25 = [
    "6430573F11Rik",
    "A430105I19Rik",
    "AF529169",
    "BC030499",
    "Fam105a",
    "Fam19a1",
    "Fam19a2",
    "Fam19a5",
    "Fam46a",
    "Fam69c",
    "Gm14005",
    "Hist1h2bc",
    "March1",
    "March3",
    "Mtss1l",
    "Palm2",
    "Park2",
    "Pla2g16",
    "Sept4",
    "Sept7",
    "St5",
]


def build(text, mirror, folder, sets=()):
    recipe = folder / "recipe.yaml"
    recipe.write_text(text.format(mirror=mirror))
    return PriorStore.build(recipe, folder / "priors.duckdb", sets=sets, progress=False)


def outcomes(store, table):
    summary = store.frame("match_summary")
    summary = summary[summary["table_name"] == table]
    return {(row.source.split("/")[-1], row.outcome): row.n for row in summary.itertuples()}


@pytest.fixture(scope="module")
def human(mirror, tmp_path_factory):
    with build(HUMAN, mirror, tmp_path_factory.mktemp("human")) as store:
        yield store


@pytest.fixture(scope="module")
def mouse(mirror, tmp_path_factory):
    with build(MOUSE, mirror, tmp_path_factory.mktemp("mouse")) as store:
        yield store


def test_every_mouse_gene_that_does_not_join_is_named(mouse):
    report = mouse.match_report("gene")
    named = report[report["source"].str.endswith("rna.h5ad")]
    assert outcomes(mouse, "gene")["rna.h5ad", "matched"] == 1_656
    assert sorted(named["name"]) == SNARE_NOT_IN_VM25
    assert set(named["outcome"]) == {"absent"}
    left_out = report[report["source"].str.endswith(".gtf.gz")]
    assert set(left_out["outcome"]) == {"wrong_assembly"}  # patches and other strains' contigs, which mm10 has not
    assert len(left_out) == 775


def test_mouse_peaks_all_join_and_nine_in_ten_reach_a_gene(mouse):
    assert outcomes(mouse, "peak") == {("atac.h5ad", "matched"): 25_734}
    links = mouse.frame("gene_peak")
    assert not links.duplicated(["gene_id", "peak_id"]).any()
    assert links["peak_id"].nunique() > 0.9 * 25_734
    assert links["distance"].between(0, 150_000).all()
    assert (links["signed_offset"].abs() == links["distance"]).all()
    assert np.allclose(links["weight"], ((links["distance"] + 1_000) / 1_000) ** -0.75)


def test_distances_of_real_genes_agree_with_their_coordinates(mouse):
    rows = mouse.frame("gene_peak").sample(2_000, random_state=0)
    rows = rows.merge(mouse.frame("gene"), on="gene_id").merge(mouse.frame("peak"), on="peak_id", suffixes=("", "_p"))
    assert (rows["chrom"] == rows["chrom_p"]).all()
    tss = np.where(rows["strand"] == "-", rows["chrom_end"] - 1, rows["chrom_start"])
    assert (tss == rows["tss"]).all()
    for row, site in zip(rows.itertuples(), tss, strict=True):
        bases = np.array([row.chrom_start_p, row.chrom_end_p - 1])
        gap = 0 if bases[0] <= site <= bases[1] else int(np.abs(bases - site).min())
        assert row.distance == gap


def test_links_agree_with_those_that_came_with_the_data(mirror, tmp_path):
    """GxR.npz gives each region one gene; here: gene body, and 2 kb around it. All but a few of either are shared."""
    folder = mirror / "multiome_snareseq_mop"
    given = sparse.load_npz(folder / "GxR.npz").tocoo()
    genes = np.array((folder / "genes.txt").read_text().split())
    peaks = anndata.read_h5ad(folder / "atac.h5ad", backed="r").var
    regions = (folder / "regions.txt").read_text().split()
    name = dict(zip(peaks["source_name"], peaks.index, strict=True))
    theirs = pd.DataFrame({"symbol": genes[given.row], "peak_id": [name[regions[column]] for column in given.col]})
    sets = ["edges.gene_peak.anchor=body", "edges.gene_peak.within_bp=2000"]
    with build(MOUSE, mirror, tmp_path, sets) as store:
        symbols = store.frame("gene")[["gene_id", "symbol"]]
        ours = store.frame("gene_peak").merge(symbols, on="gene_id")
    ours = ours[ours["symbol"].isin(genes)]
    known = theirs[theirs["symbol"].isin(symbols["symbol"])]
    shared = known.merge(ours, on=["symbol", "peak_id"])
    assert len(known) == 25_299
    assert len(shared) / len(known) > 0.999
    assert len(shared) / len(ours) > 0.99
    assert shared["in_body"].mean() > 0.98


def test_human_genes_peaks_and_links_of_one_chromosome(human):
    assert human.frame("gene")["chrom"].unique().tolist() == ["chr1"]
    assert len(human.frame("gene")) == 2_653
    peaks = human.frame("peak")
    unplaced = human.match_report("peak")
    assert len(peaks) + len(unplaced) == 108_377
    links = human.frame("gene_peak")
    on_chr1 = set(peaks.loc[peaks["chrom"] == "chr1", "peak_id"])
    assert set(links["peak_id"]) <= on_chr1
    counts = outcomes(human, "gene_peak")
    assert counts["gene", "matched"] + counts["gene", "out_of_reach"] == 2_653
    assert counts["peak", "out_of_reach"] == len(peaks) - links["peak_id"].nunique()
    promoters = links[links["in_promoter"]]
    assert promoters["signed_offset"].between(-2_000, 0).all()


def test_hallmark_sets_join_and_the_genes_of_other_chromosomes_are_named(human, mirror):
    text = (mirror / "prior_msigdb_hallmark_v7.4" / "h.all.v7.4.symbols.gmt").read_text()
    sets = {fields[0]: set(fields[2:]) for fields in (line.split("\t") for line in text.splitlines())}
    listed = set().union(*sets.values())
    genes = human.frame("gene")
    members = human.frame("gene_pathway").merge(genes, on="gene_id")
    for pathway, rows in members.groupby("pathway_id"):
        assert set(rows["symbol"]) <= sets[pathway]
    report = human.match_report("gene_pathway")
    assert set(members["symbol"]) | set(report["name"]) == listed
    assert set(report["outcome"]) == {"absent", "ambiguous"}
    absent = report.loc[report["outcome"] == "absent", "detail"]
    assert absent.str.endswith("not in the annotation").all()  # some are known to STRING's aliases
    ambiguous = report[report["outcome"] == "ambiguous"].set_index("name")["detail"]
    assert {name: len(detail.split(", ")) for name, detail in ambiguous.items()} == genes["symbol"].value_counts()[
        ambiguous.index
    ].to_dict()
    assert members["symbol"].nunique() == 229
    pairs = human.frame("gene_gene")
    pairs = pairs[pairs["source"] == "pathway"]
    assert (pairs["gene_a"] < pairs["gene_b"]).all()
    of_gene = members.groupby("gene_id")["pathway_id"].agg(set)
    for row in pairs.sample(300, random_state=0).itertuples():
        a, b = of_gene[row.gene_a], of_gene[row.gene_b]
        assert row.weight == pytest.approx(len(a & b) / len(a | b))


def test_string_sample_keeps_all_channels_and_names_every_protein_without_a_gene(human, mirror):
    raw = pd.read_csv(mirror / "prior_string_v11_sample" / "STRING11_9606_links.txt.gz", sep=" ")
    links = human.frame("protein_protein")
    ends = np.sort(raw[["protein1", "protein2"]].to_numpy(str), axis=1)
    expected = raw.assign(protein_a=ends[:, 0], protein_b=ends[:, 1]).drop_duplicates(["protein_a", "protein_b"])
    columns = [name for name in links.columns if name != "evidence"]
    merged = expected[columns].sort_values(["protein_a", "protein_b"], ignore_index=True)
    pd.testing.assert_frame_equal(links[columns], merged, check_dtype=False)
    proteins = human.frame("protein")
    unmatched = set(human.match_report("gene_protein").query("outcome in ['absent', 'ambiguous']")["name"])
    assert unmatched == set(proteins.loc[proteins["gene_id"].isna(), "protein_id"])
    assert len(human.frame("gene_protein")) == len(proteins) - len(unmatched) > 0  # two independent samples


def test_sequence_of_the_peaks_that_the_fasta_holds(human, mirror):
    attributes = human.frame("peak_attribute").merge(human.frame("peak"), on="peak_id")
    assert len(attributes) == len(human.frame("peak"))
    known = attributes[attributes["n_share"].notna()]
    assert len(known) == 57
    assert set(known["chrom"]) == {"chr2"}
    assert known["chrom_end"].max() <= 2_333_275
    path = mirror / "prior_fasta_hg38_chr2_2.3Mb" / "chr2_1-2333275.fa.gz"
    bases = "".join(gzip.decompress(path.read_bytes()).decode().split("\n")[1:]).upper()
    for row in known.itertuples():
        peak = bases[row.chrom_start : row.chrom_end]
        letters = {letter: peak.count(letter) for letter in "ACGT"}
        assert row.gc == pytest.approx((letters["C"] + letters["G"]) / sum(letters.values()))
        expected = peak.count("CG") * sum(letters.values()) / (letters["C"] * letters["G"])
        assert row.cpg_oe == pytest.approx(expected)
    named = human.match_report("peak_attribute")
    assert len(named) == len(attributes) - 57
    assert (attributes["width"] == attributes["chrom_end"] - attributes["chrom_start"]).all()


def test_fasta_that_ends_early_stops_the_build_unless_allowed(mirror, tmp_path):
    with pytest.raises(
        BeyondChromosome, match=r"chr2: 2,333,275 bp, assembly 242,193,529 bp(.|\n)*partial_fasta: true"
    ):
        build(HUMAN, mirror, tmp_path, ["attributes.sequence.partial_fasta=false"])
    assert not (tmp_path / "priors.duckdb").exists()


def test_entrez_members_are_recognised(mirror, tmp_path):
    entrez = mirror / "prior_msigdb_hallmark_v7.4" / "h.all.v7.4.entrez.gmt"
    with pytest.raises(PriorError, match="look like Entrez ids: set `ids: entrez`"):
        build(HUMAN, mirror, tmp_path, [f"source.gmt={entrez}"])
