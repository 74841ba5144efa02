"""Parts of a graph to train on: mini-batches of cells, and one part of the cells per worker.

A batch of cells with their features is one cut through compressed rows (:class:`CellBatcher`). Several hops go through
DGL's sampler: :mod:`heteromics.graphs.neighbor_sampling`. Graphs too large for memory are kept in shards:
:mod:`heteromics.graphs.shards`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heteromics.errors import GraphError, some
from heteromics.graphs._subgraph import Cutter, checked_rows, end_to_end
from heteromics.graphs.schema import HeteroGraph

__all__ = [
    "CellBatcher",
    "cell_parts",
    "join_cells",
    "partition_cells",
    "subgraph",
]

CELL = "cell"
Amount = int | float


def subgraph(graph: HeteroGraph, kept: Mapping[str, Any]) -> HeteroGraph:
    """Return the induced subgraph of some nodes.

    Parameters
    ----------
    graph
        Any graph.
    kept
        Node type -> distinct rows, integers, in the order wanted; see ``graph.index`` for names. Types that are not
        named are kept whole and share their memory.

    Returns
    -------
    HeteroGraph
        Of the same kind, with every edge whose two ends are kept. Data are carried over as they are: numbers that
        describe the whole graph, such as a feature's ``degree``, still do. ``ndata["row"]``, int64, says where each
        node stands in the graph that was first cut.

    Raises
    ------
    GraphError
        For rows that are not in the graph, or there twice.

    Examples
    --------
    >>> graph = HeteroGraph.from_edges(
    ...     {("cell", "expresses", "gene"): ([0, 0, 1], [0, 1, 2])}, names={"cell": ["a", "b"], "gene": ["x", "y", "z"]}
    ... )
    >>> part = subgraph(graph, {"cell": [0], "gene": [2, 1]})
    >>> part, part.ndata("gene")["row"].tolist()
    (HeteroGraph(kind='custom', cell 1, gene 2; cell-expresses-gene 1), [2, 1])
    """
    rows = {ntype: checked_rows(graph, ntype, listed) for ntype, listed in kept.items()}
    lead = min(rows, key=lambda ntype: len(rows[ntype]) / max(graph.num_nodes(ntype), 1), default=graph.ntypes[0])
    sizes = {ntype: len(listed) for ntype, listed in rows.items()}
    return Cutter(graph, lead).take(rows, {"name": "subgraph", **sizes})


class CellBatcher:
    """Batches of cells as small graphs, each cell once per epoch, with all features or a random part of them.

    scMoGNN draws 1,000 cells and half of the features, these with probability proportional to their degree, at each
    step of its largest task (Wen et al., KDD 2022, doi:10.1145/3534678.3539213, public code): ``CellBatcher(graph,
    1_000, features=0.5)``.

    Parameters
    ----------
    graph
        With nodes ``cell`` and any others. Nodes that have no edge with cells (proteins joined to genes only) are
        always kept whole.
    size
        Cells of a batch; the last batch of an epoch is smaller, or left out by ``drop_last``.
    features
        How many nodes of the other types to draw for each batch: None keeps all; a share below or equal to 1.0 (float)
        or a number (int), for all types or by type. Drawn without replacement, each next one with probability
        proportional to its degree, the number of its edges with cells in the whole graph. Features without a cell are
        never drawn; where fewer than asked for have one, those are the draw.
    seed
        The batches of an epoch are a function of ``seed`` and the epoch; every process gets the same ones. (For several
        processes: :class:`heteromics.graphs.shard_training.ShardData`.)
    shuffle
        False: cells in their order.
    drop_last
        Leave out a last batch of fewer than ``size`` cells.

    Notes
    -----
    Time and memory of a batch grow with its edges and with what is kept whole; no loop over cells. Draws without
    replacement: the k largest of ``log degree + Gumbel noise`` (Efraimidis and Spirakis 2006 in the form of Vieira
    2014).

    Examples
    --------
    >>> graph = HeteroGraph.from_edges(
    ...     {("cell", "expresses", "gene"): ([0, 1, 2], [0, 1, 1])}, names={"cell": ["a", "b", "c"], "gene": ["x", "y"]}
    ... )
    >>> batches = CellBatcher(graph, 2, shuffle=False)
    >>> [(batch.num_nodes("cell"), batch.num_nodes("gene")) for batch in batches], len(batches)
    ([(2, 2), (1, 2)], 2)
    """

    def __init__(
        self,
        graph: HeteroGraph,
        size: int,
        *,
        features: Amount | Mapping[str, Amount] | None = None,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
    ) -> None:
        _need_cells(graph)
        if size < 1:
            raise GraphError(f"size: found {size}, expected 1 or more cells in a batch.")
        self.graph, self.size, self.seed, self.shuffle, self.drop_last = graph, size, seed, shuffle, drop_last
        self.epoch = 0
        self._cutter = Cutter(graph, CELL)
        self._draws = self._amounts(features)

    @property
    def sampler(self) -> CellBatcher:
        """Itself: Lightning calls ``set_epoch`` of whatever is a loader's ``sampler``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches come next; until then every pass gives those of epoch 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        whole, rest = divmod(self.graph.num_nodes(CELL), self.size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[HeteroGraph]:
        cells = self.graph.num_nodes(CELL)
        order = np.random.default_rng([self.seed, self.epoch]).permutation(cells) if self.shuffle else np.arange(cells)
        for step in range(len(self)):
            kept = {CELL: torch.from_numpy(order[step * self.size : (step + 1) * self.size])}
            rng = np.random.default_rng([self.seed, self.epoch, step])
            kept |= {ntype: _draw(rng, *draw) for ntype, draw in self._draws.items()}
            yield self._cutter.take(kept, {"name": "cell_batch", "seed": self.seed, "epoch": self.epoch, "step": step})

    def batch(self, cells: Any) -> HeteroGraph:
        """Return the batch of given cells (rows, in this order) with all features."""
        kept = {CELL: checked_rows(self.graph, CELL, cells)}
        return self._cutter.take(kept, {"name": "cell_batch", "cells": len(kept[CELL])})

    def _amounts(self, features: Amount | Mapping[str, Amount] | None) -> dict[str, tuple[Tensor, int]]:
        """By type that is sampled: degrees of its nodes, and how many to draw."""
        degrees = {ntype: self._cutter.degree(ntype) for ntype in self.graph.ntypes if ntype != CELL}
        joined = {ntype: degree for ntype, degree in degrees.items() if bool(degree.any())}
        if features is None:
            return {}
        asked = dict(features) if isinstance(features, Mapping) else dict.fromkeys(joined, features)
        if unknown := sorted(asked.keys() - joined.keys()):
            raise GraphError(
                f"features: {some(unknown)} cannot be drawn; node types that have edges with cells: "
                f"{some(joined) or 'none'}."
            )
        return {ntype: (joined[ntype], _number(ntype, amount, len(joined[ntype]))) for ntype, amount in asked.items()}


def cell_parts(graph: HeteroGraph, parts: int, by: str | None = None) -> list[NDArray[np.int64]]:
    """Divide the cells of a graph.

    Parameters
    ----------
    graph
        With nodes ``cell``.
    parts
        How many, 1 or more.
    by
        None: consecutive cells, as many in each part (to one). ``"values"``: consecutive cells, about as many edges in
        each. Else a feature of cells such as ``"batch"``: cells of one value stay together; the largest groups are
        placed first, each in the part that has the fewest cells.

    Returns
    -------
    list of ndarray
        Rows of each part, rising, int64; every cell in one of them, none empty.

    Raises
    ------
    GraphError
        For more parts than cells or groups, or a feature that is not there or has several values for a cell.
    """
    _need_cells(graph)
    cells = graph.num_nodes(CELL)
    if not 1 <= parts <= cells:
        raise GraphError(f"parts: found {parts}, expected 1 to {cells}, the number of cells.")
    if by is None:
        return list(np.array_split(np.arange(cells), parts))
    if by == "values":
        return _balanced(Cutter(graph, CELL).sizes().numpy(), parts)
    if by not in graph.ndata(CELL):
        raise GraphError(f"by: found {by!r}, expected 'values' or one of {some(graph.ndata(CELL), 12) or 'nothing'}.")
    if graph.ndata(CELL)[by].ndim != 1:
        shape = tuple(graph.ndata(CELL)[by].shape)
        raise GraphError(f"by: found '{by}' of shape {shape}, expected one value for each cell.")
    group, size = np.unique(graph.ndata(CELL)[by].numpy(), return_inverse=True, return_counts=True)[1:]
    if parts > len(size):
        raise GraphError(f"parts: found {parts}, expected at most {len(size)}, the number of values of '{by}'.")
    part, held = np.empty(len(size), dtype=np.int64), np.zeros(parts, dtype=np.int64)
    for largest in np.argsort(-size, kind="stable"):
        part[largest] = held.argmin()
        held[part[largest]] += size[largest]
    return [np.flatnonzero(part[group] == number) for number in range(parts)]


def partition_cells(graph: HeteroGraph, parts: int, by: str | None = None) -> Iterator[HeteroGraph]:
    """Yield the parts of a graph by cells, each with all other nodes and the edges among them; see :func:`cell_parts`.

    Edges between cells of different parts are in none of them; ``meta["transforms"]`` says how many
    (``edges_between_parts``). ``ndata["row"]`` tells where each cell stands in ``graph``. One part is made at a time.

    Examples
    --------
    >>> graph = HeteroGraph.from_edges(
    ...     {("cell", "expresses", "gene"): ([0, 1, 2], [0, 1, 1])}, names={"cell": ["a", "b", "c"], "gene": ["x", "y"]}
    ... )
    >>> [part.names["cell"].tolist() for part in partition_cells(graph, 2)]
    [['a', 'b'], ['c']]
    """
    rows = cell_parts(graph, parts, by)
    between = _edges_between(graph, rows)
    cutter = Cutter(graph, CELL)
    for number, cells in enumerate(rows):
        note = {"name": "partition_cells", "parts": parts, "part": number, "by": by, "edges_between_parts": between}
        yield cutter.take({CELL: torch.from_numpy(cells)}, note)


def join_cells(graphs: Sequence[HeteroGraph]) -> HeteroGraph:
    """Lay graphs over the same features end to end by their cells: the inverse of :func:`partition_cells`.

    Parameters
    ----------
    graphs
        One or more, of one kind, with the same nodes of every type but ``cell`` and no edges between cells.

    Returns
    -------
    HeteroGraph
        Cells in the order given. Features of other nodes, edges among them and ``meta`` are those of the first graph.

    Raises
    ------
    GraphError
        When the graphs do not fit together.
    """
    if not graphs:
        raise GraphError("join_cells: found no graph, expected one or more.")
    first = graphs[0]
    for number, graph in enumerate(graphs):
        _need_cells(graph)
        if (graph.kind, graph.ntypes, graph.canonical_etypes) != (first.kind, first.ntypes, first.canonical_etypes):
            raise GraphError(f"graph {number} is {graph!r},\n  graph 0 is {first!r}; expected the same types.")
        for ntype in graph.ntypes:
            if graph.ndata(ntype).keys() != first.ndata(ntype).keys():
                raise GraphError(f"nodes '{ntype}' of graph {number} carry other features than those of graph 0.")
            if ntype != CELL and not np.array_equal(graph.names[ntype], first.names[ntype]):
                raise GraphError(f"nodes '{ntype}' of graph {number} are not those of graph 0, in the same order.")
        if graph.meta.get("categories") != first.meta.get("categories"):
            raise GraphError(
                f"the codes of graph {number} stand for other words than those of graph 0: meta['categories'] differ.\n"
                "  Fix: build one graph of all cells, and divide that."
            )
    cells = np.concatenate([graph.names[CELL] for graph in graphs])
    if twice := cells.size - np.unique(cells).size:
        raise GraphError(f"join_cells: {twice:,} of {cells.size:,} cells have the name of another one.")
    return end_to_end(graphs, CELL)


def _need_cells(graph: HeteroGraph) -> None:
    if CELL not in graph.ntypes:
        raise GraphError(f"found a {graph.kind} graph with nodes {some(graph.ntypes, 8)}, expected nodes 'cell'.")


def _number(ntype: str, amount: Amount, size: int) -> int:
    """Nodes to draw of ``size``; a float is a share, an int a number."""
    if isinstance(amount, float):
        if not 0 < amount <= 1:
            raise GraphError(f"features of '{ntype}': found a share of {amount}, expected above 0 and at most 1.0.")
        return max(round(amount * size), 1)
    if not 1 <= amount <= size:
        raise GraphError(f"features of '{ntype}': found {amount}, expected 1 to {size} nodes, or a share such as 0.5.")
    return int(amount)


def _draw(rng: np.random.Generator, degree: Tensor, number: int) -> Tensor:
    """Rows drawn without replacement in proportion to their degree, rising."""
    with np.errstate(divide="ignore"):
        key = np.log(degree.numpy()) + rng.gumbel(size=len(degree))
    first = np.argpartition(-key, number - 1)[:number]
    return torch.from_numpy(np.sort(first[np.isfinite(key[first])]))


def _balanced(sizes: NDArray[np.int64], parts: int) -> list[NDArray[np.int64]]:
    """Cut runs of cells whose sizes add up to about the same; each has at least one cell."""
    upto = sizes.cumsum()
    cuts = np.searchsorted(upto, upto[-1] * np.arange(1, parts) / parts) + 1
    least = np.arange(1, parts)
    cuts = np.clip(np.maximum.accumulate(cuts - least) + least, least, len(sizes) - parts + least)
    return list(np.split(np.arange(len(sizes)), cuts))


def _edges_between(graph: HeteroGraph, parts: Sequence[NDArray[np.int64]]) -> int:
    part = torch.empty(graph.num_nodes(CELL), dtype=torch.int32)
    for number, cells in enumerate(parts):
        part[cells] = number
    between = 0
    for etype in graph.canonical_etypes:
        if etype[0] == etype[2] == CELL and etype not in graph.reverse:
            indptr, indices, _ = graph.adjacency(etype)
            between += int((torch.repeat_interleave(part, indptr.diff().long()) != part[indices]).sum())
    return between
