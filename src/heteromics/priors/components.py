# ruff: noqa: S608  table and column names come from SCHEMAS; every value is a parameter
"""Connected components of the edges of an open store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from heteromics.priors.names import MinScore, floors, walked_tables
from heteromics.priors.schemas import SCHEMAS

if TYPE_CHECKING:
    from heteromics.priors.store import PriorStore


def components(store: PriorStore, edges: str | Sequence[str] | None, min_score: MinScore) -> pd.DataFrame:
    """See :meth:`PriorStore.components`.

    A recursive query with one label per node (``USING KEY``), which begins as the node's own number and falls until
    nothing changes. In each round a label passes along the edges, on to the node it came from (hooking) and through
    the label of the label (shortcut), so that rounds grow with the logarithm of the longest way through a component
    and not with that way: the scheme of FastSV (Zhang, Azad and Hu 2020, "FastSV: a distributed-memory connected
    component algorithm with fast convergence", SIAM PP20).
    """
    walked = walked_tables(store, edges, min_score)
    kinds = list(dict.fromkeys(kind for each in walked for _, kind in each.schema.ends))
    if not kinds:
        return pd.DataFrame({"node": [], "node_type": [], "component": [], "size": []})
    nodes = " UNION ALL ".join(f"""SELECT '{kind}', "{SCHEMAS[kind].key[0]}" FROM "{kind}\"""" for kind in kinds)
    links = " UNION ALL ".join(
        f"""
        SELECT one.id, other.id FROM "{each.schema.name}" AS edge
        JOIN numbered AS one ON edge."{start}" = one.node AND one.node_type = '{start_type}'
        JOIN numbered AS other ON edge."{end}" = other.node AND other.node_type = '{end_type}'
        WHERE true {each.where}"""
        for each in walked
        for (start, start_type), (end, end_type) in each.ways()
    )
    sql = f"""
        WITH RECURSIVE numbered AS MATERIALIZED (
            SELECT node_type, node, (row_number() OVER (ORDER BY node_type, node))::INTEGER AS id
            FROM ({nodes}) AS every(node_type, node)
        ),
        link(a, b) AS MATERIALIZED ({links}),
        root(id, label) USING KEY (id) AS (
            SELECT id, id FROM numbered
            UNION
            SELECT offer.id, min(offer.label)
            FROM (
                SELECT unnest([near.id, mine.label]), near.label
                FROM (
                    SELECT link.b AS id, min(beyond.label) AS label
                    FROM link
                    JOIN recurring.root AS theirs ON theirs.id = link.a
                    JOIN recurring.root AS beyond ON beyond.id = theirs.label
                    GROUP BY link.b
                ) AS near
                JOIN recurring.root AS mine ON mine.id = near.id
                UNION ALL
                SELECT mine.id, beyond.label
                FROM recurring.root AS mine JOIN recurring.root AS beyond ON beyond.id = mine.label
            ) AS offer(id, label)
            JOIN recurring.root AS held ON held.id = offer.id
            WHERE offer.label < held.label AND EXISTS (FROM root)
            GROUP BY offer.id
        ),
        labelled AS (SELECT id, label, count(*) OVER (PARTITION BY label) AS size FROM root)
        SELECT node, node_type, dense_rank() OVER (ORDER BY size DESC, label) - 1 AS component, size
        FROM labelled JOIN numbered USING (id) ORDER BY component, id
    """
    return store.connection.execute(sql, floors(walked)).df()
