"""Peaks: from the names the data give them, or from BED, to table ``peak``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from heteromics.errors import DataError, DuplicateNames, UnreadableFile, some
from heteromics.priors._files import feature_names, text_lines
from heteromics.priors.assembly import Style, check_ends, check_names, to_style
from heteromics.priors.tables import Built, Count, Match

if TYPE_CHECKING:
    from heteromics.priors.planning import Estimated, PlanContext
    from heteromics.priors.tables import BuildContext

Ints = NDArray[np.int64]

_NAME = r"^(?P<chrom>\S+)[:_-](?P<start>\d{1,12})[_-](?P<end>\d{1,12})$"
_FORMS = "chr1:100-200, chr1-100-200 or chr1_100_200"


@dataclass(frozen=True, slots=True)
class PeakConfig:
    """Recipe keys of ``nodes.peak``."""

    on_unmatched: Literal["error", "report"] = "error"
    """What to do with a name that is no interval: stop, or name it in the match report and go on."""
    chrom_style: Style | None = None
    """Convert chromosome names to this style; left out, they are taken as they are."""

    def source_names(self) -> tuple[str, ...]:
        """Peaks are read from source ``peaks``."""
        return ("peaks",)


class Peaks(NamedTuple):
    """Intervals with their names, each field of length n: ``start`` and ``end`` int64, 0-based half-open."""

    name: list[str]
    chrom: list[str]
    start: Ints
    end: Ints


def parse_peak_names(names: Sequence[str]) -> tuple[Peaks, list[str]]:
    """Take peak names apart: ``chr1:100-200``, ``chr1-100-200``, ``chr1_100_200``, in any mixture.

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
    """Read peaks from ``.h5ad``/``.h5mu`` (atac var names; no matrix is read), BED, or a text of names, gzip or not.

    BED peaks are named ``chrom:start-end``. Returns as :func:`parse_peak_names`.

    Raises
    ------
    UnreadableFile
        For a file without peaks, a BED line without whole-number bounds (named), a truncated gzip.
    MissingModality
        For a file without an ATAC modality.
    """
    if path.suffix in {".h5ad", ".h5mu"}:
        names = feature_names(path, "atac")
    else:
        names = [_bed_name(path, number, line) for number, line in text_lines(path) if _is_row(line)]
    if not names:
        raise UnreadableFile(f"{path}: no peak in it. Expected BED lines or names such as {_FORMS}.")
    return parse_peak_names(names)


def _is_row(line: str) -> bool:
    return bool(line.strip()) and not line.startswith(("#", "track", "browser"))


def _bed_name(path: Path, number: int, line: str) -> str:
    fields = line.split("\t") if "\t" in line else line.split()
    if len(fields) == 1:
        return fields[0]
    if len(fields) < 3 or not (fields[1].isdecimal() and fields[2].isdecimal()):
        raise UnreadableFile(
            f"{path}, line {number}: found {line[:80]!r}, expected chromosome, start and end (BED), or a peak name."
        )
    return f"{fields[0]}:{fields[1]}-{fields[2]}"


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


def build_peaks(context: BuildContext, config: PeakConfig) -> Built:
    """Build table ``peak``, ordered by chromosome code, start and end.

    Peaks on chromosomes that the assembly does not have are left out and named in the match report.

    Raises
    ------
    DataError
        For names that are no interval, unless the recipe says ``on_unmatched: report``, and for peaks without a base.
    DuplicateNames, ChromNamesDisagree, BeyondChromosome
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
    if config.chrom_style:
        peaks = peaks._replace(chrom=_converted(peaks.chrom, config.chrom_style, context))
    check_peaks(peaks, what)
    check_names(
        what, set(peaks.chrom), f"assembly {context.assembly}", set(context.chromosomes), key="nodes.peak.chrom_style"
    )
    check_ends(what, context.assembly, peaks.name, peaks.chrom, peaks.end, context.chromosomes)
    code = {name: number for number, name in enumerate(context.chromosomes)}
    codes = np.array([code.get(name, -1) for name in peaks.chrom], dtype=np.int64)  # (P,)
    order = np.lexsort((peaks.end, peaks.start, codes))
    order = order[codes[order] >= 0]
    matches = [Match(source.label, name, "unparsable", f"expected {_FORMS}") for name in unparsable]
    matches += [
        Match(source.label, peaks.name[row], "wrong_assembly", f"{context.assembly} has no {peaks.chrom[row]}")
        for row in np.flatnonzero(codes < 0)
    ]
    table = pa.table(
        {
            "peak_id": pa.array(peaks.name, pa.string()).take(order),
            "chrom": pa.array(peaks.chrom, pa.string()).take(order),
            "chrom_start": peaks.start[order],
            "chrom_end": peaks.end[order],
        }
    )
    counts = [Count(source.label, "matched", order.size), Count(source.label, "unparsable", len(unparsable))]
    counts.append(Count(source.label, "wrong_assembly", int((codes < 0).sum())))
    return Built({"peak": table}, {"peak": [source]}, {"peak": matches}, {"peak": counts})


def _converted(chrom: Sequence[str], style: Style, context: BuildContext) -> list[str]:
    names = sorted(set(chrom))
    renamed = dict(zip(names, to_style(names, style, known=context.chromosomes), strict=True))
    return [renamed[name] for name in chrom]


def estimate_peak(plan: PlanContext, _config: PeakConfig) -> Estimated:
    """Estimate the number of peaks."""
    path = plan.path("peaks")
    if path is not None and path.suffix in {".h5ad", ".h5mu"}:
        return {"peak": len(feature_names(path, "atac"))}
    return {"peak": plan.count("peaks", lambda lines: sum(not line.startswith("#") for line in lines))}
