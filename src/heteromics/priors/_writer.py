# ruff: noqa: S608  table and column names come from SCHEMAS; every value is a parameter
"""Inserts what builders return, checks it, and keeps the books; each step is one transaction.

A step's tables, its books and its rows of ``build_step`` come into the file together or not at all, so that whatever
ends a build leaves finished steps only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

import heteromics
from heteromics.errors import PriorError, some
from heteromics.priors._former import ATTACHED, CHROMOSOME, FormerStep, attached
from heteromics.priors._sql import quoted
from heteromics.priors.recipe import Recipe
from heteromics.priors.schemas import SCHEMAS, TableSchema
from heteromics.priors.tables import FORMAT_VERSION, Built, Match
from heteromics.priors.views import edge_view_sql, table_comment

BOOKS = ("provenance", "match_report", "match_summary", "array_label")
"""Books that builders fill, each row with the key of its builder."""

_ARROW = {
    "VARCHAR": pa.string(),
    "BIGINT": pa.int64(),
    "INTEGER": pa.int32(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
}


class Writer:
    """Writes the steps of one build.

    Attributes
    ----------
    made, kept
        Keys of the builders that ran, and of those whose step was taken over.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, recipe: Recipe) -> None:
        self._connection, self._recipe = connection, recipe
        self._rows: dict[str, int] = {}
        self.made: list[str] = []
        self.kept: list[str] = []
        with self._transaction():
            for name in ("provenance", "match_report", "match_summary", "build_step"):
                self._create(SCHEMAS[name])

    def chromosomes(self, built: Built, fingerprint: str) -> None:
        """Insert the table that is there before any builder runs."""
        self._add(CHROMOSOME, fingerprint, built, 0.0, ())

    def add(self, builder: str, fingerprint: str, built: Built, seconds: float, derived_from: Sequence[str]) -> None:
        """Insert the tables of a step and note where they come from: their files, or the tables they were made from."""
        self._add(builder, fingerprint, built, seconds, derived_from)
        self.made.append(builder)

    def _add(self, builder: str, fingerprint: str, built: Built, seconds: float, derived_from: Sequence[str]) -> None:
        with self._transaction():
            rows = []
            for name, table in built.tables.items():
                rows.append((name, self._rows.get(name, 0), table.num_rows))
                self._insert(SCHEMAS[name], table)
            self._note(builder, built, seconds, derived_from)
            self._close_step(builder, fingerprint, rows, kept=False)

    def take_over(self, step: FormerStep) -> bool:
        """Copy the tables and books of a step from another file; say whether that went well.

        Raises
        ------
        duckdb.Error
            When it is the new file that cannot be written.
        """
        try:
            with attached(self._connection, step.path), self._transaction():
                rows = [(name, self._rows.get(name, 0), number) for name, _, number in step.rows]
                for name, first, number in step.rows:
                    self._copy(SCHEMAS[name], first, number)
                for name in BOOKS:
                    self._copy_books(name, step.builder)
                self._close_step(step.builder, step.fingerprint, rows, kept=True)
        except (duckdb.Error, PriorError):
            if _readable(step):
                raise
            return False
        self.kept.append(step.builder)
        return True

    def close(self) -> None:
        """Write ``store_info`` and the view of all edges; the last step of a build."""
        info = {
            "format_version": str(FORMAT_VERSION),
            "heteromics_version": heteromics.__version__,
            "assembly": self._recipe.assembly,
            "chrom_style": self._recipe.chrom_style,
            "recipe": self._recipe.name,
            "recipe_hash": self._recipe.hash,
            "content_hash": self._content_hash(),
            "recipe_yaml": self._recipe.as_yaml(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with self._transaction():
            self._insert_rows("store_info", info.items())
            self._connection.execute(edge_view_sql(self._rows))

    def _content_hash(self) -> str:
        """SHA-256 over the steps: what each was given and how many rows it made, whether made anew or taken over."""
        steps = self._connection.execute("SELECT builder, fingerprint, table_name, rows FROM build_step").fetchall()
        return hashlib.sha256(json.dumps(sorted(steps)).encode()).hexdigest()

    def reported(self, builders: Collection[str]) -> Reported:
        """Return what these builders said of names that did not simply join."""
        return Reported(self._connection, builders)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        before = dict(self._rows)
        self._connection.execute("BEGIN")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            self._rows = before
            with suppress(duckdb.Error):
                self._connection.execute("ROLLBACK")
            raise

    def _create(self, schema: TableSchema, lengths: Mapping[str, int] | None = None) -> None:
        if schema.name not in self._rows:
            create_table(self._connection, schema, lengths)
            self._rows[schema.name] = 0

    def _insert(self, schema: TableSchema, table: pa.Table) -> None:
        """Insert rows in the order given; columns that may be NULL can be left out."""
        check_columns(schema, table)
        self._create(schema, array_lengths(table.schema))
        listed = ", ".join(f'"{name}"' for name in table.column_names)
        self._connection.register("incoming", table)
        self._connection.execute(f'INSERT INTO "{schema.name}" ({listed}) SELECT {listed} FROM incoming')
        self._connection.unregister("incoming")
        self._rows[schema.name] += table.num_rows
        if schema.kind != "books":
            self._check_key(schema)

    def _check_key(self, schema: TableSchema) -> None:
        """Stop at rows of one key: 64-bit hashes tell in 8 bytes a row that there are none, else the keys are named."""
        key = ", ".join(f'"{name}"' for name in schema.key)
        hashes = self._connection.sql(f'SELECT hash({key}) AS hash FROM "{schema.name}"').fetchnumpy()["hash"]
        hashes.sort()
        if not (hashes[1:] == hashes[:-1]).any():
            return
        twice = self._connection.execute(
            f'SELECT {key} FROM "{schema.name}" GROUP BY {key} HAVING count(*) > 1 ORDER BY {key}'
        ).fetchall()
        if twice:
            raise PriorError(
                f"table {schema.name}: {len(twice):,} rows have the same {key} as another: "
                f"{some('/'.join(map(str, row)) for row in twice)}."
            )

    def _note(self, builder: str, built: Built, seconds: float, derived_from: Sequence[str]) -> None:
        used = [name for name in derived_from if name in self._rows]
        derived = (f"tables {', '.join(used)}", "", "", "")
        provenance = (
            (name, *entry, self._recipe.hash, table.num_rows, round(seconds, 3), builder)
            for name, table in built.tables.items()
            for entry in [(one.label, one.version, one.sha256, one.licence) for one in built.sources.get(name, [])]
            or [derived]
        )
        matches = (
            (name, match.source, match.name, match.outcome, match.detail, builder)
            for name, reported in built.matches.items()
            for match in reported
        )
        counts = (
            (name, count.source, count.outcome, count.n, builder)
            for name, counts in built.counts.items()
            for count in counts
            if count.n
        )
        labels = (
            (name, column, position, label, builder)
            for (name, column), labels in built.labels.items()
            for position, label in enumerate(labels)
        )
        for name, rows in zip(BOOKS, (provenance, dict.fromkeys(matches), counts, labels), strict=True):
            self._insert_rows(name, rows)

    def _close_step(self, builder: str, fingerprint: str, rows: Sequence[tuple[str, int, int]], *, kept: bool) -> None:
        entries = [(builder, fingerprint, *entry, kept) for entry in rows or [("", 0, 0)]]
        self._insert_rows("build_step", entries)

    def _insert_rows(self, name: str, rows: Iterable[tuple[Any, ...]]) -> None:
        schema = SCHEMAS[name]
        columns = list(zip(*rows, strict=True))
        if columns:
            arrays = {
                column.name: pa.array(values, _ARROW[column.type])
                for column, values in zip(schema.columns, columns, strict=True)
            }
            self._insert(schema, pa.table(arrays))

    def _copy(self, schema: TableSchema, first: int, number: int) -> None:
        former = f'{ATTACHED}."{schema.name}"'
        empty = self._connection.sql(f"SELECT * FROM {former} LIMIT 0").to_arrow_table()
        self._create(schema, array_lengths(empty.schema))
        self._connection.execute(
            f'INSERT INTO "{schema.name}" SELECT * FROM {former} WHERE rowid BETWEEN ? AND ?',
            [first, first + number - 1],
        )
        self._rows[schema.name] += number
        ((found,),) = self._connection.execute(f'SELECT count(*) FROM "{schema.name}"').fetchall()
        if found != self._rows[schema.name]:
            raise PriorError(f"table {schema.name}: {found:,} rows, expected {self._rows[schema.name]:,}.")

    def _copy_books(self, name: str, builder: str) -> None:
        """Copy the rows of a builder, with the hash of the present recipe."""
        schema, former = SCHEMAS[name], f'{ATTACHED}."{name}"'
        there = self._connection.execute(
            "SELECT count(*) FROM duckdb_tables() WHERE database_name = ? AND table_name = ?", [ATTACHED, name]
        ).fetchall()
        if there == [(0,)]:
            return
        columns = ", ".join(
            quoted(self._recipe.hash) if column.name == "recipe_hash" else f'"{column.name}"'
            for column in schema.columns
        )
        rows = self._connection.sql(
            f"SELECT {columns} FROM {former} WHERE builder = ? ORDER BY rowid", params=[builder]
        ).to_arrow_table()
        if rows.num_rows:
            self._insert(schema, rows.rename_columns([column.name for column in schema.columns]))


class Reported(Mapping[str, Sequence[Match]]):
    """By table, what some builders wrote to the match report; read when it is asked for."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, builders: Collection[str]) -> None:
        self._connection, self._builders = connection, list(builders)
        self._read: dict[str, list[Match]] = {}

    def __getitem__(self, table: str) -> Sequence[Match]:
        if table not in self._read:
            rows = self._connection.execute(
                "SELECT source, name, outcome, detail FROM match_report "
                "WHERE table_name = ? AND list_contains(?, builder) ORDER BY rowid",
                [table, self._builders],
            ).fetchall()
            self._read[table] = [Match(*row) for row in rows]
        if not self._read[table]:
            raise KeyError(table)
        return self._read[table]

    def __iter__(self) -> Iterator[str]:
        rows = self._connection.execute(
            "SELECT table_name FROM match_report WHERE list_contains(?, builder) GROUP BY ALL ORDER BY min(rowid)",
            [self._builders],
        ).fetchall()
        return iter([table for (table,) in rows])

    def __len__(self) -> int:
        return len(list(iter(self)))


def _readable(step: FormerStep) -> bool:
    """Tell whether all rows of a step and the books can be read, so that a failed copy is not the fault of its file."""
    wanted = [(name, first, first + number) for name, first, number in step.rows]
    wanted += [(name, 0, 1 << 62) for name in BOOKS if name != "array_label"]
    try:
        with duckdb.connect(":memory:") as connection, attached(connection, step.path):
            for name, first, end in wanted:
                sql = f'SELECT hash(COLUMNS(*)) FROM {ATTACHED}."{name}" WHERE rowid >= ? AND rowid < ?'
                found = sum(batch.num_rows for batch in connection.sql(sql, params=[first, end]).to_arrow_reader())
                if name not in BOOKS and found != end - first:
                    return False
            return True
    except duckdb.Error:
        return False


def check_columns(schema: TableSchema, table: pa.Table) -> None:
    """Stop where a table has not the columns of its schema, NULL where none may be, or NaN outside arrays."""
    names = [column.name for column in schema.columns]
    lacking = [
        column.name for column in schema.columns if not column.nullable and column.name not in table.column_names
    ]
    excess = [name for name in table.column_names if name not in names]
    if lacking or excess:
        raise PriorError(
            f"table {schema.name}: columns {some(lacking, 6) or 'none'} are missing and "
            f"{some(excess, 6) or 'none'} are unknown; expected {', '.join(names)}."
        )
    for column in schema.columns:
        if column.name not in table.column_names:
            continue
        values = table[column.name]
        if values.null_count and not column.nullable:
            raise PriorError(
                f"table {schema.name}: column {column.name} is NULL in {values.null_count:,} of {table.num_rows:,} "
                "rows, expected a value in each."
            )
        if pa.types.is_floating(values.type) and (n := pc.sum(pc.is_nan(values)).as_py()):
            expected = "NULL where there is no value" if column.nullable else "a number in each"
            raise PriorError(
                f"table {schema.name}: column {column.name} is NaN in {n:,} of {table.num_rows:,} rows, expected "
                f"{expected}."
            )


def array_lengths(schema: pa.Schema) -> dict[str, int]:
    """Return the lengths of the array columns whose arrays are all of one length."""
    return {field.name: field.type.list_size for field in schema if pa.types.is_fixed_size_list(field.type)}


def create_table(
    connection: duckdb.DuckDBPyConnection, schema: TableSchema, lengths: Mapping[str, int] | None = None
) -> None:
    """Create one table of the schema, its comments with it; ``lengths`` are those of its array columns."""
    connection.execute(schema.create_sql(lengths))
    connection.execute(f'COMMENT ON TABLE "{schema.name}" IS {quoted(table_comment(schema))}')
    for column in schema.columns:
        connection.execute(f'COMMENT ON COLUMN "{schema.name}"."{column.name}" IS {quoted(column.comment)}')
