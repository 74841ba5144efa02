"""What a recipe needs and would make, before any work: sources at hand or not, and rough rows, bytes and seconds.

Rows are extrapolated from the first megabytes of each source that is at hand, so a plan takes about a second. Bytes and
seconds follow from rows and file sizes by rates measured on the recipes that ship.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heteromics._config import as_dict
from heteromics.priors._fingerprint import fingerprints
from heteromics.priors._former import read_steps
from heteromics.priors.planning import PlanContext
from heteromics.priors.recipe import Recipe, load_recipe
from heteromics.priors.registry import Builder
from heteromics.priors.schemas import SCHEMAS
from heteromics.priors.sources import SIZES, AtHand, Sources, what_is
from heteromics.priors.tables import TableConfig

BYTES_PER_ROW = {
    "gene": 65,
    "transcript": 58,
    "gene_attribute": 44,
    "protein": 60,
    "protein_protein": 40,
    "gene_peak": 24,
    "peak": 24,
    "pathway": 100,
    "gene_alias": 60,
}
OTHER_BYTES_PER_ROW = 18
SECONDS_PER_TABLE = 0.1
SECONDS_PER_ROW = 5e-6
SECONDS_PER_KEPT_ROW = 2e-7
SECONDS_PER_BYTE = {"gtf": 2.5e-7, "string_links": 2e-7, "string_aliases": 2e-7, "fasta": 1.5e-8}


@dataclass(frozen=True, slots=True)
class TablePlan:
    """One table to be made: from which sources, and roughly how large and how long (None where nothing is known).

    ``kept`` says whether the store asked about has it unchanged; None where none was asked about.
    """

    table: str
    sources: tuple[str, ...]
    rows: int | None
    bytes: int | None
    seconds: float | None
    kept: bool | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a build needs and makes.

    Attributes
    ----------
    recipe, assembly, recipe_hash
        Which recipe.
    sources
        Where each source lies; those the recipe needs and optional ones that are given.
    tables
        The tables in the order they are made.
    """

    recipe: str
    assembly: str
    recipe_hash: str
    sources: tuple[AtHand, ...]
    tables: tuple[TablePlan, ...]

    @property
    def missing(self) -> tuple[AtHand, ...]:
        """Sources that must be given before the build can begin."""
        return tuple(source for source in self.sources if source.where == "missing")

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain values for JSON."""
        return {**as_dict(self), "totals": self.totals, "ready": not self.missing}

    @property
    def totals(self) -> dict[str, Any]:
        """Rows, bytes and seconds of all tables of which they are known, and how many are ``unknown``."""
        known = [table for table in self.tables if table.rows is not None]
        return {
            "rows": sum(table.rows or 0 for table in known),
            "bytes": sum(table.bytes or 0 for table in known),
            "seconds": round(sum(table.seconds or 0 for table in known), 2),
            "unknown": len(self.tables) - len(known),
        }

    def source_rows(self) -> list[dict[str, Any]]:
        """Return one mapping per source: source, what, where, file, bytes, fix."""
        return [
            {
                "source": source.name,
                "what": what_is(source.name),
                "where": source.where,
                "file": str(source.path or source.label),
                "bytes": source.bytes,
                "fix": source.fix,
            }
            for source in self.sources
        ]

    def table_rows(self) -> list[dict[str, Any]]:
        """Return one mapping per table: table, sources, rows, bytes, seconds, and kept where a store was given."""
        rows = [{**as_dict(table), "sources": ", ".join(table.sources)} for table in self.tables]
        return [{key: value for key, value in row.items() if key != "kept" or value is not None} for row in rows]


def make_plan(
    recipe: str | Path,
    *,
    sets: Sequence[str] = (),
    db: str | Path | None = None,
    mirror: str | Path | None = None,
) -> Plan:
    """Plan a build; nothing is fetched and nothing written.

    Parameters
    ----------
    recipe, sets, mirror
        As for :func:`heteromics.priors.build.build_store`.
    db
        A store, there or not: the plan then says which of its tables a build would keep. This reads the sources that
        are files, for their checksums; those of the manifest have the checksums it promises.

    Raises
    ------
    RecipeError
        When the recipe does not hold together. A source that is not given is no error here but listed as missing.
    """
    checked = load_recipe(recipe, sets)
    sources = Sources(checked.sources, mirror=mirror, progress=False)
    at_hand = {name: sources.at_hand(name) for name in checked.used}
    context = PlanContext(sources, at_hand)
    rows = context.rows
    read: dict[str, list[str]] = {"chromosome": [SIZES]}
    work: dict[str, float] = {}
    for builder, config in checked.steps:
        estimated = builder.estimate(context, config)
        for table in list(estimated)[:1]:  # its sources are read once, for all its tables
            work[table] = work.get(table, 0) + _reading(builder, config, checked, at_hand)
        for table, n in estimated.items():
            before = rows.get(table, 0)
            rows[table] = None if n is None or before is None else n + before
            read.setdefault(table, []).extend(config.source_names() or [f"table {name}" for name in builder.needs])
    kept = None if db is None else _kept(checked, sources, Path(db))
    tables = tuple(
        _table(name, read[name], rows[name], work.get(name, 0), context.row_bytes.get(name), kept)
        for name in SCHEMAS
        if name in rows
    )
    return Plan(checked.name, checked.assembly, checked.hash, tuple(at_hand.values()), tables)


def _kept(recipe: Recipe, sources: Sources, db: Path) -> set[str]:
    """Return the tables all of whose rows a build would take over from a store."""
    there = {key: step.fingerprint for key, step in read_steps(db).items()} if db.exists() else {}
    prints = fingerprints(recipe, sources.promised)
    changed = {
        table
        for builder, _ in recipe.steps
        if not prints[builder.key] or there.get(builder.key) != prints[builder.key]
        for table in builder.makes
    }
    return {table for builder, _ in recipe.steps for table in builder.makes if table not in changed}


def _reading(builder: Builder, config: TableConfig, recipe: Recipe, at_hand: Mapping[str, AtHand]) -> float:
    """Return the seconds that the sources of a step take to read."""
    read = [at_hand[name] for name in sorted(recipe.read_by(builder, config)) if name in at_hand]
    return sum((source.bytes or 0) * SECONDS_PER_BYTE.get(source.name, 0) for source in read)


def _table(
    name: str, read: Sequence[str], rows: int | None, work: float, row_bytes: int | None, kept: set[str] | None
) -> TablePlan:
    stays = None if kept is None else name in kept
    if rows is None:
        return TablePlan(name, tuple(read), None, None, None, stays)
    seconds = SECONDS_PER_TABLE + (rows * SECONDS_PER_KEPT_ROW if stays else rows * SECONDS_PER_ROW + work)
    size = rows * (row_bytes or BYTES_PER_ROW.get(name, OTHER_BYTES_PER_ROW))
    return TablePlan(name, tuple(dict.fromkeys(read)), rows, size, round(seconds, 2), stays)
