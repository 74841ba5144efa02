"""Genome sequence from FASTA: opened through an index, checked against the assembly, read region by region in batches.

pyfaidx reads it, because it seeks in plain and bgzip files with the index of ``samtools faidx`` and needs no program
beside Python.
"""

from __future__ import annotations

import gzip
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyfaidx

from heteromics.errors import BeyondChromosome, PriorError, RecipeError, UnreadableFile, some
from heteromics.priors._files import is_gzip, truncated
from heteromics.priors.assembly import Style, check_names, to_style
from heteromics.priors.tables import Count, Match, Source

if TYPE_CHECKING:
    from heteromics.priors.tables import BuildContext

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

BATCH_BASES = 2_000_000
"""Bases held at a time, so that memory does not grow with the number of peaks."""


@dataclass(frozen=True, slots=True)
class FastaConfig:
    """Recipe keys of every table that reads source ``fasta``.

    Attributes
    ----------
    partial_fasta
        The FASTA may lack chromosomes, or end before they do; regions outside it are left unknown and named in the
        match report. Otherwise they stop the build.
    chrom_style
        Convert the chromosome names of the FASTA to this style; left out, they are taken as they are.
    """

    partial_fasta: bool = False
    chrom_style: Style | None = None

    def source_names(self) -> tuple[str, ...]:
        """Sequence comes from source ``fasta``."""
        return ("fasta",)


class Genome(NamedTuple):
    """An open FASTA: its source, records by the store's chromosome names, and the recipe key it was opened for."""

    source: Source
    records: dict[str, pyfaidx.FastaRecord]
    key: str


class Batch(NamedTuple):
    """Regions read together: their rows (n,), ASCII codes of their bases (B,) and where each begins (n + 1,)."""

    rows: Ints
    bases: Bytes
    offsets: Ints


@contextmanager
def open_fasta(path: Path) -> Iterator[pyfaidx.Fasta]:
    """Open a FASTA, plain, bgzip or gzip, through its index.

    An index beside the file that is not older than it is used; otherwise one is made in a temporary folder, so that
    nothing is ever written beside the user's data. Plain gzip, in which no place can be sought, is unpacked there.
    ``bgzip`` and ``samtools faidx``, done once, save both steps.

    Raises
    ------
    UnreadableFile
        When the file is no FASTA, or its gzip is damaged.
    """
    with tempfile.TemporaryDirectory(prefix="heteromics_") as folder:
        if is_gzip(path) and not _is_bgzip(path):
            path = _unpacked(path, Path(folder) / f"{path.stem}.fa")
        suffixes = (".fai", ".gzi") if is_gzip(path) else (".fai",)
        beside = [Path(f"{path}{suffix}") for suffix in suffixes]
        ready = all(index.is_file() and index.stat().st_mtime >= path.stat().st_mtime for index in beside)
        at = path if ready else Path(folder) / path.name
        try:
            fasta = pyfaidx.Fasta(
                str(path), indexname=f"{at}.fai", gzi_indexname=f"{at}.gzi", as_raw=True, rebuild=not ready
            )
        except (pyfaidx.FastaIndexingError, pyfaidx.IndexNotFoundError, ValueError) as error:
            raise UnreadableFile(f"{path} is no readable FASTA: {error}") from error
        try:
            yield fasta
        finally:
            fasta.close()


def _is_bgzip(path: Path) -> bool:
    """Tell by name and by the extra field ``BC`` of its first block (SAM specification, section 4.1)."""
    with path.open("rb") as file:
        return path.suffix in {".gz", ".bgz"} and file.read(14)[12:] == b"BC"


def _unpacked(path: Path, to: Path) -> Path:
    try:
        with gzip.open(path) as packed, to.open("wb") as plain:
            shutil.copyfileobj(packed, plain, 1 << 20)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise truncated(path, str(error)) from error
    return to


@contextmanager
def open_genome(context: BuildContext, config: FastaConfig, key: str) -> Iterator[Genome]:
    """Open source ``fasta``, with the names of its records and their lengths in the index checked against the assembly.

    Parameters
    ----------
    context, config
        The build, and what its recipe says of the FASTA.
    key
        Recipe key of the table that asks, such as ``attributes.sequence``, for messages.

    Raises
    ------
    ChromNamesDisagree
        When FASTA and assembly share no chromosome name.
    BeyondChromosome
        When a record is longer than the chromosome, or shorter without ``partial_fasta``.
    UnreadableFile
        As :func:`open_fasta`.
    """
    source = context.source("fasta")
    with open_fasta(source.path) as fasta:
        names = list(fasta.keys())
        styled = to_style(names, config.chrom_style, known=context.chromosomes) if config.chrom_style else names
        what = f"FASTA {source.label}"
        check_names(
            what, set(styled), f"assembly {context.assembly}", set(context.chromosomes), key=f"{key}.chrom_style"
        )
        records = {
            chrom: fasta[name] for chrom, name in zip(styled, names, strict=True) if chrom in context.chromosomes
        }
        _check_lengths(what, {chrom: len(record) for chrom, record in records.items()}, context, config, key)
        yield Genome(source, records, key)


def _check_lengths(what: str, sizes: dict[str, int], context: BuildContext, config: FastaConfig, key: str) -> None:
    odd = [
        chrom
        for chrom, size in sizes.items()
        if size > context.chromosomes[chrom] or (size < context.chromosomes[chrom] and not config.partial_fasta)
    ]
    if odd:
        shown = "\n".join(f"  {one}: {sizes[one]:,} bp, assembly {context.chromosomes[one]:,} bp" for one in odd[:3])
        raise BeyondChromosome(
            f"{what}: {len(odd)} of {len(sizes)} chromosomes are not as long as in {context.assembly}.\n{shown}\n"
            f"  Fix: give the FASTA of {context.assembly}; if it is cut short on purpose, set "
            f"`{key}.partial_fasta: true`."
        )


def peaks(context: BuildContext) -> pa.Table:
    """Return the peaks, columns ``peak_id, chrom, chrom_start, chrom_end``, by chromosome code and place."""
    return context.query(
        "SELECT peak_id, p.chrom, chrom_start, chrom_end FROM peak p JOIN chromosome c ON p.chrom = c.chrom "
        "ORDER BY code, chrom_start, chrom_end, peak_id"
    )


def require_genes(context: BuildContext, key: str) -> None:
    """Stop when promoters are asked for by a recipe that builds no genes."""
    if not context.query("SELECT 1 FROM duckdb_tables() WHERE table_name = 'gene'").num_rows:
        raise RecipeError(f"{key}.promoters: the recipe builds no genes. Fix: add `nodes.gene`.")


def promoters(context: BuildContext, promoter_bp: int, key: str) -> pa.Table:
    """Return the ``promoter_bp`` bases upstream of each gene's start, the start included, cut at the chromosome's ends.

    Columns are ``gene_id, chrom, chrom_start, chrom_end``, rows by chromosome code and place.
    """
    require_genes(context, key)
    return context.query(
        "SELECT gene_id, g.chrom, CASE strand WHEN '-' THEN tss ELSE greatest(tss + 1 - $1, 0) END AS chrom_start, "
        "CASE strand WHEN '-' THEN least(tss + $1, size) ELSE tss + 1 END AS chrom_end "
        "FROM gene g JOIN chromosome c ON g.chrom = c.chrom ORDER BY code, chrom_start, chrom_end, gene_id",
        [promoter_bp],
    )


def batch_rows(
    regions: pa.Table, genome: Genome, *, batch_bases: int | None = None, most_rows: int | None = None
) -> list[tuple[str, Ints]]:
    """Part regions into batches, chromosome by chromosome; those that lie outside the FASTA are in none.

    Parameters
    ----------
    regions
        Name, chromosome, start and end (0-based, half-open) of each region, in this order of columns.
    genome
        Where they will be read.
    batch_bases
        Bases to hold at a time, by default ``BATCH_BASES``; a longer region makes a batch of its own.
    most_rows
        Most regions of a batch; left out, there is no such limit.

    Returns
    -------
    list of (str, numpy.ndarray)
        Chromosome and rows of each batch.
    """
    start, end = (regions.column(place).to_numpy() for place in (2, 3))
    record_of, batches = _record_of(regions, genome), []
    for place, (chrom, record) in enumerate(genome.records.items()):
        rows = np.flatnonzero((record_of == place) & (end <= len(record)))
        batch = np.cumsum(end[rows] - start[rows]) // (batch_bases or BATCH_BASES)  # (n,), never falls
        if most_rows is not None:
            batch = batch + np.arange(rows.size) // most_rows
        parts = np.split(rows, np.flatnonzero(np.diff(batch)) + 1)
        batches += [(chrom, part) for part in parts if part.size]
    return batches


def read_batches(
    regions: pa.Table, genome: Genome, *, batch_bases: int | None = None, most_rows: int | None = None
) -> Iterator[Batch]:
    """Read regions a batch at a time, parted as :func:`batch_rows` does.

    Raises
    ------
    UnreadableFile
        When the FASTA holds fewer bases than its index says.
    """
    start, end = (regions.column(place).to_numpy() for place in (2, 3))
    for chrom, rows in batch_rows(regions, genome, batch_bases=batch_bases, most_rows=most_rows):
        record, places = genome.records[chrom], zip(start[rows].tolist(), end[rows].tolist(), strict=True)
        text = "".join(record[begin:stop] for begin, stop in places)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(end[rows] - start[rows])])
        if len(text) != offsets[-1]:
            raise UnreadableFile(
                f"{genome.source.path}: found {len(text):,} bases in {rows.size:,} regions of {chrom}, expected "
                f"{offsets[-1]:,} by its index.\n  The FASTA is cut short, or the index is of another. Fix: fetch the "
                "FASTA again, or remove the .fai beside it."
            )
        yield Batch(rows, np.frombuffer(text.encode("ascii"), np.uint8), offsets)


def outside(regions: pa.Table, genome: Genome, table: str, config: FastaConfig) -> list[Match]:
    """Name the regions that lie outside the FASTA, for the match report.

    Raises
    ------
    PriorError
        When there are any and the recipe does not say ``partial_fasta: true``, or when no region lies inside.
    """
    matches = list(_lacking(regions, genome))
    inside = regions.num_rows - len(matches)
    if matches and not (config.partial_fasta and inside):
        fix = f"set `{genome.key}.partial_fasta: true` to leave them unknown"
        if config.partial_fasta:
            fix = "leave this table out of the recipe"
        raise PriorError(
            f"{genome.source.label}: {len(matches):,} of {regions.num_rows:,} regions of {table} lie outside the "
            f"FASTA: {some(f'{match.name} ({match.detail})' for match in matches)}.\n"
            f"  Fix: give the whole genome, or {fix}."
        )
    return matches


def _record_of(regions: pa.Table, genome: Genome) -> Ints:
    """Return the place of each region's chromosome among the records, -1 where the FASTA has none, shape (n,)."""
    records = pa.array(list(genome.records), pa.string())
    return pc.fill_null(pc.index_in(regions.column(1), value_set=records), -1).to_numpy().astype(np.int64)


def _lacking(regions: pa.Table, genome: Genome) -> Iterator[Match]:
    length = np.array([*(len(record) for record in genome.records.values()), -1])
    end_of_record = length[_record_of(regions, genome)]
    beyond = regions.take(np.flatnonzero(regions.column(3).to_numpy() > end_of_record))
    for name, chrom, _, end in zip(*(column.to_pylist() for column in beyond.columns), strict=True):
        if chrom not in genome.records:
            yield Match(genome.source.label, name, "absent", f"the FASTA has no {chrom}")
        else:
            detail = f"ends at {end:,}, the FASTA's {chrom} at {len(genome.records[chrom]):,}"
            yield Match(genome.source.label, name, "absent", detail)


def counted(regions: pa.Table, genome: Genome, matches: list[Match]) -> list[Count]:
    """Return how many regions lie inside the FASTA and how many outside."""
    inside = Count(genome.source.label, "matched", regions.num_rows - len(matches))
    return [inside, Count(genome.source.label, "absent", len(matches))] if matches else [inside]
