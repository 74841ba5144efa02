# ruff: noqa: S608  table and column names come from SCHEMAS; every value is a parameter
"""From the names people give to the nodes of a store, and to the edge tables to walk along."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

from heteromics.errors import StoreError, did_you_mean, some
from heteromics.priors.schemas import SCHEMAS, TableSchema

if TYPE_CHECKING:
    import pandas as pd

    from heteromics.priors.store import PriorStore

Node = tuple[str, str]
"""Node type and identifier."""

MinScore = float | Mapping[str, float] | None
"""Least score of the edges to keep: one for all tables that have a score, or one by table; None keeps all."""

LABELS = {"gene": "symbol", "protein": "symbol", "motif": "name", "transcript": "symbol"}
"""Column of a node table with the name people use, in the order in which a name that is no identifier is looked up."""


@dataclass(frozen=True, slots=True)
class Walked:
    """An edge table to walk along and, where asked for, the least score of its edges."""

    schema: TableSchema
    floor: float | None = None

    @property
    def where(self) -> str:
        """A condition to append to a WHERE clause; its parameter is in :func:`floors`."""
        return "" if self.floor is None else f'AND "{self.schema.score}" >= $floor_{self.schema.name}'

    def ways(self, direction: str = "both") -> list[tuple[tuple[str, str], tuple[str, str]]]:
        """Return (column, node type) where a step begins and where it ends, for each way an edge can be walked."""
        out, back = self.schema.ends, self.schema.ends[::-1]
        if direction == "both" or not self.schema.directed:
            return [(out[0], out[1]), (back[0], back[1])]
        return [(out[0], out[1])] if direction == "out" else [(back[0], back[1])]


def floors(walked: Sequence[Walked]) -> dict[str, float]:
    """Return the parameters that the ``where`` of these tables name."""
    return {f"floor_{each.schema.name}": each.floor for each in walked if each.floor is not None}


def walked_tables(store: PriorStore, edges: str | Sequence[str] | None, min_score: MinScore = None) -> list[Walked]:
    """Return the edge tables to walk along: those named, or all of the store.

    Raises
    ------
    StoreError
        For an edge table the store does not have, a least score for a table without score or one that is not walked
        along, one that is no finite number, and a single least score where no table walked along has a score.
    """
    there = [name for name in store.tables() if SCHEMAS[name].kind == "edge"]
    asked = [edges] if isinstance(edges, str) else there if edges is None else list(dict.fromkeys(edges))
    for name in asked:
        if name not in there:
            hint = did_you_mean(name, there)
            raise StoreError(
                f"{store.path} has no edge table '{name}'. {hint}Edge tables: {', '.join(there) or 'none'}."
            )
    chosen = [SCHEMAS[name] for name in asked]
    scored = [table.name for table in chosen if table.score]
    least = _least(min_score, asked, scored)
    return [Walked(table, least.get(table.name)) for table in chosen]


def _least(min_score: MinScore, asked: Sequence[str], scored: Sequence[str]) -> dict[str, float]:
    if min_score is None:
        return {}
    listed = ", ".join(scored) or "none"
    if isinstance(min_score, Mapping):
        least = dict(min_score)
        for name in least:
            if name not in asked:
                raise StoreError(f"min_score: '{name}' is not among the edge tables walked along: {', '.join(asked)}.")
            if name not in scored:
                raise StoreError(f"min_score: edges of '{name}' have no score. Tables with a score: {listed}.")
    else:
        if not scored:
            raise StoreError(f"min_score: none of the edge tables has a score: {', '.join(asked)}. Fix: leave it out.")
        least = dict.fromkeys(scored, min_score)
    for name, score in least.items():
        if not isinstance(score, Real) or not math.isfinite(score):
            raise StoreError(f"min_score of {name}: found {score!r}, expected a finite number.")
    return {name: float(score) for name, score in least.items()}


def node_tables(store: PriorStore) -> list[TableSchema]:
    """Return the node tables of the store."""
    return [SCHEMAS[name] for name in store.tables() if SCHEMAS[name].kind == "node"]


def resolve(store: PriorStore, names: str | Sequence[str]) -> list[Node]:
    """Find the nodes that names mean; ``gene:NAME`` asks for one kind, unless it is the whole identifier of a node.

    A name is an identifier of any node table; else the symbol of a gene, a protein, a motif or a transcript, the first
    of these kinds that knows it; else another name of a gene (table ``gene_alias``, where the store has it).

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
    return list(dict.fromkeys(nodes[0] for nodes in found.values()))


def _candidates(store: PriorStore, names: Sequence[str]) -> dict[str, list[Node]]:
    """Return all nodes that each name can mean; a symbol counts only where no identifier fits."""
    kinds = [table.name for table in node_tables(store)]
    found: dict[str, list[Node]] = {name: [] for name in names}
    for kind in kinds:
        key = SCHEMAS[kind].key[0]
        for name, node in _matching(store, kind, key, key, names):
            found[name].append((kind, node))
    asked: dict[str, dict[str, list[str]]] = {kind: {} for kind in kinds}
    for name in [name for name, nodes in found.items() if not nodes]:
        kind, colon, rest = name.partition(":")
        one = bool(colon) and kind in kinds
        for every in [kind] if one else kinds:
            asked[every].setdefault(rest if one else name, []).append(name)
    other_names = [(kind, kind, SCHEMAS[kind].key[0]) for kind in kinds]
    other_names += [(kind, kind, column) for kind, column in LABELS.items() if kind in kinds]
    if "gene_alias" in store.tables():
        other_names.append(("gene", "gene_alias", "alias"))
    for kind, table_name, column in other_names:
        unknown = {name for name, nodes in found.items() if not nodes}
        values = [value for value, given in asked[kind].items() if unknown.intersection(given)]
        for value, node in _matching(store, table_name, column, SCHEMAS[kind].key[0], values):
            for name in unknown.intersection(asked[kind][value]):
                found[name].append((kind, node))
    return found


def _matching(store: PriorStore, table: str, column: str, key: str, values: Sequence[str]) -> list[tuple[str, str]]:
    """Return (value, identifier) of the rows whose column holds one of the values."""
    sql = (
        f'SELECT DISTINCT "{column}" AS name, "{key}" AS node FROM "{table}" '
        f'WHERE "{column}" IN (SELECT unnest(?::VARCHAR[])) ORDER BY ALL'
    )
    return store.connection.execute(sql, [values]).fetchall() if values else []


def _advice(store: PriorStore, name: str, nodes: Sequence[Node]) -> str:
    if nodes:
        if len({kind for kind, _ in nodes}) == 1:
            return f"Fix: give an id instead: {some((node for _, node in nodes), 5)}."
        return f"Fix: give its kind: {some((f'{kind}:{node}' for kind, node in nodes), 5)}."
    selects = [f'SELECT "{table.key[0]}" AS name FROM "{table.name}"' for table in node_tables(store)]
    selects += [
        f'SELECT "{LABELS[table.name]}" FROM "{table.name}"' for table in node_tables(store) if table.name in LABELS
    ]
    near = store.connection.execute(
        f"SELECT DISTINCT name, jaro_winkler_similarity(lower(name), lower(?)) AS likeness "
        f"FROM ({' UNION ALL '.join(selects)}) ORDER BY likeness DESC, name LIMIT 3",
        [name.partition(":")[2] if name.partition(":")[0] in SCHEMAS else name],
    ).fetchall()
    return f"Nearest names: {', '.join(nearest for nearest, _ in near)}."


def with_labels(store: PriorStore, rows: pd.DataFrame) -> pd.DataFrame:
    """Return ``rows`` (``node, node_type`` and more) with a column ``label`` after ``node``: the symbol, or empty."""
    labels: dict[Node, str] = {}
    for kind, column in LABELS.items():
        if named := rows.loc[rows["node_type"] == kind, "node"].unique().tolist():
            labels |= {(kind, node): label for label, node in _labels(store, kind, column, named)}
    nodes = zip(rows["node_type"], rows["node"], strict=True)
    labelled = rows.copy()
    labelled.insert(list(rows.columns).index("node") + 1, "label", [labels.get(node, "") for node in nodes])
    return labelled


def _labels(store: PriorStore, kind: str, column: str, nodes: Sequence[str]) -> list[tuple[str, str]]:
    key = SCHEMAS[kind].key[0]
    sql = f'SELECT "{column}", "{key}" FROM "{kind}" WHERE "{key}" IN (SELECT unnest(?::VARCHAR[]))'
    return store.connection.execute(sql, [nodes]).fetchall()
