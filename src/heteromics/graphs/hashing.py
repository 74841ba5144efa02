"""What tells two graphs, or two prior stores, apart: SHA-256 over what they hold, whatever way it is held."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heteromics.graphs.kinds import Data, short

if TYPE_CHECKING:
    from heteromics.graphs.schema import EdgeType, HeteroGraph

__all__ = ["graph_hash", "other_store", "store_marks"]

_BLOCK = 1 << 22
"""Edges, or names, looked at in one go."""

_MARKS = ("assembly", "chrom_style", "recipe", "recipe_hash", "content_hash", "heteromics_version")


def graph_hash(graph: HeteroGraph, etypes: Iterable[EdgeType] | None = None, *, node_data: bool = False) -> str:
    """Return a hash of what a graph holds, to know a graph again or to name what was computed from it.

    Covered are the node types and the names of their nodes in order, and the edge types with their edges and edge data
    (names, types and bits). Not covered: ``kind``, ``meta`` and, unless asked for, node data.

    Parameters
    ----------
    graph
        The graph.
    etypes
        Edge types that count, with the node types at their ends. None: all edge types and all node types.
    node_data
        Cover the features of the nodes too.

    Returns
    -------
    str
        64 hexadecimal digits. The same whether edges are stored by source or by destination, in whatever order a node
        lists its edges (parallel ones with their data included), and for int32 and int64 ids. Another order of the
        nodes is another graph. A reverse type is known by the type it reverses, so that its edges are not looked at
        twice: a graph that holds both directions on their own has another hash.

    Raises
    ------
    GraphError
        For an edge type that is not in the graph.

    Notes
    -----
    Edges are brought into order, where they are not, 4 million at a time (or those of one node, where it has more). A
    type that is stored by destination is looked at by source, which the graph makes once and keeps.

    Examples
    --------
    >>> from heteromics.graphs import HeteroGraph
    >>> near, names = ("gene", "near", "peak"), {"gene": ["A", "B"], "peak": ["p", "q"]}
    >>> one = HeteroGraph.from_edges({near: ([0, 0, 1], [0, 1, 1])}, names=names)
    >>> other = HeteroGraph.from_edges({near: ([1, 0, 0], [1, 1, 0])}, names=names)
    >>> graph_hash(one) == graph_hash(other)
    True
    """
    chosen = sorted(graph.canonical_etypes if etypes is None else {graph._etype(etype) for etype in etypes})
    ends = {ntype for etype in chosen for ntype in (etype[0], etype[2])}
    parts = []
    for ntype in graph.ntypes if etypes is None else sorted(ends):
        features = _features(graph.ndata(ntype)) if node_data else []
        parts.append(["nodes", ntype, graph.num_nodes(ntype), _names_digest(graph.names[ntype]), features])
    for etype in chosen:
        if graph.reverse.get(etype) in chosen:
            parts.append(["reverse", etype, graph.reverse[etype]])
        else:
            parts.append(["edges", etype, graph.num_edges(etype), *_edge_digests(graph, etype)])
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()


def store_marks(info: Mapping[str, str]) -> dict[str, str]:
    """Return what a graph keeps of the store it was built with.

    Parameters
    ----------
    info
        ``PriorStore.info``.

    Examples
    --------
    >>> store_marks({"assembly": "GRCh38", "content_hash": "4f", "created": "2026-01-01"})
    {'assembly': 'GRCh38', 'content_hash': '4f'}
    """
    return {key: str(info[key]) for key in _MARKS if key in info}


def other_store(built_with: Mapping[str, str], info: Mapping[str, str]) -> str | None:
    """Say why a store is not the one that a graph was built with, or None where it is.

    Parameters
    ----------
    built_with
        From :func:`store_marks`, kept in the graph.
    info
        ``PriorStore.info`` of the store at hand.

    Returns
    -------
    str or None
        Compared is ``content_hash``: settings, checksums of the sources, code and rows of every step of the build. A
        graph or store of a release before it was kept is compared by ``recipe_hash``, which knows no checksums.

    Examples
    --------
    >>> other_store({"recipe_hash": "1", "content_hash": "a"}, {"recipe_hash": "1", "content_hash": "b"})
    'the graph was built with a store of content a, this one has content b (the same recipe, but other sources or code)'
    """
    key = "content_hash" if "content_hash" in built_with and "content_hash" in info else "recipe_hash"
    was, found = built_with.get(key), info.get(key)
    if was == found:
        return None
    what = key.removesuffix("_hash")
    same_recipe = key == "content_hash" and built_with.get("recipe_hash") == info.get("recipe_hash")
    why = " (the same recipe, but other sources or code)" if same_recipe else ""
    return f"the graph was built with a store of {what} {was}, this one has {what} {found}{why}"


def _names_digest(names: NDArray[np.str_]) -> list[str]:
    """Digests of the lengths of the names and of the names."""
    lengths, letters = hashlib.sha256(), hashlib.sha256()
    for first in range(0, len(names), _BLOCK):
        coded = [name.encode() for name in names[first : first + _BLOCK].tolist()]
        lengths.update(np.array([len(name) for name in coded], dtype=np.int64).tobytes())
        letters.update(b"".join(coded))
    return [lengths.hexdigest(), letters.hexdigest()]


def _features(data: Data) -> list[list[object]]:
    """Name, form and digest of each feature, by name."""
    listed = []
    for name, tensor in sorted(data.items()):
        digest = hashlib.sha256()
        for first in range(0, len(tensor), _BLOCK):
            digest.update(_bits(tensor[first : first + _BLOCK]))
        listed.append([*_form(name, tensor), digest.hexdigest()])
    return listed


def _edge_digests(graph: HeteroGraph, etype: EdgeType) -> tuple[list[str], list[list[object]]]:
    """Digests of the degrees and destinations, and name, form and digest of each piece of edge data."""
    indptr, indices, eids = graph.adjacency(etype, by="src")
    data = sorted(graph.edata(etype).items())
    ends, columns = [hashlib.sha256(), hashlib.sha256()], [hashlib.sha256() for _ in data]
    for first, stop in _row_blocks(indptr):
        rows = indptr[first : stop + 1].long()
        part = slice(int(rows[0]), int(rows[-1]))
        key = torch.repeat_interleave(torch.arange(stop - first), rows.diff()) * graph.num_nodes(etype[2])
        key += indices[part].long()
        values = [tensor[eids[part].long()] for _, tensor in data]
        if len(key) > 1 and not bool((key.diff() > 0).all()):
            order = _order(key, values)
            key, values = key[order], [one[order] for one in values]
        ends[0].update(_bits(rows.diff()))
        ends[1].update(_bits(key % max(graph.num_nodes(etype[2]), 1)))
        for column, one in zip(columns, values, strict=True):
            column.update(_bits(one))
    forms = [_form(name, tensor) for name, tensor in data]
    return [end.hexdigest() for end in ends], [
        [*form, column.hexdigest()] for form, column in zip(forms, columns, strict=True)
    ]


def _row_blocks(indptr: Tensor) -> Iterator[tuple[int, int]]:
    """Cut rows into runs with no more than so many edges, or of one row."""
    bounds, first, rows = indptr.numpy(), 0, len(indptr) - 1
    while first < rows:
        stop = int(np.searchsorted(bounds, int(bounds[first]) + _BLOCK, side="right")) - 1
        yield first, max(stop, first + 1)
        first = max(stop, first + 1)


def _order(key: Tensor, values: list[Tensor]) -> Tensor:
    """Order by key, and edges of one key by the bits of their data."""
    order = torch.argsort(key, stable=True)
    ranked = key[order]
    same = ranked[1:] == ranked[:-1]
    if not values or not bool(same.any()):
        return order
    tied = torch.nonzero(torch.cat([same, same.new_zeros(1)]) | torch.cat([same.new_zeros(1), same])).ravel()
    bits = np.concatenate([_bytes(one[order[tied]]) for one in values], axis=1)
    order[tied] = order[tied][torch.from_numpy(np.lexsort((*bits.T[::-1], ranked[tied].numpy())))]
    return order


def _form(name: str, tensor: Tensor) -> list[object]:
    return [name, short(tensor.dtype), list(tensor.shape[1:])]


def _bytes(tensor: Tensor) -> NDArray[np.uint8]:
    flat = tensor.detach().cpu().reshape(len(tensor), math.prod(tensor.shape[1:])).contiguous()
    return flat.view(torch.uint8).numpy()


def _bits(tensor: Tensor) -> bytes:
    return _bytes(tensor).tobytes()
