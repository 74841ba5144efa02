"""Regulons where the answer is known, and a network of real motifs, links and targets, written and read back."""

import shutil
import subprocess

import anndata as ad
import networkx as nx
import numpy as np
import pandas as pd
import pytest

from heteromics.data import read
from heteromics.interpret import (
    activity_by_group,
    compare_networks,
    correlation_links,
    expressed_share,
    regulatory_network,
    regulon_activity,
    store_regulons,
    tf_gene_edges,
    to_networkx,
    write_bedpe,
    write_cx2,
    write_graphml,
)
from heteromics.priors import PriorStore
from tests.interpret.test_export import plain, read_cx2

pytestmark = pytest.mark.realdata

RECIPE = """
recipe: 1
assembly: {{name: GRCh38, sizes: {mirror}/prior_genome_tables/hg38.seqinfo.tsv, chrom_style: ucsc}}
sources:
  gtf: {mirror}/prior_tss_gene_tables/GRCh38_refGene_chr1_chr2_chr22.txt.gz
  peaks: {mirror}/multiome_pbmc_tiny_hg38/atac.h5ad
  fasta: {mirror}/prior_fasta_hg38_chr2_2.3Mb/chr2_1-2333275.fa.gz
  regulons_dorothea: {mirror}/prior_tf_target_dorothea/dorothea_human_ABC.csv.gz
nodes:
  gene: {{chrom_style: ucsc}}
  peak: {{chrom_style: ucsc}}
  motif: {{jaspar: {{release: JASPAR2024}}}}
edges: {{gene_peak: {{within_bp: 150_000}}, regulons: {{}}, motif_peak: {{partial_fasta: true}}}}
"""
FASTA_BP = 2_333_275


@pytest.mark.parametrize("method", ["aucell", "ulm"])
def test_interferon_turns_on_its_factors(mirror, method):
    """IFN-beta signals through the complex of STAT1, STAT2 and IRF9 (ISGF3); 14,039 PBMC with and without it."""
    rna = ad.read_h5ad(mirror / "rna_kang_ifnb_pbmc" / "kang_pbmc_sparse.h5ad")
    table = pd.read_csv(mirror / "prior_tf_target_dorothea" / "dorothea_human_ABC.csv.gz")
    regulons = table.rename(columns={"target": "gene", "mor": "sign"})[["tf", "gene", "sign"]]
    activity = regulon_activity(rna, regulons, method=method)
    assert activity.shape[1] >= 80
    summary = activity_by_group(activity, rna.obs["sample"])
    stimulated = summary[summary["group"] == "stimul"].sort_values("auroc", ascending=False)
    assert set(stimulated["tf"].head(4)) == {"IRF9", "STAT1", "STAT2", "IRF1"}
    assert stimulated["auroc"].iloc[:3].min() > 0.95
    assert 0.35 < stimulated["auroc"].median() < 0.65  # factors at large are not moved


@pytest.fixture(scope="module")
def store(mirror, tmp_path_factory):
    folder = tmp_path_factory.mktemp("network")
    recipe = folder / "human.yaml"
    recipe.write_text(RECIPE.format(mirror=mirror))
    with PriorStore.build(recipe, folder / "priors.duckdb", progress=False) as store:
        yield store


@pytest.fixture(scope="module")
def modalities(mirror):
    folder = mirror / "multiome_pbmc_tiny_hg38"
    return [read(folder / f"{name}.h5ad", modality=name, layer="X") for name in ("rna", "atac")]


@pytest.fixture(scope="module")
def network(store, modalities):
    """Links of 40 cells by correlation: they say little, but have real names, places, motifs and targets."""
    rna, atac = modalities
    near = store.frame("gene_peak").merge(store.frame("gene")[["gene_id", "symbol"]], on="gene_id")
    near = near[near["peak_id"].isin(set(atac.var_names)) & near["symbol"].isin(set(rna.var_names))]
    candidates = near.rename(columns={"symbol": "gene", "peak_id": "peak"})[["gene", "peak"]].drop_duplicates()
    links = correlation_links(rna, atac, candidates)
    both = pd.concat([links.assign(group=name) for name in ("Memory B", "Treg")], ignore_index=True)
    share = expressed_share(rna, "cell_type")
    return regulatory_network(both, store, motif_p_max=1e-5, tf_expressed=share, tf_expressed_min=0.1)


def test_factors_of_the_network_have_their_motif_in_the_peak(network, store):
    match = network.attrs["match"]
    assert match["links_absent"] == 0
    assert match["rows"] == len(network) > 100
    hits = store.frame("tf_peak").set_index(["tf_id", "peak_id"])
    found = hits.loc[list(zip(network["tf_id"], network["peak_id"], strict=True))]
    np.testing.assert_array_equal(found["score"], network["motif_score"])
    assert network["motif_p"].max() <= 1e-5
    ends = network["peak"].str.extract(r"chr2:\d+-(\d+)")[0].astype(float)
    assert ends.max() <= FASTA_BP  # motifs were looked for there alone
    assert network["expressed"].min() >= 0.1
    known = store.frame("tf_gene").groupby(["tf_id", "gene_id"]).size().index
    told = pd.MultiIndex.from_frame(network[["tf_id", "gene_id"]]).isin(known)
    np.testing.assert_array_equal(told, network["source"] == "dorothea")


def test_two_types_differ_by_the_factors_they_express_alone(network):
    compared = compare_networks(network, "Memory B", "Treg")
    shared, edges = compared.summary["edges"][2], len(compared.edges)
    assert 0 < shared < edges
    of_both = set(network.loc[network["group"] == "Treg", "tf"]) & set(
        network.loc[network["group"] == "Memory B", "tf"]
    )
    assert (compared.edges["status"] == "kept").eq(compared.edges["tf"].isin(of_both)).all()


def test_the_network_is_written_and_read_by_others(network, store, tmp_path):
    graph = to_networkx(network)
    assert graph.number_of_nodes() == len({*network["tf"], *network["gene"], *network["peak"]})
    back = nx.read_graphml(write_graphml(network, tmp_path / "a.graphml"), force_multigraph=True)
    assert plain(back) == plain(graph)
    assert plain(read_cx2(write_cx2(network, tmp_path / "a.cx2"))[0]) == plain(graph)
    bedpe = write_bedpe(network, tmp_path / "a.bedpe", store)
    edges = tf_gene_edges(network)
    assert edges["n_peaks"].sum() == len(network)
    if shutil.which("bedtools") is None:
        pytest.skip("bedtools is not installed")
    (tmp_path / "all.bed").write_text("chr2\t0\t242193529\n")
    command = ["bedtools", "pairtobed", "-a", str(bedpe), "-b", str(tmp_path / "all.bed"), "-type", "both"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    links = network.drop_duplicates(["gene", "peak", "group"])
    assert len(out) == 2 * len(links)  # a line for each end
    assert {line.split("\t")[6] for line in out} == set(links["gene"] + "|" + links["peak"] + "|" + links["group"])


def test_regulons_of_the_store_join_the_names_of_the_data(store, modalities):
    rna, _ = modalities
    regulons = store_regulons(store, rna.var_names)
    match = regulons.attrs["match"]
    assert match["targets"] == len(regulons) + match["targets_absent"]
    assert match["targets_absent"] < 0.05 * match["targets"]
    activity = regulon_activity(rna, regulons)
    assert activity.shape[0] == 40
    assert "STAT1" in activity
