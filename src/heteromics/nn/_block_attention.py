"""Softmax attention inside blocks: every query of a block attends to every key of it, and to no other."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from heteromics.errors import GraphError
from heteromics.nn._blocks import checked_blocks, every_pair, padded_positions, padded_rows, tiled
from heteromics.nn.relation import Relation
from heteromics.nn.segments import segment_softmax

_FEW = 64.0  # scores of a block, in the mean: so many along edges take less time than in padded calls
_SPARE = 1 << 14  # scores that cost about as much as one more call, forward and backward


def block_attention(q: Tensor, k: Tensor, v: Tensor, query_ptr: Tensor, key_ptr: Tensor, heads: int = 1) -> Tensor:
    """Average the values of each query's block by the softmax of scaled dot products.

    Vaswani, A. et al. "Attention Is All You Need", NeurIPS 2017, equation 1, with a mask of blocks. Blocks of like size
    are padded to one call of ``torch.nn.functional.scaled_dot_product_attention``; large ones are cut by queries. Where
    blocks are small it runs along edges, see :func:`relation_attention`.

    Parameters
    ----------
    q
        Shape (NQ, heads x D), floating.
    k, v
        Shape (NK, heads x D).
    query_ptr, key_ptr
        Start and stop of each block among the queries and among the keys, shapes (n_blocks, 2). A query lies in at most
        one block.
    heads
        Number of heads; they stand side by side.

    Returns
    -------
    Tensor
        Shape (NQ, heads x D); 0 for a query outside all blocks or in one without keys.

    Raises
    ------
    GraphError
        For widths that do not fit, or blocks that overlap or leave their rows.

    Notes
    -----
    No weight of large blocks outlives its tile, and torch's fused kernels form none; of small ones there are 64 a block
    at most, in the mean. So memory grows with blocks, queries and keys, and with a copy of the keys and values for
    every 4 M scores of one block.

    Examples
    --------
    >>> q, k, v = torch.ones(2, 1), torch.zeros(3, 1), torch.tensor([[2.0], [4.0], [9.0]])
    >>> block_attention(q, k, v, torch.tensor([[0, 1]]), torch.tensor([[0, 2]])).tolist()
    [[3.0], [0.0]]
    """
    width = q.shape[1]
    if k.shape != v.shape or k.shape[1] != width or width % heads:
        raise GraphError(
            f"found queries {tuple(q.shape)}, keys {tuple(k.shape)}, values {tuple(v.shape)} and {heads} heads; "
            "expected one width that the heads divide, and a value per key."
        )
    queries = checked_blocks(query_ptr, len(q), "query", apart=True)
    keys = checked_blocks(key_ptr, len(k), "key", apart=False)
    if len(queries) != len(keys):
        raise GraphError(f"{len(queries):,} query blocks and {len(keys):,} key blocks; they must come in pairs.")
    if (np.diff(queries)[:, 0] * np.diff(keys)[:, 0]).sum() <= _FEW * len(queries):
        return relation_attention(every_pair(queries, keys, (len(q), len(k)), q.device), q, k, v, heads)
    groups = list(tiled(queries, keys, _SPARE))
    rows, columns = ([padded_rows(tiles[:, part], q.device) for tiles in groups] for part in (slice(0, 2), slice(2, 4)))
    padded = [_padded(values, places) for values, places in ((q, rows), (k, columns), (v, columns))]
    found = []
    for (_, real), *parts in zip(columns, *padded, strict=True):
        mask = q.new_zeros(real.shape).masked_fill_(~real, -torch.inf)[:, None, None]
        query, key, value = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in parts)
        sent = scaled_dot_product_attention(query, key, value, attn_mask=mask)  # (B, heads, R, D)
        found.append(sent.transpose(1, 2).reshape(-1, width))
    position = torch.from_numpy(padded_positions(groups, len(q))).to(q.device)
    return torch.cat([*found, q.new_zeros(1, width)]).index_select(0, position)


def relation_attention(relation: Relation, q: Tensor, k: Tensor, v: Tensor, heads: int = 1) -> Tensor:
    """Average values along the edges of a relation, queries as destinations, by the softmax of scaled dot products.

    Parameters
    ----------
    relation
        NQ destinations, NK sources.
    q, k, v, heads
        As in :func:`block_attention`.

    Returns
    -------
    Tensor
        Shape (NQ, heads x D); 0 where there is no edge. Time and memory grow with the edges.

    Examples
    --------
    >>> relation = Relation.from_csr(torch.tensor([0, 2, 2]), torch.tensor([0, 2]), (2, 3))
    >>> relation_attention(relation, torch.ones(2, 1), torch.zeros(3, 1), torch.tensor([[2.0], [4.0], [9.0]])).tolist()
    [[5.5], [0.0]]
    """
    sent = []
    for query, key, value in zip(*(part.chunk(heads, 1) for part in (q, k, v)), strict=True):
        weight = segment_softmax(relation.sddmm(query / query.shape[1] ** 0.5, key), relation.indptr)
        sent.append(relation.spmm(value, weight=weight))
    return torch.cat(sent, 1)


def _padded(values: Tensor, places: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Take the rows of every group (B, longest), in one go, so that the gradient is added up once."""
    shapes = [row.shape for row, _ in places]
    taken = values.index_select(0, torch.cat([row.flatten() for row, _ in places]))
    parts = taken.split([shape.numel() for shape in shapes])
    return [part.view(*shape, -1) for part, shape in zip(parts, shapes, strict=True)]
