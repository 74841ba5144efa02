"""What stands in the figure of a network: the strongest rows, their nodes once, few crossings, signs as colours."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex

from heteromics import plot
from heteromics.errors import DataError
from heteromics.plot._style import COLOURS
from heteromics.plot.network import _edges, _layered


def triples(n=40, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "tf": [f"T{i}" for i in rng.integers(0, 5, n)],
            "peak": [f"p{i}" for i in rng.integers(0, 20, n)],
            "gene": [f"g{i}" for i in rng.integers(0, 15, n)],
            "score": rng.permutation(n) / n + 0.1,
        }
    )


def lines(axes):
    (found,) = (part for part in axes.collections if isinstance(part, LineCollection))
    return found


def nodes(axes):
    return [part for part in axes.collections if isinstance(part, PathCollection)]


def names(axes):
    return sorted(text.get_text() for text in axes.texts)


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_three_layers_have_each_node_and_edge_once():
    table = triples()
    (axes,) = plot.network(table).axes
    number = {kind: table[kind].nunique() for kind in ("tf", "peak", "gene")}
    assert len(lines(axes).get_segments()) == len(table[["tf", "peak"]].drop_duplicates()) + len(
        table[["peak", "gene"]].drop_duplicates()
    )
    assert [len(part.get_offsets()) for part in nodes(axes)] == list(number.values())
    assert [set(part.get_offsets()[:, 0]) for part in nodes(axes)] == [{0.0}, {1.0}, {2.0}]
    wanted = {"factors", "peaks", "genes"}.union(*(table[kind] for kind in number))
    assert names(axes) == sorted(wanted)
    assert axes.get_title(loc="right") == "40 of 40 rows"


@pytest.mark.parametrize("most", [12, 20, 30])
def test_the_strongest_rows_that_fit_are_drawn(most):
    table = triples()
    (axes,) = plot.network(table, most=most).axes
    ordered = table.sort_values("score", ascending=False)
    fits = [len({*part["tf"], *part["peak"], *part["gene"]}) <= most for part in (ordered[:n] for n in range(1, 41))]
    number = fits.index(False)
    assert axes.get_title(loc="right") == f"{number} of 40 rows"
    assert sum(len(part.get_offsets()) for part in nodes(axes)) <= most


def crossings(place, edges):
    lines = [(place[a], place[b]) for a, b in edges]
    return sum(
        a[0] == c[0] and (a[1] - c[1]) * (b[1] - d[1]) < 0 for i, (a, b) in enumerate(lines) for c, d in lines[i + 1 :]
    )


def test_layers_are_ordered_to_have_fewer_crossings_than_by_name():
    edges = list(_edges(triples(), ("tf", "peak", "gene")))
    layers = {kind: sorted({n for e in edges for n in e if n[0] == kind}) for kind in ("tf", "peak", "gene")}
    by_name = {n: (list(layers).index(k), i / len(ns)) for k, ns in layers.items() for i, n in enumerate(ns)}
    assert crossings(_layered(layers, edges), edges) < 0.6 * crossings(by_name, edges)
    ladder = [(("tf", f"T{i}"), ("peak", f"p{9 - i}")) for i in range(10)]
    rungs = {kind: sorted({n for e in ladder for n in e if n[0] == kind}) for kind in ("tf", "peak")}
    assert crossings(_layered(rungs, ladder), ladder) == 0


def test_signs_are_colours_and_edges_of_several_signs_have_none():
    table = pd.DataFrame(
        {
            "tf": ["T", "T", "T", "S"],
            "peak": ["p", "q", "r", "r"],
            "gene": ["A", "B", "C", "C"],
            "score": [4.0, 3.0, 2.0, 1.0],
            "sign": [1, -1, 1, -1],
        }
    )
    edges = _edges(table, ("tf", "peak", "gene"))
    assert edges[("peak", "p"), ("gene", "A")] == (4.0, 1)
    assert edges[("peak", "q"), ("gene", "B")] == (3.0, -1)
    assert edges[("peak", "r"), ("gene", "C")] == (2.0, 0)
    assert edges[("tf", "T"), ("peak", "p")] == (4.0, 0)  # binding has no sign
    (axes,) = plot.network(table).axes
    assert legend(axes)[:3] == ["activates", "sign not known", "represses"]
    assert to_hex(lines(axes).get_edgecolors()[list(edges).index((("peak", "q"), ("gene", "B")))]) == COLOURS[5].lower()


def test_factors_and_genes_are_two_layers_and_a_factor_that_is_a_target_stands_in_both():
    table = pd.DataFrame({"tf": ["T", "T", "S"], "gene": ["A", "S", "B"], "best": [3.0, 2.0, 1.0]})
    (axes,) = plot.network(table, score="best", title="L4").axes
    assert names(axes) == ["A", "B", "S", "S", "T", "factors", "genes"]
    assert [set(part.get_offsets()[:, 0]) for part in nodes(axes)] == [{0.0}, {1.0}]
    assert len(lines(axes).get_segments()) == 3
    assert axes.get_title(loc="left") == "L4"
    shuffled = plot.network(table.sample(frac=1, random_state=1), score="best").axes[0]
    for one, other in zip(nodes(axes), nodes(shuffled), strict=True):
        np.testing.assert_array_equal(one.get_offsets(), other.get_offsets())


def test_names_do_not_run_into_each_other():
    table = pd.DataFrame({"tf": [f"T{i}" for i in range(60)], "gene": [f"g{i % 25}" for i in range(60)], "score": 1.0})
    figure = plot.network(table)
    (axes,) = figure.axes
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


def test_what_cannot_be_drawn_is_said():
    table = triples()
    with pytest.raises(DataError, match=r"network: found 0 rows with columns tf, .*; expected at least one row with"):
        plot.network(table[:0])
    with pytest.raises(DataError, match=r"network: found 2 groups: A, B\. Fix: draw one of them"):
        plot.network(table.assign(group=["A", "B"] * 20))
    with pytest.raises(DataError, match=r"most=2, expected at least 3, the nodes of one row"):
        plot.network(table, most=2)
    with pytest.raises(DataError, match=r"network: 1 of 40 rows have no finite 'score': 7"):
        plot.network(table.assign(score=np.where(table.index == 7, np.nan, 1.0)))
