"""Sampled neighbours, hop by hop: what some nodes hear from, over feature-feature edges too.

The draw is DGL's: there its compiled random choice pays. Batches of cells with all their features are one cut through
compressed rows instead (:class:`heteromics.graphs.CellBatcher`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from heteromics.errors import GraphError, some
from heteromics.graphs import _dgl
from heteromics.graphs._dgl import EdgeType
from heteromics.graphs._subgraph import checked_rows
from heteromics.graphs.schema import HeteroGraph

__all__ = ["Block", "BlockEdges", "sample_neighbors"]


class BlockEdges(NamedTuple):
    """Sampled edges of one type by destination, ready for ``Relation.from_csr(indptr, indices, shape, weight[eids])``.

    ``indptr`` (D + 1,) and ``indices`` (E,) number the block's own nodes; ``eids`` (E,) are edge ids of the graph;
    ``shape`` is (D, S).
    """

    indptr: Tensor
    indices: Tensor
    eids: Tensor
    shape: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Block:
    """One layer of message passing over sampled edges.

    Attributes
    ----------
    src, dst
        Rows in the graph of the nodes that send and of those that receive, by type, int64; ``dst`` of a type is the
        beginning of its ``src``.
    edges
        By edge type; types of which no edge was sampled are there, empty.
    """

    src: dict[str, Tensor]
    dst: dict[str, Tensor]
    edges: dict[EdgeType, BlockEdges]


def sample_neighbors(
    graph: HeteroGraph, seeds: Mapping[str, Any], fanouts: Sequence[int | Mapping[EdgeType, int]], *, seed: int = 0
) -> list[Block]:
    """Sample what some nodes hear from, hop by hop, with DGL's sampler.

    Parameters
    ----------
    graph
        Any graph.
    seeds
        Node type -> distinct rows whose states are wanted.
    fanouts
        One entry per layer, the layer next to the input first: how many incoming edges of each type to draw per node,
        uniformly and without replacement; all where a node has no more, or for -1. By edge type: 0 for those not named.
    seed
        Of DGL's generator, which is set. The same draw comes again on the same release of DGL with the same number of
        threads.

    Returns
    -------
    list of Block
        In the order of the layers: ``dst`` of the last one are the seeds, ``dst`` of one layer are ``src`` of the next.

    Examples
    --------
    >>> graph = HeteroGraph.from_edges(
    ...     {("gene", "expressed_by", "cell"): ([0, 1, 1], [0, 0, 1])}, names={"cell": ["a", "b"], "gene": ["x", "y"]}
    ... )
    >>> (block,) = sample_neighbors(graph, {"cell": [1]}, [2])
    >>> block.src["gene"].tolist(), block.edges["gene", "expressed_by", "cell"].indptr.tolist()
    ([1], [0, 1])
    """
    dgl = _dgl.dgl
    dgl.seed(seed)
    idtype = graph.dgl.idtype
    wanted = {ntype: checked_rows(graph, ntype, rows).to(idtype) for ntype, rows in seeds.items()}
    blocks: list[Block] = []
    for fanout in reversed(list(fanouts)):
        by_type = fanout if isinstance(fanout, Mapping) else dict.fromkeys(graph.canonical_etypes, int(fanout))
        known = dict(by_type)
        if unknown := sorted(known.keys() - set(graph.canonical_etypes)):
            raise GraphError(
                f"fanouts: no edge type {some(unknown)}; the graph has {some(graph.canonical_etypes, 12)}."
            )
        per_type = {etype: known.get(etype, 0) for etype in graph.canonical_etypes}
        sampled = dgl.sampling.sample_neighbors(graph.dgl, wanted, per_type)
        block = dgl.to_block(sampled, wanted)
        blocks.insert(0, _plain(block, sampled, graph))
        wanted = {ntype: block.srcnodes[ntype].data[dgl.NID] for ntype in graph.ntypes}
    return blocks


def _plain(block: Any, sampled: Any, graph: HeteroGraph) -> Block:
    dgl = _dgl.dgl
    edges = {}
    for etype in graph.canonical_etypes:
        indptr, indices, order = _dgl.compressed(block, etype, "dst")
        eids = sampled.edges[etype].data[dgl.EID][block.edges[etype].data[dgl.EID].long()][order.long()]
        shape = (block.num_dst_nodes(etype[2]), block.num_src_nodes(etype[0]))
        edges[etype] = BlockEdges(indptr, indices, eids.long(), shape)
    src, dst = (
        {ntype: nodes[ntype].data[dgl.NID].long() for ntype in graph.ntypes}
        for nodes in (block.srcnodes, block.dstnodes)
    )
    return Block(src, dst, edges)
