"""A regulatory network in layers: factors, the peaks they bind and the genes these speak for; or factors and genes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from heteromics.errors import DataError, some
from heteromics.plot._style import COLOURS, GREY, need, new_figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

Node = tuple[str, str]  # kind and name: a factor that is a target too is two nodes

_LOOKS = {"tf": (COLOURS[1], "s", 42), "peak": (GREY, "|", 40), "gene": (COLOURS[0], "o", 26)}
_TITLES = {"tf": "factors", "peak": "peaks", "gene": "genes"}
_SIGNS = {1: ("activates", COLOURS[0]), -1: ("represses", COLOURS[5]), 0: ("sign not known", GREY)}
_MOST_LABELS = 60
_SWEEPS = 12


def network(table: pd.DataFrame, *, score: str = "score", most: int = 150, title: str = "") -> Figure:
    """Draw the strongest part of a regulatory network.

    Parameters
    ----------
    table
        One row per triple ``tf, peak, gene``, as :func:`heteromics.interpret.regulatory_network` returns it, drawn in
        three layers; or per edge ``tf, gene``, as :func:`heteromics.interpret.tf_gene_edges` does, drawn in two. A
        factor that is a target stands among the genes too. Optional ``sign``: 1 activates, -1 represses, 0 or none
        not known.
    score
        Column by which edges are strong, larger is stronger; ``"best"`` or ``"summed"`` for factors and genes.
    most
        At most so many nodes: rows are taken by falling score until the next one would bring more.
    title
        Figure title; the axes say how many of the rows are drawn.

    Returns
    -------
    Figure
        The same table gives the same figure. Nodes are ordered by the mean place of their neighbours to have few
        crossings (Sugiyama, Tagawa & Toda, 1981, IEEE Trans. Syst. Man Cybern. 11:109). An edge is as wide as its best
        score is high.

    Raises
    ------
    DataError
        When the table is empty, lacks a column, has several groups, or not one row fits into ``most`` nodes.

    Examples
    --------
    >>> import pandas as pd
    >>> edges = pd.DataFrame({"tf": ["T", "T"], "peak": ["p", "q"], "gene": ["A", "B"], "score": [2.0, 1.0]})
    >>> network(edges).axes[0].get_title(loc="right")
    '2 of 2 rows'
    """
    kinds = ("tf", "peak", "gene") if "peak" in table else ("tf", "gene")
    need(table, kinds, "network", numeric=(score,))
    table = table.assign(score=table[score])
    if "group" in table and len(groups := table["group"].astype(str).unique()) > 1:
        raise DataError(f"network: found {len(groups)} groups: {some(groups, 8)}. Fix: draw one of them.")
    chosen = _strongest(table, kinds, most)
    edges = _edges(chosen, kinds)
    layers = {kind: sorted({node for edge in edges for node in edge if node[0] == kind}) for kind in kinds}
    place = _layered(layers, list(edges))
    tallest = max(map(len, layers.values()))
    figure, (axes,) = new_figure(2.0 + 2.0 * len(kinds), float(np.clip(1.2 + 0.16 * tallest, 3.0, 14.0)))
    for column, kind in enumerate(kinds):
        axes.text(column, 1.0 + 1.2 / (tallest + 1), _TITLES[kind], ha="center", fontsize=9, weight="bold")
    axes.set(xlim=(-0.45, len(kinds) - 0.55), ylim=(-0.02, 1.0 + 2.0 / (tallest + 1)))
    _draw_edges(axes, edges, place)
    _draw_nodes(axes, place, edges)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_title(f"{len(chosen):,} of {len(table):,} rows", loc="right", fontsize=8, color=GREY)
    axes.axis("off")
    return figure


def _strongest(table: pd.DataFrame, kinds: Sequence[str], most: int) -> pd.DataFrame:
    """Return the first rows by falling score that have at most so many nodes among them."""
    ordered = table.sort_values(["score", *kinds], ascending=[False, *[True] * len(kinds)], kind="stable")
    new = np.sum([~ordered[kind].duplicated() for kind in kinds], axis=0).cumsum()
    chosen = ordered[new <= most]
    if chosen.empty:
        raise DataError(f"network: found most={most}, expected at least {len(kinds)}, the nodes of one row.")
    return chosen


def _edges(table: pd.DataFrame, kinds: Sequence[str]) -> dict[tuple[Node, Node], tuple[float, int]]:
    """Return the best score and the sign of each edge, strongest first; edges of several signs have none."""
    sign = table["sign"].fillna(0).to_numpy(float) if "sign" in table else np.zeros(len(table))
    found: dict[tuple[Node, Node], tuple[float, int]] = {}
    for left, right in pairwise(kinds):
        signed = np.sign(sign).astype(int) if right == "gene" else np.zeros(len(table), int)
        ends = zip(table[left].astype(str), table[right].astype(str), table["score"].astype(float), signed, strict=True)
        for a, b, score, way in ends:
            key = ((left, a), (right, b))
            best, known = found.get(key, (score, int(way)))
            found[key] = (max(best, score), known if known == way else 0)
    return found


def _layered(layers: Mapping[str, list[Node]], edges: Sequence[tuple[Node, Node]]) -> dict[Node, tuple[float, float]]:
    """Order each layer by the mean place of its neighbours, forth and back."""
    near: dict[Node, list[Node]] = {node: [] for nodes in layers.values() for node in nodes}
    for a, b in edges:
        near[a].append(b)
        near[b].append(a)
    height: dict[Node, float] = {}
    for nodes in layers.values():
        height |= _spread(nodes)
    columns = list(layers)
    for sweep in range(_SWEEPS):
        for kind in columns if sweep % 2 == 0 else columns[::-1]:
            means = [(float(np.mean([height[other] for other in near[node]])), node) for node in layers[kind]]
            height |= _spread([node for _, node in sorted(means)])
    return {node: (float(columns.index(node[0])), y) for node, y in height.items()}


def _spread(nodes: Sequence[Node]) -> dict[Node, float]:
    return {node: (row + 0.5) / len(nodes) for row, node in enumerate(nodes)}


def _shares(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = np.ptp(scores)
    return (scores - scores.min()) / spread if spread else np.ones_like(scores)


def _draw_edges(
    axes: Axes, edges: Mapping[tuple[Node, Node], tuple[float, int]], place: Mapping[Node, tuple[float, float]]
) -> None:
    from matplotlib.collections import LineCollection

    shares = _shares(np.array([score for score, _ in edges.values()]))
    lines = LineCollection(
        [[place[a], place[b]] for a, b in edges],
        linewidths=0.5 + 2.0 * shares,
        alpha=0.35 + 0.45 * shares,
        colors=[_SIGNS[sign][1] for _, sign in edges.values()],
        zorder=1,
    )
    axes.add_collection(lines)
    for sign in sorted({sign for _, sign in edges.values()}, reverse=True):
        axes.plot([], [], color=_SIGNS[sign][1], label=_SIGNS[sign][0])


def _draw_nodes(
    axes: Axes, place: Mapping[Node, tuple[float, float]], edges: Mapping[tuple[Node, Node], tuple[float, int]]
) -> None:
    degree = dict.fromkeys(place, 0)
    for a, b in edges:
        degree[a] += 1
        degree[b] += 1
    for kind, (colour, marker, size) in _LOOKS.items():
        nodes = [node for node in place if node[0] == kind]
        if not nodes:
            continue
        x, y = np.array([place[node] for node in nodes]).T
        axes.scatter(x, y, s=size, color=colour, marker=marker, zorder=3, label=f"{len(nodes)} {_TITLES[kind]}")
        named = nodes if kind == "tf" or len(nodes) <= _MOST_LABELS else _hubs(nodes, degree)
        side = {"tf": (-7, "right"), "peak": (4, "left"), "gene": (7, "left")}[kind]
        for node in named:
            axes.annotate(
                node[1],
                place[node],
                (side[0], 0),
                textcoords="offset points",
                ha=side[1],
                va="center",
                fontsize=5.5 if kind == "peak" else 7,
                weight="bold" if kind == "tf" else "normal",
                zorder=4,
            )


def _hubs(nodes: Sequence[Node], degree: Mapping[Node, int]) -> list[Node]:
    return sorted(nodes, key=lambda node: (-degree[node], node))[:_MOST_LABELS]
