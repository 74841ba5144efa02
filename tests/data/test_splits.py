import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from heteromics.data.splits import (
    TEST,
    TRAIN,
    VALIDATION,
    check_groups_apart,
    few_cells,
    hold_out,
    split_cells,
)
from heteromics.errors import DataError, DuplicateNames


def sizes(codes):
    return [int((codes == part).sum()) for part in (TRAIN, VALIDATION, TEST)]


@pytest.mark.parametrize(
    ("n", "shares", "expected"),
    [
        pytest.param(100, (0.7, 0.15, 0.15), [70, 15, 15], id="exact"),
        pytest.param(10, (0.7, 0.15, 0.15), [7, 2, 1], id="largest remainder, first of equals"),
        pytest.param(3, (1 / 3, 1 / 3, 1 / 3), [1, 1, 1], id="thirds"),
        pytest.param(5, (1.0, 0.0, 0.0), [5, 0, 0], id="all training"),
        pytest.param(0, (0.7, 0.15, 0.15), [0, 0, 0], id="no cells"),
    ],
)
def test_sizes(n, shares, expected):
    codes = split_cells(n, shares=shares, seed=1)
    assert codes.dtype == np.int8
    assert sizes(codes) == expected


def test_seed_decides():
    assert np.array_equal(split_cells(500, seed=3), split_cells(500, seed=3))
    assert not np.array_equal(split_cells(500, seed=3), split_cells(500, seed=4))


def test_every_cell_is_as_likely_to_be_tested():
    often = np.mean([split_cells(20, seed=seed) == TEST for seed in range(2000)], axis=0)
    assert np.abs(often - 0.15).max() < 5 * np.sqrt(0.15 * 0.85 / 2000)


def test_the_order_of_named_cells_does_not_matter():
    rng = np.random.default_rng(0)
    names = np.array([f"cell{i}" for i in range(200)])
    groups = rng.integers(0, 12, 200).astype(str)
    labels = rng.choice(["B", "T", "NK"], 200)
    mix = rng.permutation(200)
    for how in ({}, {"groups": groups}, {"labels": labels}):
        whole = split_cells(names, seed=5, **how)
        mixed = split_cells(names[mix], seed=5, **{key: value[mix] for key, value in how.items()})
        assert np.array_equal(whole[mix], mixed)


def test_groups_are_never_divided_and_shares_nearly_met():
    groups = np.random.default_rng(1).integers(0, 60, 6000)
    codes = split_cells(6000, seed=2, groups=groups)
    assert all(len(set(codes[groups == group])) == 1 for group in range(60))
    assert np.abs(np.array(sizes(codes)) - [4200, 900, 900]).max() < 120
    assert not np.array_equal(codes, split_cells(6000, seed=3, groups=groups))


def test_few_groups_still_fill_every_part():
    groups = np.repeat(["a", "b", "c"], 10)
    codes = split_cells(30, seed=0, groups=groups)
    assert sorted(sizes(codes)) == [10, 10, 10]
    codes = split_cells(20, seed=0, groups=groups[:20], shares=(0.9, 0, 0.1))
    assert sizes(codes) == [10, 0, 10]


def test_labels_are_split_alike():
    labels = np.repeat(["common", "rare"], [997, 23])
    codes = split_cells(1020, seed=0, labels=labels)
    for label in ("common", "rare"):
        members = labels == label
        assert np.abs(np.array(sizes(codes[members])) - members.sum() * np.array([0.7, 0.15, 0.15])).max() < 1


@pytest.mark.parametrize("shares", [(0.7, 0.2, 0.2), (1.2, -0.1, -0.1), (0.5, 0.5), (np.nan, 0.5, 0.5)])
def test_shares_that_are_none(shares):
    with pytest.raises(DataError, match=r"found shares .*, expected three numbers >= 0 with sum 1"):
        split_cells(10, shares=shares, seed=0)


def test_bad_groups_labels_and_names():
    with pytest.raises(
        DataError, match="found 2 groups for 3 parts with a share, expected at least one group for each"
    ):
        split_cells(4, seed=0, groups=list("aabb"))
    with pytest.raises(DataError, match="found 3 labels for 4 cells, expected one per cell"):
        split_cells(4, seed=0, labels=list("aab"))
    with pytest.raises(DataError, match="found both groups and labels, expected one"):
        split_cells(2, seed=0, labels=list("ab"), groups=list("ab"))
    with pytest.raises(DuplicateNames, match=r"cells to split: 1 names are used more than once: a\."):
        split_cells(["a", "b", "a", "a"], seed=0)


def test_splitting_needs_no_readers():
    heavy = "('scanpy', 'anndata', 'torch', 'dgl')"
    code = f"import sys, heteromics.data.splits; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


donors = np.repeat(["d1", "d2", "d3", "d4"], [40, 30, 20, 10])


def test_named_groups_are_held_out():
    codes = hold_out(donors, test=["d4"], validation=["d2"])
    assert {donor: set(codes[donors == donor].tolist()) for donor in np.unique(donors)} == {
        "d1": {0}, "d2": {1}, "d3": {0}, "d4": {2},
    }  # fmt: skip
    assert codes.dtype == np.int8
    check_groups_apart(codes, donors)


def test_validation_can_be_a_share_of_every_other_group():
    codes = hold_out(donors, test=["d1", "d4"], validation=0.1, seed=3)
    assert [(codes[donors == donor] == VALIDATION).sum() for donor in ("d1", "d2", "d3", "d4")] == [0, 3, 2, 0]
    assert ((codes == TEST) == np.isin(donors, ["d1", "d4"])).all()
    assert np.array_equal(codes, hold_out(donors, test=["d4", "d1"], validation=0.1, seed=3))
    assert not np.array_equal(codes, hold_out(donors, test=["d4", "d1"], validation=0.1, seed=4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test": ["d9"]}, r"1 of 1 groups have no cell \(d9\)"),
        ({"test": ["d1"], "validation": ["d1"]}, "1 are named twice"),
        ({"test": []}, "0 for the test; the groups are d1, d2, d3, d4"),
        ({"test": ["d1", "d2", "d3", "d4"]}, "none of 100 cells is left for training"),
        ({"test": ["d1"], "validation": 1.5}, "expected three numbers >= 0"),
    ],
)
def test_groups_that_cannot_be_held_out(options, message):
    with pytest.raises(DataError, match=message):
        hold_out(donors, **options)


@pytest.mark.parametrize("none", [None, np.nan, pd.NA])
def test_a_missing_group_is_no_group(none):
    groups = pd.Series(["d1", none, "d2", "d3"], dtype=object)
    for split in (
        lambda: hold_out(groups, test=["d3"]),
        lambda: split_cells(4, seed=0, groups=groups),
        lambda: check_groups_apart(np.array([0, 0, 0, 2]), groups),
    ):
        with pytest.raises(DataError, match="groups: 1 of 4 cells have none"):
            split()


def test_a_share_to_validate_on_is_any_number():
    one, other = (hold_out(donors, test=["d1"], validation=share) for share in (0.25, np.float32(0.25)))
    assert np.array_equal(one, other)


def test_groups_on_both_sides_are_named():
    codes = hold_out(donors, test=["d4"], validation=["d2"])
    codes[:3] = TEST
    with pytest.raises(DataError, match=r"1 donors stand on both sides of the split \(d1\), with 3 of 13 test cells"):
        check_groups_apart(codes, donors, "donors")
    by_cell = split_cells(100, seed=0, labels=donors)
    with pytest.raises(DataError, match="4 groups stand on both sides"):
        check_groups_apart(by_cell, donors)
    check_groups_apart(split_cells(100, seed=0, groups=donors), donors)
    with pytest.raises(DataError, match="found 100 groups for 99 cells"):
        check_groups_apart(by_cell[:99], donors)


@pytest.mark.parametrize("labels", [None, donors])
def test_fewer_cells_are_part_of_more(labels):
    before = np.zeros(100, dtype=bool)
    for number in (0, 1, 5, 10, 25, 60):
        chosen = few_cells(100, number, labels=labels, seed=2)
        assert (chosen >= before).all()
        before = chosen
        if labels is None:
            assert chosen.sum() == number
        else:
            sizes_of = {donor: int((donors == donor).sum()) for donor in np.unique(donors)}
            assert all((chosen & (donors == donor)).sum() == min(number, size) for donor, size in sizes_of.items())
    assert not np.array_equal(few_cells(100, 25, seed=3), few_cells(100, 25, seed=2))


def test_few_cells_are_of_those_allowed_and_do_not_depend_on_order():
    names = np.array([f"c{i}" for i in range(100)])
    train = split_cells(names, seed=1) == TRAIN
    mix = np.random.default_rng(0).permutation(100)
    chosen = few_cells(names, 9, labels=donors, among=train, seed=5)
    assert not (chosen & ~train).any()
    assert np.array_equal(chosen[mix], few_cells(names[mix], 9, labels=donors[mix], among=train[mix], seed=5))
    often = np.mean([few_cells(20, 5, seed=seed) for seed in range(2000)], axis=0)
    assert np.abs(often - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / 2000)
    with pytest.raises(DataError, match="found 70 cells to choose from, expected at least 71"):
        few_cells(names, 71, among=train, seed=0)
    with pytest.raises(DataError, match=r"found number=2\.5 .* expected a whole number"):
        few_cells(names, 2.5, seed=0)
    with pytest.raises(DataError, match="found number=-1"):
        few_cells(names, -1, seed=0)
