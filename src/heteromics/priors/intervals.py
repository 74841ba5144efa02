"""Interval sets by sorted search: overlaps, bases covered, union, difference, and the nearest point.

All functions take half-open intervals on numbered chromosomes and lay the chromosomes one after the other, so that one
sorted search serves an assembly of any number of scaffolds; no array of all pairs is formed. pyranges, bioframe and
DuckDB joins were weighed: each would add a data frame or a database between arrays, for no gain in speed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from heteromics.priors.links import Intervals, shifts

Ints = npt.NDArray[np.int64]


class Overlaps(NamedTuple):
    """Overlapping pairs, each field of shape (L,), int64: rows of either side and the bases they share."""

    left: Ints
    right: Ints
    bases: Ints


class Nearest(NamedTuple):
    """The nearest point of each interval, each field of shape (n,), int64.

    ``row`` is the row of the point, -1 where the chromosome has none; ``offset`` the bp from the interval's nearest
    base to it, negative where the point lies left of the interval, 0 inside; ``ties`` how many points are that near.
    """

    row: Ints
    offset: Ints
    ties: Ints


def overlaps(left: Intervals, right: Intervals) -> Overlaps:
    """Pair the intervals that share at least one base.

    Parameters
    ----------
    left, right
        Intervals of at least one base, shapes (n,) and (m,), any order, overlapping ones allowed.

    Returns
    -------
    Overlaps
        Each pair once, ordered by row on the left, then by start on the right.

    Notes
    -----
    Of two intervals that overlap, either the right one starts inside the left one, or the left one starts behind the
    first base of the right one: two sorted searches find each pair once, whatever the widths, in O((n + m + L) log m).

    Examples
    --------
    >>> import numpy as np
    >>> one, two = np.zeros(1, np.int64), np.zeros(2, np.int64)
    >>> pairs = overlaps(
    ...     Intervals(one, np.array([10]), np.array([20])), Intervals(two, np.array([5, 20]), np.array([12, 30]))
    ... )
    >>> pairs.left.tolist(), pairs.right.tolist(), pairs.bases.tolist()
    ([0], [0], [2])
    """
    shift = shifts(left, right)
    start, end = left.start + shift[left.chrom], left.end + shift[left.chrom]
    other_start, other_end = right.start + shift[right.chrom], right.end + shift[right.chrom]
    by_start, by_other = np.argsort(start, kind="stable"), np.argsort(other_start, kind="stable")
    starts, others = start[by_start], other_start[by_other]
    holder, inside = _listed(np.searchsorted(others, starts), np.searchsorted(others, end[by_start]))
    other_holder, behind = _listed(
        np.searchsorted(starts, others, side="right"), np.searchsorted(starts, other_end[by_other])
    )
    first = by_start[np.concatenate([holder, behind])]
    second = by_other[np.concatenate([inside, other_holder])]
    order = np.lexsort((second, other_start[second], first))
    first, second = first[order], second[order]
    bases = np.minimum(end[first], other_end[second]) - np.maximum(start[first], other_start[second])
    return Overlaps(first, second, bases)


def union(intervals: Intervals) -> Intervals:
    """Merge intervals that overlap or touch; the result is ordered and its intervals lie apart.

    Examples
    --------
    >>> import numpy as np
    >>> merged = union(Intervals(np.array([0, 0, 1]), np.array([5, 1, 5]), np.array([9, 5, 6])))
    >>> merged.chrom.tolist(), merged.start.tolist(), merged.end.tolist()
    ([0, 1], [1, 5], [9, 6])
    """
    shift = shifts(intervals, intervals)
    order = np.lexsort((intervals.start, intervals.chrom))
    chrom = intervals.chrom[order]
    start, end = intervals.start[order] + shift[chrom], intervals.end[order] + shift[chrom]
    reached = np.maximum.accumulate(end)
    first = np.flatnonzero(np.r_[True, start[1:] > reached[:-1]]) if start.size else np.empty(0, np.int64)
    last = np.r_[first[1:] - 1, start.size - 1][: first.size]
    return Intervals(chrom[first], start[first] - shift[chrom[first]], reached[last] - shift[chrom[first]])


def bases_covered(intervals: Intervals, by: Intervals) -> Ints:
    """Return how many bases of each interval lie in at least one of ``by``, shape (n,), int64; O((n + m) log m).

    Examples
    --------
    >>> import numpy as np
    >>> peak = Intervals(np.zeros(1, np.int64), np.array([10]), np.array([20]))
    >>> by = Intervals(np.zeros(2, np.int64), np.array([0, 8]), np.array([12, 14]))
    >>> bases_covered(peak, by).tolist()
    [4]
    """
    shift = shifts(intervals, by)
    merged = union(by)
    start, end = merged.start + shift[merged.chrom], merged.end + shift[merged.chrom]
    before = np.r_[0, np.cumsum(end - start)]  # bases of the union before each of its intervals

    def until(place: Ints) -> Ints:
        passed = np.searchsorted(start, place, side="right")
        beyond = np.maximum(end[passed - 1] - place, 0) if end.size else np.zeros_like(place)
        return np.where(passed > 0, before[passed] - beyond, 0)

    place = shift[intervals.chrom]
    return until(intervals.end + place) - until(intervals.start + place)


def difference(intervals: Intervals, without: Intervals) -> Intervals:
    """Return the bases of ``intervals`` that lie in none of ``without``, as a union.

    Examples
    --------
    >>> import numpy as np
    >>> zero = np.zeros(1, np.int64)
    >>> left = difference(
    ...     Intervals(zero, np.array([0]), np.array([10])), Intervals(zero, np.array([3]), np.array([5]))
    ... )
    >>> left.start.tolist(), left.end.tolist()
    ([0, 5], [3, 10])
    """
    kept, cut = union(intervals), union(without)
    shift = shifts(kept, cut)
    start, end = kept.start + shift[kept.chrom], kept.end + shift[kept.chrom]
    cut_start, cut_end = cut.start + shift[cut.chrom], cut.end + shift[cut.chrom]
    edges = np.concatenate([start, end, cut_start, cut_end])
    step = np.repeat([1, -1, -2, 2], [start.size, end.size, cut_start.size, cut_end.size])
    order = np.argsort(edges, kind="stable")
    edges, depth = edges[order], np.cumsum(step[order])
    begins = np.flatnonzero((depth[:-1] == 1) & (edges[1:] > edges[:-1]))
    row = np.searchsorted(start, edges[begins], side="right") - 1
    chrom = kept.chrom[row]
    return Intervals(chrom, edges[begins] - shift[chrom], edges[begins + 1] - shift[chrom])


def nearest(intervals: Intervals, chrom: Ints, point: Ints) -> Nearest:
    """Find the point nearest to each interval on its chromosome; among points equally near, the first row is taken.

    Parameters
    ----------
    intervals
        Intervals of at least one base, shape (n,), any order.
    chrom, point
        Chromosome code and place in bp of the points, shape (m,), int64, any order, several at one place allowed.

    Examples
    --------
    >>> import numpy as np
    >>> peaks = Intervals(np.zeros(2, np.int64), np.array([10, 50]), np.array([20, 60]))
    >>> found = nearest(peaks, np.zeros(3, np.int64), np.array([25, 4, 55]))
    >>> found.row.tolist(), found.offset.tolist(), found.ties.tolist()
    ([0, 2], [6, 0], [2, 1])
    """
    none = np.full(intervals.start.size, -1, np.int64)
    if point.size == 0:
        return Nearest(none, np.zeros_like(none), np.zeros_like(none))
    shift = shifts(intervals, Intervals(chrom, point, point + 1))
    start, end = (bound + shift[intervals.chrom] for bound in (intervals.start, intervals.end))
    order = np.lexsort((np.arange(point.size), point + shift[chrom]))
    place, first, many = np.unique((point + shift[chrom])[order], return_index=True, return_counts=True)
    row, on = order[first], chrom[order[first]]  # of the first row at each place
    left, right = np.searchsorted(place, start) - 1, np.searchsorted(place, end)
    far = np.iinfo(np.int64).max // 2
    left_gap, right_gap = np.full(start.size, far), np.full(start.size, far)
    has_left, has_right = left >= 0, right < place.size
    has_left[has_left] = on[left[has_left]] == intervals.chrom[has_left]
    has_right[has_right] = on[right[has_right]] == intervals.chrom[has_right]
    left_gap[has_left] = (start - place[left])[has_left]
    right_gap[has_right] = (place[np.minimum(right, place.size - 1)] - end + 1)[has_right]
    inside = right - left > 1
    gap = np.where(inside, 0, np.minimum(left_gap, right_gap))
    by_left, by_right = ~inside & has_left & (left_gap == gap), ~inside & has_right & (right_gap == gap)
    first_left = np.where(by_left, row[left], point.size)
    first_right = np.where(by_right, row[np.minimum(right, place.size - 1)], point.size)
    chosen = np.minimum(first_left, first_right)
    ties = np.where(by_left, many[left], 0) + np.where(by_right, many[np.minimum(right, place.size - 1)], 0)
    chosen[inside], ties[inside] = _inside(row, many, left[inside] + 1, right[inside])
    offset = np.where(by_left & (chosen == first_left), -gap, gap)
    nothing = ~(inside | has_left | has_right)
    return Nearest(np.where(nothing, -1, chosen), np.where(nothing, 0, offset), ties)


def _inside(row: Ints, many: Ints, first: Ints, stop: Ints) -> tuple[Ints, Ints]:
    """Return the least row, and the number of points, of the places ``first`` to ``stop`` of each interval."""
    if first.size == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    _, listed = _listed(first, stop)
    begin = np.cumsum(stop - first) - (stop - first)
    return np.minimum.reduceat(row[listed], begin), np.add.reduceat(many[listed], begin)


def _listed(first: Ints, stop: Ints) -> tuple[Ints, Ints]:
    """Write out the places from ``first`` to ``stop`` of each row: the row and the place, one after the other."""
    length = stop - first
    row = np.repeat(np.arange(first.size), length)
    return row, np.arange(row.size) - np.repeat(np.cumsum(length) - length - first, length)
