# ruff: noqa: S608  table and column names come from SCHEMAS; every value is a parameter
"""Walks through the edges of an open store: what lies within some hops, and the shortest ways between two nodes.

Both are recursive queries that keep each node once (``USING KEY``), so that their cost follows the edges that leave
the nodes reached, not the number of walks, which grows exponentially.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

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
    scan; joining all edges as one would build a hash table of them at every hop.
    """
    if hops < 1:
        raise StoreError(f"hops: found {hops}, expected 1 or more.")
    if direction not in DIRECTIONS:
        raise StoreError(f"direction: found {direction!r}, expected one of {', '.join(DIRECTIONS)}.")
    starts = resolve(store, node)
    walked = walked_tables(store, edges, min_score)
    steps = " UNION ALL ".join(
        f"""
        SELECT '{end_type}', "{end}", (SELECT max(hop) + 1 FROM reached), '{each.schema.name}' FROM "{each.schema.name}"
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

    Two queries: the nodes that lie on shortest paths with their places, from both ends at once, so that neither ball
    grows beyond half the way; then the edges between them. What is left is a small graph in which every step leads on
    to ``b``, and paths are read off it in order until there are enough.
    """
    if max_hops < 1:
        raise StoreError(f"max_hops: found {max_hops}, expected 1 or more.")
    if most < 1:
        raise StoreError(f"most: found {most}, expected 1 or more.")
    (start,), (end,) = resolve(store, a), resolve(store, b)
    if start == end:
        raise StoreError(f"'{a}' and '{b}' are one node, {start[0]} {start[1]}; a path needs two.")
    walked = walked_tables(store, edges, min_score)
    on_path = _nodes_on_shortest_paths(store, start, end, max_hops, walked) if walked else []
    steps = _steps_between(store, on_path, walked) if on_path else {}
    return _listed(start, end, steps, most)


def _nodes_on_shortest_paths(
    store: PriorStore, start: Node, end: Node, max_hops: int, walked: Sequence[Walked]
) -> list[tuple[str, str, int]]:
    """Return (node type, node, hops from start) of every node on a shortest path; none where there is no path.

    A label is the number of hops from one end, its side. Balls around both ends grow together until they share a node.
    The shared nodes that are farthest from the start then lie all at one place, through which every shortest path
    leads; from there the labels are followed back to both ends.
    """
    ways = [(each, *way) for each in walked for way in each.ways()]
    spread = " UNION ALL ".join(
        f"""
        SELECT near.side, '{end_type}', edge."{to}", near.hop + 1, near.reach
        FROM "{each.schema.name}" AS edge JOIN label AS near ON edge."{come}" = near.node
        WHERE near.node_type = '{start_type}' AND near.hop < near.reach {each.where}"""
        for each, (come, start_type), (to, end_type) in ways
    )
    trace = " UNION ALL ".join(
        f"""
        SELECT far.side, '{end_type}', edge."{to}", far.hop - 1
        FROM "{each.schema.name}" AS edge JOIN on_path AS far ON edge."{come}" = far.node
        WHERE far.node_type = '{start_type}' AND far.hop > 0 {each.where}"""
        for each, (come, start_type), (to, end_type) in ways
    )
    sql = f"""
        WITH RECURSIVE label(side, node_type, node, hop, reach) USING KEY (side, node_type, node) AS (
            SELECT * FROM (VALUES ('a', $a_type, $a, 0, $a_reach), ('b', $b_type, $b, 0, $b_reach))
            UNION
            SELECT step.side, step.node_type, step.node, min(step.hop), min(step.reach)
            FROM ({spread}) AS step(side, node_type, node, hop, reach)
            LEFT JOIN recurring.label AS seen USING (side, node_type, node)
            WHERE seen.hop IS NULL AND NOT EXISTS (
                SELECT 1 FROM recurring.label AS one JOIN recurring.label AS other USING (node_type, node)
                WHERE one.side = 'a' AND other.side = 'b'
            )
            GROUP BY step.side, step.node_type, step.node
        ),
        shared AS (
            SELECT node_type, node, one.hop AS a_hop, other.hop AS b_hop
            FROM label AS one JOIN label AS other USING (node_type, node) WHERE one.side = 'a' AND other.side = 'b'
            QUALIFY a_hop + b_hop = min(a_hop + b_hop) OVER ()
        ),
        middle AS (SELECT * FROM shared WHERE a_hop = (SELECT max(a_hop) FROM shared)),
        on_path(side, node_type, node, hop) USING KEY (side, node_type, node) AS (
            SELECT 'a', node_type, node, a_hop FROM middle UNION ALL SELECT 'b', node_type, node, b_hop FROM middle
            UNION
            SELECT step.side, step.node_type, step.node, step.hop
            FROM ({trace}) AS step(side, node_type, node, hop)
            JOIN label USING (side, node_type, node) WHERE label.hop = step.hop
        )
        SELECT DISTINCT node_type, node,
               CASE side WHEN 'a' THEN hop ELSE (SELECT max(a_hop + b_hop) FROM shared) - hop END
        FROM on_path
    """
    parameters = {
        **dict(zip(("a_type", "a", "b_type", "b"), (*start, *end), strict=True)),
        "a_reach": max_hops - max_hops // 2,
        "b_reach": max_hops // 2,
    }
    return store.connection.execute(sql, parameters | floors(walked)).fetchall()


Step = tuple[Node, list[str], float | None]
"""The node a step leads to, the edge tables that link it, and its score."""


def _steps_between(
    store: PriorStore, on_path: Sequence[tuple[str, str, int]], walked: Sequence[Walked]
) -> dict[Node, list[Step]]:
    """Return by node the steps to the nodes one place further on, in order."""
    links = " UNION ALL ".join(
        f"""
        SELECT here.node_type, here.node, next.node_type, next.node, '{each.schema.name}',
               {f'edge."{each.schema.score}"' if each.schema.score else "NULL"}::DOUBLE
        FROM "{each.schema.name}" AS edge
        JOIN on_path AS here ON edge."{come}" = here.node AND here.node_type = '{start_type}'
        JOIN on_path AS next ON edge."{to}" = next.node AND next.node_type = '{end_type}'
        WHERE next.place = here.place + 1 {each.where}"""
        for each in walked
        for (come, start_type), (to, end_type) in each.ways()
    )
    sql = f"""
        WITH on_path AS (
            SELECT unnest($types::VARCHAR[]) AS node_type, unnest($nodes::VARCHAR[]) AS node,
                   unnest($places::INTEGER[]) AS place
        )
        SELECT from_type, come, to_type, node, list(DISTINCT edge_table ORDER BY edge_table),
               CASE count(DISTINCT edge_table) WHEN 1 THEN max(score) END
        FROM ({links}) AS link(from_type, come, to_type, node, edge_table, score)
        GROUP BY from_type, come, to_type, node ORDER BY to_type, node
    """
    types, nodes, places = (list(column) for column in zip(*on_path, strict=True))
    parameters = {"types": types, "nodes": nodes, "places": places}
    steps: dict[Node, list[Step]] = {}
    for from_type, come, to_type, node, tables, score in store.connection.execute(
        sql, parameters | floors(walked)
    ).fetchall():
        steps.setdefault((from_type, come), []).append(((to_type, node), tables, score))
    return steps


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
