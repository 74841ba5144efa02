# ruff: noqa: S608  table and column names come from SCHEMAS; every value is a parameter
"""What two stores have in common and what not: tables, rows, sources, recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import yaml

from heteromics.priors._sql import quoted
from heteromics.priors.schemas import SCHEMAS, TableSchema

if TYPE_CHECKING:
    from heteromics.priors.store import PriorStore

ELSEWHERE = ("provenance", "store_info", "build_step")
"""Books that are not compared row by row: ``sources`` and ``recipe`` say what differs; the rest is dates and times."""

DATES = ("asked_on",)
"""Columns of other books that are not compared."""


@dataclass(frozen=True, slots=True)
class TableDiff:
    """What differs in a table that both stores have.

    Attributes
    ----------
    table
        Its name.
    rows_a, rows_b
        Rows in either store.
    gained, lost
        Rows of the second and of the first store whose key the other does not have.
    changed
        Rows of one key that differ in another column.
    changed_in
        By column, how many of these differ in it.
    examples
        The first few keys that were gained, lost and changed, in order.
    """

    table: str
    rows_a: int
    rows_b: int
    gained: int = 0
    lost: int = 0
    changed: int = 0
    changed_in: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        """Whether the tables hold the same rows, in whatever order."""
        return not (self.gained or self.lost or self.changed)


@dataclass(frozen=True, slots=True)
class StoreDiff:
    """What differs between store ``a`` and store ``b``.

    Attributes
    ----------
    a, b
        The two files.
    only_a, only_b
        Tables that one store alone has, with their rows.
    tables
        One :class:`TableDiff` for each table of both.
    sources
        Sources that differ: ``table, source, change`` (gained, lost, changed), ``was, now`` (version and checksum).
    recipe
        Settings that differ: ``key, a, b``; None where a recipe does not have it.
    """

    a: str
    b: str
    only_a: dict[str, int]
    only_b: dict[str, int]
    tables: tuple[TableDiff, ...]
    sources: tuple[dict[str, str], ...]
    recipe: tuple[dict[str, Any], ...]

    @property
    def equal(self) -> bool:
        """Whether both hold the same tables and rows, made from the same sources by the same recipe."""
        return not (self.only_a or self.only_b or self.sources or self.recipe) and all(t.equal for t in self.tables)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per table of either store, for a table on the screen."""
        alone = [
            {
                "table": name,
                "rows_a": rows_a,
                "rows_b": rows_b,
                "gained": rows_b or 0,
                "lost": rows_a or 0,
                "changed": 0,
            }
            for name, rows_a, rows_b in [
                *((name, rows, None) for name, rows in self.only_a.items()),
                *((name, None, rows) for name, rows in self.only_b.items()),
            ]
        ]
        shared = [
            {name: value for name, value in asdict(table).items() if name not in ("changed_in", "examples")}
            for table in self.tables
        ]
        order = list(SCHEMAS)
        return sorted(alone + shared, key=lambda row: order.index(row["table"]))

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {"equal": self.equal, **asdict(self)}


def diff(store: PriorStore, other: PriorStore, most: int = 5) -> StoreDiff:
    """See :meth:`PriorStore.diff`.

    Both files are attached to a database of their own, so that neither store's connection is touched; a full outer
    join by key per table counts in one pass.
    """
    connection = duckdb.connect(":memory:", config={"temp_directory": f"{store.path}.diff.tmp"})
    with connection:
        a, b = _attach(connection, store.path, other.path)
        there, here = set(store.tables()), set(other.tables())
        both = [name for name in SCHEMAS if name in there & here and name not in ELSEWHERE]
        return StoreDiff(
            a=str(store.path),
            b=str(other.path),
            only_a={name: _rows(connection, a, name) for name in SCHEMAS if name in there - here},
            only_b={name: _rows(connection, b, name) for name in SCHEMAS if name in here - there},
            tables=tuple(_compare(connection, a, b, SCHEMAS[name], most) for name in both),
            sources=tuple(_sources(connection, a, b)),
            recipe=tuple(_settings(store.info, other.info)),
        )


def _attach(connection: duckdb.DuckDBPyConnection, first: Path, second: Path) -> tuple[str, str]:
    """Attach both files and return their names in SQL; one file cannot be attached twice, so it gets one name."""
    connection.execute(f"ATTACH {quoted(str(first))} AS a (READ_ONLY, TYPE duckdb)")
    if first.samefile(second):
        return "a", "a"
    connection.execute(f"ATTACH {quoted(str(second))} AS b (READ_ONLY, TYPE duckdb)")
    return "a", "b"


def _rows(connection: duckdb.DuckDBPyConnection, store: str, table: str) -> int:
    ((rows,),) = connection.execute(f'SELECT count(*) FROM {store}."{table}"').fetchall()
    return int(rows)


def _compare(connection: duckdb.DuckDBPyConnection, a: str, b: str, schema: TableSchema, most: int) -> TableDiff:
    """Compare one table of both stores. Books have no key that is checked, so their whole rows are compared as sets."""
    names = [column.name for column in schema.columns]
    key = [name for name in names if name not in DATES] if schema.kind == "books" else list(schema.key)
    others = [name for name in names if name not in (*key, *DATES)]
    shown = {column.name: _plain(column.name, column.type) for column in schema.columns}
    distinct = "DISTINCT" if schema.kind == "books" else ""
    selected = ", ".join(f"{shown[name]} AS {_name(name)}" for name in (*key, *others))
    sides = [f'(SELECT {distinct} true AS "#", {selected} FROM {store}."{schema.name}")' for store in (a, b)]
    same = " AND ".join(f"a.{_name(name)} IS NOT DISTINCT FROM b.{_name(name)}" for name in key)
    joined = f"{sides[0]} AS a FULL JOIN {sides[1]} AS b ON {same}"
    differs = {name: f"a.{_name(name)} IS DISTINCT FROM b.{_name(name)}" for name in others}
    paired = 'a."#" AND b."#"'
    either = f"{paired} AND ({' OR '.join(differs.values()) or 'false'})"
    conditions = {"gained": 'a."#" IS NULL', "lost": 'b."#" IS NULL', "changed": either}
    counted = [*conditions.values(), *(f"{paired} AND {condition}" for condition in differs.values())]
    ((gained, lost, changed, *per_column),) = connection.execute(
        f"SELECT {', '.join(f'count(*) FILTER ({condition})' for condition in counted)} FROM {joined}"
    ).fetchall()
    counts = {"gained": gained, "lost": lost, "changed": changed}
    examples = {
        what: _examples(connection, joined, conditions[what], schema, most) for what, n in counts.items() if n and most
    }
    return TableDiff(
        schema.name,
        _rows(connection, a, schema.name),
        _rows(connection, b, schema.name),
        **counts,
        changed_in={name: n for name, n in zip(others, per_column, strict=True) if n},
        examples=examples,
    )


def _examples(
    connection: duckdb.DuckDBPyConnection, joined: str, condition: str, schema: TableSchema, most: int
) -> list[str]:
    keys = ", ".join(f"coalesce(a.{_name(name)}, b.{_name(name)})::VARCHAR" for name in schema.key)
    found = connection.execute(f"SELECT {keys} FROM {joined} WHERE {condition} ORDER BY ALL LIMIT ?", [most]).fetchall()
    return [" ".join("" if part is None else part for part in row) for row in found]


def _name(column: str) -> str:
    return f'"{column}"'


def _plain(column: str, kind: str) -> str:
    """Return a column as both stores can have it: arrays of one length in either may differ in it, lists do not."""
    return f'"{column}"::{kind}' if kind.endswith("[]") else f'"{column}"'


def _sources(connection: duckdb.DuckDBPyConnection, a: str, b: str) -> list[dict[str, str]]:
    """Return the sources of tables that one store alone has, or both with another version or checksum."""
    was, now = (_files(connection, store) for store in (a, b))
    changes = []
    for table, source in sorted(was.keys() | now.keys()):
        before, after = was.get((table, source)), now.get((table, source))
        if before != after:
            change = "gained" if before is None else "lost" if after is None else "changed"
            changes.append(
                {"table": table, "source": source, "change": change, "was": before or "", "now": after or ""}
            )
    return changes


def _files(connection: duckdb.DuckDBPyConnection, store: str) -> dict[tuple[str, str], str]:
    """Return version and checksum by table and source; several files of one name, parted by commas."""
    found: dict[tuple[str, str], list[str]] = {}
    for table, source, version, sha256 in connection.execute(
        f"SELECT DISTINCT table_name, source, version, sha256 FROM {store}.provenance ORDER BY ALL"
    ).fetchall():
        one = " ".join(filter(None, [version, f"sha256:{sha256}" if sha256 else ""]))
        found.setdefault((table, source), []).append(one)
    return {key: ", ".join(files) for key, files in found.items()}


def _settings(a: Mapping[str, str], b: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the recipe keys, dotted, whose values differ."""
    was, now = (_dotted(yaml.safe_load(info.get("recipe_yaml", "")) or {}) for info in (a, b))
    keys: Sequence[str] = list(dict.fromkeys([*was, *now]))
    return [{"key": key, "a": was.get(key), "b": now.get(key)} for key in keys if was.get(key) != now.get(key)]


def _dotted(value: Any, before: str = "") -> dict[str, Any]:
    """Return nested mappings as one with dotted keys.

    Examples
    --------
    >>> _dotted({"edges": {"gene_peak": {"within_bp": 500}}, "recipe": 1})
    {'edges.gene_peak.within_bp': 500, 'recipe': 1}
    """
    if not isinstance(value, Mapping) or not value:
        return {before: value}
    flat: dict[str, Any] = {}
    for name, part in value.items():
        flat |= _dotted(part, f"{before}.{name}" if before else str(name))
    return flat
