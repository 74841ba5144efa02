# ruff: noqa: S608  table and column names come from SCHEMAS; every value is a parameter
"""What a store says of itself: its tables and columns, their sizes, and the names that did not join."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from heteromics._config import unknown_key
from heteromics.errors import StoreError
from heteromics.priors.outcomes import OUTCOMES
from heteromics.priors.schemas import SCHEMAS, Column

if TYPE_CHECKING:
    from heteromics.priors.store import PriorStore

WIDTHS = {"BIGINT": 8, "DOUBLE": 8, "INTEGER": 4, "FLOAT": 4, "TINYINT": 1, "UTINYINT": 1, "BOOLEAN": 1}
"""Bytes of one value of the types that columns of :data:`SCHEMAS` have, text aside."""


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


def schema(store: PriorStore | None) -> pd.DataFrame:
    """See :meth:`PriorStore.schema`; without a store all tables that a store can have."""
    there = list(SCHEMAS) if store is None else store.tables()
    told: dict[tuple[str, str], tuple[str, str | None]] = {}
    if store is not None:
        columns = store.connection.execute(
            "SELECT table_name, column_name, data_type, comment FROM duckdb_columns() "
            "WHERE database_name = current_database()"
        ).fetchall()
        told = {(table, column): (kind, comment) for table, column, kind, comment in columns}
    rows = []
    for table in (SCHEMAS[name] for name in there):
        ends = dict(table.ends)
        for column in table.columns:
            kind, comment = told.get((table.name, column.name), (column.type, column.comment))
            role = "key" if column.name in table.key else "score" if column.name == table.score else ""
            rows.append(
                (
                    *(table.name, table.kind, column.name, kind, role, ends.get(column.name, "")),
                    *(column.nullable, comment or column.comment),
                )
            )
    return pd.DataFrame(rows, columns=["table", "kind", "column", "type", "role", "end", "nullable", "comment"])


def described(store: PriorStore | None = None, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return tables with their keys, ends and columns as plain values: those named, all of the store, or all known."""
    columns = schema(store)
    tables = []
    for table in (SCHEMAS[name] for name in (columns["table"].unique() if names is None else names)):
        own = columns[columns["table"] == table.name].drop(columns=["table", "kind"])
        tables.append(
            {
                "table": table.name,
                "kind": table.kind,
                "comment": table.comment,
                "key": list(table.key),
                "ends": [{"column": column, "table": kind} for column, kind in table.ends],
                "directed": table.directed,
                "score": table.score,
                "columns": own.to_dict("records"),
            }
        )
    return tables


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
