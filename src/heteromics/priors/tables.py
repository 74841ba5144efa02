"""What the prior store holds, as data, and what passes between the build engine and a table builder.

A builder is a function ``build_x(context: BuildContext, config: XConfig) -> Built``. It reads its files through
``context.source(name)`` and earlier tables through ``context.connection``, computes in an array core, and returns
Arrow tables with the columns of ``schemas.SCHEMAS``. It never writes: the engine checks, casts, inserts, keeps books.
Rows are inserted in the order given, so a builder returns them in a fixed order.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from heteromics.priors.known_sources import belongs

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

FORMAT_VERSION = 2

_READ = re.compile(r'\b(?:FROM|JOIN)\s+"?(\w+)', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Match:
    """A name that needed a rule to join, or did not join."""

    source: str
    name: str
    outcome: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Count:
    """How many names of a source had an outcome; also those that joined as they are (``matched``)."""

    source: str
    outcome: str
    n: int


@dataclass(frozen=True, slots=True)
class Source:
    """A file that prior tables are made from.

    ``label`` is what provenance shows (``manifest:ITEM/FILE`` or the file name); ``version`` and ``licence`` are
    empty where nobody states them.
    """

    path: Path
    sha256: str
    version: str
    licence: str
    label: str


@dataclass(frozen=True, slots=True)
class Built:
    """What a builder returns: tables, and per table its sources, the names that did not simply join, and counts.

    ``matches`` holds a row for each name whose outcome is not ``matched``; ``counts`` holds all outcomes, those
    also listed in ``matches`` included. An array column is ``FixedSizeListArray``; ``labels`` says, by table and array
    column, what its places mean.
    """

    tables: dict[str, pa.Table]
    sources: dict[str, list[Source]] = field(default_factory=dict)
    matches: dict[str, list[Match]] = field(default_factory=dict)
    counts: dict[str, list[Count]] = field(default_factory=dict)
    labels: dict[tuple[str, str], list[str]] = field(default_factory=dict)


class TableConfig(Protocol):
    """A frozen dataclass of one builder's recipe keys."""

    @abstractmethod
    def source_names(self) -> tuple[str, ...]:
        """Return the sources (names as in ``known_sources``) that must be given for this configuration."""


@dataclass(frozen=True, slots=True)
class BuildContext:
    """What a builder may use: the database so far, its sources, the assembly, and a place to report steps.

    Attributes
    ----------
    connection
        The database being built; tables of earlier builders can be queried, nothing may be written.
    assembly, chrom_style
        Name of the assembly (``GRCh38``) and style of all chromosome names in the store: ``ucsc``, ``ensembl`` or
        ``ncbi``.
    chromosomes
        Sizes in bp by chromosome name in the store's style, in the order of their codes.
    reported
        By table, what earlier builders said of names that did not simply join.
    progress
        Called with a few words when a longer step begins.
    track
        ``track(items, description, total)`` yields from ``items`` while a bar shows how many are done.
    former
        Returns a table of the store that is being replaced, None where there is none: for answers worth keeping.
    permit
        ``permit("source" or "table", name)`` raises when the builder reads what it does not declare: a later build
        could then keep tables that should be made anew.
    """

    connection: duckdb.DuckDBPyConnection
    assembly: str
    chrom_style: str
    chromosomes: Mapping[str, int]
    resolve: Callable[[str], Source]
    given: frozenset[str]
    reported: Mapping[str, Sequence[Match]] = field(default_factory=dict)
    progress: Callable[[str], None] = lambda _step: None
    track: Callable[[Iterable[Any], str, int | None], Iterable[Any]] = lambda items, _description, _total: items
    former: Callable[[str], pa.Table | None] = lambda _table: None
    permit: Callable[[str, str], None] = lambda _kind, _name: None

    def source(self, name: str) -> Source:
        """Return the file of a source; a :class:`~heteromics.errors.RecipeError` says how to give it if it is not."""
        self.permit("source", name)
        return self.resolve(name)

    def has_source(self, name: str) -> bool:
        """Tell whether the recipe or ``--set`` gives a file for this source."""
        self.permit("source", name)
        return name in self.given

    def family(self, pattern: str) -> dict[str, Source]:
        """Return the given sources of a family (``regions_*``) by the part of their names that the star stands for."""
        self.permit("source", pattern)
        stem = pattern.removesuffix("*")
        return {name.removeprefix(stem): self.source(name) for name in sorted(self.given) if belongs(name, pattern)}

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> pa.Table:
        """Return the rows of a parameterised query over earlier tables as Arrow."""
        for name in _READ.findall(sql):
            self.permit("table", name)
        return self.connection.sql(sql, params=list(parameters)).to_arrow_table()
