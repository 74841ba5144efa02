"""Null models of one edge type of a graph; see :mod:`heteromics.graphs.transforms`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from heteromics.errors import GraphError
from heteromics.graphs._derive import Edges, derive, edges_of, mates, origin_of
from heteromics.graphs._dgl import EdgeType
from heteromics.graphs._rewire import Mode, Places, move_links, swap_edges
from heteromics.graphs.schema import HeteroGraph

BINS_BP = (0, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_001)
"""Bounds of the distance bins of :func:`rewire_within_distance`, in bp."""


def shuffle_edges(
    graph: HeteroGraph, etype: EdgeType, *, swaps_per_edge: int = 20, seed: int, progress: bool = True
) -> HeteroGraph:
    """Shuffle the edges of one type, the degree of every node kept: a null model that keeps hubs and nothing else.

    Parameters
    ----------
    graph, etype
        See the module. Between two node types edges stay between them. Within one node type they are undirected where
        every edge has its counterpart with the same data, and stay so; else directed, in- and out-degrees both kept. No
        edge doubles and no loop is made; loops that are there stay.
    swaps_per_edge
        How often each edge is tried, 1 or more. Whether it was enough is in the note: ``unchanged`` is the share of
        edges that are as before, half-way and at the end; when the two agree, more swaps change nothing.
    seed
        The same seed makes the same graph.
    progress
        Show a bar.

    Returns
    -------
    HeteroGraph
        Data go with the edge and stay with its source: the values of a cell remain, and are given to other genes. In an
        undirected type they go with the pair. ``distance`` between nodes with positions is left out, since it would be
        that of others; :func:`rewire_within_distance` keeps it.

    Raises
    ------
    GraphError
        For edges that stand twice, or no swaps.

    Notes
    -----
    See :func:`heteromics.graphs._rewire.swap_edges` for the source and why all graphs are equally likely in the end.
    """
    origin = origin_of(graph, etype)
    edges = edges_of(graph, origin)
    nodes = graph.num_nodes(origin[2])
    if swaps_per_edge < 1:
        raise GraphError(f"shuffle_edges: found swaps_per_edge={swaps_per_edge}, expected 1 or more.")
    _refuse_doubles("shuffle_edges", edges, nodes)
    located = all({"chrom", "position"} <= graph.ndata(ntype).keys() for ntype in (origin[0], origin[2]))
    dropped = ["distance"] if located and "distance" in edges.data else []
    edges = edges._replace(data={key: value for key, value in edges.data.items() if key not in dropped})
    mate = mates(graph, origin, edges)
    mode: Mode = "bipartite" if origin[0] != origin[2] else "directed" if mate is None else "undirected"
    loop = edges.src == edges.dst if mode != "bipartite" else np.zeros(edges.src.size, dtype=bool)
    moving = edges.take((edges.src < edges.dst) if mode == "undirected" else ~loop)
    rng = np.random.default_rng(seed)
    swapped = swap_edges(moving.src, moving.dst, nodes, mode, rounds=swaps_per_edge, rng=rng, progress=progress)
    parts = [moving._replace(src=swapped.src, dst=swapped.dst), edges.take(loop)]
    if mode == "undirected":
        parts.append(moving._replace(src=swapped.dst, dst=swapped.src))
    note = {"name": "shuffle_edges", "etype": list(origin), "mode": mode, "swaps_per_edge": swaps_per_edge}
    note |= {"seed": seed, "swaps": swapped.made, "unchanged": [round(share, 4) for share in swapped.unchanged]}
    return derive(graph, {**note, "loops": int(loop.sum()), "dropped_data": dropped}, {origin: _joined(parts)})


def rewire_within_distance(
    graph: HeteroGraph,
    etype: EdgeType,
    *,
    bins_bp: Sequence[int] = BINS_BP,
    keep: Literal["src", "dst"] = "src",
    seed: int,
) -> HeteroGraph:
    """Move each link to another node on the chromosome that is as far away: a null model of peak-gene links.

    Every gene keeps its number of links in every distance bin. Of its m links in a bin that also holds f peaks it is
    not linked to, min(m, f) at random move to different ones of the f at random; where f is below m the others have no
    alternative and stay.

    Parameters
    ----------
    graph, etype
        Between two node types, both with ``chrom`` and ``position`` (bp), as :func:`heteromics.graphs.bipartite` makes
        them. Peaks to move to are those of the graph.
    bins_bp
        Bounds of the bins, rising: distance without sign between positions, a bin holding its lower bound and not its
        upper one. Links beyond, or of nodes that have no place, stay.
    keep
        The end whose numbers are kept, ``"src"`` or ``"dst"`` of ``etype`` as named.
    seed
        The same seed makes the same graph.

    Returns
    -------
    HeteroGraph
        Data go with the link; ``distance`` is computed anew. The note counts links that ``moved``, ``stayed`` for lack
        of an alternative, and are ``outside`` all bins. Degrees of the other end change.

    Raises
    ------
    GraphError
        Without positions, for a type between nodes of one type, bounds that do not rise, links that stand twice, or
        when no link at all can move.
    """
    origin = origin_of(graph, etype)
    edges = edges_of(graph, origin)
    if origin[0] == origin[2]:
        raise GraphError(
            f"rewire_within_distance: {origin} joins nodes of one type, expected two, such as genes and peaks; nodes "
            "could be joined with themselves, and one direction without the other. Fix: shuffle_edges."
        )
    bounds = np.asarray(bins_bp, dtype=np.int64)
    if (
        bounds.ndim != 1
        or bounds.size < 2
        or bounds[0] < 0
        or (np.diff(bounds) <= 0).any()
        or keep not in ("src", "dst")
    ):
        raise GraphError(
            f"rewire_within_distance: found bins_bp={list(bins_bp)} and keep={keep!r}, expected two or more bounds of "
            "0 bp or more that rise, and 'src' or 'dst'."
        )
    _refuse_doubles("rewire_within_distance", edges, graph.num_nodes(origin[2]))
    from_src = (keep == "src") == (tuple(etype) == origin)
    anchor, other = (edges.src, edges.dst) if from_src else (edges.dst, edges.src)
    at, to = (_places(graph, ntype) for ntype in ((origin[0], origin[2]) if from_src else (origin[2], origin[0])))
    found = move_links(anchor, other, at, to, bounds, np.random.default_rng(seed))
    counted = {"moved": int(found.moved.sum()), "outside": int(found.outside.sum())}
    counted["stayed"] = anchor.size - counted["moved"] - counted["outside"]
    if anchor.size and not counted["moved"]:
        raise GraphError(
            f"rewire_within_distance: none of {anchor.size} links of {origin} can move: {counted['outside']} are "
            f"outside {bounds[0]} to {bounds[-1]} bp, {counted['stayed']} are to all that is in their bin. "
            "Fix: wider bins, or links that are a choice among those in reach (threshold them first)."
        )
    data = dict(edges.data)
    if "distance" in data:
        there = found.moved & (at.chrom[anchor] >= 0)
        far = np.abs(to.position[found.other] - at.position[anchor])
        distance = data["distance"].clone()
        distance[torch.from_numpy(there)] = torch.from_numpy(far[there]).to(distance.dtype)
        data["distance"] = distance
    new = Edges(anchor, found.other, data) if from_src else Edges(found.other, anchor, data)
    note = {"name": "rewire_within_distance", "etype": list(origin), "bins_bp": bounds.tolist(), "keep": keep}
    return derive(graph, {**note, "seed": seed, **counted}, {origin: new})


def _refuse_doubles(what: str, edges: Edges, nodes: int) -> None:
    key = np.sort(edges.src * max(nodes, 1) + edges.dst)
    if doubles := int((key[1:] == key[:-1]).sum()):
        raise GraphError(
            f"{what}: {doubles} of {key.size} edges stand twice, expected distinct pairs. Fix: merge them."
        )


def _joined(parts: Sequence[Edges]) -> Edges:
    names = parts[0].data
    return Edges(
        np.concatenate([part.src for part in parts]),
        np.concatenate([part.dst for part in parts]),
        {name: torch.cat([part.data[name] for part in parts]) for name in names},
    )


def _places(graph: HeteroGraph, ntype: str) -> Places:
    data = graph.ndata(ntype)
    if absent := sorted({"chrom", "position"} - data.keys()):
        raise GraphError(f"nodes '{ntype}' have no {' and no '.join(absent)}, which distances are computed from.")
    return Places(data["chrom"].numpy().astype(np.int64), data["position"].numpy().astype(np.int64))
