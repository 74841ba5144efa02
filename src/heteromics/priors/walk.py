# ruff: noqa: S608  table and column names come from SCHEMAS; every value is a parameter
"""Walks through the edges of an open store: what lies within some hops, and the shortest ways between two nodes.

Both are recursive queries that keep each node once (``USING KEY``), so that their cost follows the edges that leave
the nodes reached, not the number of walks, which grows exponentially.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import pandas as pd

from heteromics.errors import StoreError
from heteromics.priors.names import MinScore, Node, Walked, floors, resolve, walked_tables

if TYPE_CHECKING:
    from heteromics.priors.store import PriorStore

DIRECTIONS = ("both", "out", "in")


def neighbors(
    store: PriorStore,
    node: str | Sequence[str],
    hops: int,
    edges: str | Sequence[str] | None,
    direction: str,
    min_score: MinScore,
) -> pd.DataFrame:
    """See :meth:`PriorStore.neighbors`.

    Each edge table is asked for the edges that leave the nodes found last (``IN``), which DuckDB turns into a filtered
    scan; a join, whose size it cannot know here, may build a hash table of all edges at every hop.
    """
    if hops < 1:
        raise StoreError(f"hops: found {hops}, expected 1 or more.")
    if direction not in DIRECTIONS:
        raise StoreError(f"direction: found {direction!r}, expected one of {', '.join(DIRECTIONS)}.")
    starts = resolve(store, node)
    walked = walked_tables(store, edges, min_score)
    steps = " UNION ALL ".join(
        f"""
        SELECT DISTINCT '{end_type}', "{end}", (SELECT max(hop) + 1 FROM reached), '{each.schema.name}'
        FROM "{each.schema.name}"
        WHERE "{start}" IN (SELECT node FROM reached WHERE node_type = '{start_type}' AND hop < $hops) {each.where}"""
        for each in walked
        for (start, start_type), (end, end_type) in each.ways(direction)
    )
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
    return store.connection.execute(sql, parameters | floors(walked)).df()


def paths(
    store: PriorStore,
    a: str,
    b: str,
    max_hops: int,
    edges: str | Sequence[str] | None,
    min_score: MinScore,
    most: int,
) -> pd.DataFrame:
    """See :meth:`PriorStore.paths`.

    Nodes are labelled with their hops from both ends at once, so that neither ball grows beyond half the way; then the
    labels are followed back. What is left is a small graph in which every step leads on to ``b``, and paths are read
    off it in order until there are enough.
    """
    if max_hops < 1:
        raise StoreError(f"max_hops: found {max_hops}, expected 1 or more.")
    if most < 1:
        raise StoreError(f"most: found {most}, expected 1 or more.")
    (start,), (end,) = resolve(store, a), resolve(store, b)
    if start == end:
        raise StoreError(f"'{a}' and '{b}' are one node, {start[0]} {start[1]}; a path needs two.")
    walked = walked_tables(store, edges, min_score)
    steps = _shortest_steps(store, start, end, max_hops, walked) if walked else {}
    return _listed(start, end, steps, most)


Step = tuple[Node, list[str], float | None]
"""The node a step leads to, the edge tables that link it, and its score."""


def _shortest_steps(
    store: PriorStore, start: Node, end: Node, max_hops: int, walked: Sequence[Walked]
) -> dict[Node, list[Step]]:
    """Return by node the steps that shortest paths take from there, in order; none where there is no path.

    Of the nodes that both balls hold, those farthest from the start lie all at one place, through which every shortest
    path leads; from there the labels are followed back to both ends, one hop a query.
    """
    hops = _labels(store, start, end, max_hops, walked)
    length_by = {node: hop + hops["b"][node] for node, hop in hops["a"].items() if node in hops["b"]}
    if not length_by:
        return {}
    length = min(length_by.values())
    place = max(hops["a"][node] for node, through in length_by.items() if through == length)
    middle = [node for node, through in length_by.items() if through == length and hops["a"][node] == place]
    steps: dict[Node, list[Step]] = {}
    for side, radius in (("a", place), ("b", length - place)):
        reached: Sequence[Node] = middle
        for hop in reversed(range(radius)):
            links = _links(store, reached, [node for node, label in hops[side].items() if label == hop], walked)
            for outer, inner, tables, score in links:
                come, to = (inner, outer) if side == "a" else (outer, inner)
                steps.setdefault(come, []).append((to, tables, score))
            reached = list(dict.fromkeys(inner for _, inner, _, _ in links))
    return {node: sorted(onward, key=lambda step: step[0]) for node, onward in steps.items()}


def _labels(
    store: PriorStore, start: Node, end: Node, max_hops: int, walked: Sequence[Walked]
) -> dict[str, dict[Node, int]]:
    """Return by end, ``a`` and ``b``, the hops of the nodes around it; the two balls grow until they share a node."""
    spread = " UNION ALL ".join(
        f"""
        SELECT DISTINCT '{side}', '{end_type}', "{to}", (SELECT max(hop) + 1 FROM label WHERE side = '{side}')
        FROM "{each.schema.name}"
        WHERE "{come}" IN (
            SELECT node FROM label WHERE side = '{side}' AND node_type = '{start_type}' AND hop < ${side}_reach
        ) {each.where}"""
        for side in "ab"
        for each in walked
        for (come, start_type), (to, end_type) in each.ways()
    )
    sql = f"""
        WITH RECURSIVE label(side, node_type, node, hop) USING KEY (side, node_type, node) AS (
            SELECT * FROM (VALUES ('a', $a_type, $a, 0), ('b', $b_type, $b, 0))
            UNION
            SELECT step.side, step.node_type, step.node, min(step.hop)
            FROM ({spread}) AS step(side, node_type, node, hop)
            LEFT JOIN recurring.label AS seen USING (side, node_type, node)
            WHERE seen.hop IS NULL AND NOT EXISTS (
                SELECT 1 FROM recurring.label AS one JOIN recurring.label AS other USING (node_type, node)
                WHERE one.side = 'a' AND other.side = 'b'
            )
            GROUP BY step.side, step.node_type, step.node
        )
        SELECT side, node_type, node, hop FROM label
    """
    parameters = {
        **dict(zip(("a_type", "a", "b_type", "b"), (*start, *end), strict=True)),
        "a_reach": max_hops - max_hops // 2,
        "b_reach": max_hops // 2,
    }
    hops: dict[str, dict[Node, int]] = {"a": {}, "b": {}}
    for side, kind, node, hop in store.connection.execute(sql, parameters | floors(walked)).fetchall():
        hops[side][kind, node] = hop
    return hops


def _links(
    store: PriorStore, outer: Sequence[Node], inner: Sequence[Node], walked: Sequence[Walked]
) -> list[tuple[Node, Node, list[str], float | None]]:
    """Return (outer node, inner node, edge tables, score) of all pairs of nodes of the two sets that an edge links."""
    selects: list[str] = []
    parameters: dict[str, Any] = {}
    for each in walked:
        for (come, start_type), (to, end_type) in each.ways():
            sides = {f"outer_{start_type}": (outer, start_type), f"inner_{end_type}": (inner, end_type)}
            named = {name: [node for kind, node in nodes if kind == of] for name, (nodes, of) in sides.items()}
            if not all(named.values()):
                continue
            score = f'"{each.schema.score}"::DOUBLE' if each.schema.score else "NULL::DOUBLE"
            selects.append(f"""
                SELECT '{start_type}', "{come}", '{end_type}', "{to}", '{each.schema.name}', {score}
                FROM "{each.schema.name}"
                WHERE "{come}" IN (SELECT unnest($outer_{start_type}::VARCHAR[]))
                  AND "{to}" IN (SELECT unnest($inner_{end_type}::VARCHAR[])) {each.where}""")
            parameters |= named | floors([each])
    if not selects:
        return []
    sql = f"""
        SELECT from_type, come, to_type, node, list(DISTINCT edge_table ORDER BY edge_table),
               CASE count(DISTINCT edge_table) WHEN 1 THEN max(score) END
        FROM ({" UNION ALL ".join(selects)}) AS link(from_type, come, to_type, node, edge_table, score)
        GROUP BY from_type, come, to_type, node
    """
    return [
        ((from_type, come), (to_type, node), tables, score)
        for from_type, come, to_type, node, tables, score in store.connection.execute(sql, parameters).fetchall()
    ]


def _listed(start: Node, end: Node, steps: dict[Node, list[Step]], most: int) -> pd.DataFrame:
    """Read the first paths off the steps, in order of their nodes, and count them all."""
    rows = [
        (number, place, node, node_type, ", ".join(tables), score)
        for number, path in enumerate(islice(_read_off(start, end, steps), most))
        for place, ((node_type, node), tables, score) in enumerate([(start, [], None), *path])
    ]
    columns = ["path", "step", "node", "node_type", "via", "score"]
    frame = pd.DataFrame(rows, columns=columns).astype({"score": "float64"})
    frame.attrs["n_paths"] = _count(start, end, steps, {}) if steps else 0
    return frame


def _read_off(start: Node, end: Node, steps: dict[Node, list[Step]]) -> Iterator[list[Step]]:
    """Yield the paths from start to end, each as its steps; every step leads on to the end."""
    for step in steps.get(start, ()):
        if step[0] == end:
            yield [step]
        else:
            for rest in _read_off(step[0], end, steps):
                yield [step, *rest]


def _count(start: Node, end: Node, steps: dict[Node, list[Step]], known: dict[Node, int]) -> int:
    """Return how many paths lead from start to end; ``known`` holds the counts of nodes seen before."""
    if start == end:
        return 1
    if start not in known:
        known[start] = sum(_count(node, end, steps, known) for node, _, _ in steps[start])
    return known[start]
