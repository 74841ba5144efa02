# ruff: noqa: S608  table and column names come from SCHEMAS; every value is a parameter
"""Edges of a prior store between the nodes of a graph: joined, filtered and merged in the store, counted in full."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heteromics.errors import GraphError, did_you_mean, some
from heteromics.graphs._pathways import symmetric_edges

if TYPE_CHECKING:
    from heteromics.graphs.schema import EdgeType
    from heteromics.priors import PriorStore

Ints = NDArray[np.int64]
_EXAMPLES = 5

_COLUMNS = {
    "gene_gene": "max(t.weight) AS weight",
    "protein_protein": "max(t.combined_score) / 1000 AS weight",
    "gene_peak": "max(t.weight) AS weight, min(t.distance) AS distance",
    "tf_gene": "max(t.weight) AS weight, first(t.sign ORDER BY t.weight DESC, t.source) AS sign, "
    "count(DISTINCT t.sign) FILTER (t.sign <> 0) > 1 AS disputed",
}
_TYPES = {"weight": np.float32, "distance": np.int64, "sign": np.int8}

EDGES: dict[str, EdgeType] = {
    "gene_gene": ("gene", "interacts", "gene"),
    "protein_protein": ("protein", "interacts", "protein"),
    "gene_protein": ("gene", "encodes", "protein"),
    "gene_peak": ("gene", "reaches", "peak"),
    "tf_gene": ("gene", "regulates", "gene"),
}
"""Tables of a store that edges are made from, and the type of their edges.

Those of ``gene_protein`` come from how the proteins of the data join the store, so that they need no such table.
"""


@dataclass(frozen=True, slots=True)
class Joined:
    """Nodes of the graph by the identifiers that the store has for them; one of either side may have several.

    ``ids`` and ``nodes`` have one entry per pair, shape (n,); ``number`` is that of all nodes, joined or not.
    """

    ids: list[str]
    nodes: Ints
    number: int


class PriorEdges(NamedTuple):
    """Edges of one table, compressed by source, with their data, and what became of the rows of the table."""

    indptr: Ints
    indices: Ints
    data: dict[str, NDArray[Any]]
    match: dict[str, Any]


def prior_edges(
    store: PriorStore,
    table: str,
    joined: Mapping[str, Joined],
    *,
    min_score: float | None = None,
    sources: Sequence[str] | None = None,
) -> PriorEdges:
    """Read the edges of one table between nodes of a graph.

    Parameters
    ----------
    store
        With the table.
    table
        One of :data:`EDGES` but ``gene_protein``.
    joined
        By node type, which nodes are in the store.
    min_score
        Least score of a row, in the units of the table.
    sources
        Names in column ``source`` of the rows that count; None takes all.

    Returns
    -------
    PriorEdges
        Each pair of nodes once, destinations rising; an undirected pair both ways, and none from a node to itself.
        Where several rows join one pair, the largest weight, the least distance, and the sign of the strongest.
        ``match`` counts ``rows`` of the table, those of the ``sources`` in use, those left out by ``other_sources``,
        ``below_score``, ``outside`` (an end is no node of the graph) and ``within_one_node``, those ``merged`` into
        another, and the ``edges``; by node type, ``<type>s_outside`` counts the store's nodes that are not in the graph
        and names some.

    Raises
    ------
    GraphError
        For a source that the table has not.
    """
    from heteromics.priors.schemas import SCHEMAS

    schema = SCHEMAS[table]
    (first, left), (second, right) = schema.ends
    one, other = joined[left], joined[right]
    by_source = _by_source(store, table) if any(column.name == "source" for column in schema.columns) else {}
    wanted = _checked_sources(store, table, by_source, sources)
    given: dict[str, Any] = {"one": one.ids, "two": other.ids}
    chosen = "true" if wanted is None else "list_contains($sources::VARCHAR[], t.source)"
    given |= {} if wanted is None else {"sources": wanted}
    strong = "true" if min_score is None else f"t.{schema.score} >= $least::DOUBLE"
    given |= {} if min_score is None else {"least": float(min_score)}
    total, in_sources, kept, inside = _counts(store, table, (first, second), chosen, strong, given)
    found = _grouped(store, table, (first, second), f"{chosen} AND {strong}", given, one.nodes, other.nodes)
    a, b = found.pop("a").astype(np.int64), found.pop("b").astype(np.int64)
    rows = found.pop("rows")
    disputed = found.pop("disputed", None)
    data = {name: values.astype(_TYPES[name]) for name, values in found.items()}
    match: dict[str, Any] = {"rows": total}
    match |= {"sources": {name: by_source[name] for name in wanted or by_source}} if by_source else {}
    match |= {} if wanted is None else {"other_sources": total - in_sources}
    match |= {} if min_score is None else {"below_score": in_sources - kept}
    match["outside"] = kept - inside
    if not schema.directed:
        apart = a != b
        match["within_one_node"] = int(rows[~apart].sum())
        a, b, rows = a[apart], b[apart], rows[apart]
        data = {name: values[apart] for name, values in data.items()}
    match["merged"] = int(rows.sum()) - len(a)
    if disputed is not None:
        match["signs_disputed"] = int(disputed.sum())
    for ntype, ids, columns in _sides(schema.ends):
        match[f"{ntype}s_outside"] = _outside(store, table, columns, f"{chosen} AND {strong}", given, ids)
    if schema.directed:
        indptr = np.concatenate([[0], np.bincount(a, minlength=one.number).cumsum()])
        edges = PriorEdges(indptr, b, data, match)
    else:
        edges = PriorEdges(*symmetric_edges(a, b, data, one.number), match)
    match["edges"] = len(edges.indices)
    return edges


def available(
    store: PriorStore, asked: Iterable[str] | None, ntypes: Iterable[str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the tables to make edges from, and why each other one is not used.

    Parameters
    ----------
    store
        The store.
    asked
        Tables; None for all that fit.
    ntypes
        Node types of the graph.

    Raises
    ------
    GraphError
        For a table nobody knows, one between nodes the graph has not, or one the store has not, with the keys of a
        recipe that make it.
    """
    there, nodes = set(store.tables()), set(ntypes)
    reasons: dict[str, str] = {}
    for table, (source, _, target) in EDGES.items():
        if absent := sorted({source, target} - nodes):
            reasons[table] = f"the data have no {absent[0]}s"
        elif table not in there and table != "gene_protein":
            reasons[table] = "the store does not have it"
    if asked is None:
        return tuple(table for table in EDGES if table not in reasons), reasons
    wanted = list(dict.fromkeys(asked))
    for table in wanted:
        if table not in EDGES:
            raise GraphError(f"edges: unknown table '{table}'. {did_you_mean(table, EDGES)}Known: {', '.join(EDGES)}.")
        if table in reasons:
            fix = f"Fix: a store whose recipe has {_keys(table)}" if table not in there else "Fix: give that modality"
            raise GraphError(f"edges: {table} cannot be made from {store.path}: {reasons[table]}. {fix}.")
    return tuple(table for table in EDGES if table in wanted), {
        table: reasons.get(table, "not asked for") for table in EDGES if table not in wanted
    }


def check_tables(given: Mapping[str, Any] | None, tables: Sequence[str], what: str) -> None:
    """Stop at a parameter of another form, or for a table that no edges are made from or that has no such column.

    Raises
    ------
    GraphError
        Naming the tables that can be given.
    """
    from heteromics.priors.schemas import SCHEMAS

    def fits(table: str) -> bool:
        if what == "sources":
            return any(column.name == "source" for column in SCHEMAS[table].columns)
        return SCHEMAS[table].score is not None

    if given is not None and not isinstance(given, Mapping):
        raise GraphError(f"{what}: found {given!r}, expected it by table, such as {{'gene_gene': ...}}.")
    known = [table for table in tables if fits(table)]
    if unknown := sorted(set(given or ()) - set(known)):
        raise GraphError(
            f"{what}: found {', '.join(unknown)}, expected among the tables in use {', '.join(known) or 'none'}."
        )
    for table, value in (given or {}).items():
        if what == "sources" and isinstance(value, str):
            raise GraphError(f"sources: found {value!r} for {table}, expected a list, such as [{value!r}].")
        if what == "min_score" and (not isinstance(value, Real) or math.isnan(float(value))):
            raise GraphError(f"min_score: found {value!r} for {table}, expected a number.")


def _keys(table: str) -> str:
    """Return the keys of a recipe under which builders of a table stand."""
    from heteromics.priors.registry import BUILDERS

    return " or ".join(builder.key for builder in BUILDERS if table in builder.makes)


def _by_source(store: PriorStore, table: str) -> dict[str, int]:
    """Count the rows of each source of a table."""
    return dict(
        store.connection.execute(f'SELECT source, count(*) FROM "{table}" GROUP BY ALL ORDER BY source').fetchall()
    )


def _checked_sources(
    store: PriorStore, table: str, there: Mapping[str, int], sources: Sequence[str] | None
) -> list[str] | None:
    if sources is None:
        return None
    if unknown := [source for source in sources if source not in there]:
        raise GraphError(
            f"sources: {table} of {store.path} has none named {some(unknown)}. It has {', '.join(there) or 'none'}."
        )
    return list(dict.fromkeys(sources))


def _counts(
    store: PriorStore, table: str, ends: tuple[str, str], chosen: str, strong: str, given: Mapping[str, Any]
) -> tuple[int, int, int, int]:
    """Count the rows of a table, those of the sources, of these the strong ones, and of these those between nodes."""
    kept = f"{chosen} AND {strong}"
    inside = " AND ".join(
        f"t.{end} IN (SELECT unnest(${side}::VARCHAR[]))" for end, side in zip(ends, ("one", "two"), strict=True)
    )
    ((total, in_sources, all_kept, joined),) = store.connection.execute(
        f"SELECT count(*), count(*) FILTER ({chosen}), count(*) FILTER ({kept}), "
        f'count(*) FILTER ({kept} AND {inside}) FROM "{table}" t',
        dict(given),
    ).fetchall()
    return total, in_sources, all_kept, joined


def _grouped(
    store: PriorStore,
    table: str,
    ends: tuple[str, str],
    kept: str,
    given: Mapping[str, Any],
    one: Ints,
    two: Ints,
) -> dict[str, NDArray[Any]]:
    """Return each pair of nodes once, in order, with the columns of the table and how many rows it stands for."""
    a, b, rows = "f.node", "s.node", "count(*)"
    if table == "protein_protein":  # two proteins that each stand for both ends meet twice in one row
        rows = "count(DISTINCT t.rowid)"
    if table in ("gene_gene", "protein_protein"):
        a, b = f"least({a}, {b})", f"greatest({a}, {b})"
    return store.connection.execute(
        "WITH f AS (SELECT unnest($one::VARCHAR[]) AS id, unnest($nodes_one::BIGINT[]) AS node), "
        "s AS (SELECT unnest($two::VARCHAR[]) AS id, unnest($nodes_two::BIGINT[]) AS node) "
        f"SELECT {a} AS a, {b} AS b, {rows} AS rows, {_COLUMNS[table]} "
        f'FROM "{table}" t JOIN f ON t.{ends[0]} = f.id JOIN s ON t.{ends[1]} = s.id '
        f"WHERE {kept} GROUP BY 1, 2 ORDER BY 1, 2",
        {**given, "nodes_one": one.tolist(), "nodes_two": two.tolist()},
    ).fetchnumpy()


def _sides(ends: Sequence[tuple[str, str]]) -> list[tuple[str, str, list[str]]]:
    """Return the node types at the ends of a table, each once, with its parameter and its columns."""
    (first, left), (second, right) = ends
    if left == right:
        return [(left, "one", [first, second])]
    return [(left, "one", [first]), (right, "two", [second])]


def _outside(
    store: PriorStore, table: str, columns: Sequence[str], kept: str, given: Mapping[str, Any], side: str
) -> dict[str, Any]:
    """Count the ends in some columns that are no nodes of the graph, and name the first of them."""
    every = " UNION ".join(f'SELECT t.{column} AS id FROM "{table}" t WHERE {kept}' for column in columns)
    needed = {name: value for name, value in given.items() if name in ("sources", "least", side)}
    rows = store.connection.execute(
        f"WITH lost AS (SELECT id FROM ({every}) WHERE id NOT IN (SELECT unnest(${side}::VARCHAR[]))) "
        f"SELECT count(*) OVER (), id FROM lost ORDER BY id LIMIT {_EXAMPLES}",
        needed,
    ).fetchall()
    return {"number": rows[0][0] if rows else 0, "examples": [name for _, name in rows]}
