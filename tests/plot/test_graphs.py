"""Figures of graphs hold the numbers of the graph, whatever its size."""

import numpy as np
import pandas as pd
import pytest
import torch

from heteromics.errors import DataError
from heteromics.graphs import HeteroGraph
from heteromics.plot import adjacency, degrees, metagraph, places

EXPRESSES = ("cell", "expresses", "gene")
ADJOINS = ("cell", "adjoins", "cell")


@pytest.fixture
def graph():
    rng = np.random.default_rng(0)
    cells, genes = 30, 50
    expresses = np.nonzero(rng.random((cells, genes)) < 0.2)
    pairs = np.nonzero(np.triu(rng.random((cells, cells)) < 0.1, 1))
    both = (np.concatenate(pairs), np.concatenate(pairs[::-1]))
    return HeteroGraph.from_edges(
        {EXPRESSES: expresses, ADJOINS: both},
        names={"cell": [f"c{i}" for i in range(cells)], "gene": [f"g{i}" for i in range(genes)]},
        ndata={"cell": {"position": torch.from_numpy(rng.random((cells, 2), dtype=np.float32))}},
        reverse={("gene", "expressed_by", "cell"): EXPRESSES},
    )


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_the_metagraph_names_types_and_numbers_and_a_reverse_once(graph):
    found = texts(metagraph(graph))
    assert "cell\n30" in found
    assert "gene\n50" in found
    assert f"expresses\n{graph.num_edges(EXPRESSES):,}" in found
    assert f"adjoins\n{graph.num_edges(ADJOINS):,}" in found
    assert not any("expressed_by" in text for text in found)


def test_the_metagraph_of_one_type(graph):
    alone = HeteroGraph.from_edges({ADJOINS: ([0], [1])}, names={"cell": ["a", "b"]})
    assert "cell\n2" in texts(metagraph(alone))


def test_degrees_begin_at_the_share_of_nodes_with_an_edge(graph):
    left, right = degrees(graph, [ADJOINS]).axes
    out = graph.adjacency(ADJOINS)[0].diff().numpy()
    line = left.lines[0]
    assert line.get_ydata()[0] == pytest.approx((out > 0).mean())
    assert line.get_xdata()[-1] == out.max()
    assert line.get_ydata()[-1] == pytest.approx((out == out.max()).mean())
    assert len(right.lines) == 1


def test_degrees_of_a_type_without_edges_are_an_empty_panel():
    empty = HeteroGraph.from_edges({ADJOINS: ([], [])}, names={"cell": ["a"]})
    assert [len(axes.lines) for axes in degrees(empty).axes] == [0, 0]


def test_degrees_of_nothing(graph):
    with pytest.raises(DataError, match="no edge type to draw"):
        degrees(graph, [])


@pytest.mark.parametrize("bins", [200, 7])
def test_the_picture_shows_the_share_of_pairs_with_an_edge(graph, bins):
    image = np.ma.filled(10.0 ** adjacency(graph, EXPRESSES, bins=bins).axes[0].images[0].get_array(), 0)
    assert image.shape == (min(bins, 30), min(bins, 50))
    dense = np.zeros((30, 50))
    indptr, indices, _ = graph.adjacency(EXPRESSES)
    dense[np.repeat(np.arange(30), np.diff(indptr.numpy())), indices.numpy()] = 1
    rows, columns = ([np.arange(n) * min(bins, n) // n == b for b in range(min(bins, n))] for n in (30, 50))
    expected = [[dense[np.ix_(row, column)].mean() for column in columns] for row in rows]
    np.testing.assert_allclose(image, expected, rtol=1e-6)


def test_a_picture_of_no_edge():
    empty = HeteroGraph.from_edges({ADJOINS: ([], [])}, names={"cell": ["a"]})
    with pytest.raises(DataError, match="no edge"):
        adjacency(empty, ADJOINS)


def test_places_draw_every_cell_and_edge(graph):
    axes = places(graph, ADJOINS).axes[0]
    lines, cells = axes.collections
    assert len(lines.get_segments()) == graph.num_edges(ADJOINS)
    assert np.allclose(cells.get_offsets(), graph.ndata("cell")["position"].numpy())


def test_places_show_numbers_by_a_scale_and_kinds_by_colours(graph):
    assert len(places(graph, ADJOINS, values=np.linspace(0, 1, 30), label="gradient").axes) == 2
    kinds = places(graph, ADJOINS, values=["a", "b"] * 15, label="kind").axes[0]
    assert [text.get_text() for text in kinds.get_legend().get_texts()] == ["a", "b"]


@pytest.mark.parametrize("form", [list, lambda kinds: np.array(kinds, dtype=object), pd.Categorical])
def test_many_kinds_of_cells_keep_a_colour_each(graph, form):
    kinds = [f"type {row % 15:02}" for row in range(30)]
    axes = places(graph, ADJOINS, values=form(kinds)).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == sorted(set(kinds))
    assert len({tuple(each.get_facecolor()[0]) for each in axes.collections[1:]}) == 15


@pytest.mark.parametrize(
    ("etype", "options", "said"),
    [
        (EXPRESSES, {}, "expected edges between nodes of one type"),
        (ADJOINS, {"position": "nowhere"}, "'nowhere'"),
        (ADJOINS, {"values": [1, 2]}, "values of shape \\(2,\\), expected \\(30,\\)"),
    ],
)
def test_what_has_no_place(graph, etype, options, said):
    with pytest.raises(DataError, match=said):
        places(graph, etype, **options)


def test_too_many_edges_for_a_picture(graph, monkeypatch):
    monkeypatch.setattr("heteromics.plot.graphs._MOST_LINES", 3)
    with pytest.raises(DataError, match="at most 3"):
        places(graph, ADJOINS)
