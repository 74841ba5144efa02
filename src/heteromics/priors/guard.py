"""The guard before any edge is made: are sizes, FASTA, genes and peaks of one assembly? Table ``assembly_check``.

Open chromatin is most common right at transcription starts. Peaks of the same assembly as the genes therefore touch
far more starts than the same peaks beside genes that were moved a little along the chromosome; peaks of another
assembly, whose coordinates are off by thousands of bp, touch as many either way. Moving by 10 to 500 kb keeps
gene-rich and gene-poor stretches as they are, which moving to just anywhere would not: against that, peaks of a wrong
assembly look enriched up to 1.7 times, since both genes and peaks gather in the same parts of chromosomes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from heteromics.errors import WrongAssembly, some
from heteromics.priors._accessions import agreeing, known_assembly
from heteromics.priors.assembly import read_sizes, recognised, to_style
from heteromics.priors.intervals import union
from heteromics.priors.links import Intervals, intervals_of
from heteromics.priors.tables import Built

if TYPE_CHECKING:
    from heteromics.priors.planning import Estimated, PlanContext
    from heteromics.priors.tables import BuildContext

Ints = npt.NDArray[np.int64]

SHIFTS_BP = (10_000, 15_000, 20_000, 30_000, 50_000, 70_000, 100_000, 150_000, 200_000, 300_000, 500_000)
"""How far starts are moved, to either side: beyond the reach of one promoter, within one gene-rich stretch."""
LEAST_CHROMOSOME_BP = 4 * SHIFTS_BP[-1]
LEAST_HITS = 50
"""Peaks at starts, or for doubt at moved starts, below which the check says nothing: ratios are off by 15 % or more."""
MOST_COVERED = 0.25
"""Share of moved starts inside peaks above which the check says nothing: tiles and bins cover all starts alike."""
MANY_GENES = 1_000
"""Genes from which on a chromosome should have some near its end; human Y, whose last 30 Mb have none, has some 600."""
LEAST_REACH = 0.9
"""Share of a chromosome up to its last gene; 0.99 and more on all those of man and mouse with so many genes."""


class AtStarts(NamedTuple):
    """Peaks at transcription starts.

    ``peaks``: number of peaks looked at; ``found``: those that touch the window around a start; ``moved``: the same
    for starts moved along the chromosome, float64, shape (S,) for S moves; ``covered``: share of moved starts that lie
    inside a peak.
    """

    peaks: int
    found: int
    moved: npt.NDArray[np.float64]
    covered: float

    @property
    def ratio(self) -> float:
        """How many times more peaks lie at starts than at moved starts."""
        return self.found / max(float(self.moved.mean()), 1.0)

    @property
    def z(self) -> float:
        """The excess over moved starts in their standard deviations."""
        return (self.found - float(self.moved.mean())) / max(float(self.moved.std(ddof=1)), 1.0)


class Verdict(NamedTuple):
    """One row of table ``assembly_check``."""

    check_name: str
    found: float
    expected: float
    verdict: str
    detail: str


@dataclass(frozen=True, slots=True)
class AssemblyCheckConfig:
    """Recipe keys of ``nodes.assembly_check``.

    Attributes
    ----------
    on_suspect
        Stop the build when a check speaks against one assembly, or note it in table ``assembly_check`` and go on.
        Genes that end early, as where an annotation was cut short, are only ever noted.
    window_bp
        A peak is at a transcription start when it has a base within this many bp of it.
    least_ratio
        Peaks at starts over peaks at moved starts, below which the assemblies are suspect. In five real pairs of
        peaks and genes matching assemblies reach 2.4 (PBMC, 108,377 peaks) to 13 (H1 cells), peaks of another species
        or with coordinates off by 2 kb to Mb 0.9 to 1.3. A ratio as far below 1 is no sign of a wrong assembly but of
        promoters that were left out, and tells nothing.
    """

    on_suspect: Literal["error", "report"] = "error"
    window_bp: int = 500
    least_ratio: float = 1.5

    def __post_init__(self) -> None:
        if self.window_bp < 0 or not self.least_ratio > 1:
            raise ValueError(
                f"found window_bp {self.window_bp} and least_ratio {self.least_ratio}, expected 0 or more and above 1."
            )

    def source_names(self) -> tuple[str, ...]:
        """Genes and peaks come from their tables; the index of source ``fasta`` is looked at where there is one."""
        return ()


def peaks_at_starts(peaks: Intervals, chrom: Ints, tss: Ints, sizes: Ints, *, window_bp: int) -> AtStarts:
    """Count the peaks at transcription starts, and at the same starts moved in a circle along their chromosomes.

    Parameters
    ----------
    peaks
        Peaks, 0-based half-open, chromosomes by code, any order.
    chrom, tss
        Chromosome code and place of the transcription starts, 0-based, shape (G,), int64.
    sizes
        Length of each chromosome in bp, shape (C,), int64. Chromosomes shorter than 2 Mb, and those without a start,
        are left out.
    window_bp
        Reach around a start in bp, on either side.

    Notes
    -----
    Moves of fixed lengths on both sides (``SHIFTS_BP``) instead of random ones make the outcome the same each time.
    O(S (P + G) log (P + G)) for S moves.

    Examples
    --------
    >>> import numpy as np
    >>> starts = np.arange(600_000, 3_000_000, 40_000)
    >>> zero = np.zeros(starts.size, np.int64)
    >>> peaks = Intervals(zero, starts - 100, starts + 100)
    >>> there = peaks_at_starts(peaks, zero, starts, np.array([4_000_000]), window_bp=500)
    >>> there.found, there.peaks, int(there.moved.max())
    (60, 60, 55)
    """
    usable = (np.bincount(chrom, minlength=sizes.size) > 0) & (sizes >= LEAST_CHROMOSOME_BP)
    mine, theirs = usable[peaks.chrom], usable[chrom]
    peaks = Intervals(*(field[mine] for field in peaks))
    chrom, tss = chrom[theirs], tss[theirs]
    moves = np.array([sign * bp for bp in SHIFTS_BP for sign in (1, -1)], np.int64)
    if not peaks.start.size:
        return AtStarts(0, 0, np.zeros(moves.size), 0.0)

    room = sizes + 2 * window_bp + 1
    offset = np.cumsum(room) - room  # chromosomes one after the other, further apart than the windows reach
    start, end = peaks.start + offset[peaks.chrom], peaks.end + offset[peaks.chrom]
    merged = union(peaks)
    merged_start, merged_end = merged.start + offset[merged.chrom], merged.end + offset[merged.chrom]

    def starts_moved(bp: int) -> Ints:
        return np.sort((tss + bp) % sizes[chrom] + offset[chrom])

    def touched(place: Ints) -> int:
        return int((np.searchsorted(place, end + window_bp) > np.searchsorted(place, start - window_bp)).sum())

    def inside(place: Ints) -> int:
        begun = np.searchsorted(merged_start, place, side="right")
        return int((begun > np.searchsorted(merged_end, place, side="right")).sum())

    counts = np.array([(touched(place), inside(place)) for place in map(starts_moved, moves.tolist())], np.float64)
    covered = float(counts[:, 1].mean()) / tss.size
    return AtStarts(peaks.start.size, touched(starts_moved(0)), counts[:, 0], covered)


def judge_starts(at: AtStarts, config: AssemblyCheckConfig) -> Verdict:
    """Say whether peaks and genes are of one assembly, from how peaks lie at transcription starts.

    Examples
    --------
    >>> at = AtStarts(20_000, 3_000, np.full(22, 900.0), covered=0.04)
    >>> judge_starts(at, AssemblyCheckConfig()).verdict
    'fits'
    >>> judge_starts(at._replace(found=950), AssemblyCheckConfig()).verdict
    'suspect'
    """
    expected = float(at.moved.mean())
    detail = (
        f"{at.found:,} of {at.peaks:,} peaks lie within {config.window_bp} bp of a transcription start, and "
        f"{expected:,.0f} would once starts are moved by 10 to 500 kb: {at.ratio:.2f} times as many, z {at.z:.1f}"
    )
    verdict = "not enough data"
    if at.covered > MOST_COVERED:
        detail = f"peaks cover {at.covered:.0%} of the surroundings of genes, like tiles, so that moving says nothing"
    elif at.ratio >= config.least_ratio and at.found >= LEAST_HITS:
        verdict = "fits"
    elif 1 / config.least_ratio < at.ratio < config.least_ratio and expected >= LEAST_HITS:
        verdict = "suspect"
    total = max(at.peaks, 1)
    return Verdict("peaks at transcription starts", at.found / total, expected / total, verdict, detail)


def judge_sizes(assembly: str, sizes: Mapping[str, int]) -> Verdict:
    """Hold the lengths of chromosomes against the assembly that the recipe names.

    Examples
    --------
    >>> judge_sizes("hg38", {"chr1": 249_250_621, "chrX": 155_270_560}).verdict
    'suspect'
    """
    check, named, found = "lengths of chromosomes", known_assembly(assembly), recognised(sizes)
    share = agreeing(dict(zip(to_style(sizes, "ensembl"), sizes.values(), strict=True)), named) if named else np.nan
    if named and found:
        verdict = "fits" if named == found else "suspect"
        return Verdict(check, share, 1.0, verdict, f"the recipe names {assembly}, the lengths are those of {found}")
    unknown = f"lengths of {assembly} are not known" if not named else f"lengths are not those of {assembly} or another"
    return Verdict(check, share, 1.0, "not enough data", f"{unknown} that is known" if named else unknown)


def judge_fasta(fasta: Mapping[str, int], sizes: Mapping[str, int]) -> Verdict:
    """Hold the lengths in a FASTA index against those of the assembly, by chromosomes both have, in whatever style.

    Examples
    --------
    >>> judge_fasta({"1": 900, "2": 50}, {"chr1": 800, "chr2": 50}).detail
    '1 of 2 sequences are longer than their chromosomes: 1'
    """
    check = "lengths of FASTA sequences"
    expected = dict(zip(to_style(sizes, "ensembl"), sizes.values(), strict=True))
    plain = dict(zip(fasta, to_style(fasta, "ensembl"), strict=True))
    shared = [name for name, other in plain.items() if other in expected]
    if not shared:
        return Verdict(check, np.nan, 1.0, "not enough data", "no sequence has the name of a chromosome")
    equal = sum(fasta[name] == expected[plain[name]] for name in shared) / len(shared)
    longer = [name for name in shared if fasta[name] > expected[plain[name]]]
    if longer:
        said = f"{len(longer)} of {len(shared)} sequences are longer than their chromosomes: {', '.join(longer[:3])}"
        return Verdict(check, equal, 1.0, "suspect", said)
    return Verdict(check, equal, 1.0, "fits", f"none of {len(shared)} sequences is longer than its chromosome")


def judge_reach(sizes: Mapping[str, int], chrom: Ints, tss: Ints) -> Verdict:
    """Say whether genes reach the ends of their chromosomes, which they do not in an annotation that was cut short.

    Parameters
    ----------
    sizes
        Length of each chromosome in bp, in the order of their codes.
    chrom, tss
        Chromosome code and place of the transcription starts, shape (G,), int64. Chromosomes with fewer than
        ``MANY_GENES`` are left out.

    Examples
    --------
    >>> import numpy as np
    >>> starts = np.arange(0, 115_000_000, 50_000)
    >>> judge_reach({"chr1": 248_956_422}, np.zeros(starts.size, np.int64), starts).detail
    'on 1 of 1 chromosomes with many genes the last lies far from the end: chr1 (at 46%)'
    """
    check, names = "reach of genes", list(sizes)
    last = np.zeros(len(names), np.int64)
    np.maximum.at(last, chrom, tss + 1)
    many = np.flatnonzero(np.bincount(chrom, minlength=len(names)) >= MANY_GENES).tolist()
    if not many:
        return Verdict(check, np.nan, LEAST_REACH, "not enough data", f"no chromosome has {MANY_GENES:,} genes")
    share = {names[row]: float(last[row]) / sizes[names[row]] for row in many}
    short = [f"{name} (at {reached:.0%})" for name, reached in share.items() if reached < LEAST_REACH]
    if not short:
        said = f"genes reach the ends of all {len(many)} chromosomes with many"
        return Verdict(check, min(share.values()), LEAST_REACH, "fits", said)
    said = f"on {len(short)} of {len(many)} chromosomes with many genes the last lies far from the end: {some(short)}"
    return Verdict(check, min(share.values()), LEAST_REACH, "suspect", said)


def build_assembly_check(context: BuildContext, config: AssemblyCheckConfig) -> Built:
    """Build table ``assembly_check``: one row per check, with what was found, what was expected, and the verdict.

    Raises
    ------
    WrongAssembly
        When a verdict on the assembly is ``suspect``, unless the recipe says ``on_suspect: report``.
    """
    verdicts = [judge_sizes(context.assembly, context.chromosomes)]
    if context.has_source("fasta"):
        index = Path(f"{context.source('fasta').path}.fai")
        if index.is_file():
            verdicts.append(judge_fasta(read_sizes(index), context.chromosomes))
    genes = context.query("SELECT code, tss FROM gene JOIN chromosome USING (chrom) ORDER BY code, tss")
    peaks = context.query("SELECT code, chrom_start, chrom_end FROM peak JOIN chromosome USING (chrom)")
    context.progress("peaks at transcription starts")
    chrom, tss = genes["code"].to_numpy().astype(np.int64), genes["tss"].to_numpy()
    at = peaks_at_starts(
        intervals_of(peaks),
        chrom,
        tss,
        np.array(list(context.chromosomes.values()), np.int64),
        window_bp=config.window_bp,
    )
    verdicts.append(judge_starts(at, config))
    suspect = [one for one in verdicts if one.verdict == "suspect"]
    if suspect and config.on_suspect == "error":
        said = "\n".join(f"  {one.check_name}: {one.detail}." for one in suspect)
        raise WrongAssembly(
            f"the sources look to be of different assemblies; the recipe names {context.assembly}.\n{said}\n"
            "  Fix: give files of one assembly, or lift the peaks over to it. If they are right, set "
            "`nodes.assembly_check.on_suspect: report`."
        )
    verdicts.append(judge_reach(context.chromosomes, chrom, tss))
    columns = (pa.array(values, from_pandas=True) for values in zip(*verdicts, strict=True))
    return Built({"assembly_check": pa.table(dict(zip(Verdict._fields, columns, strict=True)))})


def estimate_assembly_check(_plan: PlanContext, _config: AssemblyCheckConfig) -> Estimated:
    """Estimate the number of checks."""
    return {"assembly_check": 3}
