"""What a prior store holds, as figures: which names joined, how links fall off with distance, who is linked to whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from heteromics.errors import DataError, some
from heteromics.plot._style import COLOURS, GREY, colour_of, new_figure, tidy

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_JOINED = ("matched", "version_stripped", "alias", "case_folded", "same_place", "aggregated", "overlapping", "mygene")
_HATCHES = ("", "////", "....", "xxxx")
_MOST_NAMES = 40


def match_bars(summary: pd.DataFrame) -> Figure:
    """Draw, for each table and source, the share of names with each outcome.

    Parameters
    ----------
    summary
        ``PriorStore.match_summary()``: columns ``table_name, source, outcome, n``.

    Returns
    -------
    Figure
        One bar a table and source; joined names in blue and green, the others in warm colours and grey, the number of
        names behind.

    Raises
    ------
    DataError
        When the summary is empty or lacks a column.
    """
    absent = {"table_name", "source", "outcome", "n"} - set(summary.columns)
    if absent or summary.empty:
        raise DataError(f"match_bars: found {len(summary)} rows, lacking {some(sorted(absent)) or 'no column'}.")
    counts = summary.pivot_table(index=["table_name", "source"], columns="outcome", values="n", aggfunc="sum")
    counts = counts.fillna(0.0)[_in_order(counts.columns)]
    share = counts.div(counts.sum(axis=1), axis=0)
    figure, (axes,) = new_figure(8.8, max(0.8 + 0.3 * len(share), 0.5 + 0.2 * share.shape[1]))
    place, left = np.arange(len(share)), np.zeros(len(share))
    looks = _outcome_looks(share.columns)
    for outcome in share.columns:
        width = share[outcome].to_numpy(float)
        colour, hatch = looks[outcome]
        bar = axes.barh(place, width, 0.7, left, color=colour, hatch=hatch, edgecolor="white", linewidth=0)
        bar.set_label(outcome.replace("_", " "))
        left += width
    for row, total in enumerate(counts.sum(axis=1)):
        axes.text(1.01, row, f"{total:,.0f}", va="center", fontsize=8)
    axes.set(xlim=(0, 1), yticks=place, xlabel="share of names")
    axes.invert_yaxis()
    axes.set_yticklabels([f"{table}  ·  {source.split('/')[-1]}" for table, source in share.index], fontsize=8)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.1, 1.0))
    tidy(axes)
    return figure


def _in_order(outcomes: Iterable[str]) -> list[str]:
    joined = [name for name in _JOINED if name in set(outcomes)]
    return [*joined, *sorted(set(outcomes) - set(joined))]


def _outcome_looks(outcomes: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Give each outcome a colour, and a hatch where its colour has been given before."""
    cool, warm = [COLOURS[0], COLOURS[2], COLOURS[4]], [COLOURS[5], COLOURS[1], COLOURS[6], COLOURS[3], GREY]
    names = list(outcomes)
    joined = [name for name in names if name in _JOINED]
    others = [name for name in names if name not in _JOINED]
    return {
        name: (tones[i % len(tones)], _HATCHES[i // len(tones) % len(_HATCHES)])
        for tones, listed in ((cool, joined), (warm, others))
        for i, name in enumerate(listed)
    }


def link_distances(links: pd.DataFrame) -> Figure:
    """Draw how many gene-peak links lie at which signed distance from the transcription start, and their weights.

    Parameters
    ----------
    links
        Table ``gene_peak``: columns ``signed_offset`` (bp, negative upstream) and ``weight``.

    Raises
    ------
    DataError
        When there is no link or a column is missing.
    """
    absent = {"signed_offset", "weight"} - set(links.columns)
    if absent or links.empty:
        raise DataError(f"link_distances: found {len(links)} links, lacking {some(sorted(absent)) or 'no column'}.")
    offset = links["signed_offset"].to_numpy(float) / 1_000
    figure, (left, right) = new_figure(8.8, 2.8, columns=2)
    left.hist(offset, bins=61, color=COLOURS[0])
    left.set(xlabel="kb from transcription start (upstream < 0)", ylabel="links")
    edges = np.linspace(offset.min(), offset.max(), 62)
    which = np.clip(np.digitize(offset, edges) - 1, 0, edges.size - 2)
    total = np.bincount(which, weights=links["weight"].to_numpy(float), minlength=edges.size - 1)
    count = np.bincount(which, minlength=edges.size - 1)
    held = count > 0
    right.plot(((edges[1:] + edges[:-1]) / 2)[held], total[held] / count[held], color=COLOURS[5])
    right.set(xlabel="kb from transcription start (upstream < 0)", ylabel="mean weight", ylim=(0, None))
    for axes in (left, right):
        tidy(axes)
    return figure


def layered(
    graph: nx.MultiDiGraph, layers: Mapping[str, Sequence[str]], *, labels: Mapping[str, str] | None = None
) -> Figure:
    """Draw a small graph in columns, one a layer, edges coloured by their table.

    Parameters
    ----------
    graph
        As :meth:`heteromics.priors.PriorStore.subgraph` returns it: edge keys begin with the edge table's name.
    layers
        Nodes of each column from left to right, by the column's title. Nodes of the graph in no layer are not drawn.
    labels
        What to write beside a node; its name by default.

    Raises
    ------
    DataError
        When there is no node to draw, a node is not in the graph, or a layer holds more than 40 nodes, which
        nobody can read.
    """
    if not any(layers.values()):
        raise DataError(f"layered: found no node in {some(layers) or 'any layer'}, expected one or more.")
    strange = [node for nodes in layers.values() for node in nodes if node not in graph]
    if strange:
        raise DataError(f"layered: {len(strange)} nodes are not in the graph: {some(strange)}.")
    full = {title: len(nodes) for title, nodes in layers.items() if len(nodes) > _MOST_NAMES}
    if full:
        raise DataError(f"layered: found {full}, expected at most {_MOST_NAMES} nodes in a layer. Fix: choose fewer.")
    tallest = max(len(nodes) for nodes in layers.values())
    figure, (axes,) = new_figure(8.8, 1.2 + 0.24 * tallest)
    place = {
        node: (column, tallest * (row + 0.5) / len(nodes))
        for column, nodes in enumerate(layers.values())
        for row, node in enumerate(reversed(nodes))
    }
    _draw_edges(axes, graph, place)
    for node, (x, y) in place.items():
        axes.plot(x, y, "o", color=COLOURS[0], markersize=5, zorder=3)
        axes.annotate(
            (labels or {}).get(node, node),
            (x, y),
            (6, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            zorder=4,
        )
    axes.set(xlim=(-0.15, len(layers) - 0.4), ylim=(-0.5, tallest + 0.5), yticks=[], xticks=range(len(layers)))
    axes.set_xticklabels(layers)
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)
    tidy(axes)
    return figure


def _draw_edges(axes: Axes, graph: nx.MultiDiGraph, place: Mapping[str, tuple[float, float]]) -> None:
    drawn = {
        (min(a, b), max(a, b), str(key).partition(":")[0])
        for a, b, key in graph.edges(keys=True)
        if a in place and b in place
    }
    colours = colour_of(sorted({table for _, _, table in drawn}))
    height = 1 + max(y for _, y in place.values())
    for a, b, table in sorted(drawn):
        x, y = _curve(place[a], place[b], height)
        axes.plot(x, y, color=colours[table], linewidth=1, alpha=0.6)
    for table, colour in colours.items():
        axes.plot([], [], color=colour, label=table)
    if colours:
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _curve(start: tuple[float, float], end: tuple[float, float], height: float) -> tuple[np.ndarray, np.ndarray]:
    """Lead a line from column to column; around the columns between, and beside its own column within one."""
    (x1, y1), (x2, y2) = start, end
    columns = abs(x2 - x1)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    if columns == 0:
        x -= 0.25
    elif columns > 1:
        y += 0.5 * height if y >= height / 2 else -0.5 * height
    t = np.linspace(0, 1, 24)
    before, at, after = (1 - t) ** 2, 2 * t * (1 - t), t**2
    return before * x1 + at * x + after * x2, before * y1 + at * y + after * y2
