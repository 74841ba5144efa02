import subprocess
import sys

import numpy as np
import pytest

from heteromics.data.splits import TEST, TRAIN, VALIDATION, split_cells
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
