"""Gradients by counts against differences, and deleted peaks against graphs that never had them."""

import dataclasses

import numpy as np
import pytest
import torch

from heteromics.errors import GraphError, ModelError
from heteromics.graphs import PairBatcher
from heteromics.graphs.pairs import EXPRESSES, OPENS
from heteromics.interpret import attribute, delete_peaks, value_gradients
from heteromics.models import PairMLP, PairMLPConfig
from heteromics.tasks import make_pairs
from tests.models.test_bi2former import SMALL, build, random_graph, trained


def odds_of(network, batch):
    with torch.no_grad():
        logits = network(batch)
    return float((logits[:, 1] - logits[:, 0]).sum())


def slopes_by_differences(network, batch, side, step=1e-5):
    """The slope of the log odds by each count, float64."""
    value = getattr(batch, f"{side}_value")
    found = []
    for place in range(len(value)):
        moved = []
        for sign in (1, -1):
            other = value.clone()
            other[place] += sign * step
            moved.append(odds_of(network, dataclasses.replace(batch, **{f"{side}_value": other})))
        found.append((moved[0] - moved[1]) / (2 * step))
    return np.array(found)


def per_pair(model, graph, pairs):
    """Slopes and counts of every pair, by side, as dense arrays over features."""
    network, batcher = model._network, PairBatcher(graph)
    found = []
    for pair in pairs:
        batch = batcher.batch(pair[None])
        batch = dataclasses.replace(batch, gene_value=batch.gene_value.double(), peak_value=batch.peak_value.double())
        sides = {}
        for side in ("gene", "peak"):
            dense = np.zeros((2, graph.num_nodes(side)))
            dense[:, getattr(batch, side)] = (
                slopes_by_differences(network, batch, side),
                getattr(batch, f"{side}_value"),
            )
            sides[side] = dense
        found.append(sides)
    return found


def smooth_model(graph, **changes):
    """In float64, and without top-k, whose choice a difference could turn."""
    model = trained(graph, dataclasses.replace(SMALL, top_k=None, **changes))
    model._network = model._network.double()
    return model


@pytest.mark.parametrize("changes", [{}, {"values": "raw", "layers": 2, "messages": "full"}], ids=["default", "layers"])
def test_gradients_by_counts_are_differences(changes):
    graph = random_graph(genes=10, peaks=24)
    model = smooth_model(graph, **changes)
    pairs = np.array([[0, 0], [5, 11], [0, 7]])
    table = value_gradients(model, graph, pairs, ["a", "b", "a"])
    expected = per_pair(model, graph, pairs)
    for group, members in (("a", [0, 2]), ("b", [1])):
        for side in ("gene", "peak"):
            part = table[(table["group"] == group) & (table["side"] == side)]
            slope, value = np.moveaxis([expected[number][side] for number in members], 1, 0)
            there = (value > 0).sum(0)
            assert part["feature"].tolist() == list(graph.names[side][there > 0])
            np.testing.assert_array_equal(part["n_pairs"], there[there > 0])
            for name, values in (("gradient", slope), ("product", slope * value)):
                mean = values.sum(0)[there > 0] / there[there > 0]
                assert np.abs(mean).max() > 1e-4
                np.testing.assert_allclose(part[name], mean, rtol=1e-4, atol=1e-8)


def test_gradients_are_had_of_other_models_of_pairs():
    graph = random_graph(genes=10, peaks=24)
    pairs, labels = make_pairs(np.arange(12), np.zeros(12), mode="random")
    validation = make_pairs(np.arange(12, 20), np.zeros(8), mode="random")
    model = PairMLP(graph, config=PairMLPConfig(id_width=8, hidden=8, max_epochs=1))
    model.fit(pairs, labels, validation=validation, device="cpu", progress=False)
    model._network = model._network.double()
    table = value_gradients(model, graph, [[5, 11]])
    ((gene, peak),) = [sides.values() for sides in per_pair(model, graph, np.array([[5, 11]]))]
    for side, (slope, value) in (("gene", gene), ("peak", peak)):
        part = table[table["side"] == side]
        np.testing.assert_allclose(part["gradient"], slope[value > 0], rtol=1e-4, atol=1e-9)
        assert part["gradient"].abs().max() > 1e-6


@pytest.mark.parametrize("held", [1 << 22, 20], ids=["at once", "in pieces"])
def test_products_of_gradients_join_a_gene_and_a_peak_by_pair(held, monkeypatch):
    monkeypatch.setattr("heteromics.interpret._attribution_values._HELD", held)
    graph = random_graph(genes=10, peaks=24)
    model = smooth_model(graph)
    model.config = dataclasses.replace(model.config, batch_size=2)
    monkeypatch.setattr("heteromics.models._pair_model.FEWEST_PAIRS", 2)
    pairs = np.array([[0, 0], [5, 11], [0, 7], [3, 3], [8, 9]])
    links = model.links(pairs)[["gene", "peak"]].sample(frac=1, random_state=0)
    table = attribute(model, graph, pairs, links, ["gradient_product"])
    total, there = np.zeros((2, 10, 24))
    for sides in per_pair(model, graph, pairs):
        (slope, value), (peak_slope, peak_value) = sides["gene"], sides["peak"]
        total += np.outer(slope * value, peak_slope * peak_value)
        there += np.outer(value > 0, peak_value > 0)
    place = graph.index("gene", table["gene"]), graph.index("peak", table["peak"])
    np.testing.assert_allclose(table["gradient_product"], total[place] / there[place], rtol=1e-4, atol=1e-12)
    np.testing.assert_array_equal(table["n_pairs"], there[place])


def counts_of(graph, etype):
    indptr, indices, _ = graph.adjacency(etype)
    dense = np.zeros((graph.num_nodes(etype[0]), graph.num_nodes(etype[2])))
    for row in range(len(dense)):
        part = slice(int(indptr[row]), int(indptr[row + 1]))
        dense[row, indices[part].numpy()] = graph.edata(etype)["weight"][part]
    return dense


@pytest.mark.parametrize(
    "changes",
    [{}, {"layers": 2, "heads": 2, "weights": "softmax", "top_k": 3}, {"mask": "window"}],
    ids=["default", "layers", "window"],
)
def test_a_deleted_peak_is_a_peak_that_was_never_measured(changes):
    graph = random_graph()
    model = trained(graph, dataclasses.replace(SMALL, **changes))
    rna, atac = counts_of(graph, EXPRESSES), counts_of(graph, OPENS)
    pairs, groups = np.array([[0, 0], [5, 11], [0, 7], [9, 3]]), np.array(list("abab"))
    peaks = ["peak004", "peak001", "peak030"]
    found = delete_peaks(model, graph, pairs, peaks, groups)
    assert set(found.match["peak"]) == set(peaks)
    assert len(found.match) == 6
    batches = [PairBatcher(graph, model.mask).batch(pair[None]) for pair in pairs]
    for row in found.match.itertuples():
        column = int(row.peak[4:])
        without = atac.copy()
        without[:, column] = 0
        other = build(rna, without)
        inside = np.flatnonzero((groups == row.group) & (atac[pairs[:, 1], column] > 0))
        assert row.n_pairs == len(inside)
        change, moved, attended = [], np.zeros(18), np.zeros(18, int)
        for number in inside:
            batch = PairBatcher(other, model.mask).batch(pairs[number][None])
            change.append(odds_of(model._network, batches[number]) - odds_of(model._network, batch))
            with torch.no_grad():
                sides = [model._network.explained(part)[1] for part in (batches[number], batch)]
            gene = batches[number].gene.numpy()
            square = sum(
                (one.messages.gene - two.messages.gene).double().square().sum(1)
                for one, two in zip(*sides, strict=True)
            )
            rows = [one.messages.gene_row[batches[number].peak[one.messages.peak_row] == column] for one in sides[0]]
            met = np.unique(torch.cat(rows).numpy())
            moved[gene[met]] += square.sqrt().numpy()[met]
            attended[gene[met]] += 1
        assert row.change == pytest.approx(np.mean(change) if change else 0, rel=1e-4, abs=1e-6)
        genes = found.messages[(found.messages["peak"] == row.peak) & (found.messages["group"] == row.group)]
        place = graph.index("gene", genes["gene"])
        assert sorted(place) == np.flatnonzero(attended).tolist()
        np.testing.assert_array_equal(genes["n_pairs"], attended[place])
        np.testing.assert_allclose(genes["change"], moved[place] / attended[place], rtol=1e-4, atol=1e-6)
    assert (found.match["n_pairs"] > 0).sum() >= 4
    assert found.messages["change"].max() > 1e-3
    assert "group" not in delete_peaks(model, graph, pairs, peaks[:1]).match


def test_the_last_open_peak_of_a_chromosome_can_go():
    rng = np.random.default_rng(0)
    rna, atac = rng.poisson(0.6, (20, 18)) + 1, np.zeros((20, 50))
    atac[:, 1] = 1
    atac[1:] += rng.poisson(0.5, (19, 50))
    graph = build(rna, atac)
    model = trained(graph)
    found = delete_peaks(model, graph, [0], ["peak001"])
    assert found.match["n_pairs"].tolist() == [1]
    assert np.isfinite(found.match["change"]).all()
    assert len(found.messages) > 0
    assert delete_peaks(model, graph, [0], ["peak049"]).match["change"].tolist() == [0.0]
    assert delete_peaks(model, graph, [0], ["peak049"]).messages.empty


def test_misuse_is_explained():
    graph = random_graph()
    model = trained(graph)
    with pytest.raises(GraphError, match="1 of 2 names are not among the 50 nodes of type 'peak'"):
        delete_peaks(model, graph, [0], ["peak001", "nowhere"])
    with pytest.raises(ModelError, match="found shape \\(2,\\) for 1 pairs"):
        value_gradients(model, graph, [0], ["a", "b"])
