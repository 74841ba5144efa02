"""Gene-peak links within 1 Mb, array core and writing to DuckDB, against GLUE's guidance graph.

GLUE's graph takes minutes and more than 10 GB at this size, so the peer is given two chromosomes, a tenth of the
genome, and its time is taken as many times as the genome is longer (within 150 kb, where the whole can be run, that is
right within a tenth); both answers are of those chromosomes.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import pyarrow as pa

from tests.benchmarks import links
from tests.benchmarks.harness import Answer, Measured, Side

WITHIN_BP = 1_000_000
SAMPLE = np.array([0, 20])
"""Codes of chr1 and chr21."""
TIMES = sum(links.HG38_MB) / sum(links.HG38_MB[code] for code in SAMPLE)


def sample_form(inputs: links.Inputs) -> tuple[Any, Any]:
    rna, atac = links.scglue_form(inputs)
    genes, peaks = (np.isin(where.chrom, SAMPLE) for where in (inputs.bodies, inputs.peaks))
    return rna[:, genes].copy(), atac[:, peaks].copy()


def ours(inputs: tuple[links.Inputs, pa.Array, pa.Array]) -> tuple[pa.Table, np.ndarray]:
    return links.ours(inputs, WITHIN_BP), inputs[0].bodies.chrom


def our_answer(outcome: tuple[pa.Table, np.ndarray]) -> Answer:
    table, chrom = outcome
    answer = links.our_answer(table)
    kept = np.isin(chrom[answer["gene"]], SAMPLE)
    return {name: np.asarray(values)[kept] for name, values in answer.items()}


def extrapolated(ours: Measured, peer: Measured) -> float:
    return TIMES * peer.seconds / ours.seconds


BENCHMARK = dataclasses.replace(
    links.BENCHMARK,
    name="links_1mb",
    module=__name__,
    what="gene-peak links within 1 Mb, 29,095 genes x 107,194 peaks, array core and write to DuckDB; the peer on chr1 "
    f"and chr21, ratio with its time taken {TIMES:.1f} times",
    ours=Side("heteromics", run=ours, answer=our_answer, own=links.own_form),
    peer=dataclasses.replace(
        links.BENCHMARK.peer, run=functools.partial(links.scglue, within_bp=WITHIN_BP), own=sample_form
    ),
    ratio=extrapolated,
    bar=25,
    rounds={"full": 1, "short": 1},
)
run = BENCHMARK.run
