"""What stands in the figure of a network: the strongest rows, their nodes once, few crossings, signs as colours."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import FancyArrowPatch

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


def arrows(axes):
    return [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]


def names(axes):
    return sorted(text.get_text() for text in axes.texts)


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_three_layers_have_each_node_and_edge_once():
    table = triples()
    (axes,) = plot.network(table).axes
    nodes = {kind: table[kind].nunique() for kind in ("tf", "peak", "gene")}
    assert len(arrows(axes)) == len(table[["tf", "peak"]].drop_duplicates()) + len(
        table[["peak", "gene"]].drop_duplicates()
    )
    assert [len(part.get_offsets()) for part in axes.collections] == list(nodes.values())
    assert [set(part.get_offsets()[:, 0]) for part in axes.collections] == [{0.0}, {1.0}, {2.0}]
    wanted = {"factors", "peaks", "genes"}.union(*(table[kind] for kind in nodes))
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
    assert sum(len(part.get_offsets()) for part in axes.collections) <= most


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
    assert to_hex(arrows(axes)[list(edges).index((("peak", "q"), ("gene", "B")))].get_edgecolor()) == COLOURS[5].lower()


def test_factors_and_genes_by_force_with_a_factor_that_is_a_target():
    table = pd.DataFrame({"tf": ["T", "T", "S"], "gene": ["A", "S", "B"], "best": [3.0, 2.0, 1.0]})
    figures = [plot.network(table, score="best", title="L4") for _ in range(2)]
    (axes,), (again,) = (figure.axes for figure in figures)
    assert names(axes) == ["A", "B", "S", "T"]  # S once
    assert [len(part.get_offsets()) for part in axes.collections] == [2, 2]
    assert len(arrows(axes)) == 3
    assert axes.get_title(loc="left") == "L4"
    for one, other in zip(axes.collections, again.collections, strict=True):
        np.testing.assert_array_equal(one.get_offsets(), other.get_offsets())
    shuffled = plot.network(table.sample(frac=1, random_state=1), score="best").axes[0]
    for one, other in zip(axes.collections, shuffled.collections, strict=True):
        found, wanted = (np.sort(np.asarray(part.get_offsets()), axis=0) for part in (one, other))
        np.testing.assert_allclose(found, wanted)


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
