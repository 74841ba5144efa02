"""A radius graph over many cells of one section, from an AnnData, against squidpy."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from anndata import AnnData

from heteromics.graphs import HeteroGraph, spatial_radius
from heteromics.graphs.spatial import ADJOINS
from tests.benchmarks.harness import Answer, Benchmark, Side, package

RADIUS_UM = 25.0


def even_tissue(cells: int, degree: float, seed: int = 0) -> AnnData:
    """Cells scattered evenly over a square, ``degree`` of them within the radius of each, on average."""
    side = RADIUS_UM * (np.pi * cells / degree) ** 0.5
    return AnnData(obsm={"spatial": np.random.default_rng(seed).random((cells, 2)) * side})


def ours(data: AnnData) -> HeteroGraph:
    return spatial_radius(data, RADIUS_UM, unit="um", um_per_unit=1)


def theirs(data: AnnData) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import squidpy

        return squidpy.gr.spatial_neighbors_radius(data, radius=RADIUS_UM, copy=True)


def warm(data: AnnData) -> AnnData:
    """Load squidpy and compile what it compiles before the clock starts."""
    theirs(even_tissue(100, 6.0))
    return data


def our_answer(graph: HeteroGraph) -> Answer:
    indptr, indices, eids = graph.adjacency(ADJOINS, "dst")
    return {
        "indptr": indptr.numpy(),
        "indices": indices.numpy(),
        "distance": graph.edata(ADJOINS)["distance"][eids.long()].numpy(),
    }


def their_answer(outcome: Any) -> Answer:
    distances = outcome.distances.tocsr()
    distances.sort_indices()
    return {
        "indptr": distances.indptr,
        "indices": distances.indices,
        "distance": distances.data.astype(np.float32),
    }


BENCHMARK = Benchmark(
    name="spatial",
    module=__name__,
    what="radius graph with distances over 1 M cells of one section, 6 neighbours each on average, from an AnnData",
    sizes={"full": {"cells": 1_000_000, "degree": 6.0}, "short": {"cells": 3_000, "degree": 6.0}},
    prepare=even_tissue,
    ours=Side("heteromics", run=ours, answer=our_answer),
    peer=Side(
        "squidpy.gr.spatial_neighbors_radius", run=theirs, answer=their_answer, own=warm, needs=(package("squidpy"),)
    ),
    bar=2,
    rounds={"full": 3, "short": 1},
)
run = BENCHMARK.run
