"""Graphs in the forms of other libraries: DGL both ways, PyTorch Geometric, networkx.

The form on disk, Parquet and safetensors beside a schema.json, is that of :func:`heteromics.graphs.save_graph`; slots
of AnnData and MuData are written by :mod:`heteromics.graphs.slots`.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from heteromics.errors import GraphError, some
from heteromics.graphs.schema import EdgeType, HeteroGraph

if TYPE_CHECKING:
    import networkx as nx
    from torch_geometric.data import HeteroData

    from heteromics.graphs._dgl import DGLHeteroGraph

__all__ = ["from_dgl", "to_dgl", "to_networkx", "to_pyg"]

_TAKEN_NODES = ("names", "num_nodes", "edge_index", "adj_t")
_TAKEN_EDGES = ("edge_index", "adj_t")


def to_dgl(graph: HeteroGraph) -> DGLHeteroGraph:
    """Return the DGL graph, for any code written for DGL.

    Parameters
    ----------
    graph
        The graph.

    Returns
    -------
    DGLHeteroGraph
        Same types, nodes, edges, edge ids and features. Memory is shared: writing into a tensor shows in ``graph``,
        adding or replacing a feature does not. DGL holds tensors only; names stay in ``graph.names``.

    Examples
    --------
    >>> graph = HeteroGraph.from_edges({("a", "to", "b"): ([0], [1])}, names={"a": ["x"], "b": ["y", "z"]})
    >>> to_dgl(graph).num_nodes("b")
    2
    """
    return graph.dgl.local_var()


def from_dgl(
    graph: DGLHeteroGraph,
    names: Mapping[str, Iterable[str]] | None = None,
    *,
    kind: str = "custom",
    meta: Mapping[str, Any] | None = None,
    reverse: Mapping[EdgeType, EdgeType] | None = None,
) -> HeteroGraph:
    """Take over a DGL graph.

    Parameters
    ----------
    graph
        Homogeneous (its types are DGL's ``_N`` and ``_E``) or heterogeneous, on any device; left as it is.
    names
        Node type -> unique names, one per node. A type ``a`` that is not named here gets ``a_0``, ``a_1``, ...
    kind, meta
        As of :class:`HeteroGraph`.
    reverse
        Edge types of ``graph`` that reverse another, edge by edge and datum by datum; they will share memory with it.

    Returns
    -------
    HeteroGraph
        On the CPU, in memory of its own for edges and edge data. Edges are sorted by source, then destination, parallel
        ones staying in their order, so that edge ids change; node features are shared where they are on the CPU.

    Raises
    ------
    GraphError
        For a block, a batch of several graphs, names that do not fit, or a reverse type that holds other edges or data.

    Examples
    --------
    >>> from heteromics.graphs._dgl import dgl
    >>> taken = from_dgl(dgl.graph(([2, 0], [1, 1])))
    >>> taken.names["_N"].tolist(), taken.adjacency(("_N", "_E", "_N"))[0].tolist()
    (['_N_0', '_N_1', '_N_2'], [0, 1, 1, 2])
    """
    if graph.is_block or graph.batch_size > 1:
        what = "a block of message passing" if graph.is_block else f"a batch of {graph.batch_size} graphs"
        raise GraphError(f"from_dgl: found {what}, expected one graph. Fix: dgl.block_to_graph, or dgl.unbatch.")
    reverse, given = dict(reverse or {}), dict(names or {})
    if unknown := sorted(given.keys() - set(graph.ntypes)):
        raise GraphError(f"from_dgl: names for {', '.join(unknown)}, but node types are {', '.join(graph.ntypes)}.")
    problems = [problem for turned, origin in reverse.items() for problem in _reverse_problems(graph, turned, origin)]
    if problems:
        raise GraphError("from_dgl: " + "\n  ".join(problems), problems)
    kept = [etype for etype in graph.canonical_etypes if etype not in reverse]
    return HeteroGraph.from_edges(
        {etype: tuple(side.cpu() for side in graph.edges(etype=etype, order="eid")) for etype in kept},
        names={ntype: given.get(ntype, _numbered(ntype, graph.num_nodes(ntype))) for ntype in graph.ntypes},
        ndata={ntype: _on_cpu(graph.nodes[ntype].data) for ntype in graph.ntypes},
        edata={etype: _on_cpu(graph.edges[etype].data) for etype in kept},
        kind=kind,
        meta=meta,
        reverse=reverse,
    )


def to_pyg(graph: HeteroGraph) -> HeteroData:
    """Return a ``torch_geometric.data.HeteroData``; needs torch_geometric.

    Parameters
    ----------
    graph
        The graph.

    Returns
    -------
    HeteroData
        ``data[ntype]`` has every feature by its name, sharing memory, ``num_nodes``, and ``names`` as a NumPy array.
        ``data[etype]`` has ``edge_index`` int64 (2, E), row 0 = sources, in order of edge ids, and every datum by its
        name, sharing memory. PyTorch Geometric takes a node feature ``batch`` for the graph each node is of: rename it
        before graphs are put into one mini-batch.

    Raises
    ------
    GraphError
        When torch_geometric is not installed, or a feature has a name that HeteroData uses itself.
    """
    data = _pyg().HeteroData()
    for ntype in graph.ntypes:
        features = graph.ndata(ntype)
        _refuse_taken(f"nodes '{ntype}'", features, _TAKEN_NODES)
        store = data[ntype]
        store.num_nodes, store.names = graph.num_nodes(ntype), graph.names[ntype]
        for name, tensor in features.items():
            store[name] = tensor
    for etype in graph.canonical_etypes:
        _refuse_taken(f"edges {etype}", graph.edata(etype), _TAKEN_EDGES)
        edges = data[etype]
        edges.edge_index = torch.stack(graph.dgl.edges(etype=etype, order="eid")).long()
        for name, tensor in graph.edata(etype).items():
            edges[name] = tensor
    return data


def to_networkx(graph: HeteroGraph, *, most: int = 1_000_000) -> nx.MultiDiGraph:
    """Return a ``networkx.MultiDiGraph``, for algorithms on small graphs and for its many file formats.

    Parameters
    ----------
    graph
        The graph.
    most
        Largest allowed number of nodes and edges together; networkx takes about 1 kB for each.

    Returns
    -------
    networkx.MultiDiGraph
        Nodes are pairs (type, name) with ``node_type`` and every feature of one number per node; edges have the name of
        their type as key (further parallel ones: ``name:1``, ...) and as ``edge_type``, and every datum of one number
        per edge. Features with several axes are left out; ``graph["left_out"]`` names them. ``graph["kind"]`` is kept.

    Raises
    ------
    GraphError
        For a graph that is larger.

    Examples
    --------
    >>> graph = HeteroGraph.from_edges(
    ...     {("gene", "near", "peak"): ([0], [1])},
    ...     names={"gene": ["A"], "peak": ["p", "q"]},
    ...     edata={("gene", "near", "peak"): {"distance": torch.tensor([5])}},
    ... )
    >>> list(to_networkx(graph).edges(keys=True, data="distance"))
    [(('gene', 'A'), ('peak', 'q'), 'near', 5)]
    """
    size = sum(map(graph.num_nodes, graph.ntypes)) + sum(map(graph.num_edges, graph.canonical_etypes))
    if size > most:
        raise GraphError(
            f"to_networkx: found {size:,} nodes and edges, expected {most:,} at most; networkx would take about "
            f"{size / 1e6:,.1f} GB.\n  Fix: take a part of the graph, or raise `most`."
        )
    import networkx as nx

    keys = {ntype: [(ntype, name) for name in graph.names[ntype].tolist()] for ntype in graph.ntypes}
    made: nx.MultiDiGraph = nx.MultiDiGraph(kind=graph.kind, left_out=[])
    for ntype in graph.ntypes:
        values = _scalars(f"nodes {ntype}", graph.ndata(ntype), made.graph["left_out"])
        made.add_nodes_from(zip(keys[ntype], _attributes({"node_type": ntype}, values, len(keys[ntype])), strict=True))
    for etype in graph.canonical_etypes:
        values = _scalars(f"edges {'-'.join(etype)}", graph.edata(etype), made.graph["left_out"])
        src, dst = (side.numpy() for side in graph.dgl.edges(etype=etype, order="eid"))
        edges: Iterator[Any] = zip(
            [keys[etype[0]][node] for node in src.tolist()],
            [keys[etype[2]][node] for node in dst.tolist()],
            [etype[1] if not n else f"{etype[1]}:{n}" for n in _repeats(src, dst).tolist()],
            _attributes({"edge_type": etype[1]}, values, len(src)),
            strict=True,
        )
        made.add_edges_from(edges)
    return made


def _reverse_problems(graph: DGLHeteroGraph, turned: EdgeType, origin: EdgeType) -> list[str]:
    known = graph.canonical_etypes
    if absent := [etype for etype in (turned, origin) if etype not in known]:
        return [f"reverse: no edge type {some(absent)}; there are {some(known, 8)}."]
    forward, back = (torch.stack(graph.edges(etype=etype, order="eid")) for etype in (origin, turned))
    if forward.shape != back.shape or not torch.equal(forward, back.flip(0)):
        differ = "another number of edges" if forward.shape != back.shape else (
            f"{int((forward != back.flip(0)).any(dim=0).sum()):,} of {forward.shape[1]:,} edges that join other nodes"
        )  # fmt: skip
        return [f"{turned} has {differ} than {origin}, expected the same edges turned round, in the same order."]
    one, other = graph.edges[origin].data, graph.edges[turned].data
    unlike = sorted(
        name
        for name in {*one, *other}
        if name not in one or name not in other or not torch.equal(one[name], other[name])
    )
    return [f"{turned} has other data than {origin}: {some(unlike)}."] if unlike else []


def _numbered(ntype: str, count: int) -> list[str]:
    return [f"{ntype}_{row}" for row in range(count)]


def _on_cpu(data: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.cpu() for name, tensor in data.items()}


def _pyg() -> ModuleType:
    try:
        with warnings.catch_warnings():
            # what torch_geometric 2.8 compiles on its first import, with torch 2.13
            warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is", category=DeprecationWarning)
            return importlib.import_module("torch_geometric.data")
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("torch_geometric"):
            raise
        raise GraphError("to_pyg: torch_geometric is not installed. Fix: pip install torch-geometric.") from None


def _refuse_taken(where: str, data: Mapping[str, Tensor], taken: Iterable[str]) -> None:
    if found := sorted(set(data) & set(taken)):
        raise GraphError(f"to_pyg: {where}: HeteroData uses the name {some(found)} itself. Fix: rename the feature.")


def _scalars(where: str, data: Mapping[str, Tensor], left_out: list[str]) -> dict[str, list[Any]]:
    left_out += [f"{where}: {name}" for name, tensor in data.items() if tensor.ndim != 1]
    return {name: tensor.tolist() for name, tensor in data.items() if tensor.ndim == 1}


def _attributes(common: dict[str, Any], values: dict[str, list[Any]], count: int) -> Iterator[dict[str, Any]]:
    rows = zip(*values.values(), strict=True) if values else iter([()] * count)
    return ({**common, **dict(zip(values, row, strict=True))} for row in rows)


def _repeats(src: Any, dst: Any) -> Any:
    """Return how many edges with the same ends come before each, shape (E,)."""
    order = np.lexsort((dst, src))
    new = np.append(True, (src[order][1:] != src[order][:-1]) | (dst[order][1:] != dst[order][:-1]))[: src.size]
    place = np.arange(src.size)
    before = place - np.maximum.accumulate(np.where(new, place, 0))
    repeats = np.empty(src.size, np.int64)
    repeats[order] = before
    return repeats
