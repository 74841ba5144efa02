"""Intervals of others: read from BED, and laid on the chromosomes of the store behind the assembly guard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from heteromics.errors import DataError, UnreadableFile, some
from heteromics.priors._files import text_lines
from heteromics.priors.assembly import Style, check_ends, check_names, to_style

if TYPE_CHECKING:
    from heteromics.priors.tables import BuildContext

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Bed:
    """Rows of a BED file in file order: ``start`` and ``end`` 0-based half-open int64, ``score`` NaN where none."""

    chrom: list[str]
    start: Ints
    end: Ints
    name: list[str]
    score: npt.NDArray[np.float64]

    def places(self) -> list[str]:
        """Return each interval as ``chrom:start-end``."""
        bounds = zip(self.chrom, self.start.tolist(), self.end.tolist(), strict=True)
        return [f"{chrom}:{start}-{end}" for chrom, start, end in bounds]


def is_row(line: str) -> bool:
    """Tell the rows of a BED file from its blank, comment, ``track`` and ``browser`` lines."""
    return bool(line.strip()) and not line.startswith(("#", "track", "browser"))


def bed_fields(path: Path, number: int, line: str) -> list[str]:
    """Take one row apart, at tabs or, where it has none, at blanks.

    Raises
    ------
    UnreadableFile
        For a row without chromosome and whole-number bounds, naming the line.
    """
    fields = line.split("\t") if "\t" in line else line.split()
    if len(fields) < 3 or not (fields[1].isdecimal() and fields[2].isdecimal()):
        raise UnreadableFile(
            f"{path}, line {number}: found {line[:80]!r}, expected chromosome, start and end (BED), or a peak name."
        )
    return fields


def read_bed(path: Path, what: str) -> Bed:
    """Read BED3 or wider, plain or gzip: the fourth column is the name, the fifth the score where it is a number.

    Parameters
    ----------
    path
        The file.
    what
        What its intervals are, for messages.

    Raises
    ------
    UnreadableFile
        For a file without rows, a row that is no BED (named), a truncated gzip.
    DataError
        For intervals without a base: how many, which.
    """
    rows = [bed_fields(path, number, line)[:5] for number, line in text_lines(path) if is_row(line)]
    if not rows:
        raise UnreadableFile(f"{path}: no interval in it. Expected BED: chromosome, start and end by tab.")
    bed = Bed(
        [row[0] for row in rows],
        np.array([int(row[1]) for row in rows], np.int64),
        np.array([int(row[2]) for row in rows], np.int64),
        [row[3] if len(row) > 3 and row[3] != "." else "" for row in rows],
        np.array([_number(row[4]) if len(row) > 4 else np.nan for row in rows]),
    )
    empty = np.flatnonzero(bed.end <= bed.start)
    if empty.size:
        places = bed.places()
        raise DataError(
            f"{what}: {empty.size:,} of {len(rows):,} intervals hold no base: {some(places[row] for row in empty)}.\n"
            "  Expected start < end, 0-based half-open. Fix: remove them, or check the order of the columns."
        )
    return bed


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def lay_out(
    what: str,
    names: Sequence[str],
    chrom: Sequence[str],
    end: Ints,
    context: BuildContext,
    *,
    style: Style | None,
    key: str,
) -> tuple[list[str], Ints]:
    """Convert chromosome names if the recipe says so, hold them and the ends to the assembly, and number them.

    Parameters
    ----------
    what, names
        What the intervals are, and the name of each, for messages.
    chrom, end
        Chromosome and one past the last base, shape (n,).
    context
        Assembly and chromosomes of the store.
    style, key
        Style to convert to, None for none, and the recipe key that says so.

    Returns
    -------
    chrom : list of str
        Names in the style of the store.
    code : Ints
        Chromosome codes, shape (n,), -1 for chromosomes the assembly does not have.

    Raises
    ------
    ChromNamesDisagree, BeyondChromosome, WrongAssembly
        As the assembly guard says.
    """
    if style:
        given = sorted(set(chrom))
        renamed = dict(zip(given, to_style(given, style, known=context.chromosomes), strict=True))
        chrom = [renamed[name] for name in chrom]
    check_names(what, set(chrom), f"assembly {context.assembly}", context.chromosomes, key=key)
    check_ends(what, context.assembly, names, chrom, end, context.chromosomes)
    code = {name: number for number, name in enumerate(context.chromosomes)}
    return list(chrom), np.array([code.get(name, -1) for name in chrom], dtype=np.int64)
