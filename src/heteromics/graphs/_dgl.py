"""The one place that imports DGL, and what its releases need hidden.

Two releases are supported: 1.1.3 (wheels to Python 3.11) and 2.1.0 (wheels to Python 3.12). Both choose their backend
by writing a file into the home folder unless ``DGLBACKEND`` is set; 2.1.0 looks on import for a compiled
``dgl.graphbolt`` that exists only for a few releases of torch, so an empty one stands in during the import. Neither
release's ``dgl.sparse``, ``graphbolt``, ``distributed`` and ``DGLGraph.adj`` are used anywhere: DGL is the container,
the sampler and the form in which graphs are exchanged.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from dgl import DGLGraph as DGLHeteroGraph

__all__ = ["By", "Compressed", "DGLHeteroGraph", "EdgeType", "compressed", "dgl", "held", "heterograph", "stored"]

EdgeType = tuple[str, str, str]
By = Literal["src", "dst"]
_FORMAT: dict[By, str] = {"src": "csr", "dst": "csc"}
_INT32_MOST = np.iinfo(np.int32).max
_GRAPHBOLT = "dgl.graphbolt"


def _import() -> ModuleType:
    if "dgl" in sys.modules:
        return sys.modules["dgl"]
    os.environ.setdefault("DGLBACKEND", "pytorch")
    stands_in = ModuleType(_GRAPHBOLT)
    sys.modules[_GRAPHBOLT] = stands_in
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated spellings of DGL's own, compiled on the first import
            return importlib.import_module("dgl")
    finally:
        if sys.modules.get(_GRAPHBOLT) is stands_in:
            del sys.modules[_GRAPHBOLT]


dgl = _import()
if not TYPE_CHECKING:
    DGLHeteroGraph = dgl.DGLGraph


class Compressed(NamedTuple):
    """Edges of one type grouped by the nodes of one side; edge e is entry e of ``indices``.

    Attributes
    ----------
    by
        ``"src"`` (CSR: one row per source) or ``"dst"`` (CSC: one row per destination).
    indptr
        Row bounds, integers, shape (rows + 1,).
    indices
        Node of the other side, integers, shape (E,).
    """

    by: By
    indptr: Tensor
    indices: Tensor


def heterograph(edges: Mapping[EdgeType, Compressed], num_nodes: Mapping[str, int]) -> DGLHeteroGraph:
    """Make a DGL heterograph from compressed edges: shared where types allow, never expanded to pairs, never sorted.

    Parameters
    ----------
    edges
        One entry or more.
    num_nodes
        Nodes of every type; a type without edges may be among them.

    Returns
    -------
    DGLHeteroGraph
        With int32 ids where all sizes fit, else int64.
    """
    most = max(*num_nodes.values(), *(len(part.indices) for part in edges.values()))
    idtype = torch.int32 if most <= _INT32_MOST else torch.int64
    cast: dict[int, Tensor] = {}  # by array, so that what two types share stays shared
    for part in edges.values():
        for array in (part.indptr, part.indices):
            if id(array) not in cast:
                cast[id(array)] = array.to(idtype)
    in_order = torch.empty(0, dtype=idtype)  # DGL's sign for edge ids 0, 1, 2, ...
    data = {
        etype: (_FORMAT[part.by], (cast[id(part.indptr)], cast[id(part.indices)], in_order))
        for etype, part in edges.items()
    }
    return dgl.heterograph(data, num_nodes_dict=dict(num_nodes), idtype=idtype)


def compressed(graph: DGLHeteroGraph, etype: EdgeType, by: By) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``(indptr, indices, edge ids)`` of one edge type by source or by destination.

    DGL makes the other side on first request and keeps it; what is there already is returned without a copy.
    """
    indptr, indices, eids = graph.adj_tensors(_FORMAT[by], etype=etype)
    if len(eids) != len(indices):
        eids = torch.arange(len(indices), dtype=indices.dtype)
    return indptr, indices, eids


def held(graph: DGLHeteroGraph, etype: EdgeType) -> tuple[By, ...]:
    """Return the sides that DGL holds in compressed form for one edge type."""
    there = graph[etype].formats()["created"]
    return tuple(by for by, name in _FORMAT.items() if name in there)


def stored(graph: DGLHeteroGraph, etype: EdgeType) -> tuple[Compressed, Tensor | None]:
    """Return the side whose entries are edges 0, 1, 2, ..., or else the edges by source and their edge ids."""
    for by in held(graph, etype):
        indptr, indices, eids = graph.adj_tensors(_FORMAT[by], etype=etype)
        if len(eids) != len(indices) or bool((eids == torch.arange(len(eids))).all()):
            return Compressed(by, indptr, indices), None
    indptr, indices, eids = compressed(graph, etype, "src")
    return Compressed("src", indptr, indices), eids
