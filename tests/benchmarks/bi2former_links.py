"""``Bi2Former.links`` over many cells against itself over a quarter of them: time per kept link, and peak memory.

The bar is on the ratio of the times per kept link, which is 1 where time is linear in them; a peak of 2 GB or more
counts as a ratio without end. The larger run has the cells of the smaller one as a group of their own: their links must
come out alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from pandas import DataFrame

from heteromics.models import Bi2Former, Bi2FormerConfig
from heteromics.models._pair_nodes import FeatureTable
from tests.benchmarks.bi2former_training import random_cells
from tests.benchmarks.harness import Answer, Benchmark, Measured, Side

MOST_MB = 2_000
LARGER = 4  # times the cells of the smaller run


@dataclass(frozen=True)
class Inputs:
    model: Bi2Former
    cells: int  # of the smaller run


def inputs(cells: int, genes: int, peaks: int, expressed: int, opened: int) -> Inputs:
    graph = random_cells(LARGER * cells, genes, peaks, expressed, opened)
    model = Bi2Former(graph, config=Bi2FormerConfig(values="log1p"))
    torch.manual_seed(0)
    model._network = model._network_of(FeatureTable.of(graph, "gene"), FeatureTable.of(graph, "peak")).eval()
    return Inputs(model, cells)


def many(given: Inputs) -> DataFrame:
    cells = np.arange(LARGER * given.cells)
    return given.model.links(cells, np.where(cells < given.cells, "few", "more"), device="cpu")


def few(given: Inputs) -> DataFrame:
    return given.model.links(np.arange(given.cells), np.full(given.cells, "few"), device="cpu")


def answer(links: DataFrame) -> Answer:
    """Return how many links were kept in all pairs together, and sums of the columns of the first cells."""
    shared = links[links["group"] == "few"]
    columns = shared[["score", "attention", "total", "n_pairs", "frequency"]].to_numpy(dtype=float)
    kept = (links["frequency"] * links["n_pairs"]).sum()
    return {"kept": np.array([kept]), "links": np.array([len(shared)]), "sums": np.abs(columns).sum(axis=0)}


def same(ours: Answer, peer: Answer) -> bool:
    return np.array_equal(ours["links"], peer["links"]) and np.allclose(ours["sums"], peer["sums"], rtol=1e-4)


def growth(ours: Measured, peer: Measured) -> float:
    """Time per kept link of many cells over that of few; without end where many take 2 GB or more."""
    if ours.peak_mb >= MOST_MB:
        return math.inf
    each = [side.seconds / float(side.answer["kept"][0]) for side in (ours, peer)]
    return each[0] / each[1]


BENCHMARK = Benchmark(
    name="bi2former_links",
    module=__name__,
    what="links of 10,000 cells of 300 genes and 1,500 peaks, time per kept link against 2,500 cells; peak below 2 GB",
    sizes={
        "full": {"cells": 2_500, "genes": 4_000, "peaks": 40_000, "expressed": 300, "opened": 1_500},
        "short": {"cells": 16, "genes": 200, "peaks": 900, "expressed": 30, "opened": 120},
    },
    prepare=inputs,
    ours=Side("heteromics, all cells", run=many, answer=answer),
    peer=Side("heteromics, a quarter of the cells", run=few, answer=answer),
    bar=1.3,
    bar_is="at_most",
    same=same,
    ratio=growth,
    rounds={"full": 1, "short": 1},
)
run = BENCHMARK.run
