"""Where genes and peaks of a table of links lie in a prior store, and what regions of others have to say about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from heteromics.errors import DataError, DuplicateNames, some
from heteromics.priors._bed import read_bed
from heteromics.priors.assembly import check_ends, check_names, to_style
from heteromics.priors.identifiers import store_names
from heteromics.priors.intervals import bases_covered, overlaps
from heteromics.priors.links import Intervals, gaps
from heteromics.priors.peak_names import store_peaks

if TYPE_CHECKING:
    from pandas import DataFrame, Series

    from heteromics.priors import PriorStore
    from heteromics.priors.assembly import Style

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PeakPlaces:
    """Places of n peaks: ``row`` in the store, -1 where it has none; ``code`` of the chromosome, -1 without a place."""

    row: Ints
    code: Ints
    start: Ints
    end: Ints
    match: dict[str, Any]

    @property
    def placed(self) -> Bools:
        return self.code >= 0

    def take(self, rows: Ints) -> PeakPlaces:
        return PeakPlaces(self.row[rows], self.code[rows], self.start[rows], self.end[rows], self.match)

    def intervals(self, which: Bools) -> Intervals:
        return Intervals(self.code[which], self.start[which], self.end[which])


@dataclass(frozen=True, slots=True)
class GenePlaces:
    """Places of n genes: ``row`` in the store, -1 where it has none; ``code`` and ``tss`` of those that have one."""

    row: Ints
    code: Ints
    tss: Ints
    match: dict[str, Any]

    def take(self, rows: Ints) -> GenePlaces:
        return GenePlaces(self.row[rows], self.code[rows], self.tss[rows], self.match)


@dataclass(frozen=True, slots=True)
class Regions:
    """A named set of regions on numbered chromosomes; ``score`` NaN where the file gives none."""

    name: str
    where: Intervals
    score: Floats
    match: dict[str, Any]


def place_peaks(names: Sequence[str], store: PriorStore) -> PeakPlaces:
    """Find peaks in the store by name, then by interval; others are placed by what their name says, with ``row`` -1.

    Raises
    ------
    DataError
        When no peak has a place.
    """
    found = store_peaks(store, names)
    code = np.asarray(found.places["chrom"].map(_codes(store)).fillna(-1), dtype=np.int64)
    start, end = (found.places[bound].to_numpy(np.int64, na_value=-1) for bound in ("chrom_start", "chrom_end"))
    known = [found.by_name, found.row >= 0, code >= 0]
    outcome = np.select(known, ["matched", "same_place", "by_name"], "absent")
    return PeakPlaces(found.row, code, start, end, _match(names, code >= 0, outcome, "peaks", store))


def place_genes(names: Sequence[str], store: PriorStore) -> GenePlaces:
    """Find genes in the store by identifier, symbol or alias.

    Raises
    ------
    DataError
        When no gene is in the store.
    """
    found, table = store_names(store, list(names)), store.frame("gene")
    code = np.where(found.row >= 0, table["chrom"].map(_codes(store)).to_numpy(np.int64)[found.row], -1)
    tss = np.where(found.row >= 0, table["tss"].to_numpy(np.int64)[found.row], -1)
    match = _match(np.asarray(names, object), found.row >= 0, np.array(found.outcome, object), "genes", store)
    return GenePlaces(found.row, code, tss, match)


def distances(peaks: PeakPlaces, genes: GenePlaces) -> Series:
    """Return the bp from each gene's transcription start to the nearest base of its peak, as table ``gene_peak``.

    0 when inside; missing where either has no place or they lie on two chromosomes. Peaks and genes pair by pair.
    """
    import pandas as pd

    left, right = gaps(peaks.start, peaks.end, genes.tss, genes.tss + 1)
    known = (genes.code >= 0) & (peaks.code == genes.code)
    return pd.Series(np.maximum(left, right), dtype="Int64").where(known)


def read_regions(name: str, path: str | Path, store: PriorStore) -> Regions:
    """Read a BED file onto the chromosomes of a store, in the style of its names; others are left out and counted.

    Raises
    ------
    UnreadableFile, DataError, ChromNamesDisagree, BeyondChromosome, WrongAssembly
        When it is no BED, or not of the store's assembly.
    """
    what, table = f"regions of {Path(path).name}", store.frame("chromosome")
    bed = read_bed(Path(path), what)
    sizes = dict(zip(table["chrom"], table["size"].astype(int), strict=True))
    given = sorted(set(bed.chrom))
    styled = to_style(given, cast("Style", store.info["chrom_style"]), known=sizes)
    style = dict(zip(given, styled, strict=True))
    chrom = [style[one] for one in bed.chrom]
    check_names(what, set(chrom), f"store {store.path}", sizes)
    check_ends(what, store.info["assembly"], bed.places(), chrom, bed.end, sizes)
    code_of = _codes(store)
    code = np.array([code_of.get(one, -1) for one in chrom], np.int64)
    there = code >= 0
    lost = sorted(set(np.asarray(chrom, object)[~there]))
    match = {"matched": int(there.sum()), "absent": int((~there).sum()), "chromosomes_absent": lost}
    where = Intervals(code[there], bed.start[there], bed.end[there])
    return Regions(name, where, bed.score[there], match)


def stored_regions(store: PriorStore, names: Sequence[str] | None) -> list[Regions]:
    """Return the named sets of the store's table ``region``, all when ``names`` is None.

    Raises
    ------
    DataError
        For a set the store does not have.
    """
    if "region" not in store.tables():
        if names:
            raise DataError(f"{store.path} has no table region, found regions={list(names)}. Fix: nodes.region.")
        return []
    table = store.frame("region")
    sets = table["region_set"].unique().tolist()
    if unknown := [name for name in names or () if name not in sets]:
        raise DataError(
            f"regions: {len(unknown)} of {len(names or ())} sets are not in the store: {some(unknown)}.\n"
            f"  It has: {', '.join(sets)}."
        )
    code = table["chrom"].map(_codes(store)).to_numpy(np.int64)
    start, end = (table[bound].to_numpy(np.int64) for bound in ("chrom_start", "chrom_end"))
    score = table["score"].to_numpy(np.float64, na_value=np.nan)
    found = []
    for name in sets if names is None else names:
        mine = (table["region_set"] == name).to_numpy()
        where = Intervals(code[mine], start[mine], end[mine])
        found.append(Regions(name, where, score[mine], {"matched": int(mine.sum())}))
    return found


def in_regions(peaks: PeakPlaces, regions: Regions) -> tuple[Bools, Bools, Floats]:
    """Tell which peaks share a base with a region of a set.

    Returns
    -------
    inside, known, score
        Shape (n,) each. ``known`` is false for peaks without a place, and on chromosomes of which the set has no region
        at all: it may not cover them. ``score`` is that of the strongest region a peak overlaps, 0 without one, NaN
        where not known or the regions it overlaps have no score.
    """
    known = peaks.placed & np.isin(peaks.code, regions.where.chrom)
    inside = np.zeros(known.size, bool)
    inside[known] = bases_covered(peaks.intervals(known), regions.where) > 0
    score = np.where(known, np.where(inside, -np.inf, 0.0), np.nan)
    pairs = overlaps(peaks.intervals(known), regions.where)
    np.fmax.at(score, np.flatnonzero(known)[pairs.left], regions.score[pairs.right])
    return inside, known, np.where(np.isneginf(score), np.nan, score)


def keys_of(table: DataFrame) -> list[str]:
    """Return the columns that name a row: gene, peak and group, those the table has."""
    return [name for name in ("gene", "peak", "group") if name in table]


def aligned(links: DataFrame, evidence: DataFrame) -> DataFrame:
    """Return the evidence of each link, in the order of the links.

    Raises
    ------
    DataError
        When links have no evidence or tables have other keys.
    DuplicateNames
        When a row stands twice in either.
    """
    import pandas as pd

    keys = keys_of(links)
    if keys != keys_of(evidence) or "peak" not in keys:
        raise DataError(
            f"found links by {keys} and evidence by {keys_of(evidence)}, expected the same columns. "
            "Fix: evidence = evidence_for(links, store), or by_peak of both."
        )
    index = []
    for table, what in ((links, "links"), (evidence, "evidence")):
        index.append(pd.MultiIndex.from_frame(table[keys].astype(str)))
        if not index[-1].is_unique:
            twice = index[-1][index[-1].duplicated()]
            raise DuplicateNames(
                f"{what}: {len(twice)} of {len(table)} rows repeat {', '.join(keys)}: "
                f"{some(' '.join(row) for row in twice)}. Fix: aggregate them."
            )
    place = index[1].get_indexer(index[0])
    if lost := int((place < 0).sum()):
        raise DataError(
            f"evidence: {lost} of {len(links)} links have none: "
            f"{some(' '.join(row) for row in index[0][place < 0])}. Fix: evidence_for of these links."
        )
    return evidence.iloc[place].reset_index(drop=True)


def _codes(store: PriorStore) -> dict[str, int]:
    table = store.frame("chromosome")
    return dict(zip(table["chrom"], table["code"].astype(int), strict=True))


def _match(names: Any, there: Bools, outcome: NDArray[Any], what: str, store: PriorStore) -> dict[str, Any]:
    if len(names) and not there.any():
        raise DataError(
            f"{what}: none of {len(names)} has a place in {store.path}: {some(names)}. "
            "Fix: the store of the right assembly, built for these data."
        )
    counts = dict(sorted(Counter(outcome.tolist()).items()))
    return {**counts, "unplaced": sorted(str(name) for name in np.asarray(names, object)[~there])}
