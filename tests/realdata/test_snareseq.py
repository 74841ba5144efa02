"""SNARE-seq of mouse cortex: priors, all bipartite graphs streamed, and matching beside its controls, split by cell."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from heteromics.data import read, split_cells
from heteromics.graphs import PairBatcher, bipartite
from heteromics.interpret import candidate_links
from heteromics.models import Bi2FormerConfig
from heteromics.priors import PriorStore
from heteromics.tasks import paired_rows, run_matching
from heteromics.workflows.reproduce import CONTENDERS, reproduce

pytestmark = pytest.mark.realdata

RECIPE = """
recipe: 1
assembly: {{name: GRCm38, sizes: {mirror}/prior_genome_tables/mm10.seqinfo.tsv, chrom_style: ucsc}}
sources:
  gtf: {mirror}/prior_gtf_mm10_gencode_vM25/gencode.vM25.genes_only.gtf.gz
  peaks: {mirror}/multiome_snareseq_mop/atac.h5ad
  genes: {mirror}/multiome_snareseq_mop/rna.h5ad
nodes: {{gene: {{chrom_style: ucsc}}, peak: {{}}}}
edges: {{gene_peak: {{within_bp: 150_000}}}}
"""
CELLS, GENES, PEAKS = 10_309, 1_677, 25_734
TRAINING, VALIDATION, TEST = 2_000, 400, 1_000


@pytest.fixture(scope="module")
def store(mirror, tmp_path_factory):
    folder = tmp_path_factory.mktemp("priors")
    recipe = folder / "mouse.yaml"
    recipe.write_text(RECIPE.format(mirror=mirror))
    with PriorStore.build(recipe, folder / "priors.duckdb", progress=False) as store:
        yield store


@pytest.fixture(scope="module")
def modalities(mirror):
    folder = mirror / "multiome_snareseq_mop"
    return [read(folder / f"{name}.h5ad", modality=name, layer="X") for name in ("rna", "atac")]


@pytest.fixture(scope="module")
def split(modalities):
    """2,000 training, 400 validation and 1,000 test cells; -1 for those left out of the small budget."""
    rna, _ = modalities
    shares = (TRAINING / CELLS, (VALIDATION + TEST) / CELLS, 1 - (TRAINING + VALIDATION + TEST) / CELLS)
    code = split_cells(rna.obs_names, shares=shares, seed=0).astype(int)
    later = np.flatnonzero(code == 1)
    code[code == 2] = -1
    code[later[VALIDATION:]] = 2
    return code


@pytest.fixture(scope="module")
def graph(modalities, store, split):
    rna, _ = modalities
    return bipartite(*modalities, store, mask="window", training_cells=rna.obs_names[split == 0]).validate()


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_every_gene_and_peak_is_placed_or_named(graph, store):
    assert (graph.num_nodes("rna_cell"), graph.num_nodes("gene"), graph.num_nodes("peak")) == (CELLS, GENES, PEAKS)
    match = graph.meta["match"]
    assert match["gene"]["matched"] == GENES - 21
    assert match["peak"] == {"matched": PEAKS, "unplaced": []}
    report = store.match_report("gene")
    missing = report[(report["source"] == "rna.h5ad") & (report["outcome"] == "absent")]
    assert sorted(missing["name"]) == match["gene"]["unplaced"]
    assert len(match["gene"]["unplaced"]) == 21


def test_edges_are_the_counts_of_the_files(graph, modalities):
    for data, etype in zip(
        modalities, (("rna_cell", "expresses", "gene"), ("atac_cell", "opens", "peak")), strict=True
    ):
        assert graph.num_edges(etype) == data.X.nnz
        assert float(graph.edata(etype)["weight"].double().sum()) == data.X.sum(dtype=np.float64)
    code = graph.ndata("atac_cell")["cell_type"]
    names = [graph.meta["categories"]["cell_type"][place] for place in code[:50].tolist()]
    assert names == modalities[1].obs["cell_type"][:50].tolist()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
@pytest.mark.parametrize("mask", ["chromosome", "window"])
def test_all_graphs_stream_in_little_memory(graph, mask):
    batcher = PairBatcher(graph, mask)
    pairs = np.stack([np.arange(CELLS)] * 2, axis=1)
    batcher.batch(pairs[:64])
    before, most, genes, peaks, reachable = resident_bytes(), 0, 0, 0, 0
    for batch in batcher.stream(pairs, 64):
        genes, peaks = genes + len(batch.gene), peaks + len(batch.peak)
        reachable += int((batch.gene_block_ptr.diff() * batch.peak_block_ptr.diff()).sum())
        most = max(most, resident_bytes())
    assert genes == graph.num_edges(("rna_cell", "expresses", "gene"))
    assert peaks == graph.num_edges(("atac_cell", "opens", "peak"))
    assert reachable == 6_560_509
    assert most - before < 48 << 20  # cells x peaks would be 1,061 MB, genes x peaks 173 MB
    assert 4 * GENES * PEAKS > 3 * (48 << 20)


def test_candidates_are_the_links_of_the_store(graph, store):
    candidates = candidate_links(graph, store)
    assert not candidates.duplicated(["gene", "peak"]).any()
    symbols = store.frame("gene").set_index("gene_id")["symbol"]
    linked = store.frame("gene_peak")["gene_id"].map(symbols)
    assert len(candidates) == linked.isin(graph.names["gene"]).sum()
    assert candidates["distance"].max() <= 150_000


@pytest.mark.slow
def test_matching_beside_cell_types_and_depth_alone(graph, split, tmp_path_factory, record_property):
    rows, types = paired_rows(graph)
    assert len(rows) == CELLS
    chosen = np.flatnonzero(split >= 0)
    config = Bi2FormerConfig(mask="chromosome", hidden=16, max_epochs=4)
    result = run_matching(
        graph, split[chosen], cells=rows[chosen], config=config, negatives="random", device="cpu", progress=False
    )
    training = set(graph.names["rna_cell"][chosen[split[chosen] < 2]])
    assert not training & (set(result.pairs["rna_cell"]) | set(result.pairs["atac_cell"]))
    hard = result.pairs[result.pairs["negatives"] == "hard"]
    types_of = dict(zip(graph.names["rna_cell"], types, strict=True))
    assert (hard["rna_cell"].map(types_of) == hard["atac_cell"].map(types_of)).all()

    table = result.metrics.pivot_table(index=["negatives", "model"], columns="metric", values="value")
    written = tmp_path_factory.mktemp("snareseq") / "matching.json"
    written.write_text(json.dumps({" ".join(key): row for key, row in table.round(4).to_dict("index").items()}))
    record_property("matching", written.read_text())
    auroc = table["auroc"]
    assert auroc["easy", "Bi2Former"] > 0.58
    assert auroc["hard", "Bi2Former"] > 0.55
    # What the score is worth: cell types alone do better on easy negatives, depth alone as well on hard ones.
    assert auroc["easy", "CellTypeMatcher"] > 0.65
    assert 0.45 < auroc["hard", "CellTypeMatcher"] < 0.58
    assert auroc["hard", "DepthMatcher"] > 0.58


@pytest.mark.slow
def test_the_paper_is_reproduced_on_a_sample_of_the_reduced_set(mirror, tmp_path, monkeypatch):
    monkeypatch.setenv("HETEROMICS_DATA", str(mirror))
    models = tuple(name for name in CONTENDERS if name != "Bi2Former, as published")
    options = {"small": True, "seeds": 1, "max_epochs": 1, "models": models, "device": "cpu", "progress": False}
    result = reproduce("bi2former-snare", out=tmp_path, protocols=("pairs, easy", "cells, easy"), **options)
    what = result.notes["data"]
    assert what.startswith("small sample, ")
    assert "of reduced version multiome_snareseq_mop: 10,309 cells x 1,677 genes x 25,734 peaks" in what
    assert what.endswith("; the paper's has 9,190 x 28,930 x 241,757; at most 1 epoch")
    table = result.tables["protocols_summary"]
    assert set(table.loc[table["source"] == "here", "model"]) == set(models)
    assert table.loc[table["source"] == "paper", "accuracy_raw"].round(4).tolist() == [0.7356, 0.6903, 0.6874]
    assert set(result.tables["leak"]["model"]) == set(models)
    placed = json.loads((tmp_path / "provenance.json").read_text())["store"]
    assert placed["assembly"] == "GRCm38"
