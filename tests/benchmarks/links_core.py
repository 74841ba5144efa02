"""Gene-peak links within 150 kb, the array core alone, against GLUE's guidance graph."""

from __future__ import annotations

import dataclasses

import pandas as pd

from heteromics.priors.links import Floats, Links, decay_weights, gene_peak_links
from tests.benchmarks import links
from tests.benchmarks.harness import Answer, Side


def ours(genome: links.Inputs) -> tuple[Links, Floats]:
    found = gene_peak_links(genome.bodies, genome.sign, genome.peaks, within_bp=links.WITHIN_BP)
    return found, decay_weights(found.gap)


def our_answer(outcome: tuple[Links, Floats]) -> Answer:
    found, weight = outcome
    rows = pd.DataFrame({"gene": found.gene, "peak": found.peak, "distance": found.distance, "weight": weight})
    rows = rows.sort_values(["gene", "peak"])
    return {name: rows[name].to_numpy() for name in rows}


BENCHMARK = dataclasses.replace(
    links.BENCHMARK,
    name="links_core",
    module=__name__,
    what="gene-peak links within 150 kb with distance and weight, 29,095 genes x 107,194 peaks, array core alone",
    ours=Side("heteromics", run=ours, answer=our_answer),
    bar=100,
)
run = BENCHMARK.run
