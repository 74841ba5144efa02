"""Peaks: from the names the data give them, or from BED, to table ``peak``, less those in the blacklist."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from heteromics.errors import DataError, DuplicateNames, UnreadableFile, some
from heteromics.priors._bed import bed_fields, is_row, lay_out, read_bed
from heteromics.priors._files import feature_names, feature_table, text_lines
from heteromics.priors.assembly import Style
from heteromics.priors.intervals import bases_covered
from heteromics.priors.links import Intervals
from heteromics.priors.tables import Built, Count, Match, Source

if TYPE_CHECKING:
    from heteromics.priors.planning import Estimated, PlanContext
    from heteromics.priors.tables import BuildContext

Ints = NDArray[np.int64]

_NAME = r"^(?P<chrom>\S+)[:_\t -](?P<start>\d{1,12})[_\t -](?P<end>\d{1,12})$"
_FORMS = "chr1:100-200, chr1-100-200 or chr1_100_200"
_COLUMNS = (
    ("chrom", "chr", "chromosome", "seqnames", "seqname"),
    ("start", "chrom_start", "chromstart"),
    ("end", "chrom_end", "chromend"),
)


@dataclass(frozen=True, slots=True)
class PeakConfig:
    """Recipe keys of ``nodes.peak``."""

    on_unmatched: Literal["error", "report"] = "error"
    """What to do with a name that is no interval: stop, or name it in the match report and go on."""
    chrom_style: Style | None = None
    """Convert chromosome names to this style; left out, they are taken as they are."""
    blacklist_share: float = 0.0
    """Leave out peaks with at least this share of their bases in source ``blacklist``; at 0, with any base in it."""
    blacklist_chrom_style: Style | None = None
    """Convert chromosome names of the blacklist to this style; left out, they are taken as they are."""

    def __post_init__(self) -> None:
        if not 0 <= self.blacklist_share <= 1:
            raise ValueError(f"blacklist_share: found {self.blacklist_share}, expected a share from 0 to 1.")

    def source_names(self) -> tuple[str, ...]:
        """Peaks are read from source ``peaks``; source ``blacklist`` may be given beside it."""
        return ("peaks",)


class Peaks(NamedTuple):
    """Intervals with their names, each field of length n: ``start`` and ``end`` int64, 0-based half-open."""

    name: list[str]
    chrom: list[str]
    start: Ints
    end: Ints


def parse_peak_names(names: Sequence[str]) -> tuple[Peaks, list[str]]:
    """Take peak names apart: ``chr1:100-200``, ``chr1-100-200``, ``chr1_100_200``, three columns, in any mixture.

    The last two numbers are the bounds, so that chromosome names may hold ``_``, ``-``, ``.`` and ``:``
    (``chrUn_KI270742v1_100_200``, ``HLA-A*01:01-5-90``).

    Parameters
    ----------
    names
        Peak names; bounds are 0-based half-open as in BED, which is how 10x and SnapATAC write them.

    Returns
    -------
    peaks : Peaks
        Those that could be read, in the order given.
    unparsable : list of str
        Those that could not.

    Examples
    --------
    >>> peaks, unparsable = parse_peak_names(["chr1:100-200", "chrUn_KI270742v1_5_90", "GAPDH"])
    >>> peaks.chrom, peaks.start.tolist(), unparsable
    (['chr1', 'chrUn_KI270742v1'], [100, 5], ['GAPDH'])
    """
    given = pa.array(names, pa.string())
    parts = pc.extract_regex(given, _NAME)
    readable = pc.is_valid(parts)
    parts = parts.filter(readable)
    start, end = (pc.cast(pc.struct_field(parts, field), pa.int64()).to_numpy() for field in ("start", "end"))
    peaks = Peaks(given.filter(readable).to_pylist(), pc.struct_field(parts, "chrom").to_pylist(), start, end)
    return peaks, given.filter(pc.invert(readable)).to_pylist()


def read_peaks(path: Path) -> tuple[Peaks, list[str]]:
    """Read peaks from ``.h5ad``/``.h5mu`` (atac var; no matrix is read), BED, or a text of names, gzip or not.

    BED peaks are named ``chrom:start-end``. Where var names of an ``.h5ad`` are no intervals, its columns are looked
    at, see :func:`peaks_of_columns`. Returns as :func:`parse_peak_names`.

    Raises
    ------
    UnreadableFile
        For a file without peaks, a BED line without whole-number bounds (named), a truncated gzip.
    MissingModality
        For a file without an ATAC modality.
    """
    if path.suffix in {".h5ad", ".h5mu"}:
        table = feature_table(path, "atac")
        names = [str(name) for name in table.index]
    else:
        table = pd.DataFrame()
        names = [_bed_name(path, number, line) for number, line in text_lines(path) if is_row(line)]
    if not names:
        raise UnreadableFile(f"{path}: no peak in it. Expected BED lines or names such as {_FORMS}.")
    peaks, unparsable = parse_peak_names(names)
    return peaks_of_columns(table) or (peaks, unparsable) if unparsable else (peaks, unparsable)


def peaks_of_columns(table: pd.DataFrame) -> tuple[Peaks, list[str]] | None:
    """Read peaks from columns of a var table: ``chrom``, ``start``, ``end``, or ``seqnames``, ``start``, ``end``.

    Parameters
    ----------
    table
        One row per peak, its name the index. Columns ``chr`` and ``chromosome`` count as ``chrom``; upper and lower
        case are one.

    Returns
    -------
    tuple of Peaks and list of str, or None
        As :func:`parse_peak_names`; None where the columns are not there.

    Notes
    -----
    Bounds are 0-based half-open, except where a column ``width`` equals end - start + 1 or, without such a column,
    the first is called ``seqnames``: so does R write GRanges, which count from 1 and include the end
    (Lawrence et al., PLOS Computational Biology 2013).

    Examples
    --------
    >>> table = pd.DataFrame({"seqnames": ["chr1"], "start": [101], "end": [200]}, index=["peak1"])
    >>> peaks, _ = peaks_of_columns(table)
    >>> peaks.name, peaks.start.tolist(), peaks.end.tolist()
    (['peak1'], [100], [200])
    """
    lower = {str(column).lower(): column for column in table.columns}
    found = [next((lower[one] for one in names if one in lower), None) for names in _COLUMNS]
    if None in found:
        return None
    chrom = table[found[0]]
    bounds = table[found[1:]].apply(pd.to_numeric, errors="coerce")
    whole = (bounds.notna() & (bounds % 1 == 0) & (bounds >= 0)).all(axis=1) & chrom.notna()
    names = np.array([str(name) for name in table.index], dtype=object)
    start, end = bounds[whole].to_numpy().astype(np.int64).T
    if _counts_from_one(str(found[0]), lower, table[whole], start, end):
        start = start - 1
    return Peaks(names[whole].tolist(), chrom[whole].astype(str).tolist(), start, end), names[~whole].tolist()


def _counts_from_one(chrom: str, lower: dict[str, str], table: pd.DataFrame, start: Ints, end: Ints) -> bool:
    if "width" in lower:
        excess = pd.to_numeric(table[lower["width"]], errors="coerce").to_numpy() - (end - start)
        if (excess == 1).all() or (excess == 0).all():
            return bool((excess == 1).all())
    return chrom.lower().startswith("seqname")


def _bed_name(path: Path, number: int, line: str) -> str:
    if len(line.split()) == 1:
        return line.strip()
    chrom, start, end = bed_fields(path, number, line)[:3]
    return f"{chrom}:{start}-{end}"


def check_peaks(peaks: Peaks, what: str) -> None:
    """Stop at peaks without a base and at peaks listed twice.

    Raises
    ------
    DataError
        When some end at or before their start: how many, and which.
    DuplicateNames
        When an interval is listed more than once, also under differently written names.
    """
    empty = np.flatnonzero(peaks.end <= peaks.start)
    if empty.size:
        zero = int((peaks.end[empty] == peaks.start[empty]).sum())
        raise DataError(
            f"{what}: {empty.size:,} of {len(peaks.name):,} peaks hold no base ({zero:,} of width zero, "
            f"{empty.size - zero:,} that end before they start): {some(peaks.name[row] for row in empty)}.\n"
            "  Expected start < end, 0-based half-open. Fix: remove them, or check the order of the columns."
        )
    first: dict[tuple[str, int, int], int] = {}
    places = zip(peaks.chrom, peaks.start.tolist(), peaks.end.tolist(), strict=True)
    stands = [first.setdefault(place, row) for row, place in enumerate(places)]
    twice = [
        name if peaks.name[stand] == name else f"{name} (= {peaks.name[stand]})"
        for row, (name, stand) in enumerate(zip(peaks.name, stands, strict=True))
        if stand != row
    ]
    if twice:
        raise DuplicateNames(
            f"{what}: {len(twice):,} of {len(peaks.name):,} peaks are listed more than once: {some(twice)}.\n"
            "  Each peak must stand once. Fix: remove the repeats, summing their counts."
        )


def overlapping_neighbours(peaks: Intervals) -> Ints:
    """Return for each interval another one it shares bases with, -1 where there is none; shape (n,), int64.

    Parameters
    ----------
    peaks
        Ordered by chromosome and start.

    Examples
    --------
    >>> overlapping_neighbours(Intervals(np.zeros(3, np.int64), np.array([0, 5, 9]), np.array([6, 9, 12]))).tolist()
    [1, 0, -1]
    """
    rows = np.arange(peaks.start.size)
    apart = (peaks.end.max(initial=0) + 1) * peaks.chrom
    start, end = peaks.start + apart, peaks.end + apart
    reach = np.maximum.accumulate(end)
    furthest = np.maximum.accumulate(np.where(end == reach, rows, 0))  # the row that reaches so far
    partner = np.full(rows.size, -1, np.int64)
    later = np.flatnonzero(end[:-1] > start[1:])
    partner[later] = later + 1
    earlier = np.flatnonzero(start[1:] < reach[:-1]) + 1
    partner[earlier] = furthest[earlier - 1]
    return partner


def build_peaks(context: BuildContext, config: PeakConfig) -> Built:
    """Build table ``peak``, ordered by chromosome code, start and end.

    Peaks on chromosomes that the assembly does not have, and peaks in the blacklist, are left out and named in the
    match report. Peaks that overlap each other stay, and are named there too.

    Raises
    ------
    DataError
        For names that are no interval, unless the recipe says ``on_unmatched: report``, and for peaks without a base.
    DuplicateNames, ChromNamesDisagree, BeyondChromosome, WrongAssembly
        As :func:`check_peaks` and the assembly guard say.
    """
    source = context.source("peaks")
    peaks, unparsable = read_peaks(source.path)
    what = f"peaks of {source.path.name}"
    if unparsable and (config.on_unmatched == "error" or not peaks.name):
        raise DataError(
            f"{what}: {len(unparsable):,} of {len(unparsable) + len(peaks.name):,} names are no interval: "
            f"{some(unparsable)}.\n  Expected {_FORMS}.\n"
            "  Fix: correct the names, or set `nodes.peak.on_unmatched: report` to leave them out and list them."
        )
    chrom, codes = lay_out(
        what, peaks.name, peaks.chrom, peaks.end, context, style=config.chrom_style, key="nodes.peak.chrom_style"
    )
    peaks = peaks._replace(chrom=chrom)
    check_peaks(peaks, what)
    matches = [Match(source.label, name, "unparsable", f"expected {_FORMS}") for name in unparsable]
    matches += [
        Match(source.label, peaks.name[row], "wrong_assembly", f"{context.assembly} has no {chrom[row]}")
        for row in np.flatnonzero(codes < 0)
    ]
    sources, kept = [source], codes >= 0
    if context.has_source("blacklist"):
        blacklist = context.source("blacklist")
        sources.append(blacklist)
        covered = _blacklisted(blacklist, peaks, codes, context, config)
        kept &= covered == 0
        matches += [
            Match(source.label, peaks.name[row], "filtered", f"{covered[row]} bp of it in {blacklist.label}")
            for row in np.flatnonzero(covered)
        ]
    order = np.lexsort((peaks.end, peaks.start, codes))
    order = order[kept[order]]
    partner = overlapping_neighbours(Intervals(codes[order], peaks.start[order], peaks.end[order]))
    matches += [
        Match(source.label, peaks.name[row], "overlapping", f"shares bases with {peaks.name[order[other]]}")
        for row, other in zip(order.tolist(), partner.tolist(), strict=True)
        if other >= 0
    ]
    return Built(
        {"peak": _peak_table(peaks, order)},
        {"peak": sources},
        {"peak": matches},
        {"peak": _counts(source.label, len(peaks.name) + len(unparsable), matches)},
    )


def _blacklisted(source: Source, peaks: Peaks, codes: Ints, context: BuildContext, config: PeakConfig) -> Ints:
    """Return how many bases of each peak lie in the blacklist, 0 where that is less than the share that matters."""
    what = f"regions of blacklist {source.path.name}"
    bed = read_bed(source.path, what)
    _, chrom = lay_out(
        what,
        bed.places(),
        bed.chrom,
        bed.end,
        context,
        style=config.blacklist_chrom_style,
        key="nodes.peak.blacklist_chrom_style",
    )
    there, placed = np.flatnonzero(chrom >= 0), np.flatnonzero(codes >= 0)
    inside = bases_covered(
        Intervals(codes[placed], peaks.start[placed], peaks.end[placed]),
        Intervals(chrom[there], bed.start[there], bed.end[there]),
    )
    covered = np.zeros(codes.size, np.int64)
    covered[placed] = inside
    return np.where(covered >= config.blacklist_share * (peaks.end - peaks.start), covered, 0)


def _counts(label: str, given: int, matches: Sequence[Match]) -> list[Count]:
    found = Counter(match.outcome for match in matches)
    return [Count(label, "matched", given - found.total()), *(Count(label, name, n) for name, n in found.items())]


def _peak_table(peaks: Peaks, order: NDArray[np.intp]) -> pa.Table:
    return pa.table(
        {
            "peak_id": pa.array(peaks.name, pa.string()).take(order),
            "chrom": pa.array(peaks.chrom, pa.string()).take(order),
            "chrom_start": peaks.start[order],
            "chrom_end": peaks.end[order],
        }
    )


def estimate_peak(plan: PlanContext, _config: PeakConfig) -> Estimated:
    """Estimate the number of peaks."""
    path = plan.path("peaks")
    if path is not None and path.suffix in {".h5ad", ".h5mu"}:
        return {"peak": len(feature_names(path, "atac"))}
    return {"peak": plan.count("peaks", lambda lines: sum(not line.startswith("#") for line in lines))}
