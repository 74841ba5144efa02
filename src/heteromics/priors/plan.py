"""What a recipe needs and would make, before any work: sources at hand or not, and rough rows, bytes and seconds.

Rows are extrapolated from the first megabytes of each source that is at hand, so a plan takes about a second. Bytes and
seconds follow from rows and file sizes by rates measured on the recipes that ship.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heteromics._config import as_dict
from heteromics.errors import UnreadableFile
from heteromics.priors._files import feature_names, is_gzip, truncated
from heteromics.priors.assembly import read_sizes
from heteromics.priors.genes import GeneConfig
from heteromics.priors.interactions import InteractionConfig
from heteromics.priors.links import GenePeakConfig
from heteromics.priors.pathways import PathwayConfig
from heteromics.priors.peaks import PeakConfig
from heteromics.priors.recipe import load_recipe
from heteromics.priors.sequence import SequenceConfig
from heteromics.priors.sources import SIZES, AtHand, Sources
from heteromics.priors.tables import KNOWN_SOURCES, SCHEMAS

SAMPLE_BYTES = 4 << 20
CLUSTERING = 1.5
"""Gene-peak links within reach over those of genes and peaks scattered evenly: 0.8 for all GENCODE genes of mouse with
26,000 peaks, 2.0 for the genes of human chromosome 1 with 108,000."""
BYTES_PER_ROW = {"gene": 34, "protein": 60, "protein_protein": 40, "gene_peak": 22, "peak": 28}
OTHER_BYTES_PER_ROW = 18
SECONDS_PER_TABLE = 0.1
SECONDS_PER_ROW = 5e-6
SECONDS_PER_BYTE = {"gtf": 2.5e-7, "string_links": 2e-7, "string_aliases": 2e-7, "fasta": 1.5e-8}

Estimated = dict[str, int | None]


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
                "what": KNOWN_SOURCES.get(source.name, "chromosome sizes"),
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
    estimator = _Estimator(sources, at_hand)
    rows = estimator.rows
    rows.update(estimator.chromosome())
    read: dict[str, list[str]] = {"chromosome": [SIZES]}
    for builder, config in checked.steps:
        for table, n in getattr(estimator, builder.name)(config).items():
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


class _Estimator:
    """Rows each builder would make, from the beginnings of the sources at hand; one method per builder of the registry.

    ``rows`` holds what is known of earlier tables.
    """

    def __init__(self, sources: Sources, at_hand: Mapping[str, AtHand]) -> None:
        self._sources, self._at_hand = sources, at_hand
        self._genome: int | None = None
        self.rows: dict[str, int | None] = {}

    def _path(self, name: str) -> Path | None:
        source = self._at_hand.get(name)
        if source is None or source.where in {"missing", "to fetch"}:
            return None
        return source.path or self._sources(name).path

    def _count(self, name: str, count: Callable[[list[str]], float]) -> int | None:
        """Return ``count`` of the first lines of a text source, scaled to the whole; None where it is not at hand."""
        path = self._path(name)
        if path is None:
            return None
        lines, factor = sample_lines(path)
        return round(count(lines) * factor)

    def chromosome(self) -> Estimated:
        path = self._path(SIZES)
        if path is None:
            return {"chromosome": None}
        sizes = read_sizes(path)
        self._genome = sum(sizes.values())
        return {"chromosome": len(sizes)}

    def gene(self, config: GeneConfig) -> Estimated:
        def count(lines: list[str]) -> int:
            written = sum("\tgene\t" in line for line in lines)
            return written or len({line.partition("gene_id")[2].split(";")[0] for line in lines if "gene_id" in line})

        n = self._count("gtf", count)
        return {"gene": n, "gene_attribute": n}

    def peak(self, config: PeakConfig) -> Estimated:
        path = self._path("peaks")
        if path is not None and path.suffix in {".h5ad", ".h5mu"}:
            return {"peak": len(feature_names(path, "atac"))}
        return {"peak": self._count("peaks", lambda lines: sum(not line.startswith("#") for line in lines))}

    def gene_peak(self, config: GenePeakConfig) -> Estimated:
        genes, peaks = self.rows["gene"], self.rows["peak"]
        if genes is None or peaks is None or self._genome is None:
            return {"gene_peak": None}
        share = min(1.0, CLUSTERING * 2 * config.within_bp / self._genome)
        return {"gene_peak": round(genes * peaks * share)}

    def pathways(self, config: PathwayConfig) -> Estimated:
        def members(lines: list[str]) -> list[int]:
            return [line.count("\t") - 1 for line in lines if line.count("\t") > 1]

        def pairs(lines: list[str]) -> float:
            return sum(size * (size - 1) / 2 for size in members(lines) if size <= config.max_set_size)

        made = {
            "pathway": self._count("gmt", lambda lines: len(members(lines))),
            "gene_pathway": self._count("gmt", lambda lines: sum(members(lines))),
        }
        return {**made, "gene_gene": self._count("gmt", pairs)} if config.gene_gene else made

    def interactions(self, config: InteractionConfig) -> Estimated:
        def kept(lines: list[str]) -> float:
            scores = (line.rsplit(maxsplit=1)[-1] for line in lines[1:] if line.strip())
            return sum(int(score) >= config.min_score for score in scores if score.isdecimal()) / 2

        links = self._count("string_links", kept)
        proteins = self._count("string_info", len)
        made = {"protein": proteins, "protein_protein": links, "gene_protein": proteins}
        return {**made, "gene_gene": links} if config.gene_gene else made

    def sequence(self, config: SequenceConfig) -> Estimated:
        made = {"peak_attribute": self.rows["peak"]}
        return {**made, "promoter_attribute": self.rows["gene"]} if config.promoters else made


def sample_lines(path: Path) -> tuple[list[str], float]:
    """Return the complete lines among the first megabytes of a text, gzip or not, and the factor to the whole.

    Raises
    ------
    UnreadableFile
        For a file that is empty or a gzip that is damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as raw:
        stream = gzip.GzipFile(fileobj=raw) if is_gzip(path) else raw
        try:
            head = stream.read(SAMPLE_BYTES)
            whole = not stream.read(1)
        except (EOFError, gzip.BadGzipFile) as error:
            raise truncated(path, str(error)) from error
        used = raw.tell()
    if not head:
        raise UnreadableFile(f"{path} is empty.")
    lines = head.decode("utf-8", errors="replace").splitlines()
    return (lines, 1.0) if whole else (lines[:-1], max(1.0, size / used))
