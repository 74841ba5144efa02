"""Motifs of JASPAR in real peaks: which factors join, which motifs can hit, and whether Biopython finds them there."""

import gzip

import numpy as np
import pytest
from Bio.motifs.matrix import PositionWeightMatrix

from heteromics.priors import PriorStore

pytestmark = pytest.mark.realdata

RECIPE = """
recipe: 1
assembly: {{name: GRCh38, sizes: {mirror}/prior_genome_tables/hg38.seqinfo.tsv, chrom_style: ucsc}}
sources:
  gtf: {mirror}/prior_gtf_grch38_chr1/ensembl_GRCh38_chr1.gtf.gz
  peaks: {mirror}/{peaks}/atac.h5ad
  fasta: {mirror}/prior_fasta_hg38_chr2_2.3Mb/chr2_1-2333275.fa.gz
  {motifs}
nodes: {{gene: {{chrom_style: ucsc}}, peak: {{chrom_style: ucsc}}, motif: {config}}}
edges: {{motif_peak: {{partial_fasta: true}}}}
"""
JASPAR2022 = """motifs: {mirror}/prior_motifs_jaspar/JASPAR2022_vertebrates.pfm
  motif_factors: {mirror}/prior_motifs_jaspar/JASPAR2022_vertebrates.motif2factors.txt"""
ARCHETYPES = "motifs: {mirror}/prior_motifs_jaspar/jaspar_2024_consensus.meme"
FASTA_BP = 2_333_275

# Not symbols of an autosomal human gene: genes of X and Y, former symbols (Arntl is BMAL1 now), genes only mice have,
# a gene fusion and a frog's gene.
NOT_AUTOSOMAL_SYMBOLS = {
    *("Ar", "Arx", "CDX4", "ELF4", "ELK1", "ESX1", "FOXO4", "FOXP3", "GATA1", "POU3F4", "RHOXF1", "SHOX", "SRY"),
    *("Sox3", "TFE3", "TGIF2LX", "TGIF2LY", "YY2", "ZBED1", "ZBTB33", "ZNF449", "ZNF75D", "Zfx", "Zic3"),
    *("Arntl", "Dux", "Msx3", "Rhox11", "Zfp335", "EWSR1-FLI1", "mix-a"),
}


def build(mirror, folder, peaks, motifs="", config="{}"):
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(mirror=mirror, peaks=peaks, motifs=motifs.format(mirror=mirror), config=config))
    return PriorStore.build(recipe, folder / "priors.duckdb", progress=False)


def outcomes(store, table):
    rows = store.frame("match_summary").query("table_name == @table")
    return {(row.source.split(" ")[0].split("/")[-1], row.outcome): row.n for row in rows.itertuples()}


@pytest.fixture(scope="module")
def pbmc(mirror, tmp_path_factory):
    with build(mirror, tmp_path_factory.mktemp("pbmc"), "multiome_pbmc_tiny_hg38", JASPAR2022) as store:
        yield store


@pytest.fixture(scope="module")
def h1(mirror, tmp_path_factory):
    config = "{jaspar: {release: JASPAR2024, species: [9606]}}"
    with build(mirror, tmp_path_factory.mktemp("h1"), "multiome_snareseq_h1_hg38", config=config) as store:
        yield store


def test_factors_of_chromosome_one_join_and_all_others_are_explained(pbmc, mirror):
    counts = outcomes(pbmc, "motif_tf")
    assert sum(counts.values()) == 749
    joined = pbmc.frame("motif_tf").merge(pbmc.frame("gene"), on="gene_id")
    assert set(joined["chrom"]) == {"chr1"}
    assert joined["symbol"].nunique() >= 27
    assert {"JUN", "GFI1", "RUNX3", "TFAP2E", "ALX3"} <= set(joined["symbol"])
    assert pbmc.frame("gene")["chrom_end"].max() < 115e6  # this GTF ends there: ATF3, PBX1 and USF1 lie beyond
    report = pbmc.match_report("motif_tf")
    folded = set(report.loc[report["outcome"] == "case_folded", "name"])
    assert {"Gmeb1", "Lhx8", "Foxj3", "Dmbx1"} <= folded  # JASPAR names motifs measured in mice as mice name the gene
    absent = set(report.loc[report["outcome"] == "absent", "name"])
    assert len(absent) <= 721
    with gzip.open(mirror / "prior_tss_gene_tables" / "human_gene_id2symbol.tsv.gz", "rt") as file:
        human = {line.split("\t")[1].strip().upper() for line in file}
    assert {name for name in absent if name.upper() not in human} <= NOT_AUTOSOMAL_SYMBOLS
    symbols = {symbol.upper() for symbol in pbmc.frame("gene")["symbol"]}
    assert not {name for name in absent if name.upper() in symbols}  # the others lie on other chromosomes


def test_all_motifs_are_read_and_the_shortest_cannot_hit(pbmc):
    motifs = pbmc.frame("motif").set_index("motif_id")
    assert len(motifs) == 838
    assert (motifs["length"].min(), motifs["length"].max()) == (6, 35)
    assert motifs.loc["MA0139.1_MA0139.1.CTCF", ["name", "factors", "consensus"]].tolist() == [
        "CTCF",
        "CTCF",
        "YNRCCASYAGRKGGCRSYN",
    ]
    report = pbmc.match_report("motif_peak").query("outcome == 'filtered'")
    assert outcomes(pbmc, "motif_peak")["JASPAR2022_vertebrates.pfm", "filtered"] == 5
    short = motifs.loc[report["name"]]
    assert set(short["length"]) == {6}
    assert motifs.loc[motifs["length"] == 6].index.isin(report["name"]).all()


def test_peaks_outside_the_stretch_are_named_and_those_inside_are_hit(pbmc):
    peaks = pbmc.frame("peak")
    inside = peaks[(peaks["chrom"] == "chr2") & (peaks["chrom_end"] <= FASTA_BP)]
    counts = outcomes(pbmc, "motif_peak")
    assert counts["chr2_1-2333275.fa.gz", "matched"] == len(inside) == 57
    assert counts["chr2_1-2333275.fa.gz", "absent"] == len(peaks) - 57
    edges = pbmc.frame("motif_peak")
    assert set(edges["peak_id"]) <= set(inside["peak_id"])
    assert edges["peak_id"].nunique() >= 56  # a peak of 160 bp has none
    placed = edges.merge(inside, on="peak_id").merge(pbmc.frame("motif"), on="motif_id")
    assert (placed["hit_start"] >= placed["chrom_start"]).all()
    assert (placed["hit_start"] + placed["length"] <= placed["chrom_end"]).all()
    assert (edges["p_value"] < 1e-4).all()


def test_hits_are_more_than_chance_gives(pbmc):
    """A random place is hit with at most the p-value, on either strand; real peaks hold motifs beyond that."""
    peaks = pbmc.frame("peak").query("chrom == 'chr2' and chrom_end <= @FASTA_BP")
    places = 2 * sum((peaks["chrom_end"] - peaks["chrom_start"] + 1).sum() - 57 * pbmc.frame("motif")["length"])
    hits = pbmc.frame("motif_peak")["hits"].sum()
    assert 1.1 < hits / (places * 1e-4) < 2.5


def test_best_hits_agree_with_biopython(pbmc, mirror):
    """The same background, no rounding: scores differ by no more than rounding, places by nothing."""
    packed = (mirror / "prior_fasta_hg38_chr2_2.3Mb" / "chr2_1-2333275.fa.gz").read_bytes()
    chr2 = "".join(gzip.decompress(packed).decode().split("\n")[1:]).upper()
    peaks = pbmc.frame("peak").query("chrom == 'chr2' and chrom_end <= @FASTA_BP")
    texts = {row.peak_id: chr2[row.chrom_start : row.chrom_end] for row in peaks.itertuples()}
    joined = "".join(texts.values())
    strong = (joined.count("G") + joined.count("C")) / 2 / len(joined)
    background = {"A": 0.5 - strong, "C": strong, "G": strong, "T": 0.5 - strong}
    edges = pbmc.frame("motif_peak").merge(peaks, on="peak_id")
    motifs = pbmc.frame("motif").set_index("motif_id")
    looked_at = 0
    for name in ("MA0139.1_MA0139.1.CTCF", "MA0079.5_MA0079.5.SP1", "MA1513.1_MA1513.1.KLF15"):
        p = np.array(motifs.loc[name, "probabilities"]).reshape(-1, 4)
        pssm = PositionWeightMatrix("ACGT", dict(zip("ACGT", p.T.tolist(), strict=True)))
        forward = pssm.log_odds(background)
        reverse = forward.reverse_complement()
        for row in edges[edges["motif_id"] == name].itertuples():
            both = np.array([one.calculate(texts[row.peak_id]) for one in (forward, reverse)])  # (2, places)
            assert both.max() == pytest.approx(row.score, abs=0.005 * len(p))
            place = row.hit_start - row.chrom_start
            assert both["+-".index(row.strand), place] == pytest.approx(row.score, abs=0.005 * len(p))
            looked_at += 1
    assert looked_at > 40


def test_factors_reach_peaks_through_their_motifs(pbmc):
    edges = pbmc.frame("tf_peak")
    through = pbmc.frame("motif_peak").merge(pbmc.frame("motif_tf"), on="motif_id", suffixes=("", "_tf"))
    best = through.groupby(["gene_id", "peak_id"])["p_value"].agg(["min", "size"])
    found = edges.set_index(["tf_id", "peak_id"]).loc[best.index]
    assert len(edges) == len(best) > 200
    assert (found["p_value"] == best["min"]).all()
    assert (found["motifs"] == best["size"]).all()


def test_jaspar_2024_of_the_package_finds_the_same_ctcf_site_in_other_cells(pbmc, h1):
    motifs = h1.frame("motif").set_index("motif_id")
    assert len(motifs) == 720
    assert set(motifs["source"].str.split(" ").str[0]) == {"JASPAR2024"}
    assert h1.frame("motif_tf")["gene_id"].nunique() >= 22
    counts = outcomes(h1, "motif_peak")
    assert counts["chr2_1-2333275.fa.gz", "matched"] == 35
    # This release has cut its matrices to the positions that say something: some are too short for 1e-4. Those of A and
    # T pass here, where the peaks hold few of these.
    assert counts["JASPAR2024", "filtered"] == 36
    short = h1.match_report("motif_peak").query("outcome == 'filtered'")["name"]
    assert motifs.loc[short, "length"].max() <= 8
    sites = {}
    for store, name in ((pbmc, "MA0139.1_MA0139.1.CTCF"), (h1, "MA0139.2")):
        edges = store.frame("motif_peak").query("motif_id == @name")
        sites[name] = {(row.hit_start, row.strand) for row in edges[edges["p_value"] < 1e-6].itertuples()}
    assert (1_550_878, "-") in sites["MA0139.1_MA0139.1.CTCF"]
    assert (1_550_880, "-") in sites["MA0139.2"]  # two positions fewer on this side


def test_archetypes_of_motifs_stand_for_families_of_which_few_are_genes(mirror, tmp_path):
    with build(mirror, tmp_path, "multiome_snareseq_h1_hg38", ARCHETYPES) as store:
        assert len(store.frame("motif")) == 182
        counts = outcomes(store, "motif_tf")
        assert sum(counts.values()) == 200
        linked = store.frame("motif_tf").merge(store.frame("gene"), on="gene_id")
        assert {"JUN"} <= set(linked["symbol"])
        assert linked["symbol"].nunique() <= 6
        report = store.match_report("motif_tf")
        assert {"HES", "SREBF", "NFAT", "POU4F"} <= set(report.loc[report["outcome"] == "absent", "name"])
        assert store.frame("motif_peak")["motif_id"].nunique() > 130
