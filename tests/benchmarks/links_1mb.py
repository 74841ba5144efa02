"""Gene-peak links within 1 Mb, array core and writing to DuckDB, against GLUE's guidance graph.

GLUE's graph takes minutes and more than 10 GB at this size, so the peer is given every tenth gene and its time is
taken ten times; both answers are of those genes.
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
EVERY = 10


def sample_form(inputs: links.Inputs) -> tuple[Any, Any]:
    rna, atac = links.scglue_form(inputs)
    return rna[:, ::EVERY].copy(), atac


def our_answer(table: pa.Table) -> Answer:
    answer = links.our_answer(table)
    kept = answer["gene"] % EVERY == 0
    return {name: np.asarray(values)[kept] for name, values in answer.items()}


def extrapolated(ours: Measured, peer: Measured) -> float:
    return EVERY * peer.seconds / ours.seconds


BENCHMARK = dataclasses.replace(
    links.BENCHMARK,
    name="links_1mb",
    module=__name__,
    what="gene-peak links within 1 Mb, 29,095 genes x 107,194 peaks, array core and write to DuckDB; the peer on every "
    "tenth gene, ratio with its time taken ten times",
    ours=Side(
        "heteromics", run=functools.partial(links.ours, within_bp=WITHIN_BP), answer=our_answer, own=links.own_form
    ),
    peer=dataclasses.replace(
        links.BENCHMARK.peer, run=functools.partial(links.scglue, within_bp=WITHIN_BP), own=sample_form
    ),
    ratio=extrapolated,
    rounds={"full": 1, "short": 1},
)
run = BENCHMARK.run
