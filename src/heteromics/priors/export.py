# ruff: noqa: S608  table and column names come from SCHEMAS; every value is a parameter
"""Writing a store for other programs: Parquet and TSV folders, GraphML, BEDPE.

Rows go from DuckDB to the file in batches, so that memory does not follow their number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import duckdb
from pyarrow import parquet

from heteromics._files import whole_file, whole_folder, write_json
from heteromics._progress import track
from heteromics.errors import StoreError, did_you_mean
from heteromics.priors._graphml import write_graphml
from heteromics.priors.names import MinScore, Walked, floors, walked_tables
from heteromics.priors.query import described
from heteromics.priors.schemas import SCHEMAS

if TYPE_CHECKING:
    from heteromics.priors.store import PriorStore

Format = Literal["parquet", "tsv", "graphml", "bedpe"]
"""Formats a store can be written in; the first two are folders, the others files."""

FOLDERS = ("parquet", "tsv")
SCHEMA_FILE = "schema.json"
BATCH = 122_880
"""Rows held at once."""

BEDPE_SQL = """
    SELECT gene.chrom AS "#chrom1", gene.tss AS start1, gene.tss + 1 AS end1,
           peak.chrom AS chrom2, peak.chrom_start AS start2, peak.chrom_end AS end2,
           gene_id || '|' || peak_id AS name, weight AS score,
           CASE WHEN gene.strand IN ('+', '-') THEN gene.strand ELSE '.' END AS strand1, '.' AS strand2,
           gene_id, symbol, peak_id, distance
    FROM gene_peak JOIN gene USING (gene_id) JOIN peak USING (peak_id)
"""


def export(
    store: PriorStore,
    out: Path,
    form: str,
    tables: str | Sequence[str] | None,
    min_score: MinScore,
    *,
    force: bool,
    progress: bool,
) -> list[Path]:
    """See :meth:`PriorStore.export`."""
    known = get_args(Format)
    if form not in known:
        raise StoreError(f"format: found '{form}'. {did_you_mean(form, known)}Known formats: {', '.join(known)}.")
    names = _chosen(store, [tables] if isinstance(tables, str) else tables, form)
    edges = [name for name in names if SCHEMAS[name].kind == "edge"]
    walked = walked_tables(store, edges, min_score)
    _check_place(out, folder=form in FOLDERS, force=force)
    with _whole_or_as_before(out):
        if form in FOLDERS:
            with whole_folder(out) as folder:
                for name in track(names, "export", enabled=progress):
                    _write_table(store, folder / f"{name}.{form}", name, walked)
                write_json(folder / SCHEMA_FILE, {"store": store.info, "tables": described(store, names)})
            return [*(out / f"{name}.{form}" for name in names), out / SCHEMA_FILE]
        with whole_file(out) as part:
            if form == "graphml":
                write_graphml(store, part, walked, every_node=tables is None, progress=progress)
            else:
                _write_bedpe(store, part, walked)
        return [out]


def _chosen(store: PriorStore, asked: Sequence[str] | None, form: str) -> list[str]:
    """Return the tables to write, in the store's order; those that the format cannot hold are an error if asked for."""
    for name in asked or ():
        store.table(name)
    there = [name for name in store.tables() if asked is None or name in asked]
    if form in FOLDERS:
        return there
    holds = ["gene_peak"] if form == "bedpe" else [name for name in store.tables() if SCHEMAS[name].kind == "edge"]
    if wrong := [name for name in asked or () if name not in holds]:
        raise StoreError(f"{form} cannot hold table {', '.join(wrong)}. It can hold {', '.join(holds)}.")
    if form == "bedpe":
        store.table("gene_peak")
    return [name for name in there if name in holds]


def _check_place(out: Path, *, folder: bool, force: bool) -> None:
    if not out.exists():
        return
    if not force:
        raise StoreError(f"{out} exists already. Fix: --force to replace it, or give another place.")
    if out.is_dir() != folder:
        raise StoreError(
            f"{out} is a {'file' if folder else 'folder'}, which is not replaced. Fix: give another place."
        )
    if folder and any(out.iterdir()) and not (out / SCHEMA_FILE).is_file():
        raise StoreError(f"{out} holds other files than an export, which are not replaced. Fix: give another place.")


@contextmanager
def _whole_or_as_before(out: Path) -> Iterator[None]:
    """Name the place when the system stops its writing: a full disk, a folder that may not be written."""
    try:
        yield
    except StoreError:
        raise
    except (OSError, duckdb.OperationalError) as error:
        raise StoreError(
            f"{out} could not be written; what was there is as it was.\n  {error}\n"
            "  Fix: make room or give another place."
        ) from error


def _write_table(store: PriorStore, path: Path, name: str, walked: Sequence[Walked]) -> None:
    own = [each for each in walked if each.schema.name == name]
    where = f"WHERE true {own[0].where}" if own else ""
    if path.suffix == ".tsv":
        _write_tsv(_relation(store, f'SELECT * FROM "{name}" {where}', own), path)
        return
    reader = _relation(store, f'SELECT * FROM "{name}" {where}', own).to_arrow_reader(BATCH)
    with parquet.ParquetWriter(path, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)


def _relation(store: PriorStore, sql: str, walked: Sequence[Walked]) -> duckdb.DuckDBPyRelation:
    return store.connection.sql(sql, params=floors(walked) or None)


def _write_tsv(rows: duckdb.DuckDBPyRelation, path: Path) -> None:
    """Write rows below a line of column names; only fields with a tab, quote or line end, and empty texts, are quoted.

    DuckDB's writer, for that of pyarrow quotes every text, which awk and R take for part of it.
    """
    rows.write_csv(str(path), sep="\t", header=True, na_rep="")


def _write_bedpe(store: PriorStore, path: Path, walked: Sequence[Walked]) -> None:
    """Write links as BEDPE (BEDTools documentation, "BEDPE format"): ten columns, then what the gene and peak are.

    Nothing is quoted, which the format does not know; identifiers and symbols hold no tab.
    """
    rows = _relation(store, f"{BEDPE_SQL} WHERE true {walked[0].where} ORDER BY gene_peak.rowid", walked)
    rows.write_csv(str(path), sep="\t", header=True, na_rep=".", quotechar="")
