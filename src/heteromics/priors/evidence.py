# ruff: noqa: S608  table and column names come from SCHEMAS; every value is a parameter
"""All that a store knows of one edge, in one row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd

from heteromics.errors import StoreError
from heteromics.priors.names import Node, resolve
from heteromics.priors.schemas import SCHEMAS, TableSchema
from heteromics.priors.subgraph import edge_key

if TYPE_CHECKING:
    from heteromics.priors.store import PriorStore

CHECKSUM_SHOWN = 12
"""Characters of a SHA-256 that are shown."""


def why(store: PriorStore, a: str, b: str) -> pd.DataFrame:
    """See :meth:`PriorStore.why`."""
    (one,), (other,) = resolve(store, a), resolve(store, b)
    row: dict[str, Any] = {"a_type": one[0], "a": one[1], "b_type": other[0], "b": other[1], "edge_tables": []}
    tables: list[str] = row["edge_tables"]
    for table, back, found in _edges_between(store, one, other):
        prefix = edge_key(table, found) + (":back" if back else "")
        row |= {f"{prefix}.{name}": value for name, value in found.items()}
        if table.name not in tables:
            tables.append(table.name)
    if not tables:
        raise StoreError(
            f"{store.path} has no edge between {one[0]} '{one[1]}' and {other[0]} '{other[1]}'.\n"
            f"  {one[1]}: {_edge_counts(store, one)}\n"
            f"  {other[1]}: {_edge_counts(store, other)}\n"
            "  Fix: ask for the paths between them, or for the neighbors of either."
        )
    used = list(tables)
    ends = {one[0]: one[1], other[0]: other[1]}
    if ends.keys() == {"gene", "peak"}:
        for needed, ask in SUPPORT.items():
            if set(needed) <= set(store.tables()):
                row |= ask(store, ends["gene"], ends["peak"])
                used += needed
    row |= {f"{name}.sources": _sources(store, name) for name in used}
    return pd.DataFrame({name: [value] for name, value in row.items()})


def _edges_between(store: PriorStore, one: Node, other: Node) -> Iterator[tuple[TableSchema, bool, dict[str, Any]]]:
    """Yield (table, whether it goes back from other to one, row) of all edges between two nodes."""
    for table in (SCHEMAS[name] for name in store.tables() if SCHEMAS[name].kind == "edge"):
        (start, start_type), (end, end_type) = table.ends
        alike = start_type == end_type and table.directed
        for first, last in ((one, other), (other, one)):
            if (first[0], last[0]) == (start_type, end_type):
                sql = f'SELECT * FROM "{table.name}" WHERE "{start}" = ? AND "{end}" = ? ORDER BY ALL'
                for row in store.connection.sql(sql, params=[first[1], last[1]]).to_arrow_table().to_pylist():
                    yield table, alike and first != one, row


def _edge_counts(store: PriorStore, node: Node) -> str:
    counts = []
    for table in (SCHEMAS[name] for name in store.tables() if SCHEMAS[name].kind == "edge"):
        columns = [column for column, kind in table.ends if kind == node[0]]
        if columns:
            where = " OR ".join(f'"{column}" = $node' for column in columns)
            ((n,),) = store.connection.execute(
                f'SELECT count(*) FROM "{table.name}" WHERE {where}', {"node": node[1]}
            ).fetchall()
            counts += [f"{n:,} of {table.name}"] if n else []
    return f"edges {', '.join(counts)}" if counts else "no edges at all"


def _regulators(store: PriorStore, gene: str, peak: str) -> dict[str, Any]:
    """Return the transcription factors with a motif in the peak that regulate the gene, best motif first."""
    found = store.connection.execute(
        """
        SELECT tf_peak.tf_id, any_value(gene.symbol), any_value(tf_peak.score), any_value(tf_peak.p_value),
               list(tf_gene.sign ORDER BY tf_gene.source), list(tf_gene.source ORDER BY tf_gene.source)
        FROM tf_peak JOIN tf_gene ON tf_gene.tf_id = tf_peak.tf_id JOIN gene ON gene.gene_id = tf_peak.tf_id
        WHERE tf_peak.peak_id = $peak AND tf_gene.gene_id = $gene
        GROUP BY tf_peak.tf_id ORDER BY any_value(tf_peak.score) DESC, tf_peak.tf_id
        """,
        {"peak": peak, "gene": gene},
    ).fetchall()
    names = ("gene_id", "symbol", "motif_score", "p_value", "sign", "source")
    return {f"regulators.{name}": [row[place] for row in found] for place, name in enumerate(names)}


def _regions(store: PriorStore, _gene: str, peak: str) -> dict[str, Any]:
    """Return the regions of named sets that the peak overlaps, and by how many bp."""
    found = store.connection.execute(
        "SELECT region_id, overlap FROM peak_region WHERE peak_id = ? ORDER BY region_id", [peak]
    ).fetchall()
    return {"regions.region_id": [name for name, _ in found], "regions.overlap": [overlap for _, overlap in found]}


def _annotation(store: PriorStore, _gene: str, peak: str) -> dict[str, Any]:
    """Return what the peak lies on and the gene next to it."""
    rows = store.connection.sql("SELECT * FROM peak_annotation WHERE peak_id = ?", params=[peak]).to_arrow_table()
    return {f"peak_annotation.{name}": value for row in rows.to_pylist() for name, value in row.items()}


SUPPORT: dict[tuple[str, ...], Callable[[PriorStore, str, str], dict[str, Any]]] = {
    ("tf_peak", "tf_gene"): _regulators,
    ("peak_region",): _regions,
    ("peak_annotation",): _annotation,
}
"""What supports a link of a gene and a peak indirectly: tables needed, and the columns they give."""


def _sources(store: PriorStore, table: str) -> list[str]:
    """Return the sources of a table as text: file, version, beginning of the checksum."""
    found = store.connection.execute(
        "SELECT DISTINCT source, version, sha256 FROM provenance WHERE table_name = ? ORDER BY ALL", [table]
    ).fetchall()
    return [
        " ".join(filter(None, [source, version, f"sha256:{sha256[:CHECKSUM_SHOWN]}" if sha256 else ""]))
        for source, version, sha256 in found
    ]
