# ruff: noqa: S608  table and column names come from SCHEMAS; every value is a parameter
"""The build engine: runs the builders of a recipe into a temporary file beside the target and renames it at the end.

Whatever interrupts a build, the old store stays as it was: the new one is written to ``<db>.building-<pid>``, flushed
to disk and renamed over the old in one step. ``<db>.lock`` holds the pid of the one writer. It is held by ``flock``
rather than by its existence, so that the system frees it when a writer is killed, and a pid that is given out again
cannot keep others away.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

import heteromics
from heteromics._progress import steps
from heteromics.errors import PriorError, StoreError, some
from heteromics.priors.assembly import chromosome_table, read_sizes, to_style
from heteromics.priors.query import quoted
from heteromics.priors.recipe import Recipe, load_recipe
from heteromics.priors.registry import Builder
from heteromics.priors.schemas import SCHEMAS, TableSchema
from heteromics.priors.sources import SIZES, Sources
from heteromics.priors.tables import FORMAT_VERSION, BuildContext, Built, Match, TableConfig


def build_store(
    recipe: str | Path,
    db: str | Path,
    *,
    sets: Sequence[str] = (),
    force: bool = False,
    mirror: str | Path | None = None,
    progress: bool = True,
) -> Path:
    """Build a prior store and return its path.

    Parameters
    ----------
    recipe
        Name of a shipped recipe (``demo``) or path of a YAML file.
    db
        File to write. Its folder must exist.
    sets
        ``key=value`` assignments over the recipe, such as ``source.gtf=genes.gtf.gz``.
    force
        Replace a store that is there already.
    mirror
        Local mirror of the manifest that is looked at first.
    progress
        Whether to show the steps on stderr.

    Raises
    ------
    RecipeError
        When the recipe does not hold together or a source is not given; all missing sources are named at once.
    StoreError
        When ``db`` exists and ``force`` is not set, or another process is writing it; its pid is named.
    PriorError, DataError
        When sources cannot be read or do not fit together. The old store stays as it was.
    """
    db = Path(db)
    checked = load_recipe(recipe, sets)
    sources = Sources(checked.sources, mirror=mirror, progress=progress)
    sources.check(checked.used)
    if not db.parent.is_dir():
        raise StoreError(f"{db}: there is no folder {db.parent}. Fix: make it, or give another --db.")
    with _whole_or_as_before(db), _only_writer(db):
        if db.exists() and not force:
            raise StoreError(f"{db} exists already. Fix: --force to replace it, or give another --db.")
        remove_leftovers(db)
        building = db.with_name(f"{db.name}.building-{os.getpid()}")
        try:
            _write(building, checked, sources, progress=progress)
            _flush(building)
            building.replace(db)
            _flush(db.parent)
        finally:
            remove_leftovers(db)
    return db


@contextmanager
def _whole_or_as_before(db: Path) -> Iterator[None]:
    """Name the store when the system, not a source, stops its build: a full disk, a folder that may not be written."""
    try:
        yield
    except StoreError:
        raise
    except (OSError, duckdb.OperationalError, duckdb.FatalException) as error:
        raise StoreError(
            f"{db} could not be written; a store that was there is as it was.\n  {error}\n"
            f"  Fix: make room in {db.parent.absolute()}, or give another --db."
        ) from error


@contextmanager
def _only_writer(db: Path) -> Iterator[None]:
    """Hold ``<db>.lock`` for this process."""
    path = db.with_name(f"{db.name}.lock")
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(lock, 20).decode().strip() or "unknown"
            os.close(lock)
            raise StoreError(
                f"{db} is being written by process {pid}. Only one process may write a store.\n"
                f"  Fix: wait until it ends, or stop it; the store that is there can be read meanwhile."
            ) from None
        with suppress(FileNotFoundError):
            if os.fstat(lock).st_ino == path.stat().st_ino:
                break
        os.close(lock)  # the former writer removed its file between our open and our lock
    try:
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(lock)


def remove_leftovers(db: Path) -> list[Path]:
    """Remove what killed builds left beside ``db``; to be called by the one writer. Returns what was removed."""
    leftovers = sorted(db.parent.glob(f"{db.name}.building-*"))
    for path in leftovers:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return leftovers


def _flush(path: Path) -> None:
    """Bring a file, or the entries of a folder, to the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _write(path: Path, recipe: Recipe, sources: Sources, *, progress: bool) -> None:
    with duckdb.connect(str(path)) as connection, steps(len(recipe.steps) + 3, "priors", enabled=progress) as step:
        writer = _Writer(connection, recipe)
        step("chromosome")
        begun = time.perf_counter()
        sizes = _sizes(recipe, sources)
        writer.add(chromosome_table(sizes, sources(SIZES)), time.perf_counter() - begun)
        context = BuildContext(
            connection=connection,
            assembly=recipe.assembly,
            chrom_style=recipe.chrom_style,
            chromosomes=sizes,
            resolve=sources,
            given=frozenset(name for name, location in recipe.sources.items() if location.kind != "required"),
            reported=writer.reported,
        )
        for builder, config in recipe.steps:
            step(builder.name)
            writer.run(builder, config, context)
        step("books")
        writer.close_books()
        step("checkpoint")
        connection.execute("CHECKPOINT")


def _sizes(recipe: Recipe, sources: Sources) -> dict[str, int]:
    """Return chromosome sizes with names in the style of the store."""
    sizes = read_sizes(sources(SIZES).path)
    names = to_style(sizes, recipe.chrom_style, known=sizes)
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise PriorError(
            f"{sources(SIZES).label}: several chromosomes become one in style {recipe.chrom_style}: {some(twice)}."
        )
    return dict(zip(names, sizes.values(), strict=True))


class _Writer:
    """Inserts what builders return and keeps the books: provenance, match report and summary, store_info."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, recipe: Recipe) -> None:
        self._connection, self._recipe = connection, recipe
        self._made: dict[str, int] = {}
        self._provenance: list[tuple[Any, ...]] = []
        self.reported: dict[str, list[Match]] = {}
        self._summary: list[tuple[Any, ...]] = []
        self._labels: list[tuple[Any, ...]] = []

    def run(self, builder: Builder, config: TableConfig, context: BuildContext) -> None:
        """Run one builder and insert its tables."""
        begun = time.perf_counter()
        built = builder.run(context, config)
        unknown = sorted(set(built.tables) - set(builder.makes))
        if unknown:
            raise PriorError(f"builder {builder.key} returned {some(unknown)}, expected {', '.join(builder.makes)}.")
        self.add(built, time.perf_counter() - begun, derived_from=builder.needs)

    def add(self, built: Built, seconds: float, derived_from: Sequence[str] = ()) -> None:
        """Insert tables and note where they come from; one without files is noted as derived from other tables."""
        for name, table in built.tables.items():
            begun = time.perf_counter()
            self._insert(SCHEMAS[name], table)
            took = seconds + time.perf_counter() - begun
            books = [
                (source.label, source.version, source.sha256, source.licence) for source in built.sources.get(name, [])
            ]
            for entry in books or [(f"tables {', '.join(derived_from)}", "", "", "")]:
                self._provenance.append((name, *entry, self._recipe.hash, table.num_rows, round(took, 3)))
        for name, matches in built.matches.items():
            self.reported.setdefault(name, []).extend(matches)
        for name, counts in built.counts.items():
            self._summary += [(name, count.source, count.outcome, count.n) for count in counts if count.n]

        for (name, column), labels in built.labels.items():
            self._labels += [(name, column, position, label) for position, label in enumerate(labels)]

    def _insert(self, schema: TableSchema, table: pa.Table) -> None:
        """Insert rows in the order given; columns that may be NULL can be left out."""
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
        if schema.name not in self._made:
            create_table(self._connection, schema, array_lengths(table))
        listed = ", ".join(f'"{name}"' for name in table.column_names)
        self._connection.register("incoming", table)
        self._connection.execute(f'INSERT INTO "{schema.name}" ({listed}) SELECT {listed} FROM incoming')
        self._connection.unregister("incoming")
        self._made[schema.name] = self._made.get(schema.name, 0) + table.num_rows
        if schema.kind != "books":
            self._check_key(schema)

    def _check_key(self, schema: TableSchema) -> None:
        key = ", ".join(f'"{name}"' for name in schema.key)
        twice = self._connection.execute(
            f'SELECT {key} FROM "{schema.name}" GROUP BY {key} HAVING count(*) > 1 ORDER BY {key}'
        ).fetchall()
        if twice:
            raise PriorError(
                f"table {schema.name}: {len(twice):,} rows have the same {key} as another: "
                f"{some('/'.join(map(str, row)) for row in twice)}."
            )

    def close_books(self) -> None:
        """Write provenance, match report and summary, and store_info."""
        self._insert_rows("provenance", self._provenance)
        matches = [
            (name, match.source, match.name, match.outcome, match.detail)
            for name, reported in self.reported.items()
            for match in reported
        ]
        self._insert_rows("match_report", dict.fromkeys(matches))
        self._insert_rows("match_summary", self._summary)
        if self._labels:
            self._insert_rows("array_label", self._labels)
        info = {
            "format_version": str(FORMAT_VERSION),
            "heteromics_version": heteromics.__version__,
            "assembly": self._recipe.assembly,
            "chrom_style": self._recipe.chrom_style,
            "recipe": self._recipe.name,
            "recipe_hash": self._recipe.hash,
            "recipe_yaml": self._recipe.as_yaml(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._insert_rows("store_info", info.items())

    def _insert_rows(self, name: str, rows: Iterable[tuple[Any, ...]]) -> None:
        schema = SCHEMAS[name]
        columns = list(zip(*rows, strict=True)) or [()] * len(schema.columns)
        types = {"VARCHAR": pa.string(), "BIGINT": pa.int64(), "DOUBLE": pa.float64(), "INTEGER": pa.int32()}
        self._insert(
            schema,
            pa.table(
                {
                    column.name: pa.array(values, types[column.type])
                    for column, values in zip(schema.columns, columns, strict=True)
                }
            ),
        )


def array_lengths(table: pa.Table) -> dict[str, int]:
    """Return the lengths of the array columns whose arrays are all of one length."""
    return {field.name: field.type.list_size for field in table.schema if pa.types.is_fixed_size_list(field.type)}


def create_table(
    connection: duckdb.DuckDBPyConnection, schema: TableSchema, lengths: Mapping[str, int] | None = None
) -> None:
    """Create one table of the schema, its comments with it; ``lengths`` are those of its array columns."""
    connection.execute(schema.create_sql(lengths))
    connection.execute(f'COMMENT ON TABLE "{schema.name}" IS {quoted(schema.comment)}')
    for column in schema.columns:
        connection.execute(f'COMMENT ON COLUMN "{schema.name}"."{column.name}" IS {quoted(column.comment)}')
