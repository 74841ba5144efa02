"""A heterograph as figures: its types, its degrees, where its edges lie, and its cells in their places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heteromics.errors import DataError, some
from heteromics.plot._style import COLOURS, GREY, colour_of, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from heteromics.graphs import EdgeType, HeteroGraph

_BINS = 200
_MOST_LINES = 200_000


def metagraph(graph: HeteroGraph) -> Figure:
    """Draw the types of a graph: nodes with their numbers, edge types as arrows with theirs.

    An edge type and its reverse are one arrow with two heads.

    Parameters
    ----------
    graph
        Any heterograph.

    Returns
    -------
    Figure
        Node types stand on a circle in the order of ``graph.ntypes``.
    """
    types = graph.ntypes
    first = np.pi if len(types) == 2 else np.pi / 2  # two types beside each other
    angle = first + 2 * np.pi * np.arange(len(types)) / len(types)
    place = {name: np.array([1.6 * np.cos(a), np.sin(a)]) for name, a in zip(types, angle, strict=True)}
    if len(types) == 1:
        place = {types[0]: np.zeros(2)}
    low, high = (-0.7, 1.6) if len(types) <= 2 else (-1.5, 2.2)
    figure, (axes,) = new_figure(6.4, 1.15 * (high - low))
    both = set(graph.reverse.values())
    drawn: dict[frozenset[str], int] = {}
    for etype in graph.canonical_etypes:
        if etype in graph.reverse:
            continue
        ends = frozenset((etype[0], etype[2]))
        text = f"{etype[1]}\n{graph.num_edges(etype):,}"
        _arrow(axes, place[etype[0]], place[etype[2]], text, drawn.get(ends, 0), two_way=etype in both)
        drawn[ends] = drawn.get(ends, 0) + 1
    colours = colour_of(types)
    for name, (x, y) in place.items():
        label = f"{name}\n{graph.num_nodes(name):,}"
        box = {"boxstyle": "round,pad=0.5", "facecolor": colours[name], "edgecolor": "white"}
        axes.text(x, y, label, ha="center", va="center", color="white", weight="bold", bbox=box, zorder=3)
    axes.set(xlim=(-2.6, 2.6), ylim=(low, high))
    axes.axis("off")
    return figure


def _arrow(axes: Axes, start: NDArray[Any], stop: NDArray[Any], text: str, order: int, *, two_way: bool) -> None:
    """Draw one edge type; further ones between the same types bend more, loops stand above their type."""
    from matplotlib.patches import Ellipse, FancyArrowPatch

    if np.array_equal(start, stop):
        high = 0.5 + 0.55 * order
        axes.add_patch(Ellipse((start[0], start[1] + high / 2), 0.35 + 0.4 * order, high, fill=False, color=GREY))
        axes.text(start[0], start[1] + high + 0.16, text, ha="center", va="center", fontsize=8)
        return
    bend = 0.12 + 0.22 * order
    style = "<|-|>" if two_way else "-|>"
    ends = ((start[0], start[1]), (stop[0], stop[1]))
    arrow = FancyArrowPatch(
        *ends, arrowstyle=style, connectionstyle=f"arc3,rad={bend}", shrinkA=26, shrinkB=26, mutation_scale=12
    )
    arrow.set_color(GREY)
    axes.add_patch(arrow)
    along = stop - start
    x, y = start + 0.4 * along + bend * 0.48 * np.array([along[1], -along[0]])
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8}
    axes.text(x, y, text, ha="center", va="center", fontsize=8, bbox=box)


def degrees(graph: HeteroGraph, etypes: Sequence[EdgeType] | None = None) -> Figure:
    """Draw, for each edge type, the share of nodes with at least so many edges, out of sources and into destinations.

    Parameters
    ----------
    graph
        Any heterograph.
    etypes
        Edge types to draw; all that are no reverse by default.

    Returns
    -------
    Figure
        Both axes logarithmic; nodes without an edge lower the start of a line below 1.

    Raises
    ------
    DataError
        When there is no edge type to draw.
    """
    chosen = [etype for etype in graph.canonical_etypes if etype not in graph.reverse] if etypes is None else etypes
    if not chosen:
        raise DataError(f"degrees: no edge type to draw, the graph has {some(map(str, graph.canonical_etypes))}.")
    figure, panels = new_figure(8.8, 3.2, columns=2)
    for axes, by, side in zip(panels, ("src", "dst"), (0, 2), strict=True):
        for colour, etype in zip(COLOURS * len(chosen), chosen, strict=False):
            number = graph.adjacency(etype, by="src" if by == "src" else "dst")[0].diff().numpy()
            values, counts = np.unique(number[number > 0], return_counts=True)
            if values.size:
                at_least = counts[::-1].cumsum()[::-1] / number.size
                axes.step(values, at_least, where="post", color=colour, label=f"{etype[side]} · {etype[1]}")
        axes.set(xscale="log", yscale="log", xlabel=f"edges {'out of' if by == 'src' else 'into'} a node")
        if axes.lines:
            axes.legend(frameon=False, fontsize=8)
        tidy(axes)
    panels[0].set_ylabel("share of nodes with as many")
    return figure


def adjacency(graph: HeteroGraph, etype: EdgeType, *, bins: int = _BINS) -> Figure:
    """Draw where the edges of one type lie, sources down and destinations across, in the order of the nodes.

    Parameters
    ----------
    graph, etype
        One edge type of a graph. Chromosome masks, batches and sorted cells show as blocks.
    bins
        At most so many rows and columns of the picture, whatever the number of nodes; each place shows the share of its
        pairs that have an edge.

    Raises
    ------
    DataError
        When the type has no edge.
    """
    indptr, indices, _ = graph.adjacency(etype)
    if not len(indices):
        raise DataError(f"adjacency: {etype} has no edge, expected one or more.")
    shape = (graph.num_nodes(etype[0]), graph.num_nodes(etype[2]))
    binned = [np.arange(size) * min(bins, size) // size for size in shape]
    size = [np.bincount(bin_of) for bin_of in binned]
    row = np.repeat(binned[0], np.diff(indptr.numpy()))
    place = row * len(size[1]) + binned[1][indices.numpy()]
    share = np.bincount(place, minlength=len(size[0]) * len(size[1])).reshape(len(size[0]), -1) / np.outer(*size)
    figure, (axes,) = new_figure(5.2, 4.2)
    shown = axes.imshow(
        np.log10(share, out=np.full(share.shape, np.nan), where=share > 0),
        aspect="auto",
        cmap="viridis",
        extent=(0, shape[1], shape[0], 0),
        interpolation="nearest",
    )
    figure.colorbar(shown, label="log10 share of pairs with an edge")
    axes.set(xlabel=etype[2], ylabel=etype[0], title=f"{etype[1]}, {len(indices):,} edges")
    return figure


def places(
    graph: HeteroGraph, etype: EdgeType, *, values: ArrayLike | None = None, label: str = "", position: str = "position"
) -> Figure:
    """Draw nodes where they are, their edges as lines, and values as colours.

    Parameters
    ----------
    graph, etype
        Edges between nodes of one type that has coordinates, such as a spatial graph.
    values
        One number per node; names, and codes of few kinds, become colours of their own.
    label
        What the values are.
    position
        Name of the coordinates among the features of the nodes; the first two columns are drawn.

    Raises
    ------
    DataError
        When the ends differ in type, there are no coordinates, values do not fit, or there are more edges than a
        picture can show.
    """
    ntype = etype[0]
    if etype[2] != ntype or position not in graph.ndata(ntype):
        raise DataError(
            f"places: found {etype} and features {some(graph.ndata(ntype))} of '{ntype}', expected edges between nodes "
            f"of one type with '{position}'."
        )
    indptr, indices, _ = graph.adjacency(etype)
    if len(indices) > _MOST_LINES:
        raise DataError(
            f"places: found {len(indices):,} edges, expected at most {_MOST_LINES:,}. Fix: draw one library or region."
        )
    from matplotlib.collections import LineCollection

    points = graph.ndata(ntype)[position][:, :2].numpy()
    x, y = points.T
    given = None if values is None else np.asarray(values)
    if given is not None and given.shape != (len(points),):
        raise DataError(f"places: found values of shape {given.shape}, expected ({len(points)},): one per node.")
    figure, (axes,) = new_figure(6.4, 5.0)
    source = np.repeat(np.arange(len(points)), np.diff(indptr.numpy()))
    lines = list(np.stack([points[source], points[indices.numpy()]], 1))
    axes.add_collection(LineCollection(lines, colors=GREY, linewidths=0.4, alpha=0.6, zorder=1))
    size = float(np.clip(20_000 / max(len(points), 1), 1, 30))
    if given is None:
        axes.scatter(x, y, s=size, color=COLOURS[0], zorder=2)
    elif given.dtype.kind == "f" or (given.dtype.kind in "iu" and np.unique(given).size > len(COLOURS)):
        shown = axes.scatter(x, y, s=size, c=given.astype(float), cmap="viridis", zorder=2)
        figure.colorbar(shown, label=label)
    else:
        for kind, colour in _colours(given).items():
            chosen = given.astype(str) == kind
            axes.scatter(x[chosen], y[chosen], s=size, color=colour, label=kind, zorder=2)
        axes.legend(frameon=False, fontsize=8, title=label, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set(aspect="equal", xlabel="x", ylabel="y", title=f"{etype[1]}, {len(indices):,} edges")
    tidy(axes)
    return figure


def _colours(given: NDArray[Any]) -> dict[str, Any]:
    """Give each kind a colour: those that stay apart while they last, else steps of a scale."""
    import matplotlib as mpl

    kinds = [str(kind) for kind in np.unique(given if given.dtype.kind in "iub" else given.astype(str))]
    if len(kinds) <= len(COLOURS):
        return dict(colour_of(kinds))
    return dict(zip(kinds, mpl.colormaps["turbo"](np.linspace(0, 1, len(kinds))), strict=True))
