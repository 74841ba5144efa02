"""Stores written row by row, without recipe or sources: for questions to the knowledge graph."""

import duckdb
import numpy as np
import pyarrow as pa

from heteromics.priors import PriorStore
from heteromics.priors.schemas import SCHEMAS
from heteromics.priors.tables import FORMAT_VERSION
from heteromics.priors.views import edge_view_sql

FILL = {"BIGINT": 0, "INTEGER": 0, "TINYINT": 0, "DOUBLE": 0.0, "VARCHAR": "", "BOOLEAN": False}
BOOKS = ("provenance", "match_report", "match_summary", "store_info")


def write_store(path, tables, info=None):
    """Write a store from rows, each a dict; what a row leaves out is NULL or, where it may not be, 0 or empty."""
    info = {
        "format_version": str(FORMAT_VERSION),
        "assembly": "toy",
        "recipe": "toy",
        "recipe_yaml": "",
        **(info or {}),
    }
    rows = dict.fromkeys(BOOKS, ()) | tables
    rows["store_info"] = [{"key": key, "value": value} for key, value in info.items()]
    with duckdb.connect(str(path)) as connection:
        for name in (name for name in SCHEMAS if name in rows):
            insert(connection, name, rows[name])
        connection.execute(edge_view_sql(rows))
    return path


def insert(connection, name, rows):
    columns = SCHEMAS[name].columns
    filled = {
        one.name: [row.get(one.name, None if one.nullable else FILL.get(one.type)) for row in rows] for one in columns
    }
    incoming = pa.table({one.name: fixed(filled[one.name], one.type) for one in columns})
    lengths = {one.name: one.type.list_size for one in incoming.schema if pa.types.is_fixed_size_list(one.type)}
    connection.execute(SCHEMAS[name].create_sql(lengths))
    if rows:
        connection.execute(f"INSERT INTO {name} SELECT * FROM incoming")


def fixed(values, kind):
    """Return values as Arrow; arrays of one length for all rows as builders give them."""
    if not kind.endswith("[]") or not values or len({len(value) for value in values}) > 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(values)), len(values[0]))


def random_tables(seed, genes=24, peaks=18, links=20):
    """Genes, peaks and edges of each kind at random: undirected with two sources, directed between kinds and within."""
    rng = np.random.default_rng(seed)
    gene = [f"E{row:02d}" for row in range(genes)]
    peak = [f"chr1:{row}00-{row}50" for row in range(peaks)]

    def weight():
        return float(rng.integers(1, 10)) / 10

    def pairs(left, right):
        drawn = {(int(rng.integers(len(left))), int(rng.integers(len(right)))) for _ in range(links)}
        return [(left[i], right[j]) for i, j in drawn]

    undirected = sorted({tuple(sorted(pair)) for pair in pairs(gene, gene) if pair[0] != pair[1]})
    return {
        "gene": [{"gene_id": name, "symbol": f"S{row}"} for row, name in enumerate(gene)],
        "peak": [{"peak_id": name} for name in peak],
        "pathway": [{"pathway_id": name} for name in ("P1", "P2", "P3")],
        "gene_gene": [
            {"gene_a": a, "gene_b": b, "source": source, "weight": weight()}
            for a, b in undirected
            for source in ("pathway", "string")[: 1 + int(rng.integers(2))]
        ],
        "gene_peak": [{"gene_id": a, "peak_id": b, "weight": weight()} for a, b in pairs(gene, peak)],
        "tf_gene": [
            {"tf_id": a, "gene_id": b, "source": "db", "sign": 1, "weight": weight()} for a, b in pairs(gene[:6], gene)
        ],
        "gene_pathway": [{"gene_id": a, "pathway_id": b} for a, b in pairs(gene[:8], ["P1", "P2"])[:6]],
    }


def random_store(folder, seed, **sizes):
    """Write and open a store of :func:`random_tables`."""
    return PriorStore.open(write_store(folder / f"random{seed}.duckdb", random_tables(seed, **sizes)))
