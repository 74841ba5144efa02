"""Cells without a type, and the published protocol that splits pairs."""

import numpy as np
import pytest
import torch

from heteromics.errors import DataError
from heteromics.models import Bi2FormerConfig
from heteromics.tasks import make_pairs, run_matching
from heteromics.tasks.matching import LEAKING
from heteromics.tasks.pairs import shared_cells, split_pairs
from tests.tasks.test_matching import typed_graph

CONFIG = Bi2FormerConfig(id_width=4, hidden=4, key_width=4, max_epochs=1)
QUIET = {"config": CONFIG, "device": "cpu", "progress": False}


@pytest.fixture
def half_typed():
    graph = typed_graph()
    codes = graph.ndata("rna_cell")["cell_type"].clone()
    codes[::3] = -1
    graph.dgl.nodes["rna_cell"].data["cell_type"] = codes
    return graph


@pytest.mark.parametrize("mode", ["easy", "hard"])
@pytest.mark.parametrize("types", [["a", "unknown", "b", "a", "unknown", "b"], [0, -1, 1, 0, -1, 1]])
def test_typed_pairs_leave_out_cells_without_a_type(mode, types):
    pairs, labels = make_pairs(np.arange(6), types, mode=mode, ratio=50, seed=0)
    assert pairs[labels == 1].tolist() == [[cell, cell] for cell in (0, 2, 3, 5)]
    negatives = {tuple(pair) for pair in pairs[labels == 0].tolist()}
    alike = {(0, 3), (3, 0), (2, 5), (5, 2)}
    every = {(i, j) for i in (0, 2, 3, 5) for j in (0, 2, 3, 5) if i != j}
    assert negatives == (alike if mode == "hard" else every - alike)
    assert (labels == 0).sum() == 4 * 50


def test_random_pairs_need_no_types():
    pairs, labels = make_pairs(np.arange(6), ["unknown"] * 6, mode="random", ratio=50, seed=0)
    assert set(pairs[labels == 0, 0]) == set(range(6))
    with pytest.raises(DataError, match="mode='hard': none of 6 cells has a cell type. Fix: label cells, or mode='ran"):
        make_pairs(np.arange(6), ["unknown"] * 6, mode="hard")


def test_cells_without_a_type_are_counted_and_never_tested_on(half_typed):
    split = np.repeat([0, 1, 2], [50, 15, 25])
    result = run_matching(half_typed, split, **QUIET)
    assert result.unlabelled == 30
    codes = half_typed.ndata("rna_cell")["cell_type"].numpy()
    tested = {int(name[1:]) for side in ("rna_cell", "atac_cell") for name in result.pairs[side]}
    assert tested <= set(range(65, 90)) & set(np.flatnonzero(codes >= 0).tolist())
    half_typed.dgl.nodes["rna_cell"].data["cell_type"] = torch.tensor(np.where(split == 2, -1, codes))
    with pytest.raises(DataError, match="mode='easy': none of 25 cells has a cell type"):
        run_matching(half_typed, split, **QUIET)


def test_the_published_protocol_splits_one_set_of_pairs_and_says_that_cells_leak():
    graph = typed_graph()
    result = run_matching(graph, protocol="pairs", negatives="easy", seed=3, **QUIET)
    types = graph.ndata("rna_cell")["cell_type"].numpy()
    pairs, labels = make_pairs(np.arange(90), types, mode="easy", seed=3)
    codes = split_pairs(pairs, seed=3)
    scored = np.stack([graph.index(side, result.pairs[side]) for side in ("rna_cell", "atac_cell")], axis=1)
    assert scored.tolist() == pairs[codes == 2].tolist()
    assert result.pairs["label"].tolist() == labels[codes == 2].tolist()
    assert shared_cells({"train": pairs[codes == 0], "test": scored}).size > 10
    assert set(result.metrics["split"]) == {LEAKING} == {"test pairs, their cells seen in training"}
    assert set(result.metrics["negatives"]) == {"easy"}
    assert set(result.metrics["model"]) == {"Bi2Former", "CellTypeMatcher", "DepthMatcher"}
    again = run_matching(graph, protocol="pairs", negatives="easy", seed=3, **QUIET)
    assert again.pairs.equals(result.pairs)


def test_splits_by_cell_are_called_test():
    result = run_matching(typed_graph(), np.repeat([0, 1, 2], [50, 15, 25]), test_negatives=("random",), **QUIET)
    assert set(result.metrics["split"]) == {"test"}
    assert set(result.metrics["negatives"]) == {"random"}
    assert result.unlabelled == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "protocol='cells' with split not given and test_negatives=None; expected 'cells' with one code per cell"),
        ({"split": [0, 1, 2], "protocol": "pairs"}, "protocol='pairs' with split given"),
        ({"protocol": "pairs", "test_negatives": ("hard",)}, r"test_negatives=\('hard',\); expected"),
        ({"split": [0, 1, 2], "protocol": "pair"}, "protocol='pair'"),
    ],
)
def test_protocols_that_do_not_hold_together(options, message):
    with pytest.raises(DataError, match=message):
        run_matching(typed_graph(cells=12), **options)
