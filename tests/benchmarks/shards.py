"""Memory of building a graph in shards, from blocks that are drawn on the fly and never held, and reading it back.

``python -m tests.benchmarks.shards 1000000`` runs ours alone, for a million cells of 2,000 values: 6 GB on disk.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy import sparse

from heteromics.graphs._statistics import cell_statistics
from heteromics.graphs.cell_feature import EXPRESSES
from heteromics.graphs.shards import build_shards
from tests.benchmarks.harness import Answer, Benchmark, Measured, Side, _resident_mb

WIDTH = 10  # one value in each run of so many features: distinct, rising columns without a sort
LIMIT_MB = 8_192
BATCHES = 7  # each spans all shards


class Sizes(NamedTuple):
    cells: int
    values: int
    shard: int


def blocks(sizes: Sizes) -> Iterator[sparse.csr_array]:
    """Log1p of counts from 1 to 16, ``values`` in each cell, ``values * WIDTH`` features; one block for each shard."""
    logs = np.log1p(np.arange(1, 17, dtype=np.float32))
    base = np.arange(sizes.values, dtype=np.int32) * WIDTH
    for first in range(0, sizes.cells, sizes.shard):
        rng = np.random.default_rng(first)
        rows = min(sizes.shard, sizes.cells - first)
        drawn = rng.integers(0, 160, (rows, sizes.values), dtype=np.uint8)
        columns = (drawn % WIDTH + base).ravel()
        values = logs[drawn.ravel() // WIDTH]
        indptr = np.arange(rows + 1, dtype=np.int32) * sizes.values
        yield sparse.csr_array((values, columns, indptr), shape=(rows, sizes.values * WIDTH))


def frame(sizes: Sizes) -> AnnData:
    cells = np.arange(sizes.cells)
    obs = pd.DataFrame({"batch": (cells % BATCHES).astype(str)}, index="cell_" + cells.astype(str).astype(object))
    return AnnData(obs=obs, var=pd.DataFrame(index=[f"gene_{gene}" for gene in range(sizes.values * WIDTH)]))


def ours(sizes: Sizes) -> Answer:
    """Write all shards, then read them one by one, whose checksums are compared, and sum what they hold."""
    features = sizes.values * WIDTH
    total, degree = torch.zeros(features, dtype=torch.float64), torch.zeros(features, dtype=torch.int64)
    statistics = torch.zeros(BATCHES, 9)
    with tempfile.TemporaryDirectory(prefix="shards_") as folder:
        sharded = build_shards(frame(sizes), Path(folder) / "out", cells_per_shard=sizes.shard, blocks=blocks(sizes))
        for shard in sharded:
            indices, weight = shard.adjacency(EXPRESSES)[1], shard.edata(EXPRESSES)["weight"]
            total += torch.bincount(indices, weight.double(), minlength=features)
            degree += torch.bincount(indices, minlength=features)
            statistics[shard.ndata("cell")["batch"]] = shard.ndata("cell")["statistics"]
            said = shard.ndata("feature")["degree"]
        edges = sharded.card.edges["-".join(EXPRESSES)].number
    counts = {"degree": degree.numpy(), "said": said.numpy(), "edges": np.array(edges)}
    return {**counts, "total": total.numpy(), "statistics": statistics.numpy()}


def theirs(sizes: Sizes) -> Answer:
    """Sum the blocks as they are drawn: what the shards must hold, without a graph and without a file."""
    features = sizes.values * WIDTH
    total, degree = np.zeros(features), np.zeros(features, dtype=np.int64)
    sums, first = np.zeros((BATCHES, 9)), 0
    for block in blocks(sizes):
        total += np.bincount(block.indices, block.data, features)
        degree += np.bincount(block.indices, minlength=features)
        batch = (first + np.arange(block.shape[0])) % BATCHES
        np.add.at(sums, batch, cell_statistics(block.indptr, block.data, features))
        first += block.shape[0]
    averages = sums / np.bincount(np.arange(first) % BATCHES, minlength=BATCHES)[:, None]
    counts = {"degree": degree, "said": degree, "edges": degree.sum()}
    return {**counts, "total": total, "statistics": averages.astype(np.float32)}


def share_of_limit(ours: Measured, peer: Measured) -> float:
    """Peak memory of building and reading back over 8 GB, whatever the peer takes."""
    return ours.peak_mb / LIMIT_MB


BENCHMARK = Benchmark(
    name="shards",
    module=__name__,
    what="250,000 cells x 20,000 genes, 500 M non-zeros, into shards of 10,000 cells and back; ratio: peak over 8 GB",
    sizes={
        "full": {"cells": 250_000, "values": 2_000, "shard": 10_000},
        "short": {"cells": 500, "values": 20, "shard": 120},
    },
    prepare=Sizes,
    ours=Side("heteromics", run=ours),
    peer=Side("the drawn blocks summed, no graph", run=theirs),
    bar=1,
    bar_is="at_most",
    ratio=share_of_limit,
    rounds={"full": 1, "short": 1},
)
run = BENCHMARK.run


if __name__ == "__main__":
    begun, asked = time.perf_counter(), Sizes(int(sys.argv[1]), 2_000, 10_000)
    edges = int(ours(asked)["edges"])
    seconds, peak = round(time.perf_counter() - begun, 1), round(_resident_mb("VmHWM"))
    print(json.dumps({"cells": asked.cells, "edges": edges, "seconds": seconds, "peak_mb_of_process": peak}))
