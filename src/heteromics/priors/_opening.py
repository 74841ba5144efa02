"""Opening a store file for reading, and telling whether it is one this version can read."""

from __future__ import annotations

from pathlib import Path

import duckdb

from heteromics.errors import StoreError
from heteromics.priors._sql import quoted
from heteromics.priors.tables import FORMAT_VERSION


def opened(path: Path) -> tuple[duckdb.DuckDBPyConnection, dict[str, str]]:
    """Return a connection in which the file is attached read-only and in use, and what the store says of itself.

    Raises
    ------
    StoreError
        When the file is no DuckDB file, cannot be read, is no prior store, or has another format version.
    """
    connection = attached(path)
    try:
        info = dict(connection.execute("SELECT key, value FROM store_info").fetchall())
        _check_version(path, info)
    except (duckdb.CatalogException, duckdb.BinderException):
        connection.close()
        raise StoreError(
            f"{path} is a DuckDB file but no prior store: it has no table store_info of keys and values."
        ) from None
    except duckdb.Error as error:
        connection.close()
        raise StoreError(
            f"{path} cannot be read: {error}\n  Fix: copy it again if it was cut off, or build it again with --force."
        ) from error
    except StoreError:
        connection.close()
        raise
    return connection, info


def _check_version(path: Path, info: dict[str, str]) -> None:
    found = info.get("format_version", "none")
    if found != str(FORMAT_VERSION):
        older = not found.isdecimal() or int(found) < FORMAT_VERSION
        fix = (
            f"heteromics priors build {info.get('recipe', 'RECIPE')} --db {path} --force"
            if older
            else "upgrade heteromics"
        )
        writer = info.get("heteromics_version", "unknown")
        raise StoreError(
            f"{path} has format version {found}, written by heteromics {writer}; expected {FORMAT_VERSION}.\n"
            f"  Fix: {fix}."
        )


def attached(path: Path) -> duckdb.DuckDBPyConnection:
    """Attach the file to a database of its own.

    Connecting to the file itself would share one database among all connections of this process to that path, so that
    a store built anew would be read with the contents of the one it replaced, for as long as anybody holds that one.
    """
    connection = duckdb.connect(":memory:", config={"temp_directory": f"{path}.tmp"})
    try:
        connection.execute(f"ATTACH {quoted(str(path))} AS store (READ_ONLY, TYPE duckdb)")
        connection.execute("USE store")
    except duckdb.Error as error:
        connection.close()
        raise StoreError(
            f"{path} cannot be opened as a DuckDB file: {error}\n"
            "  Fix: end what holds it open for writing, or build it again with --force."
        ) from error
    return connection
