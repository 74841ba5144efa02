# ruff: noqa: S608  table and column names come from SCHEMAS; every value is a parameter
"""Questions to an open store, all in parameterised SQL: names, neighbourhoods, subgraphs, reports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from heteromics._config import unknown_key
from heteromics.errors import StoreError, some
from heteromics.priors.tables import OUTCOMES, SCHEMAS, TableSchema

if TYPE_CHECKING:
    import networkx as nx

    from heteromics.priors.store import PriorStore

Node = tuple[str, str]
"""Node type and identifier."""

DIRECTIONS = ("both", "out", "in")


def resolve(store: PriorStore, names: str | Sequence[str]) -> list[Node]:
    """Find the nodes that names mean: ids of any node table, or gene symbols; ``gene:NAME`` asks for one kind.

    Raises
    ------
    StoreError
        When a name is not there or means several nodes; all such names are reported at once.
    """
    names = [names] if isinstance(names, str) else list(names)
    found = {name: _candidates(store, name) for name in dict.fromkeys(names)}
    problems = [
        f"'{name}' is {'not in the store' if not nodes else 'ambiguous'}. {_advice(store, name, nodes)}"
        for name, nodes in found.items()
        if len(nodes) != 1
    ]
    if problems:
        lines = "\n".join(f"  {line}" for line in problems[:5])
        raise StoreError(f"{len(problems)} of {len(found)} nodes cannot be found in {store.path}:\n{lines}")
    return [nodes[0] for nodes in found.values()]


def _node_tables(store: PriorStore) -> list[TableSchema]:
    return [SCHEMAS[name] for name in store.tables() if SCHEMAS[name].kind == "node"]


def _candidates(store: PriorStore, name: str) -> list[Node]:
    tables = _node_tables(store)
    kind, colon, rest = name.partition(":")
    if colon and kind in {table.name for table in tables}:
        tables, name = [table for table in tables if table.name == kind], rest
    nodes = [
        (table.name, name)
        for table in tables
        if store.connection.execute(
            f'SELECT 1 FROM "{table.name}" WHERE "{table.key[0]}" = ? LIMIT 1', [name]
        ).fetchall()
    ]
    if nodes or "gene" not in {table.name for table in tables}:
        return nodes
    rows = store.connection.execute("SELECT gene_id FROM gene WHERE symbol = ? ORDER BY gene_id", [name]).fetchall()
    return [("gene", gene_id) for (gene_id,) in rows]


def _advice(store: PriorStore, name: str, nodes: Sequence[Node]) -> str:
    if nodes:
        if len({kind for kind, _ in nodes}) == 1:
            return f"Fix: give an id instead: {some((node for _, node in nodes), 5)}."
        return f"Fix: give its kind: {some((f'{kind}:{node}' for kind, node in nodes), 5)}."
    selects = [f'SELECT "{table.key[0]}" AS name FROM "{table.name}"' for table in _node_tables(store)]
    if "gene" in store.tables():
        selects.append("SELECT symbol FROM gene")
    near = store.connection.execute(
        f"SELECT DISTINCT name, jaro_winkler_similarity(lower(name), lower(?)) AS likeness "
        f"FROM ({' UNION ALL '.join(selects)}) ORDER BY likeness DESC, name LIMIT 3",
        [name],
    ).fetchall()
    return f"Nearest names: {', '.join(nearest for nearest, _ in near)}."


def edge_tables(store: PriorStore, edges: str | Sequence[str] | None) -> list[TableSchema]:
    """Return the edge tables to use: those named, or all of the store."""
    there = [name for name in store.tables() if SCHEMAS[name].kind == "edge"]
    asked = [edges] if isinstance(edges, str) else there if edges is None else list(edges)
    for name in asked:
        if name not in there:
            raise StoreError(f"{store.path} has no edge table '{name}'. Edge tables: {', '.join(there) or 'none'}.")
    return [SCHEMAS[name] for name in asked]


def neighbors(
    store: PriorStore, node: str | Sequence[str], hops: int, edges: str | Sequence[str] | None, direction: str
) -> pd.DataFrame:
    """See :meth:`PriorStore.neighbors`. A recursive query that keeps each node once (``USING KEY``)."""
    if hops < 1:
        raise StoreError(f"hops: found {hops}, expected 1 or more.")
    if direction not in DIRECTIONS:
        raise StoreError(f"direction: found {direction!r}, expected one of {', '.join(DIRECTIONS)}.")
    starts = resolve(store, node)
    walks = " UNION ALL ".join(_walks(edge_tables(store, edges), direction))
    if not walks:
        return pd.DataFrame({"node": [], "node_type": [], "hop": [], "via": []})
    sql = f"""
        WITH RECURSIVE step(from_type, from_node, to_type, to_node, via) AS ({walks}),
        reached(node_type, node, hop, via) USING KEY (node_type, node) AS (
            SELECT unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), 0, ''
            UNION
            SELECT step.to_type, step.to_node, min(reached.hop) + 1,
                   string_agg(DISTINCT step.via, ', ' ORDER BY step.via)
            FROM reached
            JOIN step ON step.from_type = reached.node_type AND step.from_node = reached.node
            LEFT JOIN recurring.reached AS seen ON seen.node_type = step.to_type AND seen.node = step.to_node
            WHERE seen.node IS NULL AND reached.hop < ?
            GROUP BY step.to_type, step.to_node
        )
        SELECT node, node_type, hop, via FROM reached WHERE hop > 0 ORDER BY hop, node_type, node
    """
    kinds, names = [kind for kind, _ in starts], [name for _, name in starts]
    return store.connection.execute(sql, [kinds, names, hops]).df()


def _walks(tables: Sequence[TableSchema], direction: str) -> Iterator[str]:
    """Yield one SELECT for each way an edge table can be walked."""
    for table in tables:
        out, back = table.ends, table.ends[::-1]
        ways = [out, back] if direction == "both" or not table.directed else [out] if direction == "out" else [back]
        for (start, start_type), (end, end_type) in ways:
            yield f"""SELECT '{start_type}', "{start}", '{end_type}', "{end}", '{table.name}' FROM "{table.name}" """


def subgraph(store: PriorStore, nodes: Sequence[str]) -> nx.MultiDiGraph:
    """See :meth:`PriorStore.subgraph`."""
    import networkx as nx

    chosen: dict[str, str] = {}
    for kind, name in resolve(store, nodes):
        if chosen.setdefault(name, kind) != kind:
            raise StoreError(f"'{name}' is both a {chosen[name]} and a {kind}; a graph needs one node per name.")
    graph: nx.MultiDiGraph = nx.MultiDiGraph(name=str(store.path), assembly=store.info["assembly"])
    by_kind: dict[str, list[str]] = {}
    for name, kind in chosen.items():
        graph.add_node(name, node_type=kind)
        by_kind.setdefault(kind, []).append(name)
    there = [SCHEMAS[name] for name in store.tables()]
    for kind, names in by_kind.items():
        key = SCHEMAS[kind].key[0]
        for table in there:
            if table.name == kind or (table.kind == "attribute" and table.key == (key,)):
                for row in _rows(store, f'SELECT * FROM "{table.name}" WHERE list_contains(?, "{key}")', [names]):
                    graph.nodes[row[key]].update({name: value for name, value in row.items() if name != key})
    for table in edge_tables(store, None):
        _add_edges(store, graph, table, by_kind)
    return graph


def _add_edges(store: PriorStore, graph: nx.MultiDiGraph, table: TableSchema, by_kind: dict[str, list[str]]) -> None:
    (start, start_type), (end, end_type) = table.ends
    if start_type not in by_kind or end_type not in by_kind:
        return
    sql = f'SELECT * FROM "{table.name}" WHERE list_contains(?, "{start}") AND list_contains(?, "{end}")'
    for row in _rows(store, sql, [by_kind[start_type], by_kind[end_type]]):
        key = ":".join([table.name, *(str(row[name]) for name in table.key if name not in (start, end))])
        data = {name: value for name, value in row.items() if name not in (start, end)} | {"directed": table.directed}
        graph.add_edge(row[start], row[end], key=key, **data)
        if not table.directed:
            graph.add_edge(row[end], row[start], key=key, **data)


def _rows(store: PriorStore, sql: str, parameters: Sequence[Any]) -> list[dict[str, Any]]:
    return store.connection.sql(sql, params=list(parameters)).to_arrow_table().to_pylist()


def match_report(store: PriorStore, table: str | None, outcome: str | None) -> pd.DataFrame:
    """See :meth:`PriorStore.match_report`."""
    if table is not None:
        store.table(table)
    if outcome is not None and outcome not in OUTCOMES:
        raise StoreError(str(unknown_key(outcome, OUTCOMES, "outcome")))
    return store.connection.execute(
        "SELECT * FROM match_report WHERE ($1 IS NULL OR table_name = $1) AND ($2 IS NULL OR outcome = $2)",
        [table, outcome],
    ).df()


def summary(store: PriorStore) -> pd.DataFrame:
    """See :meth:`PriorStore.summary`. A storage block that several tables share counts for each in equal parts."""
    (block_size,) = store.connection.execute("SELECT block_size FROM pragma_database_size()").fetchall()[0]
    users: dict[int, set[str]] = {}
    for name in store.tables():
        blocks = store.connection.execute(
            "SELECT block_id, additional_block_ids FROM pragma_storage_info(?) WHERE persistent", [name]
        ).fetchall()
        for block, more in blocks:
            for used in (block, *(more or ())):
                users.setdefault(used, set()).add(name)
    rows = []
    for name in store.tables():
        ((count,),) = store.connection.execute(f'SELECT count(*) FROM "{name}"').fetchall()
        share = sum(block_size / len(tables) for tables in users.values() if name in tables)
        rows.append((name, SCHEMAS[name].kind, count, round(share), SCHEMAS[name].comment))
    return pd.DataFrame(rows, columns=["table", "kind", "rows", "bytes", "description"])
