"""A new graph out of another: some edge types replaced or left out, all else shared, and a note of what was done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heteromics.errors import GraphError
from heteromics.graphs import _dgl
from heteromics.graphs._dgl import By, Compressed, EdgeType
from heteromics.graphs.kinds import known_kind
from heteromics.graphs.schema import HeteroGraph

Int = NDArray[np.int64]


class Edges(NamedTuple):
    """Edges of one type as pairs: int64, shape (E,), with their data in the same order."""

    src: Int
    dst: Int
    data: dict[str, Tensor]

    def take(self, which: NDArray[Any]) -> Edges:
        """Return some of the edges, by number or mask."""
        rows = torch.from_numpy(which)
        return Edges(self.src[which], self.dst[which], {name: tensor[rows] for name, tensor in self.data.items()})


def origin_of(graph: HeteroGraph, etype: EdgeType) -> EdgeType:
    """Return the edge type that holds the edges: the type itself, or the one it reverses."""
    graph.num_edges(etype)  # says which types there are
    return graph.reverse.get((etype[0], etype[1], etype[2]), (etype[0], etype[1], etype[2]))


def edges_of(graph: HeteroGraph, etype: EdgeType) -> Edges:
    """Return the edges of a type that reverses no other, in the order of its stored side."""
    (by, indptr, indices), eids = _dgl.stored(graph.dgl, etype)
    row = np.repeat(np.arange(len(indptr) - 1), indptr.diff().numpy())
    other = indices.numpy().astype(np.int64)
    data = {name: tensor if eids is None else tensor[eids.long()] for name, tensor in graph.edata(etype).items()}
    return Edges(row, other, data) if by == "src" else Edges(other, row, data)


def one_number(edges: Edges, etype: EdgeType, name: str) -> NDArray[Any]:
    """Return edge data of one number per edge, or raise a GraphError."""
    if name not in edges.data or edges.data[name].ndim != 1:
        forms = {key: tuple(value.shape) for key, value in edges.data.items()}
        raise GraphError(f"edges {etype}: found data {forms}, expected '{name}' with one number per edge.")
    return edges.data[name].numpy()


def mates(graph: HeteroGraph, etype: EdgeType, edges: Edges) -> NDArray[np.int64] | None:
    """Counterpart of each edge of an undirected type, (E,); None for others."""
    if etype[0] != etype[2] or etype in graph.reverse.values():
        return None
    nodes = graph.num_nodes(etype[0])
    key, turned = edges.src * nodes + edges.dst, edges.dst * nodes + edges.src
    order, other = np.argsort(key, kind="stable"), np.argsort(turned, kind="stable")
    if not np.array_equal(key[order], turned[other]):
        return None
    mate = np.empty(key.size, dtype=np.int64)
    mate[order] = other
    row = torch.from_numpy(mate)
    return mate if all(_same(value, value[row]) for value in edges.data.values()) else None


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal, NaN and NaN among them."""
    return bool(((one == other) | ((one != one) & (other != other))).all())


def derive(
    graph: HeteroGraph,
    note: Mapping[str, Any],
    replaced: Mapping[EdgeType, Edges | None],
    reverse: Mapping[EdgeType, EdgeType] | None = None,
) -> HeteroGraph:
    """Build the new graph.

    Parameters
    ----------
    graph
        Left as it is.
    note
        Appended to ``meta["transforms"]``.
    replaced
        Edge type -> its new edges in any order, or None for a type to leave out with its reverse. New types may be
        among them. Rows are sorted by the other node.
    reverse
        Reverse types of the new graph; None keeps those whose origin is still there.

    Returns
    -------
    HeteroGraph
        Of the same kind where it still has all node and edge types of that kind, else ``"custom"``.

    Raises
    ------
    GraphError
        When no edge type would be left.
    """
    edges: dict[EdgeType, Compressed] = {}
    edata: dict[EdgeType, Mapping[str, Tensor]] = {}
    kept = [etype for etype in graph.canonical_etypes if etype not in graph.reverse and etype not in replaced]
    for etype in kept:
        edges[etype], eids = _dgl.stored(graph.dgl, etype)
        whole = graph.edata(etype)
        edata[etype] = whole if eids is None else {name: tensor[eids.long()] for name, tensor in whole.items()}
    for etype, new in replaced.items():
        if new is not None:
            by = _dgl.stored(graph.dgl, etype)[0].by if etype in graph.canonical_etypes else "src"
            edges[etype], edata[etype] = _compress(new, by, graph.num_nodes(etype[0]), graph.num_nodes(etype[2]))
    if not edges:
        raise GraphError(f"{note['name']}: no edge type would be left of {graph!r}, expected one or more.")
    if reverse is None:
        reverse = {turned: origin for turned, origin in graph.reverse.items() if origin in edges}
    return HeteroGraph.from_compressed(
        edges,
        names=graph.names,
        ndata={ntype: graph.ndata(ntype) for ntype in graph.ntypes},
        edata=edata,
        kind=_kind(graph, {*edges, *reverse}),
        meta={**graph.meta, "transforms": [*graph.meta.get("transforms", []), dict(note)]},
        reverse=reverse,
    )


def _compress(edges: Edges, by: By, sources: int, destinations: int) -> tuple[Compressed, dict[str, Tensor]]:
    row, column = (edges.src, edges.dst) if by == "src" else (edges.dst, edges.src)
    rows, columns = (sources, destinations) if by == "src" else (destinations, sources)
    key = row * max(columns, 1) + column
    if not bool((key[1:] >= key[:-1]).all()):
        order = np.argsort(key, kind="stable")
        row, column, edges = row[order], column[order], edges.take(order)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=rows))])
    return Compressed(by, torch.from_numpy(indptr), torch.from_numpy(column)), edges.data


def _kind(graph: HeteroGraph, etypes: set[EdgeType]) -> str:
    kind = known_kind(graph.kind)
    whole = kind is None or all(etype in etypes for etype in kind.edges)
    return graph.kind if whole else "custom"
