"""Induced subgraphs and their inverse, by index arithmetic on compressed rows: cost follows the rows that are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from heteromics.errors import GraphError, some
from heteromics.graphs._dgl import By, Compressed, EdgeType
from heteromics.graphs.schema import HeteroGraph

if TYPE_CHECKING:
    from heteromics.graphs.kinds import Data

__all__ = ["ROW", "Cutter", "checked_rows", "end_to_end", "entries"]

ROW = "row"
"""Node feature of cut graphs: the row of each node in the graph that was first cut, int64."""


class Rows(NamedTuple):
    """One edge type by the side that is cut: data in the order of the entries."""

    by: By
    indptr: Tensor
    indices: Tensor
    data: dict[str, Tensor]


class Cutter:
    """Cuts induced subgraphs out of one graph, again and again.

    Parameters
    ----------
    graph
        Left as it is; its arrays are used where they are.
    lead
        Node type whose rows are cut where an edge type has it on one side: the type of which few are kept. The side
        that is not stored is made once.
    """

    def __init__(self, graph: HeteroGraph, lead: str) -> None:
        self.graph, self.lead = graph, lead
        self._all = {ntype: torch.arange(graph.num_nodes(ntype)) for ntype in graph.ntypes}
        self._rows = {etype: self._side(etype) for etype in graph.canonical_etypes if etype not in graph.reverse}

    def _side(self, etype: EdgeType) -> Rows:
        by: By = "dst" if etype[2] == self.lead and etype[0] != self.lead else "src"
        indptr, indices, eids = self.graph.adjacency(etype, by)
        data = dict(self.graph.edata(etype))
        if not torch.equal(eids, torch.arange(len(eids), dtype=eids.dtype)):
            data = {name: tensor[eids.long()] for name, tensor in data.items()}
        return Rows(by, indptr, indices, data)

    def degree(self, ntype: str) -> Tensor:
        """Edges from or to the leading type at each node of another type, int64; reverse types are not counted."""
        degree = torch.zeros(self.graph.num_nodes(ntype), dtype=torch.int64)
        for etype, rows in self._rows.items():
            if {etype[0], etype[2]} == {ntype, self.lead}:
                degree += torch.bincount(rows.indices, minlength=len(degree))
        return degree

    def sizes(self) -> Tensor:
        """Edges to other types at each node of the leading type, int64."""
        size = torch.zeros(self.graph.num_nodes(self.lead), dtype=torch.int64)
        for etype, rows in self._rows.items():
            if self.lead in (etype[0], etype[2]) and etype[0] != etype[2]:
                size += rows.indptr.diff()
        return size

    def take(self, kept: Mapping[str, Tensor], note: Mapping[str, Any]) -> HeteroGraph:
        """Return the subgraph of some nodes: every edge whose two ends are kept, with its data.

        Parameters
        ----------
        kept
            Node type -> distinct rows, int64, in the order wanted. Types that are not named are kept whole, and share
            their memory with the graph.
        note
            What ``meta["transforms"]`` says of this.
        """
        graph = self.graph
        names = {ntype: graph.names[ntype][kept[ntype].numpy()] if ntype in kept else graph.names[ntype]
                 for ntype in graph.ntypes}  # fmt: skip
        edges, edata = {}, {}
        for etype, rows in self._rows.items():
            edges[etype], edata[etype] = self._cut(etype, rows, kept)
        return HeteroGraph.from_compressed(
            edges,
            names=names,
            ndata={ntype: self._features(ntype, kept.get(ntype)) for ntype in graph.ntypes},
            edata=edata,
            kind=graph.kind,
            meta=graph.meta | {"transforms": [*graph.meta.get("transforms", []), dict(note)]},
            reverse=graph.reverse,
        )

    def _features(self, ntype: str, rows: Tensor | None) -> dict[str, Tensor]:
        data = {ROW: self._all[ntype], **self.graph.ndata(ntype)}
        return data if rows is None else {name: tensor[rows] for name, tensor in data.items()}

    def _cut(self, etype: EdgeType, rows: Rows, kept: Mapping[str, Tensor]) -> tuple[Compressed, dict[str, Tensor]]:
        ends = (etype[0], etype[2]) if rows.by == "src" else (etype[2], etype[0])
        indptr, indices, data = rows.indptr, rows.indices, rows.data
        if ends[0] in kept:
            indptr, place = entries(indptr, kept[ends[0]])
            indices, data = indices[place], {name: tensor[place] for name, tensor in data.items()}
        if ends[1] in kept:
            number = indices.new_full((self.graph.num_nodes(ends[1]),), -1)
            number[kept[ends[1]]] = torch.arange(len(kept[ends[1]]), dtype=indices.dtype)
            indices = number[indices]
            inside = indices >= 0
            indptr = torch.cat([indptr.new_zeros(1), inside.cumsum(0, dtype=indptr.dtype)])[indptr]
            indices, data = indices[inside], {name: tensor[inside] for name, tensor in data.items()}
        return Compressed(rows.by, indptr, indices), data


def entries(indptr: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Find the entries of some rows of a compressed matrix.

    Parameters
    ----------
    indptr
        Row bounds, shape (N + 1,).
    rows
        Rows in the order wanted, int64, shape (B,).

    Returns
    -------
    indptr, place
        Bounds (B + 1,) of the rows laid end to end, in the type of ``indptr`` where that is int64 or they fit it, and
        where each of their entries stands, int64.

    Examples
    --------
    >>> entries(torch.tensor([0, 2, 2, 5]), torch.tensor([2, 0]))
    (tensor([0, 3, 5]), tensor([2, 3, 4, 0, 1]))
    """
    start = indptr[rows].long()
    size = indptr[rows + 1].long() - start
    bounds = torch.cat([size.new_zeros(1), size.cumsum(0)])
    place = torch.arange(int(bounds[-1])) + torch.repeat_interleave(start - bounds[:-1], size)
    return bounds.to(indptr.dtype), place


def end_to_end(graphs: Sequence[HeteroGraph], lead: str) -> HeteroGraph:
    """Join graphs over the same other nodes by their leading nodes: the inverse of cutting along them.

    Other node types, edges among them, ``kind`` and ``meta`` are those of the first graph; that all graphs agree in
    them is for the caller to check or to know. Memory: the parts and the whole.
    """
    first = graphs[0]
    if loops := [etype for etype in first.canonical_etypes if etype[0] == etype[2] == lead]:
        raise GraphError(
            f"edges {loops[0]} join {lead}s of one part only, so that the parts cannot be laid end to end."
        )
    edges: dict[EdgeType, Compressed] = {}
    edata: dict[EdgeType, Data] = {}
    cutters = [Cutter(graph, lead)._rows for graph in graphs]
    for etype, rows in cutters[0].items():
        parts = [each[etype] for each in cutters] if lead in (etype[0], etype[2]) else [rows]
        edges[etype] = Compressed(rows.by, _bounds([part.indptr for part in parts]), _cat([p.indices for p in parts]))
        edata[etype] = {name: _cat([part.data[name] for part in parts]) for name in rows.data}
    ndata = {ntype: dict(first.ndata(ntype)) for ntype in first.ntypes}
    ndata[lead] = {name: _cat([graph.ndata(lead)[name] for graph in graphs]) for name in ndata[lead]}
    return HeteroGraph.from_compressed(
        edges,
        names={**first.names, lead: np.concatenate([graph.names[lead] for graph in graphs])},
        ndata=ndata,
        edata=edata,
        kind=first.kind,
        meta=first.meta,
        reverse=first.reverse,
    )


def _cat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(tensors)) if len(tensors) > 1 else tensors[0]


def _bounds(parts: Sequence[Tensor]) -> Tensor:
    sizes = torch.cat([part.diff() for part in parts])
    bounds = torch.cat([sizes.new_zeros(1, dtype=torch.int64), sizes.cumsum(0, dtype=torch.int64)])
    return bounds.to(parts[0].dtype) if int(bounds[-1]) <= torch.iinfo(parts[0].dtype).max else bounds


def checked_rows(graph: HeteroGraph, ntype: str, rows: Any) -> Tensor:
    """Return rows as int64, distinct and in the graph, or raise a GraphError."""
    given = torch.as_tensor(np.asarray(rows))
    size = graph.num_nodes(ntype)
    if given.ndim != 1 or (len(given) and given.is_floating_point()):
        raise GraphError(f"rows of '{ntype}': found {given.dtype} with {given.ndim} axes, expected integers with 1.")
    given = given.long()
    if outside := given[(given < 0) | (given >= size)].tolist():
        raise GraphError(
            f"{len(outside)} of {len(given)} rows of '{ntype}' lie outside 0 to {size - 1}: {some(outside)}.\n"
            f"  Fix: graph.index('{ntype}', names)."
        )
    if twice := len(given) - len(given.unique()):
        raise GraphError(f"{twice} of {len(given)} rows of '{ntype}' stand there more than once, expected each once.")
    return given
