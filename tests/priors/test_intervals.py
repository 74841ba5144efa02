"""Interval core against sets of bases, base by base."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteromics.priors.intervals import bases_covered, difference, nearest, overlaps, union
from heteromics.priors.links import Intervals

ROWS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40), st.integers(1, 15)), max_size=12)


def intervals(rows):
    """Rows of (chromosome, start, width)."""
    chrom, start, width = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return Intervals(chrom, start, start + width)


def bases(some):
    return {
        (chrom, base)
        for chrom, start, end in zip(*(field.tolist() for field in some), strict=True)
        for base in range(start, end)
    }


def each(some):
    return [bases(Intervals(*(field[row : row + 1] for field in some))) for row in range(some.start.size)]


@given(ROWS, ROWS)
def test_overlaps_are_the_pairs_that_share_bases(left, right):
    left, right = intervals(left), intervals(right)
    pairs = overlaps(left, right)
    expected = {
        (row, other, len(mine & theirs))
        for row, mine in enumerate(each(left))
        for other, theirs in enumerate(each(right))
        if mine & theirs
    }
    assert sorted(zip(*(field.tolist() for field in pairs), strict=True)) == sorted(expected)
    assert (np.diff(pairs.left) >= 0).all()


@given(ROWS)
def test_a_union_holds_the_same_bases_in_intervals_that_lie_apart(rows):
    merged = union(intervals(rows))
    assert bases(merged) == bases(intervals(rows))
    same = merged.chrom[1:] == merged.chrom[:-1]
    assert (np.diff(merged.chrom) >= 0).all()
    assert (merged.start[1:][same] > merged.end[:-1][same]).all()
    assert all(np.array_equal(*pair) for pair in zip(union(merged), merged, strict=True))


@given(ROWS, ROWS)
def test_covered_bases_are_counted_once(rows, by):
    covered = bases_covered(intervals(rows), intervals(by))
    assert covered.tolist() == [len(mine & bases(intervals(by))) for mine in each(intervals(rows))]


@given(ROWS, ROWS)
def test_a_difference_holds_the_bases_of_one_side_alone(rows, without):
    left = difference(intervals(rows), intervals(without))
    assert bases(left) == bases(intervals(rows)) - bases(intervals(without))
    assert (left.end > left.start).all()


@given(ROWS, st.lists(st.tuples(st.integers(0, 2), st.integers(0, 60)), max_size=12))
def test_the_nearest_point_is_the_first_of_the_least_gap(rows, points):
    chrom, place = np.array(points, dtype=np.int64).reshape(-1, 2).T
    found = nearest(intervals(rows), chrom, place)
    for row, (code, start, width) in enumerate(rows):
        gaps = {
            number: max(start - point, point - (start + width - 1), 0)
            for number, (on, point) in enumerate(points)
            if on == code
        }
        if not gaps:
            assert (found.row[row], found.offset[row], found.ties[row]) == (-1, 0, 0)
            continue
        least = min(gaps.values())
        assert found.row[row] == min(number for number, gap in gaps.items() if gap == least)
        assert found.ties[row] == sum(gap == least for gap in gaps.values())
        assert found.offset[row] == (-least if place[found.row[row]] < start else least)


@pytest.mark.parametrize("function", [overlaps, bases_covered, difference])
def test_nothing_against_nothing_is_nothing(function):
    result = function(intervals([]), intervals([]))
    assert all(len(field) == 0 for field in (result if isinstance(result, tuple) else [result]))


def test_large_coordinates_on_many_chromosomes_do_not_run_into_each_other():
    chrom = np.arange(3_000, dtype=np.int64)
    long = Intervals(chrom, np.zeros(3_000, np.int64), np.full(3_000, 2_000_000_000))
    assert overlaps(long, long).left.tolist() == chrom.tolist()
    assert bases_covered(long, long).tolist() == [2_000_000_000] * 3_000
