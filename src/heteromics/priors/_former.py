# ruff: noqa: S608  table and column names come from SCHEMAS; every value is a parameter
"""What earlier builds left: finished steps of killed builds and of the store being replaced, to be taken over.

No file is trusted: one that DuckDB cannot read gives no steps.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from heteromics.priors._sql import quoted
from heteromics.priors.tables import FORMAT_VERSION

if TYPE_CHECKING:
    import pyarrow as pa

ATTACHED = "former"
"""Name that a file of an earlier build has while it is attached."""

CHROMOSOME = "chromosome"
"""The step before all builders, and the table it makes; it is always made."""

_LEFTOVER = re.compile(r"\.building-\d+(-\d+)?")


@dataclass(frozen=True, slots=True)
class FormerStep:
    """A finished step in a file: its builder, fingerprint, and the rows it made as (table, first row, number)."""

    path: Path
    builder: str
    fingerprint: str
    rows: tuple[tuple[str, int, int], ...]


@contextmanager
def attached(connection: duckdb.DuckDBPyConnection, path: Path) -> Iterator[None]:
    """Attach a file read-only as ``former``; what its write-ahead log holds is read with it."""
    connection.execute(f"ATTACH {quoted(str(path))} AS {ATTACHED} (READ_ONLY, TYPE duckdb)")
    try:
        yield
    finally:
        connection.execute(f"DETACH {ATTACHED}")


def read_steps(path: Path) -> dict[str, FormerStep]:
    """Return the finished steps of a file by builder; none where it cannot be read."""
    try:
        with duckdb.connect(":memory:") as connection, attached(connection, path):
            rows = connection.execute(
                f"SELECT builder, fingerprint, table_name, first_row, rows FROM {ATTACHED}.build_step ORDER BY rowid"
            ).fetchall()
    except duckdb.Error:
        return {}
    steps: dict[str, FormerStep] = {}
    for builder, fingerprint, table, first, number in rows:
        before = steps[builder].rows if builder in steps else ()
        made = (*before, (table, first, number)) if table else before
        steps[builder] = FormerStep(path, builder, fingerprint, made)
    return steps


def read_table(path: Path, name: str) -> pa.Table | None:
    """Return a table of a store of this format, None where it cannot be read or has no such table."""
    try:
        with duckdb.connect(":memory:") as connection, attached(connection, path):
            info = f"SELECT value FROM {ATTACHED}.store_info WHERE key = 'format_version'"
            if connection.execute(info).fetchall() != [(str(FORMAT_VERSION),)]:
                return None
            return connection.sql(f'SELECT * FROM {ATTACHED}."{name}"').to_arrow_table()
    except duckdb.Error:
        return None


class Former:
    """Steps that can be taken over from the store being replaced and from what killed builds left.

    Parameters
    ----------
    store
        The store being replaced.
    leftovers
        Files of killed builds.
    wanted
        Fingerprints by builder of the build at hand. A leftover that has none of them to give is removed, and each
        other one as soon as all it had to give is taken over.
    """

    def __init__(self, store: Path | None, leftovers: list[Path], wanted: Mapping[str, str | None]) -> None:
        self._steps: dict[str, FormerStep] = {}
        self._waiting: dict[Path, set[str]] = {path: set() for path in leftovers}
        for path in [*([store] if store else []), *leftovers]:
            for builder, step in read_steps(path).items():
                if builder != CHROMOSOME and step.fingerprint == wanted.get(builder) and builder not in self._steps:
                    self._steps[builder] = step
                    self._waiting.get(path, set()).add(builder)
        self._clear()

    def step(self, builder: str) -> FormerStep | None:
        """Return the step to take over for a builder, if there is one."""
        return self._steps.get(builder)

    def done(self, builder: str) -> None:
        """Note that the step of a builder is in the new file."""
        for builders in self._waiting.values():
            builders.discard(builder)
        self._clear()

    def _clear(self) -> None:
        for path in [path for path, builders in self._waiting.items() if not builders]:
            remove_building(path)
            del self._waiting[path]


def leftovers(db: Path) -> list[Path]:
    """Return the files of killed builds beside ``db``, the latest first."""
    found = [path for path in beside(db) if path.is_file() and _LEFTOVER.fullmatch(path.name.removeprefix(db.name))]
    return sorted(found, key=lambda path: (-path.stat().st_mtime_ns, path.name))


def beside(db: Path) -> list[Path]:
    """Return all that unfinished builds have beside ``db``: their files, logs and temporary folders."""
    return sorted(path for path in db.parent.iterdir() if path.name.startswith(f"{db.name}.building-"))


def remove_building(path: Path) -> None:
    """Remove the file of an unfinished build with its log and its temporary folder."""
    for one in (path, path.with_name(f"{path.name}.wal"), path.with_name(f"{path.name}.tmp")):
        remove(one)


def remove(path: Path) -> None:
    """Remove a file or a folder, there or not."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
