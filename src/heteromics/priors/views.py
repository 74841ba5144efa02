# ruff: noqa: S608  table and column names come from SCHEMAS
"""What makes a store easy to read in the ``duckdb`` shell: comments that say what an edge connects, one view of all."""

from __future__ import annotations

from collections.abc import Iterable

from heteromics.priors.schemas import SCHEMAS, TableSchema

EDGE_VIEW = "edge"
_COLUMNS = {
    "source_type": "node table of the first end",
    "source": "identifier of the first end",
    "target_type": "node table of the second end",
    "target": "identifier of the second end",
    "edge_table": "edge table the edge stands in",
    "score": "score of the edge in that table; NULL where its edges have none; not to be compared between tables",
}


def table_comment(schema: TableSchema) -> str:
    """Return the comment of a table; that of an edge table says what its edges connect and which column is the score.

    Examples
    --------
    >>> table_comment(SCHEMAS["gene_peak"])
    'Peaks within reach of each gene; edges from gene (gene_id) to peak (peak_id), score weight'
    >>> table_comment(SCHEMAS["peak"])
    'Open regions, ordered by chromosome code and start'
    """
    if not schema.ends:
        return schema.comment
    (start, start_type), (end, end_type) = schema.ends
    linked = f"from {start_type} ({start}) to {end_type} ({end})"
    if not schema.directed:
        linked = f"between {start_type} ({start}) and {end_type} ({end}), undirected"
    return f"{schema.comment}; edges {linked}, {f'score {schema.score}' if schema.score else 'no score'}"


def edge_view_sql(tables: Iterable[str]) -> str:
    """Return the statements that make view ``edge``, all edges of a store in one, with comments; empty without edges.

    Parameters
    ----------
    tables
        Names of the tables that the store has; those that are no edge tables are left aside.

    Examples
    --------
    >>> print(edge_view_sql(["gene", "gene_pathway"]).splitlines()[1].strip())
    SELECT 'gene' AS source_type, "gene_id" AS source, 'pathway' AS target_type, "pathway_id" AS target,
    >>> edge_view_sql(["gene"])
    ''
    """
    edges = [schema for name, schema in SCHEMAS.items() if name in set(tables) and schema.kind == "edge"]
    if not edges:
        return ""
    selects = "\nUNION ALL\n".join(
        f"""\
SELECT '{start_type}' AS source_type, "{start}" AS source, '{end_type}' AS target_type, "{end}" AS target,
       '{schema.name}' AS edge_table, {f'"{schema.score}"' if schema.score else "NULL"}::DOUBLE AS score
FROM "{schema.name}\""""
        for schema in edges
        for (start, start_type), (end, end_type) in [schema.ends]
    )
    comments = "".join(f"COMMENT ON COLUMN {EDGE_VIEW}.{name} IS '{text}';\n" for name, text in _COLUMNS.items())
    return (
        f"CREATE VIEW {EDGE_VIEW} AS\n{selects};\n"
        f"COMMENT ON VIEW {EDGE_VIEW} IS 'All edges, one row per row of an edge table; undirected ones stand once';\n"
        f"{comments}"
    )
