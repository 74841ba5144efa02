"""What a table of the store is, as data: columns with types and comments, key, ends of its edges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """One column: DuckDB type, comment, whether NULL may stand in it.

    A type that ends in ``[]`` is an array, of one length for all rows where a builder gives it so
    (``pyarrow.FixedSizeListType``); what its places mean, table ``array_label`` says.
    """

    name: str
    type: str
    comment: str
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class TableSchema:
    """One table: ``kind`` is node, edge, attribute or books; ``key`` identifies a row; ``ends`` are an edge's ends."""

    name: str
    kind: str
    comment: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    ends: tuple[tuple[str, str], ...] = ()
    """For an edge table: (column, node table) of its source and its target."""
    directed: bool = True
    """False for edges stored once whose two ends are equals."""
    score: str | None = None
    """For an edge table: the column that grows with the strength of an edge, where there is one."""

    def create_sql(self, lengths: Mapping[str, int] | None = None) -> str:
        """Return the ``CREATE TABLE`` statement; ``lengths`` gives array columns of one length for all rows theirs."""
        lengths = lengths or {}
        columns = (
            f'"{one.name}" {one.type.replace("[]", f"[{lengths[one.name]}]") if one.name in lengths else one.type}'
            f"{'' if one.nullable else ' NOT NULL'}"
            for one in self.columns
        )
        return f'CREATE TABLE "{self.name}" ({", ".join(columns)})'


def identifier(name: str, comment: str) -> Column:
    """Return a text column that names a node."""
    return Column(name, "VARCHAR", comment)


def place(what: str) -> tuple[Column, ...]:
    """Return the columns of an interval."""
    return (
        Column("chrom", "VARCHAR", "chromosome, in the store's name style"),
        Column("chrom_start", "BIGINT", f"first base of the {what}, 0-based"),
        Column("chrom_end", "BIGINT", f"one past the last base of the {what}, 0-based"),
    )


EVIDENCE = Column("evidence", "VARCHAR", "where this row comes from, readable")
