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
from heteromics.priors.planning import PlanContext
from heteromics.priors.recipe import load_recipe
from heteromics.priors.schemas import SCHEMAS
from heteromics.priors.sources import SIZES, AtHand, Sources, what_is

BYTES_PER_ROW = {"gene": 34, "protein": 60, "protein_protein": 40, "gene_peak": 22, "peak": 28}
OTHER_BYTES_PER_ROW = 18
SECONDS_PER_TABLE = 0.1
SECONDS_PER_ROW = 5e-6
SECONDS_PER_BYTE = {"gtf": 2.5e-7, "string_links": 2e-7, "string_aliases": 2e-7, "fasta": 1.5e-8}


@dataclass(frozen=True, slots=True)
class TablePlan:
    """One table to be made: from which sources, and roughly how large and how long (None where nothing is known)."""

    table: str
    sources: tuple[str, ...]
    rows: int | None
    bytes: int | None
    seconds: float | None


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

    @property
    def to_fetch(self) -> tuple[AtHand, ...]:
        """Sources that the build will fetch."""
        return tuple(source for source in self.sources if source.where == "to fetch")

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain values for JSON."""
        return {**as_dict(self), "ready": not self.missing}

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
        """Return one mapping per table: table, sources, rows, bytes, seconds."""
        return [{**as_dict(table), "sources": ", ".join(table.sources)} for table in self.tables]


def make_plan(recipe: str | Path, *, sets: Sequence[str] = (), mirror: str | Path | None = None) -> Plan:
    """Plan a build; nothing is fetched and nothing written.

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
    for builder, config in checked.steps:
        for table, n in builder.estimate(context, config).items():
            before = rows.get(table, 0)
            rows[table] = None if n is None or before is None else n + before
            read.setdefault(table, []).extend(config.source_names() or [f"table {name}" for name in builder.needs])
    tables = tuple(_table(name, read[name], rows[name], at_hand) for name in SCHEMAS if name in rows)
    return Plan(checked.name, checked.assembly, checked.hash, tuple(at_hand.values()), tables)


def _table(name: str, read: Sequence[str], rows: int | None, at_hand: Mapping[str, AtHand]) -> TablePlan:
    if rows is None:
        return TablePlan(name, tuple(read), None, None, None)
    seconds = SECONDS_PER_TABLE + rows * SECONDS_PER_ROW
    seconds += sum(
        (at_hand[source].bytes or 0) * SECONDS_PER_BYTE.get(source, 0) for source in read if source in at_hand
    )
    size = rows * BYTES_PER_ROW.get(name, OTHER_BYTES_PER_ROW)
    return TablePlan(name, tuple(read), rows, size, round(seconds, 2))
