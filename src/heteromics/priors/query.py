# ruff: noqa: S608  table and column names come from SCHEMAS; every value is a parameter
"""Questions to an open store, all in parameterised SQL: names, neighbourhoods, subgraphs, reports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from heteromics._config import unknown_key
from heteromics.errors import StoreError, some
from heteromics.priors.outcomes import OUTCOMES
from heteromics.priors.schemas import SCHEMAS, Column, TableSchema

if TYPE_CHECKING:
    import networkx as nx

    from heteromics.priors.store import PriorStore

Node = tuple[str, str]
"""Node type and identifier."""

DIRECTIONS = ("both", "out", "in")
WIDTHS = {"BIGINT": 8, "DOUBLE": 8, "INTEGER": 4, "FLOAT": 4, "TINYINT": 1, "UTINYINT": 1, "BOOLEAN": 1}
"""Bytes of one value of the types that columns of :data:`SCHEMAS` have, text aside."""


def resolve(store: PriorStore, names: str | Sequence[str]) -> list[Node]:
    """Find the nodes that names mean: ids of any node table, or gene symbols; ``gene:NAME`` asks for one kind.

    Raises
    ------
    StoreError
        When a name is not there or means several nodes; all such names are reported at once.
    """
    names = [names] if isinstance(names, str) else list(names)
    found = _candidates(store, list(dict.fromkeys(names)))
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


def _candidates(store: PriorStore, names: Sequence[str]) -> dict[str, list[Node]]:
    """Return all nodes that each name can mean; a symbol counts only where no identifier fits."""
    tables = _node_tables(store)
    kinds = [table.name for table in tables]
    found: dict[str, list[Node]] = {name: [] for name in names}
    asked: dict[str, dict[str, list[str]]] = {kind: {} for kind in kinds}
    for name in names:
        kind, colon, rest = name.partition(":")
        if colon and kind in kinds:
            asked[kind].setdefault(rest, []).append(name)
        else:
            for every in kinds:
                asked[every].setdefault(name, []).append(name)
    for table in tables:
        key = table.key[0]
        there = _matching(store, f'SELECT "{key}" FROM "{table.name}"', key, list(asked[table.name]))
        for (node,) in there:
            for name in asked[table.name][node]:
                found[name].append((table.name, node))
    if "gene" in kinds:
        unknown = {name for name, nodes in found.items() if not nodes}
        symbols = [symbol for symbol, given in asked["gene"].items() if unknown.intersection(given)]
        for symbol, gene_id in _matching(store, "SELECT symbol, gene_id FROM gene", "symbol", symbols):
            for name in unknown.intersection(asked["gene"][symbol]):
                found[name].append(("gene", gene_id))
    return found


def _matching(store: PriorStore, select: str, column: str, values: Sequence[str]) -> list[tuple[str, ...]]:
    sql = f'{select} WHERE "{column}" IN (SELECT unnest(?::VARCHAR[])) ORDER BY ALL'
    return store.connection.execute(sql, [values]).fetchall() if values else []


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
    """See :meth:`PriorStore.neighbors`.

    A recursive query that keeps each node once (``USING KEY``). Each edge table is asked for the edges that leave the
    nodes found last (``IN``), which DuckDB turns into a filtered scan; joining all edges as one would build a hash
    table of them at every hop.
    """
    if hops < 1:
        raise StoreError(f"hops: found {hops}, expected 1 or more.")
    if direction not in DIRECTIONS:
        raise StoreError(f"direction: found {direction!r}, expected one of {', '.join(DIRECTIONS)}.")
    starts = resolve(store, node)
    steps = " UNION ALL ".join(_steps(edge_tables(store, edges), direction))
    if not steps:
        return pd.DataFrame({"node": [], "node_type": [], "hop": [], "via": []})
    sql = f"""
        WITH RECURSIVE reached(node_type, node, hop, via) USING KEY (node_type, node) AS (
            SELECT unnest($types::VARCHAR[]), unnest($names::VARCHAR[]), 0, ''
            UNION
            SELECT step.node_type, step.node, min(step.hop), string_agg(DISTINCT step.via, ', ' ORDER BY step.via)
            FROM ({steps}) AS step(node_type, node, hop, via)
            LEFT JOIN recurring.reached AS seen ON seen.node_type = step.node_type AND seen.node = step.node
            WHERE seen.node IS NULL
            GROUP BY step.node_type, step.node
        )
        SELECT node, node_type, hop, via FROM reached WHERE hop > 0 ORDER BY hop, node_type, node
    """
    parameters = {"types": [kind for kind, _ in starts], "names": [name for _, name in starts], "hops": hops}
    return store.connection.execute(sql, parameters).df()


def _steps(tables: Sequence[TableSchema], direction: str) -> Iterator[str]:
    """Yield one SELECT for each way an edge table can be walked: the nodes one hop beyond those found last."""
    for table in tables:
        out, back = table.ends, table.ends[::-1]
        ways = [out, back] if direction == "both" or not table.directed else [out] if direction == "out" else [back]
        for (start, start_type), (end, end_type) in ways:
            yield f"""
                SELECT '{end_type}', "{end}", (SELECT max(hop) + 1 FROM reached), '{table.name}' FROM "{table.name}"
                WHERE "{start}" IN (SELECT node FROM reached WHERE node_type = '{start_type}' AND hop < $hops)"""


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
                for row in _rows(
                    store, f'SELECT * FROM "{table.name}" WHERE "{key}" IN (SELECT unnest(?::VARCHAR[]))', [names]
                ):
                    graph.nodes[row[key]].update({name: value for name, value in row.items() if name != key})
    for table in edge_tables(store, None):
        _add_edges(store, graph, table, by_kind)
    return graph


def _add_edges(store: PriorStore, graph: nx.MultiDiGraph, table: TableSchema, by_kind: dict[str, list[str]]) -> None:
    (start, start_type), (end, end_type) = table.ends
    if start_type not in by_kind or end_type not in by_kind:
        return
    chosen = "IN (SELECT unnest(?::VARCHAR[]))"
    sql = f'SELECT * FROM "{table.name}" WHERE "{start}" {chosen} AND "{end}" {chosen} ORDER BY "{start}", "{end}"'
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
    """See :meth:`PriorStore.summary`."""
    blocks = _block_bytes(store)
    rows = []
    for name in store.tables():
        lengths = ["count(*)", *map(_length, SCHEMAS[name].columns)]
        ((count, *plain),) = store.connection.execute(f'SELECT {", ".join(lengths)} FROM "{name}"').fetchall()
        rows.append((name, SCHEMAS[name].kind, count, round(min(sum(plain), blocks[name])), SCHEMAS[name].comment))
    return pd.DataFrame(rows, columns=["table", "kind", "rows", "bytes", "description"])


def _block_bytes(store: PriorStore) -> dict[str, float]:
    """Return the bytes of the storage blocks of each table; a block that several share counts for each equally."""
    ((block_size,),) = store.connection.execute(
        "SELECT block_size FROM pragma_database_size() WHERE database_name = current_database()"
    ).fetchall()
    users: dict[int, set[str]] = {}
    for name in store.tables():
        blocks = store.connection.execute(
            "SELECT block_id, additional_block_ids FROM pragma_storage_info(?) WHERE block_id >= 0", [name]
        ).fetchall()
        for block, more in blocks:
            for used in (block, *(more or ())):
                users.setdefault(used, set()).add(name)
    return {
        name: sum(block_size / len(tables) for tables in users.values() if name in tables) for name in store.tables()
    }


def _length(column: Column) -> str:
    """Return the SQL for the bytes of a column's values as they are, not compressed."""
    if column.type == "VARCHAR":
        return f'coalesce(sum(strlen("{column.name}")), 0)'
    if column.type.endswith("[]"):
        return f'{WIDTHS[column.type[:-2]]} * coalesce(sum(len("{column.name}"::{column.type})), 0)'
    return f'{WIDTHS[column.type]} * count("{column.name}")'


def quoted(text: str) -> str:
    """Return a text as an SQL literal, for the statements that take no parameters: COMMENT ON and ATTACH.

    Examples
    --------
    >>> quoted("the gene's name")
    "'the gene''s name'"
    """
    return "'" + text.replace("'", "''") + "'"
