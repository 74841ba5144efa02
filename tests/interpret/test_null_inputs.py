"""Cells, labels and lengths that the nulls of links are made of."""

import numpy as np
import pandas as pd
import pytest

from heteromics import interpret
from heteromics.errors import DataError
from heteromics.interpret._null_distance import rewired
from tests.interpret.test_null import both, random_graph, untrained

CANDIDATES = pd.DataFrame({"gene": ["gene001", "gene002"], "peak": ["peak001", "peak002"]})


def test_cells_need_no_types_where_no_groups_are_asked_for():
    graph = random_graph(cells=40)
    assert "cell_type" not in graph.ndata("rna_cell")
    options = {"groups": None, "candidates": CANDIDATES, "permutations": 2, "progress": False}
    every = interpret.links(untrained(graph), graph, **options)
    pd.testing.assert_frame_equal(every, interpret.links(untrained(graph), graph, cells=both(40), **options))


@pytest.mark.parametrize("option", ["groups", "within"])
@pytest.mark.parametrize("missing", [None, np.nan])
def test_a_missing_label_is_no_label(option, missing):
    graph = random_graph(cells=20)
    options = {"groups": None, "cells": both(20), "progress": False, option: ["a"] * 19 + [missing]}
    with pytest.raises(DataError, match=f"{option}: 1 of 20 cells have no label"):
        interpret.links(untrained(graph), graph, **options)


def test_links_between_chromosomes_are_not_compared_with_those_below_the_first_bound():
    score = np.concatenate([np.zeros(40), np.full(40, 9.0)])
    distance, chrom = np.repeat([3, -1], 40), np.repeat([0, -1], 40)
    assert rewired(score, distance, chrom, np.array([5, 10]))[0].tolist() == score.tolist()
    few = np.concatenate([np.zeros(40), np.full(29, 9.0)])  # too few on their chromosome: then all of the bin
    found = rewired(few, np.repeat([3, -1], [40, 29]), np.repeat([0, -1], [40, 29]), np.array([5, 10]))[0]
    assert found.tolist() == [0.0] * 69
    apart = np.tile([0, 1], 40)  # 20 near links on each of two chromosomes, and 40 between
    middle = rewired(score, distance, np.where(distance < 0, -1, apart), np.array([5, 10]))[0]
    assert middle.tolist() == score.tolist()
