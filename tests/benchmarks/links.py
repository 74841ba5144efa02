"""Gene-peak links within 150 kb, array core and writing to DuckDB, against GLUE's guidance graph."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from heteromics.priors.links import GenePeakConfig, Intervals, gene_peak_links, links_table
from heteromics.priors.schemas import SCHEMAS
from tests.benchmarks.harness import Answer, Benchmark, Side, package, program

WITHIN_BP = 150_000
# Lengths of chr1 to chr22, X and Y of hg38, Mb.
HG38_MB = (
    249,
    242,
    198,
    190,
    182,
    171,
    159,
    145,
    138,
    134,
    135,
    133,
    114,
    107,
    102,
    90,
    83,
    80,
    59,
    64,
    47,
    51,
    156,
    57,
)
CHROMOSOMES = np.array([f"chr{name}" for name in (*range(1, 23), "X", "Y")])


@dataclass(frozen=True)
class Inputs:
    bodies: Intervals
    sign: np.ndarray
    peaks: Intervals
    gene_id: np.ndarray
    peak_id: np.ndarray


def uniform_genome(genes: int, peaks: int, seed: int = 0) -> Inputs:
    """Genes and peaks spread evenly over chromosomes of the sizes of hg38."""
    rng = np.random.default_rng(seed)
    size = np.array(HG38_MB) * 1_000_000

    def scatter(count: int, width: np.ndarray) -> Intervals:
        chrom = np.sort(rng.choice(size.size, count, p=size / size.sum()))
        start = (rng.random(count) * (size[chrom] - width)).astype(np.int64)
        return Intervals(chrom, start, start + width)

    bodies = scatter(genes, rng.integers(500, 60_000, genes))
    found = scatter(peaks, rng.integers(200, 1_500, peaks))
    return Inputs(
        bodies,
        rng.choice([-1, 1], genes),
        found,
        np.array([f"gene{row}" for row in range(genes)]),
        np.array([f"peak{row}" for row in range(peaks)]),
    )


def own_form(inputs: Inputs) -> tuple[Inputs, pa.Array, pa.Array]:
    return inputs, pa.array(inputs.gene_id), pa.array(inputs.peak_id)


def ours(inputs: tuple[Inputs, pa.Array, pa.Array], within_bp: int = WITHIN_BP) -> pa.Table:
    genome, gene_id, peak_id = inputs
    links = gene_peak_links(genome.bodies, genome.sign, genome.peaks, within_bp=within_bp)
    rows = links_table(links, gene_id, peak_id, GenePeakConfig(within_bp=within_bp))
    with tempfile.TemporaryDirectory() as folder, duckdb.connect(Path(folder) / "priors.duckdb") as store:
        store.execute(SCHEMAS["gene_peak"].create_sql())
        store.execute("INSERT INTO gene_peak SELECT * FROM rows")
        store.execute("CHECKPOINT")
    return rows


def scglue_form(inputs: Inputs) -> tuple[Any, Any]:
    """GLUE's form: intervals in ``var`` of AnnData; a gene is its start site, so that both sides mean the same gap."""
    from anndata import AnnData

    tss = np.where(inputs.sign < 0, inputs.bodies.end - 1, inputs.bodies.start)
    gene = {"chrom": CHROMOSOMES[inputs.bodies.chrom], "chromStart": tss, "chromEnd": tss + 1}
    peak = {
        "chrom": CHROMOSOMES[inputs.peaks.chrom],
        "chromStart": inputs.peaks.start,
        "chromEnd": inputs.peaks.end,
    }
    strand = np.where(inputs.sign < 0, "-", "+")
    rna = pd.DataFrame({**gene, "strand": strand, "highly_variable": False}, index=inputs.gene_id)
    return AnnData(var=rna), AnnData(var=pd.DataFrame(peak, index=inputs.peak_id))


def scglue(inputs: tuple[Any, Any], within_bp: int = WITHIN_BP) -> Any:
    from scglue.genomics import rna_anchored_guidance_graph

    return rna_anchored_guidance_graph(*inputs, gene_region="gene_body", extend_range=within_bp)


def our_answer(table: pa.Table) -> Answer:
    return _answer(*(table[name].to_pylist() for name in ("gene_id", "peak_id", "distance", "weight")))


def scglue_answer(graph: Any) -> Answer:
    forward = [edge for edge in graph.edges(data=True) if edge[2]["type"] == "fwd"]
    return _answer(
        [gene for gene, _, _ in forward],
        [peak for _, peak, _ in forward],
        [data["dist"] for _, _, data in forward],
        [data["weight"] for _, _, data in forward],
    )


def _answer(genes: list[str], peaks: list[str], distance: list[int], weight: list[float]) -> Answer:
    rows = pd.DataFrame({"gene": genes, "peak": peaks, "distance": distance, "weight": weight})
    rows[["gene", "peak"]] = rows[["gene", "peak"]].apply(lambda names: names.str[4:].astype(np.int64))
    rows = rows.sort_values(["gene", "peak"])
    return {name: rows[name].to_numpy() for name in rows}


BENCHMARK = Benchmark(
    name="links",
    module=__name__,
    what="gene-peak links within 150 kb, 29,095 genes x 107,194 peaks, array core and write to DuckDB",
    sizes={"full": {"genes": 29_095, "peaks": 107_194}, "short": {"genes": 300, "peaks": 3_000}},
    prepare=uniform_genome,
    ours=Side("heteromics", run=ours, answer=our_answer, own=own_form),
    peer=Side(
        "scglue.genomics.rna_anchored_guidance_graph",
        run=scglue,
        answer=scglue_answer,
        own=scglue_form,
        needs=(package("scglue"), program("bedtools")),
    ),
    bar=50,
    rounds={"full": 3, "short": 1},
)
run = BENCHMARK.run
