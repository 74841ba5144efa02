import dataclasses

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn import metrics as reference

from heteromics.errors import DataError
from heteromics.models import Bi2FormerConfig
from heteromics.tasks import (
    accuracy,
    auprc,
    auroc,
    check_split_by_cell,
    classification_scores,
    link_recovery,
    make_pairs,
    paired_rows,
    run_matching,
)
from heteromics.tasks._paired import paired_cells
from heteromics.tasks.matching import depth_scores
from heteromics.tasks.pairs import shared_cells, split_pairs
from tests.models.test_bi2former import build

TYPES = np.array(list("aaaaaabbbbc"))


def typed_graph(cells=90, seed=0):
    """Three cell types with their own genes and peaks, and nothing else to tell cells by."""
    rng = np.random.default_rng(seed)
    types = rng.integers(0, 3, cells)
    rna, atac = (
        rng.poisson(np.where(np.arange(size) % 3 == types[:, None], 4.0, 0.3)) + (np.arange(size) == 1)
        for size in (18, 36)
    )
    graph = build(rna, atac, seed=seed)
    graph.meta["categories"] = {"cell_type": ["a", "b", "c"]}
    for side in ("rna_cell", "atac_cell"):
        graph.dgl.nodes[side].data["cell_type"] = torch.tensor(types)
    return graph


@pytest.mark.parametrize("mode", ["easy", "hard", "random"])
def test_positives_are_all_cells_and_negatives_are_of_their_kind(mode):
    cells = np.arange(100, 111)
    pairs, labels = make_pairs(cells, TYPES, mode=mode, ratio=40, seed=1)
    assert pairs[labels == 1].tolist() == [[cell, cell] for cell in cells]
    negatives = pairs[labels == 0]
    assert len(negatives) == 440
    assert (negatives[:, 0] != negatives[:, 1]).all()
    left, right = TYPES[negatives[:, 0] - 100], TYPES[negatives[:, 1] - 100]
    if mode == "hard":
        assert (left == right).all()
        assert set(left) == {"a", "b"}  # the only cell of type c has no partner
    if mode == "easy":
        assert (left != right).all()
    every = {(i, j) for i in range(11) for j in range(11) if i != j}
    allowed = {"hard": lambda i, j: TYPES[i] == TYPES[j], "easy": lambda i, j: TYPES[i] != TYPES[j]}
    possible = {(i, j) for i, j in every if allowed.get(mode, lambda i, j: True)(i, j)}
    assert {(i - 100, j - 100) for i, j in negatives.tolist()} == possible


def test_easy_negatives_are_uniform_over_pairs_and_hard_ones_over_cells():
    pairs, _ = make_pairs(np.arange(11), TYPES, mode="easy", ratio=8_000, seed=0)
    _, counts = np.unique(pairs[11:] @ [100, 1], return_counts=True)
    assert len(counts) == 2 * (6 * 4 + 6 * 1 + 4 * 1)
    assert abs(counts / counts.mean() - 1).max() < 0.15
    pairs, _ = make_pairs(np.arange(11), TYPES, mode="hard", ratio=8_000, seed=0)
    counts = np.bincount(pairs[11:, 0], minlength=11)
    assert abs(counts[:10] / counts[:10].mean() - 1).max() < 0.1


def test_rows_of_unlike_order_stay_together():
    rows = np.array([[0, 5], [1, 4], [2, 3]])
    pairs, labels = make_pairs(rows, list("xyx"), mode="easy", seed=0)
    assert pairs[:3].tolist() == rows.tolist()
    assert {tuple(pair) for pair in pairs[labels == 0].tolist()} <= {(0, 4), (2, 4), (1, 5), (1, 3)}


def test_the_same_seed_draws_the_same_pairs():
    draws = [make_pairs(np.arange(11), TYPES, mode="random", seed=seed)[0].tolist() for seed in (3, 3, 4, (3, 1))]
    assert draws[0] == draws[1]
    assert draws[0] not in draws[2:]


@pytest.mark.parametrize(
    ("types", "options", "message"),
    [
        (list("aaa"), {"mode": "easy"}, "3 cells of 1 types .a. have no such negative pair"),
        (list("abc"), {"mode": "hard"}, "3 cells of 3 types"),
        (list("ab"), {}, "found 3 cells, 2 types"),
        (list("abc"), {"mode": "simple"}, "a mode among easy, hard, random"),
        (list("abc"), {"ratio": 0}, "a ratio above 0"),
    ],
)
def test_impossible_pairs(types, options, message):
    with pytest.raises(DataError, match=message):
        make_pairs(np.arange(3), types, **options)


def test_a_split_of_pairs_leaks_cells_and_a_split_by_cell_does_not():
    pairs, _ = make_pairs(np.arange(200), np.arange(200) % 3, mode="easy", seed=0)
    codes = split_pairs(pairs, seed=0)
    leaky = {name: pairs[codes == code] for code, name in enumerate(("train", "validation", "test"))}
    both = shared_cells(leaky)
    assert len(both) > 50
    with pytest.raises(DataError, match=f"{len(both)} cells stand in more than one of train, validation, test"):
        check_split_by_cell(leaky)
    parts = np.split(np.arange(200), [140, 170])
    honest = {str(n): make_pairs(part, part % 3, mode="hard", seed=0)[0] for n, part in enumerate(parts)}
    check_split_by_cell(honest)


def test_the_protocol_scores_test_cells_alone_beside_cell_types():
    graph = typed_graph()
    codes = np.repeat([0, 1, 2], [50, 15, 25])
    config = Bi2FormerConfig(id_width=4, hidden=4, key_width=4, max_epochs=2)
    result = run_matching(graph, codes, config=config, negatives="easy", device="cpu", progress=False)
    assert set(result.pairs["rna_cell"]) | set(result.pairs["atac_cell"]) <= {f"c{i}" for i in range(65, 90)}
    table = result.metrics.set_index(["model", "negatives", "metric"])["value"]
    assert len(table) == 2 * (3 * 6 + 3)
    assert table["CellTypeMatcher", "easy", "auroc"] > 0.95
    assert table["CellTypeMatcher", "hard", "auroc"] < 0.75
    hard = result.pairs[result.pairs["negatives"] == "hard"]
    codes = graph.ndata("rna_cell")["cell_type"].numpy()
    left, right = (codes[graph.index(side, hard[side])] for side in ("rna_cell", "atac_cell"))
    assert (left == right).all()
    for model in ("Bi2Former", "CellTypeMatcher", "DepthMatcher"):
        expected = reference.roc_auc_score(hard["label"], hard[model])
        assert table[model, "hard", "auroc"] == pytest.approx(expected)
        right_side = (result.scales[model](hard[model]) > 0.5) == hard["label"]
        assert table[model, "hard", "accuracy"] == pytest.approx(right_side.mean())
    again = run_matching(graph, np.repeat([0, 1, 2], [50, 15, 25]), config=config, negatives="easy", progress=False)
    assert again.metrics.equals(result.metrics)


@pytest.mark.parametrize("sign", [1, -1])
def test_depth_alone_tells_cells_apart_where_both_modalities_share_it(sign):
    rng = np.random.default_rng(0)
    depth = rng.normal(0, 0.5, 300)
    rna = sparse.csr_array(rng.poisson(np.exp(2 + depth)[:, None], (300, 20)))
    atac = sparse.csr_array(rng.poisson(np.exp(2 + sign * depth)[:, None], (300, 30)))
    training = np.stack([np.arange(200)] * 2, 1)
    pairs, labels = make_pairs(np.arange(200, 300), np.zeros(100), mode="random", ratio=5, seed=1)
    assert auroc(labels, depth_scores(rna, atac, training, pairs)) > 0.75


def test_what_the_protocol_refuses():
    graph = typed_graph(cells=12)
    with pytest.raises(DataError, match=r"11 training \(0\), 1 validation \(1\), 0 test \(2\)"):
        run_matching(graph, [0] * 11 + [1])
    with pytest.raises(DataError, match=r"1 of 2 rows are not the two profiles of one cell: \(0, 1\)"):
        run_matching(graph, [0, 1], cells=[[0, 0], [0, 1]])
    graph.names["atac_cell"] = np.array([f"d{i}" for i in range(12)])
    with pytest.raises(DataError, match="no cell has both profiles: rna has c0, c1, c2 ... .12 in all."):
        paired_rows(graph)
    untyped = build(np.eye(4) + 1, np.eye(4) + 1)
    with pytest.raises(DataError, match="the graph has no cell types"):
        paired_rows(untyped)
    assert paired_cells(untyped).tolist() == [[i, i] for i in range(4)]  # which are paired all the same


def test_cells_are_paired_by_name():
    graph = typed_graph(cells=12)
    graph.names["atac_cell"] = np.array([*(f"c{i}" for i in range(11, 0, -1)), "other"])
    rows, types = paired_rows(graph)
    assert rows.tolist() == [[i, 11 - i] for i in range(1, 12)]
    assert types.tolist() == [list("abc")[code] for code in graph.ndata("rna_cell")["cell_type"].tolist()[1:]]


def test_scores_agree_with_counting_by_hand():
    rng = np.random.default_rng(1)
    labels, scores = rng.integers(0, 2, 60), np.round(rng.random(60), 1)
    positive, negative = scores[labels == 1][:, None], scores[labels == 0]
    assert auroc(labels, scores) == pytest.approx(((positive > negative) + 0.5 * (positive == negative)).mean())
    area, before = 0.0, 0.0
    for threshold in np.unique(scores)[::-1]:
        kept = scores >= threshold
        recall = labels[kept].sum() / labels.sum()
        area += (recall - before) * labels[kept].mean()
        before = recall
    assert auprc(labels, scores) == pytest.approx(area)
    assert accuracy(labels, scores) == pytest.approx(((scores > 0.5) == labels).mean())
    found = classification_scores(labels, scores)
    assert found["prevalence"] == labels.mean()
    recovered = link_recovery(labels, scores)
    assert recovered["auprc"] == pytest.approx(area)
    assert recovered["lift"] == pytest.approx(area / labels.mean())


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([1, 1], [0.1, 0.2], "found 2 positives among 2 examples"),
        ([1, 0, 2], [0.1, 0.2, 0.3], "1 of 3 are neither 0 nor 1"),
        ([1, 0], [0.1, np.nan], "1 of 2 are NaN or infinite"),
        ([1, 0], [0.1], r"labels of shape \(2,\) and scores of shape \(1,\)"),
    ],
)
def test_scores_that_cannot_be(labels, scores, message):
    with pytest.raises(DataError, match=message):
        auroc(labels, scores)


def test_published_settings_can_be_run_through_the_protocol():
    config = dataclasses.replace(Bi2FormerConfig().as_published(), id_width=4, hidden=4, max_epochs=1)
    codes = np.repeat([0, 1, 2], [14, 8, 8])
    result = run_matching(
        typed_graph(cells=30), codes, config=config, negatives="easy", redraw=False, device="cpu", progress=False
    )
    assert len(result.model.history) == 1
