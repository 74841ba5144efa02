"""Sequence of peaks and promoters: GC, CpG observed over expected, share of unknown bases."""

from __future__ import annotations

import gzip
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyfaidx

from heteromics.errors import BeyondChromosome, PriorError, RecipeError, UnreadableFile, some
from heteromics.priors._files import is_gzip, truncated
from heteromics.priors.assembly import Style, check_names, to_style
from heteromics.priors.tables import Built, Count, Match, Source

if TYPE_CHECKING:
    from heteromics.priors.planning import Estimated, PlanContext
    from heteromics.priors.tables import BuildContext

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

BATCH_BASES = 8_000_000
"""Bases held at a time, so that memory does not grow with the number of peaks."""


class Composition(NamedTuple):
    """What sequences are made of, each field of shape (n,): shares between 0 and 1, NaN where undefined."""

    gc: Floats
    cpg_oe: Floats
    n_share: Floats


@dataclass(frozen=True, slots=True)
class SequenceConfig:
    """Recipe keys of ``attributes.sequence``.

    Attributes
    ----------
    fasta
        Read source ``fasta``. Without it, only widths are known and the other columns are NULL.
    partial_fasta
        The FASTA may lack chromosomes, or end before they do; peaks outside it get NULL and are named in the match
        report. Otherwise they stop the build.
    chrom_style
        Convert the chromosome names of the FASTA to this style; left out, they are taken as they are.
    promoters
        Describe the promoter of each gene too (table ``promoter_attribute``).
    promoter_bp
        Bases upstream of the transcription start that make the promoter, the start itself included; 2 kb as in GLUE.
    """

    fasta: bool = False
    partial_fasta: bool = False
    chrom_style: Style | None = None
    promoters: bool = False
    promoter_bp: int = 2_000

    def __post_init__(self) -> None:
        if self.promoter_bp < 1:
            raise ValueError(f"found promoter_bp {self.promoter_bp}, expected 1 or more.")
        if not self.fasta and (self.promoters or self.partial_fasta or self.chrom_style):
            raise ValueError("promoters, partial_fasta and chrom_style need `fasta: true`.")

    def source_names(self) -> tuple[str, ...]:
        """Source ``fasta``, if it is asked for."""
        return ("fasta",) if self.fasta else ()


def composition(bases: npt.NDArray[np.uint8], offsets: Ints) -> Composition:
    """Describe sequences that lie one after the other in one array.

    Parameters
    ----------
    bases
        ASCII codes of the bases, shape (B,), uint8; upper and lower (soft-masked) case count alike.
    offsets
        Where each sequence begins, and the end of the last, shape (n + 1,).

    Returns
    -------
    Composition
        ``gc``: (C + G) / (A + C + G + T). ``cpg_oe``: CpG x N / (C x G) with N the number of A, C, G, T
        (Gardiner-Garden and Frommer, J Mol Biol 1987). ``n_share``: bases that are not A, C, G or T, over all.

    Examples
    --------
    >>> import numpy as np
    >>> bases = np.frombuffer(b"ACGTcgNN", np.uint8)
    >>> found = composition(bases, np.array([0, 4, 8]))
    >>> found.gc.tolist(), found.cpg_oe.tolist(), found.n_share.tolist()
    ([0.5, 1.0], [4.0, 2.0], [0.0, 0.5])
    """
    upper = bases & np.uint8(0xDF)
    is_c, is_g = upper == ord("C"), upper == ord("G")
    begin, end = offsets[:-1], offsets[1:]
    n_c, n_g = _count(is_c, begin, end), _count(is_g, begin, end)
    known = n_c + n_g + _count((upper == ord("A")) | (upper == ord("T")), begin, end)
    n_cpg = _count(is_c[:-1] & is_g[1:], begin, np.maximum(end - 1, begin))
    return Composition(
        _ratio(n_c + n_g, known), _ratio(n_cpg * known, n_c * n_g), _ratio(end - begin - known, end - begin)
    )


def _count(mask: npt.NDArray[np.bool_], begin: Ints, end: Ints) -> Ints:
    total = np.concatenate([np.zeros(1, np.int64), np.cumsum(mask, dtype=np.int64)])
    return total[end] - total[begin]


def _ratio(part: Ints, whole: Ints) -> Floats:
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


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


def build_peak_sequence(context: BuildContext, config: SequenceConfig) -> Built:
    """Build table ``peak_attribute`` and, if asked for, ``promoter_attribute``.

    Raises
    ------
    BeyondChromosome
        When a chromosome of the FASTA is not as long as in the assembly.
    PriorError
        When peaks lie outside the FASTA, unless the recipe says ``partial_fasta: true``.
    ChromNamesDisagree, UnreadableFile, RecipeError
        When FASTA and assembly share no chromosome, the FASTA cannot be read, or promoters are asked for without genes.
    """
    wanted = {"peak_attribute": context.query(_PEAKS)}
    if config.promoters:
        wanted["promoter_attribute"] = _promoters(context, config.promoter_bp)
    if not config.fasta:
        return Built({name: _table(regions, None) for name, regions in wanted.items()})
    source = context.source("fasta")
    with open_fasta(source.path) as fasta:
        records = _records(fasta, source, context, config)
        described = {name: _describe(regions, records, context) for name, regions in wanted.items()}
    outside = {
        name: [Match(source.label, *lacking) for lacking in _outside(regions, records)]
        for name, regions in wanted.items()
    }
    _check_outside(outside, wanted, source, config)
    counts = {
        name: [Count(source.label, "matched", regions.num_rows - len(outside[name])), *_absent(source, outside[name])]
        for name, regions in wanted.items()
    }
    tables = {name: _table(regions, described[name]) for name, regions in wanted.items()}
    return Built(tables, {name: [source] for name in tables}, outside, counts)


_PEAKS = (
    "SELECT peak_id, p.chrom, chrom_start, chrom_end FROM peak p JOIN chromosome c ON p.chrom = c.chrom "
    "ORDER BY code, chrom_start, chrom_end, peak_id"
)


def _promoters(context: BuildContext, promoter_bp: int) -> pa.Table:
    if not context.query("SELECT 1 FROM duckdb_tables() WHERE table_name = 'gene'").num_rows:
        raise RecipeError("attributes.sequence.promoters: the recipe builds no genes. Fix: add `nodes.gene`.")
    return context.query(
        "SELECT gene_id, g.chrom, CASE strand WHEN '-' THEN tss ELSE greatest(tss + 1 - $1, 0) END AS chrom_start, "
        "CASE strand WHEN '-' THEN least(tss + $1, size) ELSE tss + 1 END AS chrom_end "
        "FROM gene g JOIN chromosome c ON g.chrom = c.chrom ORDER BY code, chrom_start, chrom_end, gene_id",
        [promoter_bp],
    )


def _records(
    fasta: pyfaidx.Fasta, source: Source, context: BuildContext, config: SequenceConfig
) -> dict[str, pyfaidx.FastaRecord]:
    """Return the records by the store's chromosome names, their lengths checked against the assembly."""
    names = list(fasta.keys())
    styled = to_style(names, config.chrom_style, known=context.chromosomes) if config.chrom_style else names
    what, key = f"FASTA {source.label}", "attributes.sequence.chrom_style"
    check_names(what, set(styled), f"assembly {context.assembly}", set(context.chromosomes), key=key)
    records = {chrom: fasta[name] for chrom, name in zip(styled, names, strict=True) if chrom in context.chromosomes}
    sizes = {chrom: len(record) for chrom, record in records.items()}
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
            "`attributes.sequence.partial_fasta: true`."
        )
    return records


def _describe(regions: pa.Table, records: dict[str, pyfaidx.FastaRecord], context: BuildContext) -> Composition:
    """Read regions chromosome by chromosome, in order, a batch at a time; NaN where they lie outside the FASTA."""
    names = np.array(regions["chrom"].to_pylist(), dtype=object)
    start, end = (regions[name].to_numpy() for name in ("chrom_start", "chrom_end"))
    found = Composition(*(np.full(regions.num_rows, np.nan) for _ in Composition._fields))
    for chrom, record in records.items():
        rows = np.flatnonzero((names == chrom) & (end <= len(record)))
        if rows.size:
            context.progress(f"sequence of {chrom}")
        batch = np.cumsum(end[rows] - start[rows]) // BATCH_BASES
        for part in np.split(rows, np.flatnonzero(np.diff(batch)) + 1):
            text = "".join(
                record[begin:stop] for begin, stop in zip(start[part].tolist(), end[part].tolist(), strict=True)
            )
            offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(end[part] - start[part])])
            described = composition(np.frombuffer(text.encode("ascii"), np.uint8), offsets)
            for column, values in zip(found, described, strict=True):
                column[part] = values
    return found


def _outside(regions: pa.Table, records: dict[str, pyfaidx.FastaRecord]) -> Iterator[tuple[str, str, str]]:
    length = {chrom: len(record) for chrom, record in records.items()}
    for name, chrom, _, end in zip(*(column.to_pylist() for column in regions.columns), strict=True):
        if chrom not in length:
            yield name, "absent", f"the FASTA has no {chrom}"
        elif end > length[chrom]:
            yield name, "absent", f"ends at {end:,}, the FASTA's {chrom} at {length[chrom]:,}"


def _check_outside(
    outside: dict[str, list[Match]], wanted: dict[str, pa.Table], source: Source, config: SequenceConfig
) -> None:
    for name, matches in outside.items():
        if matches and not config.partial_fasta:
            raise PriorError(
                f"{source.label}: {len(matches):,} of {wanted[name].num_rows:,} regions of {name} lie outside the "
                f"FASTA: {some(f'{match.name} ({match.detail})' for match in matches)}.\n"
                "  Fix: give the whole genome, or set `attributes.sequence.partial_fasta: true` to leave them NULL."
            )


def _absent(source: Source, matches: list[Match]) -> list[Count]:
    return [Count(source.label, "absent", len(matches))] if matches else []


def _table(regions: pa.Table, described: Composition | None) -> pa.Table:
    key, start, end = (regions.column(place) for place in (0, 2, 3))
    columns: dict[str, Any] = {regions.column_names[0]: key, "width": end.to_numpy() - start.to_numpy()}
    for place, name in enumerate(Composition._fields):
        values = pa.nulls(regions.num_rows, pa.float64()) if described is None else described[place]
        columns[name] = pa.array(values, pa.float64(), from_pandas=True)
    return pa.table(columns)


def estimate_sequence(plan: PlanContext, config: SequenceConfig) -> Estimated:
    """Estimate the number of peaks and promoters."""
    made = {"peak_attribute": plan.rows["peak"]}
    return {**made, "promoter_attribute": plan.rows["gene"]} if config.promoters else made
