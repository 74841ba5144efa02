"""Transforms of heterographs: ablations, null models, sampling, and new edges along paths.

Each takes a graph and returns another. The one given stays as it is, and what does not change is shared with it: nodes,
their names and data, other edge types. Each says what it did at the end of ``meta["transforms"]``, which the card
shows. An edge type and its reverse are one: naming either changes both. Numbers among the node data that were counted
over edges, such as ``degree``, stay those of the first graph. The kind of the graph stays while it has all types that
its kind needs, else it is ``"custom"``. Rows of edges are sorted by the other node, as builders leave them.

>>> from heteromics.graphs import HeteroGraph, transforms
>>> near = ("gene", "near", "peak")
>>> graph = HeteroGraph.from_edges(
...     {near: ([0, 0, 1], [0, 1, 1])}, names={"gene": ["A", "B"], "peak": ["p", "q"]},
...     edata={near: {"weight": torch.tensor([0.9, 0.1, 0.5])}},
... )
>>> kept = transforms.threshold(graph, near, "weight", at_least=0.5)
>>> kept.num_edges(near), kept.meta["transforms"][0]["kept"]
(2, 2)
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from heteromics.errors import GraphError
from heteromics.graphs._derive import Edges, derive, edges_of, mates, one_number, origin_of
from heteromics.graphs._dgl import EdgeType
from heteromics.graphs._metapath import count_paths
from heteromics.graphs._null_models import BINS_BP, rewire_within_distance, shuffle_edges
from heteromics.graphs.sampling import subgraph
from heteromics.graphs.schema import HeteroGraph

__all__ = [
    "BINS_BP",
    "drop_edge_type",
    "metapath",
    "reverse",
    "rewire_within_distance",
    "shuffle_edges",
    "subsample_edges",
    "subsample_nodes",
    "threshold",
]


def drop_edge_type(graph: HeteroGraph, etype: EdgeType) -> HeteroGraph:
    """Leave out one edge type and its reverse; all nodes stay.

    Raises
    ------
    GraphError
        For a type that is not there, or the only one.
    """
    origin = origin_of(graph, etype)
    return derive(
        graph, {"name": "drop_edge_type", "etype": list(origin), "dropped": graph.num_edges(origin)}, {origin: None}
    )


def threshold(
    graph: HeteroGraph,
    etype: EdgeType,
    data: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    absolute: bool = False,
) -> HeteroGraph:
    """Keep the edges with a value between two bounds.

    Parameters
    ----------
    graph, etype
        See the module.
    data
        Name of the edge data, one number per edge.
    at_least, at_most
        Bounds, inclusive; one or both.
    absolute
        Compare the value without its sign.

    Raises
    ------
    GraphError
        Without bounds, or when the data are not there or have several numbers per edge.
    """
    origin = origin_of(graph, etype)
    edges = edges_of(graph, origin)
    if at_least is None and at_most is None:
        raise GraphError("threshold: found neither at_least nor at_most, expected one or both.")
    value = one_number(edges, origin, data)
    value = np.abs(value) if absolute else value
    keep = np.ones(value.size, dtype=bool)
    if at_least is not None:
        keep &= value >= at_least
    if at_most is not None:
        keep &= value <= at_most
    note = {"name": "threshold", "etype": list(origin), "data": data, "at_least": at_least, "at_most": at_most}
    note |= {"absolute": absolute, "kept": int(keep.sum()), "of": keep.size}
    return derive(graph, note, {origin: edges.take(keep)})


def reverse(graph: HeteroGraph, etype: EdgeType, name: str | None = None, *, replace: bool = False) -> HeteroGraph:
    """Add the other direction of an edge type, as a type of its own that shares arrays and data with it.

    Parameters
    ----------
    graph, etype
        See the module.
    name
        Of the new type, which goes from the destination type to the source type. Default ``"rev_"`` and the name.
    replace
        Leave out the direction given, so that edges are turned around and not doubled.

    Raises
    ------
    GraphError
        When a type of that name is there, or the edge type has a reverse already.
    """
    origin = origin_of(graph, etype)
    pair = {origin, *(turned for turned, of in graph.reverse.items() if of == origin)}
    new = (etype[2], name or f"rev_{etype[1]}", etype[0])
    if new in graph.canonical_etypes or len(pair) > 1:
        raise GraphError(f"reverse: {etype} has a reverse in this graph: {', '.join(map(str, sorted(pair | {new})))}.")
    note = {"name": "reverse", "etype": list(origin), "new": list(new), "replace": replace}
    if not replace:
        return derive(graph, note, {}, {**graph.reverse, new: origin})
    edges = edges_of(graph, origin)
    return derive(graph, note, {origin: None, new: Edges(edges.dst, edges.src, edges.data)})


def subsample_edges(
    graph: HeteroGraph,
    etype: EdgeType,
    *,
    share: float | None = None,
    number: int | None = None,
    weight: str | None = None,
    seed: int,
) -> HeteroGraph:
    """Keep a random part of the edges of one type.

    Parameters
    ----------
    graph, etype
        See the module. Where every edge has its counterpart with the same data (an undirected type), both are kept or
        neither, and share and number are of such pairs.
    share, number
        How many to keep, one of the two; a share is rounded.
    weight
        Name of edge data, at least 0: each next edge is drawn with probability proportional to it, without
        replacement; edges of weight 0 are never kept. None draws evenly.
    seed
        The same seed keeps the same edges.

    Raises
    ------
    GraphError
        For a share or number that cannot be, or weights that are negative or too few above 0.

    Notes
    -----
    Weighted draws: the largest of ``log(u) / weight`` (Efraimidis and Spirakis 2006, doi:10.1016/j.ipl.2005.11.003).
    """
    origin = origin_of(graph, etype)
    edges = edges_of(graph, origin)
    mate = mates(graph, origin, edges)
    units = np.arange(edges.src.size) if mate is None else np.flatnonzero(np.arange(mate.size) <= mate)
    size = _amount("subsample_edges", units.size, share, number)
    rng = np.random.default_rng(seed)
    if weight is None:
        chosen = rng.choice(units, size, replace=False)
    else:
        odds = one_number(edges, origin, weight)[units].astype(np.float64)
        if (odds < 0).any() or (odds > 0).sum() < size:
            raise GraphError(
                f"subsample_edges: {int((odds < 0).sum())} of {odds.size} weights '{weight}' are below 0 and "
                f"{int((odds > 0).sum())} above, expected at least {size} above and none below."
            )
        draw = np.full(odds.size, -np.inf)
        draw[odds > 0] = np.log1p(-rng.random(int((odds > 0).sum()))) / odds[odds > 0]
        chosen = units[np.argsort(-draw, kind="stable")[:size]]
    keep = np.zeros(edges.src.size, dtype=bool)
    keep[chosen] = True
    if mate is not None:
        keep[mate[chosen]] = True
    note = {"name": "subsample_edges", "etype": list(origin), "weight": weight, "seed": seed}
    return derive(graph, {**note, "kept": int(keep.sum()), "of": keep.size}, {origin: edges.take(keep)})


def subsample_nodes(
    graph: HeteroGraph, ntype: str, *, share: float | None = None, number: int | None = None, seed: int
) -> HeteroGraph:
    """Keep a random part of the nodes of one type, in their order, and the edges among what is left.

    Parameters
    ----------
    graph, ntype
        Cells of a bipartite graph are two types, ``rna_cell`` and ``atac_cell``; for the same cells of both use
        :func:`heteromics.graphs.subgraph` with ``graph.index``.
    share, number
        How many to keep, one of the two; a share is rounded.
    seed
        The same seed keeps the same nodes.
    """
    nodes = graph.num_nodes(ntype)
    size = _amount("subsample_nodes", nodes, share, number)
    rows = np.sort(np.random.default_rng(seed).choice(nodes, size, replace=False))
    kept = subgraph(graph, {ntype: rows})
    note = {"name": "subsample_nodes", "ntype": ntype, "seed": seed, "kept": size, "of": nodes}
    kept.meta["transforms"] = [*graph.meta.get("transforms", []), note]
    return kept


def metapath(
    graph: HeteroGraph,
    path: Sequence[EdgeType],
    name: str,
    *,
    weight: str | None = None,
    loops: bool = False,
    most_edges: int = 50_000_000,
    progress: bool = True,
) -> HeteroGraph:
    """Join the two ends of a path of edge types by an edge type of its own.

    Parameters
    ----------
    graph
        See the module.
    path
        Two or more edge types, each starting where the one before ends; reverse types may be among them.
    name
        Of the new type, from the first source type to the last destination type.
    weight
        Edge data, one number per edge on every step: the new edges carry the sum over their paths of the products, as
        ``weight``, float32. None carries none.
    loops
        Keep edges of a node with itself, where both ends are of one type.
    most_edges
        Largest number of pairs that any part of the path may join. It is foreseen from the multiplications it takes
        and a sample of rows, before memory is filled: 16 bytes per pair, and 8 with weights.
    progress
        Show a bar.

    Returns
    -------
    HeteroGraph
        With one edge for each pair that at least one path joins; ``paths``, int64, says how many do.

    Raises
    ------
    GraphError
        When steps do not follow each other, data are not there, the new type is, or it would be too large.

    Examples
    --------
    >>> has, of = ("cell", "has", "gene"), ("gene", "of", "cell")
    >>> graph = HeteroGraph.from_edges(
    ...     {has: ([0, 0, 1], [0, 1, 1])}, names={"cell": ["a", "b"], "gene": ["x", "y"]}, reverse={of: has}
    ... )
    >>> joined = metapath(graph, [has, of], "shares", loops=True, progress=False)
    >>> joined.edata(("cell", "shares", "cell"))["paths"].tolist()
    [2, 1, 1, 1]
    """
    if named := [etype for etype in path if isinstance(etype, str) or len(etype) != 3]:
        raise GraphError(
            f"metapath: found steps {', '.join(map(repr, named))}, expected (source type, name, destination type) each."
        )
    new = (path[0][0], name, path[-1][2]) if path else ("", name, "")
    follow = all(one[2] == other[0] for one, other in pairwise(path))
    if len(path) < 2 or not follow or new in graph.canonical_etypes:
        raise GraphError(
            f"metapath: found {len(path)} steps, {' '.join(map(str, path))}, to make {new}; expected two or more that "
            "follow each other, and a new type."
        )
    ones = [_matrix(graph, etype, None) for etype in path]
    weights = None if weight is None else [_matrix(graph, etype, weight) for etype in path]
    paths, total = count_paths(ones, weights, most_edges, progress=progress)
    row = np.repeat(np.arange(paths.shape[0]), np.diff(paths.indptr))
    data = {"paths": torch.from_numpy(paths.data)}
    if total is not None:
        data["weight"] = torch.from_numpy(total.astype(np.float32))
    edges = Edges(row, paths.indices.astype(np.int64), data)
    if new[0] == new[2] and not loops:
        edges = edges.take(edges.src != edges.dst)
    note = {"name": "metapath", "path": [list(etype) for etype in path], "new": list(new), "weight": weight}
    return derive(graph, {**note, "loops": loops, "edges": edges.src.size}, {new: edges})


def _amount(what: str, size: int, share: float | None, number: int | None) -> int:
    if (share is None) == (number is None) or not 0 <= (share or 0) <= 1 or not 0 <= (number or 0) <= size:
        raise GraphError(f"{what}: found share={share} and number={number}, expected a share or a number of {size}.")
    return number if share is None and number is not None else round((share or 0) * size)


def _matrix(graph: HeteroGraph, etype: EdgeType, weight: str | None) -> sparse.csr_array:
    indptr, indices, order = graph.adjacency(etype)
    if weight is None:
        values: NDArray[Any] = np.ones(len(indices), dtype=np.int64)
    else:
        edges = Edges(np.empty(0, np.int64), np.empty(0, np.int64), dict(graph.edata(etype)))
        values = one_number(edges, etype, weight)[order.numpy()].astype(np.float64)
    shape = graph.num_nodes(etype[0]), graph.num_nodes(etype[2])
    return sparse.csr_array((values, indices.numpy(), indptr.numpy()), shape=shape)
