"""Two hops from a few genes over five million edges of a store, opened each time, against networkx."""

from __future__ import annotations

import atexit
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import networkx as nx
import numpy as np
import pandas as pd
import pyarrow as pa

from heteromics.priors import PriorStore
from heteromics.priors.schemas import SCHEMAS
from heteromics.priors.tables import FORMAT_VERSION
from tests.benchmarks.harness import Answer, Benchmark, Side

HOPS = 2
STARTS = 3
NEAR = 150
"""A gene's peaks lie among this many on either side of it."""


@dataclass(frozen=True)
class Inputs:
    db: Path
    starts: list[str]


def store_of(genes: int, peaks: int, gene_peak: int, gene_gene: int, seed: int = 0) -> Inputs:
    """A store with links of genes to peaks around them and of genes to any genes, in about the numbers given."""
    rng = np.random.default_rng(seed)
    folder = tempfile.TemporaryDirectory(prefix="hops_")
    atexit.register(folder.cleanup)
    db = Path(folder.name) / "hops.duckdb"
    gene_id = np.array([f"ENSG{row:011d}" for row in range(genes)])
    peak_id = np.array([f"chr1:{row * 1000}-{row * 1000 + 500}" for row in range(peaks)])
    gene = np.repeat(np.arange(genes), -(-gene_peak // genes))
    peak = (gene * peaks // genes + rng.integers(-NEAR, NEAR, gene.size)) % peaks
    gene, peak = np.divmod(np.unique(gene * peaks + peak), peaks)
    a, b = np.sort(rng.integers(0, genes, (2, gene_gene)), axis=0)
    a, b = np.divmod(np.unique((a * genes + b)[a < b]), genes)
    tables = {
        "gene": {"gene_id": gene_id, "symbol": gene_id, "tss": np.arange(genes)},
        "peak": {"peak_id": peak_id, "chrom_start": np.arange(peaks) * 1000},
        "gene_peak": {"gene_id": gene_id[gene], "peak_id": peak_id[peak], "weight": rng.random(gene.size)},
        "gene_gene": {"gene_a": gene_id[a], "gene_b": gene_id[b], "weight": rng.random(a.size)},
        "store_info": {"key": ["format_version", "assembly"], "value": [str(FORMAT_VERSION), "made up"]},
    }
    with duckdb.connect(str(db)) as connection:
        for name, columns in tables.items():
            insert(connection, name, columns)
    return Inputs(db, gene_id[rng.choice(genes, STARTS, replace=False)].tolist())


def insert(connection: duckdb.DuckDBPyConnection, name: str, columns: dict[str, Any]) -> None:
    """Write a table with the columns of its schema; those not given hold one value throughout."""
    incoming = pa.table(columns)  # noqa: F841  read by name
    constant = {"VARCHAR": "'made up'", "BOOLEAN": "false"}
    selected = [
        f'"{one.name}"' if one.name in columns else f'{constant.get(one.type, "0")} AS "{one.name}"'
        for one in SCHEMAS[name].columns
    ]
    connection.execute(SCHEMAS[name].create_sql())
    connection.execute(f'INSERT INTO "{name}" SELECT {", ".join(selected)} FROM incoming')


def ours(inputs: Inputs) -> pd.DataFrame:
    with PriorStore.open(inputs.db) as store:
        return store.neighbors(inputs.starts, HOPS)


def theirs(inputs: Inputs) -> dict[str, int]:
    """Load all edges of the same file, then search breadth first."""
    graph = nx.Graph()
    with duckdb.connect(str(inputs.db), read_only=True) as connection:
        for name in ("gene_peak", "gene_gene"):
            (start, _), (end, _) = SCHEMAS[name].ends
            columns = connection.execute(f'SELECT "{start}", "{end}" FROM "{name}"').fetchnumpy()
            graph.add_edges_from(zip(columns[start].tolist(), columns[end].tolist(), strict=True))
    layers = enumerate(nx.bfs_layers(graph, inputs.starts))
    return {node: hop for hop, layer in layers if 0 < hop <= HOPS for node in layer}


def _answer(nodes: list[str], hops: list[int]) -> Answer:
    order = np.argsort(np.array(nodes))
    return {"node": np.array(nodes)[order], "hop": np.array(hops)[order].astype(np.int64)}


BENCHMARK = Benchmark(
    name="hops",
    module=__name__,
    what="2 hops from 3 genes, 5 M edges of a store on disk, open and query against load and query",
    sizes={
        "full": {"genes": 29_095, "peaks": 107_194, "gene_peak": 4_000_000, "gene_gene": 1_900_000},
        "short": {"genes": 300, "peaks": 1_200, "gene_peak": 6_000, "gene_gene": 600},
    },
    prepare=store_of,
    ours=Side("heteromics", run=ours, answer=lambda found: _answer(found["node"].tolist(), found["hop"].tolist())),
    peer=Side("networkx", run=theirs, answer=lambda found: _answer(list(found), list(found.values()))),
    bar=10,
    rounds={"full": 3, "short": 1},
)
run = BENCHMARK.run
