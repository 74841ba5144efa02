# ruff: noqa: S608  table and column names come from SCHEMAS; every value is a parameter
"""Nodes and edges of an open store with all that is known of them, as a networkx graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from heteromics.errors import StoreError
from heteromics.priors.names import resolve
from heteromics.priors.schemas import SCHEMAS, Column, TableSchema

if TYPE_CHECKING:
    import networkx as nx

    from heteromics.priors.store import PriorStore

AMONG = "IN (SELECT unnest(?::VARCHAR[]))"


def subgraph(store: PriorStore, nodes: Sequence[str]) -> nx.MultiDiGraph:
    """See :meth:`PriorStore.subgraph`."""
    import networkx as nx

    kind_of: dict[str, str] = {}
    by_kind: dict[str, list[str]] = {}
    for kind, name in resolve(store, nodes):
        if kind_of.setdefault(name, kind) != kind:
            raise StoreError(f"'{name}' is both a {kind_of[name]} and a {kind}; a graph needs one node per name.")
        by_kind.setdefault(kind, []).append(name)
    graph: nx.MultiDiGraph = nx.MultiDiGraph(name=str(store.path), assembly=store.info["assembly"])
    graph.add_nodes_from((name, {"node_type": kind}) for name, kind in kind_of.items())
    there = store.tables()
    for kind, names in by_kind.items():
        key = SCHEMAS[kind].key[0]
        for row in _rows(store, f'{node_sql(kind, there)} WHERE "{kind}"."{key}" {AMONG}', [names]):
            graph.nodes[row.pop(key)].update(row)
    for table in (SCHEMAS[name] for name in there if SCHEMAS[name].kind == "edge"):
        _add_edges(store, graph, table, by_kind)
    return graph


def _add_edges(store: PriorStore, graph: nx.MultiDiGraph, table: TableSchema, by_kind: dict[str, list[str]]) -> None:
    (start, start_type), (end, end_type) = table.ends
    if start_type not in by_kind or end_type not in by_kind:
        return
    sql = f'SELECT * FROM "{table.name}" WHERE "{start}" {AMONG} AND "{end}" {AMONG} ORDER BY "{start}", "{end}"'
    for row in _rows(store, sql, [by_kind[start_type], by_kind[end_type]]):
        key = edge_key(table, row)
        data = {name: value for name, value in row.items() if name not in (start, end)} | {"directed": table.directed}
        graph.add_edge(row[start], row[end], key=key, **data)
        if not table.directed:
            graph.add_edge(row[end], row[start], key=key, **data)


def edge_key(table: TableSchema, row: Mapping[str, Any]) -> str:
    """Return what tells an edge from others between the same nodes: its table, ``table:source`` where it has several.

    Examples
    --------
    >>> edge_key(SCHEMAS["gene_gene"], {"gene_a": "A", "gene_b": "B", "source": "string"})
    'gene_gene:string'
    """
    ends = {column for column, _ in table.ends}
    return ":".join([table.name, *(str(row[name]) for name in table.key if name not in ends)])


def node_columns(kind: str, there: Sequence[str]) -> list[tuple[str, Column, str]]:
    """Return (table, column, name in a graph) of what the tables there tell of each node of a kind.

    These are the node table and the attribute tables with one row per node. A column name that several of all such
    tables have, whether they are there or not, is led by its table: ``peak_summary.feature``.
    """
    key = SCHEMAS[kind].key
    told_by = [table for table in SCHEMAS.values() if table.key == key and table.kind in ("node", "attribute")]
    uses = Counter(column.name for table in told_by for column in table.columns if column.name != key[0])
    return [
        (table.name, column, column.name if uses[column.name] == 1 else f"{table.name}.{column.name}")
        for table in told_by
        if table.name in there
        for column in table.columns
        if column.name != key[0]
    ]


def node_sql(kind: str, there: Sequence[str]) -> str:
    """Return a SELECT of the key of each node of a kind and its :func:`node_columns`, NULL where a table lacks it."""
    key, columns = SCHEMAS[kind].key[0], node_columns(kind, there)
    selected = ", ".join(
        [f'"{kind}"."{key}"', *(f'"{table}"."{one.name}" AS "{shown}"' for table, one, shown in columns)]
    )
    others = dict.fromkeys(table for table, _, _ in columns if table != kind)
    joins = " ".join(f'LEFT JOIN "{table}" ON "{table}"."{key}" = "{kind}"."{key}"' for table in others)
    return f'SELECT {selected} FROM "{kind}" {joins}'


def _rows(store: PriorStore, sql: str, parameters: Sequence[Any]) -> list[dict[str, Any]]:
    return store.connection.sql(sql, params=list(parameters)).to_arrow_table().to_pylist()
