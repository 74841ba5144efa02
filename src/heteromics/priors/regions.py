"""Named sets of regions others have described, and the peaks they overlap: tables ``region`` and ``peak_region``."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from heteromics.priors._bed import lay_out, read_bed
from heteromics.priors._ends import members_of
from heteromics.priors.assembly import Style
from heteromics.priors.intervals import overlaps
from heteromics.priors.links import intervals_of
from heteromics.priors.tables import Built, Count, Match, Source

if TYPE_CHECKING:
    from heteromics.priors.planning import Estimated, PlanContext
    from heteromics.priors.tables import BuildContext

FAMILY = "regions_*"
CLUSTERING = 9
"""Overlaps of peaks and regions over those of intervals scattered evenly: 9 for PBMC peaks with cCREs and ChIP sets."""
WIDTHS_BP = 1_200
"""Width of a typical peak and of a typical region together."""


@dataclass(frozen=True, slots=True)
class RegionConfig:
    """Recipe keys of ``nodes.region``."""

    chrom_style: Style | None = None
    """Convert chromosome names of all sets to this style; left out, they are taken as they are."""

    def source_names(self) -> tuple[str, ...]:
        """At least one source ``regions_NAME`` is needed, under any name; the builder says so if there is none."""
        return ()


@dataclass(frozen=True, slots=True)
class PeakRegionConfig:
    """Recipe keys of ``edges.peak_region``."""

    min_overlap_bp: int = 1
    """Least number of bases that a peak and a region must share."""

    def __post_init__(self) -> None:
        if self.min_overlap_bp < 1:
            raise ValueError(f"min_overlap_bp: found {self.min_overlap_bp}, expected 1 or more.")

    def source_names(self) -> tuple[str, ...]:
        """Peaks and regions come from their tables; no file is read."""
        return ()


def build_regions(context: BuildContext, config: RegionConfig) -> Built:
    """Build table ``region`` from all sources ``regions_NAME``: by set, chromosome code, start and end.

    An interval listed twice in a set stands once; those on chromosomes that the assembly does not have are left out.
    Both are named in the match report. Two sets may hold the same interval.

    Raises
    ------
    RecipeError
        When no source ``regions_NAME`` is given.
    UnreadableFile, DataError, ChromNamesDisagree, BeyondChromosome, WrongAssembly
        As the BED reader and the assembly guard say.
    """
    sets = members_of(context, FAMILY, "nodes.region")
    parts: list[pa.Table] = []
    matches: list[Match] = []
    counts: list[Count] = []
    for name, source in sets.items():
        context.progress(f"reading regions of {name}")
        part, named, listed = _read_set(name, source, context, config)
        found = Counter(match.outcome for match in named)
        parts.append(part)
        matches += named
        counts.append(Count(source.label, "matched", listed - found.total()))
        counts += [Count(source.label, outcome, n) for outcome, n in found.items()]
    return Built(
        {"region": pa.concat_tables(parts)}, {"region": list(sets.values())}, {"region": matches}, {"region": counts}
    )


def _read_set(
    name: str, source: Source, context: BuildContext, config: RegionConfig
) -> tuple[pa.Table, list[Match], int]:
    """Return the regions of one set, those left out, and how many it lists."""
    what = f"regions of {source.path.name}"
    bed = read_bed(source.path, what)
    places = bed.places()
    chrom, code = lay_out(
        what, places, bed.chrom, bed.end, context, style=config.chrom_style, key="nodes.region.chrom_style"
    )
    order = np.lexsort((np.arange(code.size), bed.end, bed.start, code))  # stable: the first listed stands
    same = np.ones(code.size, bool)
    same[:1] = False
    for field in (code, bed.start, bed.end):
        same[1:] &= field[order][1:] == field[order][:-1]
    here = code[order] >= 0
    matches = [
        Match(source.label, places[row], "wrong_assembly", f"{context.assembly} has no {chrom[row]}")
        for row in order[~here]
    ]
    matches += [Match(source.label, places[row], "duplicated", "the first stands") for row in order[same & here]]
    kept = order[here & ~same]
    bounds = zip(kept.tolist(), bed.start[kept].tolist(), bed.end[kept].tolist(), strict=True)
    score = bed.score[kept]
    table = pa.table(
        {
            "region_id": [f"{name}:{chrom[row]}:{start}-{end}" for row, start, end in bounds],
            "region_set": pa.repeat(pa.scalar(name), kept.size),
            "name": pa.array(bed.name, pa.string()).take(kept),
            "chrom": pa.array(chrom, pa.string()).take(kept),
            "chrom_start": bed.start[kept],
            "chrom_end": bed.end[kept],
            "score": pa.array(score, mask=np.isnan(score)),
        }
    )
    return table, matches, code.size


def build_peak_region(context: BuildContext, config: PeakRegionConfig) -> Built:
    """Build table ``peak_region``: peaks and regions that share enough bases, by peak, then by region."""
    peaks = context.query(
        "SELECT peak_id, code, chrom_start, chrom_end FROM peak JOIN chromosome USING (chrom) "
        "ORDER BY code, chrom_start, chrom_end, peak_id"
    )
    regions = context.query(
        "SELECT region_id, region_set, code, chrom_start, chrom_end FROM region JOIN chromosome USING (chrom) "
        "ORDER BY code, chrom_start, chrom_end, region_id"
    )
    pairs = overlaps(intervals_of(peaks), intervals_of(regions))
    enough = pairs.bases >= config.min_overlap_bp
    left, right, bases = pairs.left[enough], pairs.right[enough], pairs.bases[enough]
    sets = regions["region_set"].combine_chunks().dictionary_encode()
    said = [f"at least {config.min_overlap_bp} bp shared with a region of set {name}" for name in sets.dictionary]
    evidence = pa.DictionaryArray.from_arrays(sets.indices.take(pa.array(right)), pa.array(said, pa.string()))
    table = pa.table(
        {
            "peak_id": peaks["peak_id"].take(pa.array(left)),
            "region_id": regions["region_id"].take(pa.array(right)),
            "overlap": bases,
            "evidence": evidence.cast(pa.string()),
        }
    )
    met = np.bincount(left, minlength=peaks.num_rows) > 0
    counts = [Count("peak", "matched", int(met.sum())), Count("peak", "out_of_reach", int((~met).sum()))]
    code, reached = sets.indices.to_numpy(), np.bincount(right, minlength=regions.num_rows) > 0
    for number, name in enumerate(sets.dictionary.to_pylist()):
        of_set = code == number
        counts.append(Count(f"region {name}", "matched", int((of_set & reached).sum())))
        counts.append(Count(f"region {name}", "out_of_reach", int((of_set & ~reached).sum())))
    return Built({"peak_region": table}, counts={"peak_region": counts})


def estimate_region(plan: PlanContext, _config: RegionConfig) -> Estimated:
    """Estimate the number of regions of all sets."""
    counts = [plan.count(name, len) for name in plan.family(FAMILY)]
    known = [count for count in counts if count is not None]
    return {"region": sum(known) if len(known) == len(counts) else None}


def estimate_peak_region(plan: PlanContext, _config: PeakRegionConfig) -> Estimated:
    """Estimate the number of overlaps."""
    peaks, regions = plan.rows["peak"], plan.rows["region"]
    if peaks is None or regions is None or plan.genome is None:
        return {"peak_region": None}
    return {"peak_region": round(min(peaks * regions * WIDTHS_BP / plan.genome * CLUSTERING, 2 * regions))}
