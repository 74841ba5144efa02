"""Who may meet whom in a batch of pairs: sums and attention over the neighbours of every gene and peak.

The graph of a pair is taken as one graph with two kinds of nodes: its states are those of all NR genes of the batch,
then those of all NA peaks, and an edge joins a gene and a peak that may meet, both ways.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from heteromics.nn._block_attention import block_attention, relation_attention
from heteromics.nn.relation import Relation
from heteromics.nn.segments import segment_ids, segment_sum

if TYPE_CHECKING:
    from heteromics.graphs import PairBatch


class Neighbours(Protocol):
    """Edges of a batch.

    Attributes
    ----------
    degree
        Neighbours of each node, shape (NR + NA,), int64.
    """

    degree: Tensor

    def sums(self, states: Tensor) -> Tensor:
        """Add up the states of each node's neighbours, (NR + NA, D) to (NR + NA, D); 0 where there are none."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        """Average neighbours' values by the softmax of ``q . k / sqrt(width of a head)``; 0 where there are none."""


def neighbours(batch: PairBatch) -> Neighbours:
    """Return the edges of a batch: blocks without any edge formed, or single edges with a window."""
    return Blocks(batch) if batch.within_bp is None else Edges(batch)


class Blocks:
    """Every gene of a block meets every peak of it, so that a node's sum is that of the block's other side.

    Exactly the sums over all edges, at the cost of the nodes.
    """

    def __init__(self, batch: PairBatch) -> None:
        self.gene_ptr, self.peak_ptr, self.genes = batch.gene_block_ptr, batch.peak_block_ptr, len(batch.gene)
        gene, peak = _runs(self.gene_ptr, self.genes), _runs(self.peak_ptr, len(batch.peak))
        self.offsets = torch.cat([gene, peak[1:] + self.genes])
        runs = len(gene) - 1  # on either side: blocks at odd places, what lies between them at even ones
        place = torch.arange(2 * runs, device=gene.device)
        in_block = place % runs % 2 == 1
        self.other = torch.where(in_block, (place + runs) % (2 * runs), 2 * runs)
        size = self.offsets.diff()
        self.node_run = segment_ids(self.offsets)
        self.degree = torch.cat([size, size.new_zeros(1)])[self.other][self.node_run]

    def sums(self, states: Tensor) -> Tensor:
        """Add up the states of each node's neighbours."""
        total = segment_sum(states, self.offsets)
        return _Spread.apply(torch.cat([total, total.new_zeros(1, total.shape[1])])[self.other], self)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        """Average neighbours' values by softmax."""
        cut = self.genes
        to_gene = block_attention(q[:cut], k[cut:], v[cut:], self.gene_ptr, self.peak_ptr, heads)
        to_peak = block_attention(q[cut:], k[:cut], v[:cut], self.peak_ptr, self.gene_ptr, heads)
        return torch.cat([to_gene, to_peak])


class Edges:
    """Single edges between genes and peaks within a window; time and memory grow with their number."""

    def __init__(self, batch: PairBatch) -> None:
        self.genes = len(batch.gene)
        self.relation = Relation.from_csr(*batch.edges(), (self.genes, len(batch.peak)))
        self.degree = torch.cat([side.indptr.diff().long() for side in (self.relation, self.relation.T)])

    def sums(self, states: Tensor) -> Tensor:
        """Add up the states of each node's neighbours."""
        gene, peak = states[: self.genes], states[self.genes :]
        return torch.cat([self.relation.spmm(peak), self.relation.T.spmm(gene)])

    def attend(self, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        """Average neighbours' values by softmax."""
        cut = self.genes
        to_gene = relation_attention(self.relation, q[:cut], k[cut:], v[cut:], heads)
        to_peak = relation_attention(self.relation.T, q[cut:], k[:cut], v[:cut], heads)
        return torch.cat([to_gene, to_peak])


class _Spread(torch.autograd.Function):
    """Give each node the row of its run; the gradient is a sum over segments, the same on every run."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, blocks: Blocks) -> Tensor:
        ctx.blocks = blocks
        return rows.index_select(0, blocks.node_run)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return segment_sum(grad.contiguous(), ctx.blocks.offsets), None


def _runs(bounds: Tensor, size: int) -> Tensor:
    """Bounds of n rising blocks and of the n + 1 runs before, between and behind them, shape (2 n + 2,)."""
    return torch.cat([bounds.new_zeros(1), bounds.flatten(), bounds.new_tensor([size])])
