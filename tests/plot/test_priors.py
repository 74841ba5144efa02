import networkx as nx
import numpy as np
import pandas as pd
import pytest

from heteromics import plot
from heteromics.errors import DataError

SUMMARY = pd.DataFrame(
    [
        ("gene", "rna.h5ad", "matched", 8),
        ("gene", "rna.h5ad", "absent", 2),
        ("peak", "manifest:item/atac.h5ad", "matched", 5),
    ],
    columns=["table_name", "source", "outcome", "n"],
)


def bars(axes):
    """Width of each bar by outcome, and by row from the top."""
    return {bar.get_label(): [round(patch.get_width(), 9) for patch in bar] for bar in axes.containers}


def test_match_bars_show_shares_that_add_up_to_one():
    (axes,) = plot.match_bars(SUMMARY).axes
    assert bars(axes) == {"matched": [0.8, 1.0], "absent": [0.2, 0.0]}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["gene  ·  rna.h5ad", "peak  ·  atac.h5ad"]
    assert [text.get_text() for text in axes.texts] == ["10", "5"]


def test_no_two_outcomes_look_alike():
    from heteromics.priors.outcomes import OUTCOMES

    summary = pd.DataFrame({"table_name": "gene", "source": "a", "outcome": list(OUTCOMES), "n": 1})
    (axes,) = plot.match_bars(summary).axes
    looks = {(bar[0].get_facecolor(), bar[0].get_hatch()) for bar in axes.containers}
    assert len(looks) == len(OUTCOMES)
    plain = {bar.get_label(): bar[0].get_facecolor() for bar in axes.containers}
    assert plain["same place"] not in {plain["absent"], plain["wrong assembly"]}


def test_link_distances_bin_every_link():
    rng = np.random.default_rng(0)
    offset = rng.integers(-150_000, 150_000, 500)
    links = pd.DataFrame({"signed_offset": offset, "weight": (np.abs(offset) / 1_000 + 1) ** -0.75})
    left, right = plot.link_distances(links).axes
    assert sum(patch.get_height() for patch in left.patches) == 500
    x, y = right.lines[0].get_data()
    assert abs(x[np.argmax(y)]) < 5  # weights are largest at the start site


def test_layered_draws_nodes_and_one_line_an_edge():
    graph = nx.MultiDiGraph()
    graph.add_edge("TF", "peak", key="tf_peak")
    graph.add_edge("TF", "gene", key="tf_gene:dorothea")
    graph.add_edge("gene", "peak", key="gene_peak")
    graph.add_edge("peak", "elsewhere", key="peak_region")
    figure = plot.layered(graph, {"TFs": ["TF"], "peaks": ["peak"], "gene": ["gene"]}, labels={"TF": "GATA1"})
    (axes,) = figure.axes
    assert {text.get_text() for text in axes.texts} == {"GATA1", "peak", "gene"}
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["gene_peak", "tf_gene", "tf_peak"]
    assert sum(len(line.get_xdata()) > 1 for line in axes.lines) == 3


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plot.match_bars(SUMMARY.drop(columns="n")), "lacking n"),
        (lambda: plot.match_bars(SUMMARY.iloc[:0]), "found 0 rows"),
        (lambda: plot.link_distances(pd.DataFrame({"weight": [1.0]})), "lacking signed_offset"),
        (lambda: plot.layered(nx.MultiDiGraph(), {"a": ["x"]}), "1 nodes are not in the graph: x"),
        (lambda: plot.layered(nx.MultiDiGraph(), {}), "no node in any layer"),
        (lambda: plot.layered(nx.path_graph(50), {"a": range(50)}), "found {'a': 50}, expected at most 40"),
    ],
)
def test_figures_that_cannot_be_drawn_say_why(draw, message):
    with pytest.raises(DataError, match=message):
        draw()
