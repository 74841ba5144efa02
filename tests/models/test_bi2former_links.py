import dataclasses
import tracemalloc

import numpy as np
import pytest
import torch
from scipy import sparse

from heteromics.errors import GraphError, ModelError
from heteromics.graphs import PairBatcher
from heteromics.graphs.pairs import EXPRESSES, OPENS
from heteromics.models._links import LinkSums, count_pairs, joint_counts
from tests.models.test_bi2former import SMALL, dense_rows, network_of, random_graph, trained


def test_links_are_the_attention_summed_over_pairs():
    graph = random_graph()
    model = trained(graph, dataclasses.replace(SMALL, heads=2, hidden=8))
    pairs = np.random.default_rng(1).integers(0, 20, (30, 2))
    groups = np.array(["a", "b", "b"] * 10)
    total, kept = np.zeros((2, 2, 18, 50))
    batcher = PairBatcher(graph)
    with torch.no_grad():
        for pair, group in zip(pairs, groups, strict=True):
            batch = batcher.batch(pair[None])
            for sent in (head.messages for head in model._network.explained(batch)[1]):
                place = batch.gene[sent.gene_row].long(), batch.peak[sent.peak_row].long()
                np.add.at(total["ab".index(group)], tuple(map(np.asarray, place)), sent.weight.numpy() / 2)
                np.add.at(kept["ab".index(group)], tuple(map(np.asarray, place)), 0.5)
    there = np.zeros((2, 18, 50))
    for pair, group in zip(pairs, groups, strict=True):
        gene, peak = dense_rows(graph, EXPRESSES, pair[0])[0], dense_rows(graph, OPENS, pair[1])[0]
        there["ab".index(group)][np.ix_(gene, peak)] += 1
    links = model.links(pairs, groups)
    assert len(links) == (kept > 0).sum()
    place = links["group"].map("ab".index), graph.index("gene", links["gene"]), graph.index("peak", links["peak"])
    np.testing.assert_allclose(links["total"], total[place], rtol=1e-5)
    np.testing.assert_array_equal(links["n_pairs"], there[place])
    np.testing.assert_allclose(links["attention"], total[place] / there[place], rtol=1e-5)
    np.testing.assert_allclose(links["frequency"], kept[place] / there[place])
    assert links.groupby("group")["score"].apply(lambda scores: scores.is_monotonic_decreasing).all()


@pytest.mark.parametrize("weights", ["sigmoid", "softmax", "published"])
def test_effects_are_the_slope_of_the_log_odds(weights):
    graph = random_graph()
    config = dataclasses.replace(SMALL, weights=weights, threshold=0.5 if weights == "published" else None, heads=2)
    network = network_of(graph, config).double()
    batch = PairBatcher(graph).batch([[4, 9]])
    batch = dataclasses.replace(batch, gene_value=batch.gene_value.double(), peak_value=batch.peak_value.double())
    sent, effects = network.effects(batch)
    layer = network.layers[0]
    whole = layer._attend

    def weakened(head, step):
        """The log odds when every link of one head sends (1 - step) of what it sent."""
        calls = iter(range(2))

        def attend(*parts):
            messages = whole(*parts)
            share = 1 - step if next(calls) == head else 1
            return dataclasses.replace(messages, gene=messages.gene * share, peak=messages.peak * share)

        layer._attend = attend
        with torch.no_grad():
            logits = network(batch)
        del layer._attend
        return float(logits[0, 1] - logits[0, 0])

    for head, effect in enumerate(effects):
        assert effect.shape == sent[head].messages.weight.shape
        slope = (weakened(head, -1e-5) - weakened(head, 1e-5)) / 2e-5
        np.testing.assert_allclose(float(effect.sum()), slope, rtol=1e-4, atol=1e-8)


def test_effects_keep_the_precision_of_the_slopes_and_take_some_links_at_a_time(monkeypatch):
    monkeypatch.setattr("heteromics.models._bi2former_network._HELD", 40)
    graph = random_graph()
    network = network_of(graph, dataclasses.replace(SMALL, directions="separate"))
    _, (head,) = network.explained(PairBatcher(graph).batch([[4, 9], [1, 2]]))
    to_gene, to_peak = (torch.randn(len(side), 8, dtype=torch.float64) for side in (head.gene, head.peak))
    sent = head.messages
    received = (to_gene @ head.peak.double().T)[sent.gene_row, sent.peak_row] * sent.weight
    returned = (to_peak @ head.gene.double().T)[sent.peak_row, sent.gene_row] * sent.back
    torch.testing.assert_close(head.effect(to_gene, to_peak), (received + returned).detach(), rtol=1e-12, atol=1e-14)
    assert head.effect(to_gene.bfloat16(), to_peak.bfloat16()).dtype == torch.float32
    assert len(sent.weight) > 40


def test_groups_that_are_missing_are_refused_and_no_pairs_have_no_links():
    graph = random_graph()
    model = trained(graph, dataclasses.replace(SMALL, max_epochs=1))
    with pytest.raises(ModelError, match="groups: 2 of 3 labels are missing"):
        model.links(np.arange(3), ["a", None, np.nan])
    empty, whole = model.links([], []), model.links([0], ["a"])
    assert len(empty) == 0
    assert empty.columns.equals(whole.columns)


def test_links_of_candidates_come_in_their_order_with_zeros():
    graph = random_graph()
    model = trained(graph)
    whole = model.links(np.arange(20))
    candidates = whole.sample(15, random_state=0)[["gene", "peak"]].reset_index(drop=True)
    candidates.loc[len(candidates)] = ["gene000", "peak049"]  # on no chromosome: never attended to
    found = model.links(np.arange(20), candidates=candidates)
    assert found[["gene", "peak"]].equals(candidates)
    expected = candidates.merge(whole, how="left").fillna(0)
    np.testing.assert_allclose(found["total"], expected["total"])
    assert found["total"].iloc[-1] == 0
    with pytest.raises(GraphError, match="1 of 1 names are not among the 18 nodes of type 'gene'"):
        model.links(np.arange(20), candidates=candidates[:1].assign(gene="nobody"))


def test_sums_are_merged_when_the_buffer_is_full(monkeypatch):
    monkeypatch.setattr("heteromics.models._links._BUFFERED", 10)
    rng, sums = np.random.default_rng(0), LinkSums()
    expected = np.zeros(30)
    for _ in range(12):
        key, weight = rng.integers(0, 30, 7), rng.random(7)
        sums.add(key, np.stack([weight, np.full(7, 0.5)], axis=1))
        np.add.at(expected, key, weight)
    key, totals = sums.totals()
    np.testing.assert_allclose(totals[:, 0], expected[key])
    assert totals[:, 1].sum() == 42
    assert LinkSums().totals()[0].size == 0


def test_joint_counts_agree_with_the_dense_product():
    rng = np.random.default_rng(0)
    left, right = rng.poisson(0.5, (40, 9)), rng.poisson(0.5, (40, 11))
    i, j = rng.integers(0, 9, 50), rng.integers(0, 11, 50)
    found = joint_counts(sparse.csc_matrix(left), sparse.csc_matrix(right), i, j, chunk=7)
    np.testing.assert_array_equal(found, (left.T @ right)[i, j])


def test_counting_pairs_of_few_links_takes_no_more_than_the_bits_may(monkeypatch):
    monkeypatch.setattr("heteromics.models._links._BITS", 1 << 18)
    graph = random_graph(genes=60, peaks=200)
    pairs = np.tile(np.stack([np.arange(20)] * 2, 1), (5_000, 1))
    tracemalloc.start()
    try:
        found = count_pairs(graph, pairs, np.array([1]), np.array([1]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.tolist() == [100_000]
    assert peak < 3 << 20  # all pairs at once: 5 MB


@pytest.mark.parametrize("bits", [64, 1_000, 1 << 26])
def test_pairs_with_both_are_counted(bits, monkeypatch):
    monkeypatch.setattr("heteromics.models._links._BITS", bits)
    graph = random_graph()
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, 20, (150, 2))
    gene, peak = rng.integers(0, 18, 40), rng.integers(0, 50, 40)
    expected = [
        sum(g in dense_rows(graph, EXPRESSES, i)[0] and p in dense_rows(graph, OPENS, j)[0] for i, j in pairs)
        for g, p in zip(gene, peak, strict=True)
    ]
    assert count_pairs(graph, pairs, gene, peak).tolist() == expected
    assert count_pairs(graph, pairs[:0], gene, peak).tolist() == [0] * 40
    assert count_pairs(graph, pairs, gene[:0], peak[:0]).size == 0
