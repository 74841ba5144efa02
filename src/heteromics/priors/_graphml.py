# ruff: noqa: S608  table and column names come from SCHEMAS; every value is a parameter
"""GraphML of a store's nodes and edges, row by row.

networkx's own writer was weighed; it needs the whole graph and a tree of the whole file in memory. What is written
here is read by it into the same graph as ``PriorStore.subgraph`` gives.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape, quoteattr

from heteromics._progress import track
from heteromics.priors.names import Walked, floors
from heteromics.priors.schemas import SCHEMAS
from heteromics.priors.subgraph import edge_key, node_columns, node_sql

if TYPE_CHECKING:
    from heteromics.priors.store import PriorStore

BATCH = 16_384
"""Rows held at once, as Python values."""

ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""Characters that XML 1.0 cannot hold."""

KINDS = {"BIGINT": "long", "INTEGER": "long", "TINYINT": "long", "DOUBLE": "double", "FLOAT": "double"}
HEAD = """\
<?xml version="1.0" encoding="UTF-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" \
xsi:schemaLocation="http://graphml.graphdrawing.org/xmlns http://graphml.graphdrawing.org/xmlns/1.0/graphml.xsd">
"""


class _Keys:
    """Gives each attribute, told apart by its bearer, name and type, the key that stands for it in the file."""

    def __init__(self, bearer: str) -> None:
        self._bearer = bearer
        self._keys: dict[tuple[str, str], str] = {}

    def __call__(self, name: str, duckdb_type: str) -> str:
        kind = "boolean" if duckdb_type == "BOOLEAN" else KINDS.get(duckdb_type, "string")
        return self._keys.setdefault((name, kind), f"{self._bearer[0]}{len(self._keys)}")

    def lines(self) -> Iterator[str]:
        for (name, kind), key in self._keys.items():
            yield f'<key id="{key}" for="{self._bearer}" attr.name={quoteattr(name)} attr.type="{kind}"/>\n'


def write_graphml(store: PriorStore, path: Path, walked: Sequence[Walked], *, every_node: bool, progress: bool) -> None:
    """Write nodes and edges; the nodes are those of the kinds that the edges link, or all of the store."""
    there = store.tables()
    linked = {kind for each in walked for _, kind in each.schema.ends}
    kinds = [name for name in there if SCHEMAS[name].kind == "node" and (every_node or name in linked)]
    shared = _shared_names(store, kinds)
    node_keys, edge_keys = _Keys("node"), _Keys("edge")
    parts = [
        *(_nodes(store, kind, there, node_keys, shared) for kind in kinds),
        *(_edges(store, each, edge_keys, shared) for each in walked),
    ]
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(HEAD)
        file.writelines([*node_keys.lines(), *edge_keys.lines()])
        file.write(f'<graph edgedefault="directed" id={quoteattr(_legal(store.info["assembly"]))}>\n')
        for part in track(parts, "export", enabled=progress):
            file.writelines(part)
        file.write("</graph>\n</graphml>\n")


def _shared_names(store: PriorStore, kinds: Sequence[str]) -> set[str]:
    """Return the names that nodes of two kinds have."""
    nodes = " UNION ALL ".join(f'SELECT "{SCHEMAS[kind].key[0]}" AS node FROM "{kind}"' for kind in kinds)
    sql = f"SELECT node FROM ({nodes}) GROUP BY node HAVING count(*) > 1"
    return {node for (node,) in store.connection.execute(sql).fetchall()} if kinds else set()


def _nodes(store: PriorStore, kind: str, there: Sequence[str], keys: _Keys, shared: set[str]) -> Iterator[str]:
    """Declare the attributes of a kind of node at once and return its lines, made as they are written."""
    known = [keys(shown, column.type) for _, column, shown in node_columns(kind, there)]
    fixed = f'<data key="{keys("node_type", "VARCHAR")}">{kind}</data>'
    sql = f'{node_sql(kind, there)} ORDER BY "{kind}".rowid'
    return (
        f"<node id={_id(kind, node, shared)}>{fixed}{_data(known, values)}</node>\n"
        for node, *values in _rows(store, sql, [])
    )


def _edges(store: PriorStore, each: Walked, keys: _Keys, shared: set[str]) -> Iterator[str]:
    """Declare the attributes of an edge table at once and return its lines; undirected edges stand in both directions.

    Attribute ``key`` is what networkx takes for the key of an edge of a multigraph.
    """
    schema = each.schema
    (start, start_type), (end, end_type) = schema.ends
    columns = [column for column in schema.columns if column.name not in (start, end)]
    known = [keys(column.name, column.type) for column in columns]
    known_key, directed = keys("key", "VARCHAR"), keys("directed", "BOOLEAN")
    fixed = f'<data key="{directed}">{str(schema.directed).lower()}</data>'
    names = [column.name for column in columns]
    selected = ", ".join(f'"{name}"' for name in (start, end, *names))
    sql = f'SELECT {selected} FROM "{schema.name}" WHERE true {each.where}'

    def lines() -> Iterator[str]:
        for first, last, *values in _rows(store, sql, [each]):
            ends = [_id(start_type, first, shared), _id(end_type, last, shared)]
            key = escape(_legal(edge_key(schema, dict(zip(names, values, strict=True)))))
            data = f'{fixed}<data key="{known_key}">{key}</data>{_data(known, values)}'
            for source, target in [ends] if schema.directed else [ends, ends[::-1]]:
                yield f"<edge source={source} target={target}>{data}</edge>\n"

    return lines()


def _rows(store: PriorStore, sql: str, walked: Sequence[Walked]) -> Iterator[tuple[Any, ...]]:
    for batch in store.connection.sql(sql, params=floors(walked) or None).to_arrow_reader(BATCH):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _id(kind: str, node: str, shared: set[str]) -> str:
    return quoteattr(_legal(f"{kind}:{node}" if node in shared else node))


def _data(keys: Iterable[str], values: Iterable[Any]) -> str:
    return "".join(
        f'<data key="{key}">{_text(value)}</data>' for key, value in zip(keys, values, strict=True) if value is not None
    )


def _text(value: Any) -> str:
    """Return a value as XML Schema writes it.

    Examples
    --------
    >>> _text(True), _text(0.5), _text([1, 2]), _text("a < b"), _text(float("-inf"))
    ('true', '0.5', '1 2', 'a &lt; b', '-INF')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return {"inf": "INF", "-inf": "-INF", "nan": "NaN"}.get(repr(value), repr(value))
    if isinstance(value, list):
        return " ".join(map(_text, value))
    return escape(_legal(str(value)), {"\r": "&#13;"})


def _legal(text: str) -> str:
    """Return a text with a question mark in a diamond for every character that XML cannot hold."""
    return ILLEGAL.sub("\ufffd", text)
