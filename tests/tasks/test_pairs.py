"""Negative pairs within a group, in every mode, against all pairs tried one by one."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from heteromics.errors import DataError
from heteromics.tasks import make_pairs
from heteromics.tasks.pairs import labelled

TYPES = np.array(list("aabbcabcbb"))
DONORS = np.array([1, 1, 1, 2, 2, 2, 2, 3, 3, 1])


def possible(mode, within):
    fits = {
        "easy": lambda i, j: TYPES[i] != TYPES[j],
        "hard": lambda i, j: TYPES[i] == TYPES[j],
        "random": lambda i, j: True,
    }
    return {
        (i, j)
        for i, j in itertools.permutations(range(10), 2)
        if fits[mode](i, j) and (not within or DONORS[i] == DONORS[j])
    }


@pytest.mark.parametrize("mode", ["easy", "hard", "random"])
@pytest.mark.parametrize("within", [False, True])
def test_negatives_are_all_those_possible_and_no_other(mode, within):
    pairs, labels = make_pairs(np.arange(10), TYPES, mode=mode, within=DONORS if within else None, ratio=400, seed=1)
    negatives = list(map(tuple, pairs[labels == 0].tolist()))
    assert set(negatives) == possible(mode, within)
    assert pairs[labels == 1].tolist() == [[cell, cell] for cell in range(10)]
    if mode == "easy":  # every pair as likely as any other
        counts = np.unique(np.array(negatives), axis=0, return_counts=True)[1]
        assert stats.chisquare(counts).pvalue > 1e-3


def test_rows_of_two_modalities_keep_their_columns():
    rows = np.stack([np.arange(10), 20 - np.arange(10)], axis=1)
    pairs, labels = make_pairs(rows, TYPES, mode="random", within=DONORS, ratio=20, seed=0)
    for left, right in pairs[labels == 0]:
        assert DONORS[left] == DONORS[20 - right]
        assert left != 20 - right


def test_order_of_groups_and_names_of_groups_do_not_matter():
    renamed = np.array(["", "c", "a", "b"])[DONORS]
    for seed in range(3):
        one, _ = make_pairs(np.arange(10), TYPES, mode="easy", within=DONORS, ratio=30, seed=seed)
        other, _ = make_pairs(np.arange(10), TYPES, mode="easy", within=renamed, ratio=30, seed=seed)
        assert set(map(tuple, one.tolist())) == set(map(tuple, other.tolist()))
    alone, labels = make_pairs(np.arange(10), TYPES, mode="hard", within=np.zeros(10), seed=4)
    plain, _ = make_pairs(np.arange(10), TYPES, mode="hard", seed=4)
    assert np.array_equal(alone, plain)
    assert labels.sum() == 10


@pytest.mark.parametrize("form", [pd.Categorical, pd.Series, lambda types: pd.array(types, dtype="string")])
def test_a_missing_type_is_unknown(form):
    types = ["a", "a", None, "b", "unknown", "b", np.nan]
    assert labelled(form(types)).tolist() == [True, True, False, True, False, True, False]
    for mode in ("easy", "hard", "random"):
        expected = make_pairs(np.arange(7), [name if isinstance(name, str) else "unknown" for name in types], mode=mode)
        for one, other in zip(make_pairs(np.arange(7), form(types), mode=mode), expected, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cells": [True, False, True]}, "cells: found bool, expected row numbers"),
        ({"cells": [0.0, 1.0, 2.5]}, "cells: found float64, expected row numbers"),
        ({"within": ["x", None, "x"]}, "within: 1 of 3 cells have none"),
        ({"within": pd.Series(["x", "x", np.nan])}, "within: 1 of 3 cells have none"),
        ({"ratio": np.nan}, "ratio=nan"),
    ],
)
def test_what_cannot_be_paired(given, message):
    with pytest.raises(DataError, match=message):
        make_pairs(**{"cells": [0, 1, 2], "types": list("aab"), **given})


def test_groups_without_a_negative_pair():
    with pytest.raises(DataError, match=r"mode='random': 10 cells of 3 types \(a, b, c\) in 10 groups have no such"):
        make_pairs(np.arange(10), TYPES, mode="random", within=np.arange(10))
    with pytest.raises(DataError, match="found 10 cells, 10 types, 9 groups"):
        make_pairs(np.arange(10), TYPES, within=np.arange(9))
