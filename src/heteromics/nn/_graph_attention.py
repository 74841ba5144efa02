"""Graph attention over a relation at the cost of edges x heads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import dropout, leaky_relu

from heteromics.errors import ModelError
from heteromics.nn.relation import Relation
from heteromics.nn.segments import segment_ids, segment_softmax, segment_sum


class _EndSums(torch.autograd.Function):
    """``left[source] + right[destination]`` of every edge; gradients are sums over segments, the same on every run."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, relation: Relation) -> Tensor:
        ctx.relation = relation
        return left.index_select(0, relation.indices) + right.index_select(0, segment_ids(relation.indptr))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        relation: Relation = ctx.relation
        by_source = segment_sum(relation.reverse_values(grad), relation.T.indptr)
        return by_source, segment_sum(grad, relation.indptr), None


class GraphAttention(nn.Module):
    """Multi-head graph attention: each node averages its neighbours by learnt weights.

    Velickovic, P. et al. "Graph Attention Networks", ICLR 2018, arXiv:1710.10903, equations 1 to 5: with z = W h, edge
    (j to i) has the logit LeakyReLU(l . z_j + r . z_i), normalised by softmax over the edges that arrive at i; node i
    gets the sum of z_j by these weights, and a bias. Agrees with ``dgl.nn.GATConv``.

    Parameters
    ----------
    in_width
        Width of the nodes' features.
    head_width, heads
        Width of each head and their number; they stand side by side in the output.
    slope
        Of LeakyReLU below 0; 0.2 in the paper. Without it the term of the destination would cancel in the softmax.
    dropout
        On the weights of edges, in training.

    Notes
    -----
    Logits are sums of two numbers per node, and each head is one sparse product: O(E x heads) memory, no array of
    E x heads x width. Weights of the relation are not used; parallel edges count each.

    Examples
    --------
    >>> relation = Relation.from_csr([0, 2, 3], [0, 1, 1], shape=(2, 2))
    >>> GraphAttention(4, head_width=3, heads=2)(relation, torch.randn(2, 4)).shape
    torch.Size([2, 6])
    """

    def __init__(self, in_width: int, head_width: int, heads: int, *, slope: float = 0.2, dropout: float = 0.0) -> None:
        super().__init__()
        if min(in_width, head_width, heads) < 1:
            raise ModelError(f"found widths {in_width}, {head_width} and {heads} heads, expected 1 or more of each.")
        self.heads, self.head_width, self.slope, self.dropout = heads, head_width, slope, dropout
        self.project = nn.Linear(in_width, heads * head_width, bias=False)
        self.left = nn.Parameter(torch.empty(heads, head_width))
        self.right = nn.Parameter(torch.empty(heads, head_width))
        self.bias = nn.Parameter(torch.zeros(heads * head_width))
        for weight in (self.project.weight, self.left, self.right):
            nn.init.xavier_normal_(weight, gain=nn.init.calculate_gain("relu"))

    def forward(self, relation: Relation, h: Tensor) -> Tensor:
        """Return (N, heads x head_width) for features ``h`` (N, in_width) of a square relation.

        A node that no edge reaches gets the bias alone: give it a self-loop if it should keep its own value.
        """
        if relation.shape != (len(h), len(h)):
            raise ModelError(
                f"the relation is of shape {relation.shape}, expected ({len(h)}, {len(h)}) as the features."
            )
        z = self.project(h).view(len(h), self.heads, self.head_width)
        left, right = ((z * side).sum(-1) for side in (self.left, self.right))  # (N, heads)
        logits = leaky_relu(_EndSums.apply(left, right, relation), self.slope)
        weight = dropout(segment_softmax(logits, relation.indptr), self.dropout, self.training)  # (E, heads)
        each = zip(z.unbind(1), weight.unbind(1), strict=True)
        return torch.cat([relation.spmm(one, weight=share) for one, share in each], 1) + self.bias
