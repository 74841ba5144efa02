"""Sparse attention between genes and peaks that share a block, the core of Bi2Former.

A block is a chromosome of one (RNA profile, ATAC profile) pair: a range of gene rows and a range of peak rows. Scores
exist only inside blocks, so no genes x peaks array is formed; each gene keeps its best few peaks, and everything after
the choice runs on the kept edges through :class:`~heteromics.nn.relation.Relation`.

Source: "Learning Crossmodal Interaction Patterns via Attributed Bipartite Graphs for Single-Cell Omics" (Bi2Former),
bipartite attention with biologically driven pruning, and its public code (wangxiaotang0906/Bi2Former, model.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from heteromics.errors import GraphError
from heteromics.nn._blocks import Choice, DistanceBias, Window
from heteromics.nn.relation import Relation
from heteromics.nn.segments import segment_ids, segment_softmax, segment_sum

__all__ = [
    "BipartiteMessages",
    "DistanceBias",
    "Window",
    "bipartite_attention",
    "block_topk",
    "choose_links",
    "score_links",
    "send_messages",
]


@dataclass(frozen=True, slots=True)
class BipartiteMessages:
    """What the attention sends, and the links it sent it along.

    Attributes
    ----------
    gene
        Messages to genes, ``sum over kept peaks of weight * v_peak``, shape (NR, D).
    peak
        Messages to peaks, ``sum over genes that kept it of back * v_gene``, shape (NA, D).
    gene_row, peak_row
        The kept links, shapes (E,), int64, gene after gene, by falling score.
    score, weight
        Logit and attention weight of each link, shapes (E,).
    back
        Weight of each link on the way to the peak, shape (E,): ``weight`` itself where both ways share it, as in the
        paper; the weights that a peak gets are then not renormalised.
    """

    gene: Tensor
    peak: Tensor
    gene_row: Tensor
    peak_row: Tensor
    score: Tensor
    weight: Tensor
    back: Tensor


def block_topk(
    q: Tensor,
    k: Tensor,
    gene_block_ptr: Tensor,
    peak_block_ptr: Tensor,
    top_k: int,
    scale: float | None = None,
    threshold: float | None = None,
    window: Window | None = None,
    bias: DistanceBias | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Link each gene to its best-scored peaks of the same block.

    Parameters
    ----------
    q
        Queries of the genes, shape (NR, D), floating.
    k
        Keys of the peaks, shape (NA, D), floating.
    gene_block_ptr, peak_block_ptr
        First and last-plus-one row of every block, shapes (n_blocks, 2), integers. A gene lies in at most one block;
        genes and peaks outside all blocks are not linked. Blocks may be empty on either side.
    top_k
        Most links per gene, at least 1; a gene with fewer reachable peaks keeps them all.
    scale
        Factor on the dot products; ``1 / sqrt(D)`` by default.
    threshold
        Keep only links with ``sigmoid(score) > threshold``; None keeps all.
    window
        Restriction to peaks within a distance.
    bias
        A learnt term of distance, added to the scaled dot products before the choice.

    Returns
    -------
    gene_row, peak_row
        Shapes (E,), int64, gene after gene, by falling score.
    score
        Scores, shape (E,). The choice has no gradient, the scores of what was chosen have one.

    Raises
    ------
    GraphError
        Shapes or blocks that do not fit, or parameters out of range.

    Notes
    -----
    Cost: the scores inside blocks, about 5 % of all gene-peak pairs for human chromosomes, are computed once, without
    gradient: by padded products, at most 4 M at a time, or along edges where half of them or more are kept. Gradients
    touch the E <= top_k * NR kept links alone.
    Of links with exactly equal scores any may be kept.

    Examples
    --------
    >>> q, k = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [5.0], [9.0]])
    >>> gene, peak, score = block_topk(q, k, torch.tensor([[0, 2]]), torch.tensor([[0, 2]]), top_k=1)
    >>> gene.tolist(), peak.tolist(), score.tolist()
    ([0, 1], [1, 1], [5.0, 10.0])
    """
    relation, score = choose_links(q, k, gene_block_ptr, peak_block_ptr, top_k, scale, threshold, window, bias)
    return segment_ids(relation.indptr), relation.indices.long(), score


def choose_links(
    q: Tensor,
    k: Tensor,
    gene_block_ptr: Tensor,
    peak_block_ptr: Tensor,
    top_k: int,
    scale: float | None = None,
    threshold: float | None = None,
    window: Window | None = None,
    bias: DistanceBias | None = None,
) -> tuple[Relation, Tensor]:
    """Return the links of :func:`block_topk` as a relation, genes as destinations, and their scores (E,)."""
    scale = _checked_scale(q, k, top_k, scale, threshold)
    choice = Choice.of(q, k, gene_block_ptr, peak_block_ptr, top_k, scale, window, bias)
    if choice.keeps_most:
        relation, logit = choice.by_edges()
        relation = relation if threshold is None else relation.take(_kept(logit, threshold).nonzero().squeeze(1))
    else:
        peak, logit, _ = choice.by_products()
        relation = _relation(peak, _kept(logit, threshold), len(k))
    return relation, score_links(relation, q, k, scale, bias)


def score_links(relation: Relation, q: Tensor, k: Tensor, scale: float, bias: DistanceBias | None = None) -> Tensor:
    """Return scaled dot products along chosen links, with the term of distance, shape (E,)."""
    score = relation.sddmm(q, k) * scale
    return score if bias is None else score + bias.at(segment_ids(relation.indptr), relation.indices.long())


def send_messages(
    relation: Relation, score: Tensor, v_gene: Tensor, v_peak: Tensor, weight: Tensor, back: Tensor | None = None
) -> BipartiteMessages:
    """Send values both ways along links.

    Parameters
    ----------
    relation
        The links, genes as destinations, shape (NR, NA).
    score
        Of each link, in the order of the relation, shape (E,).
    v_gene, v_peak
        Values, shapes (NR, V) and (NA, V), floating.
    weight
        Of each link on the way to the gene, shape (E,).
    back
        Of each link on the way to the peak, shape (E,); ``weight`` by default.

    Examples
    --------
    >>> relation = Relation.from_csr([0, 2], [0, 2], (1, 3))
    >>> sent = send_messages(relation, torch.zeros(2), torch.ones(1, 1), torch.ones(3, 1), torch.tensor([0.5, 0.25]))
    >>> sent.gene.tolist(), sent.peak.tolist()
    ([[0.75]], [[0.5], [0.0], [0.25]])
    """
    back = weight if back is None else back
    to_gene = relation.spmm(v_peak, weight=weight)
    to_peak = relation.T.spmm(v_gene, weight=relation.reverse_values(back))
    gene_row, peak_row = segment_ids(relation.indptr), relation.indices.long()
    return BipartiteMessages(to_gene, to_peak, gene_row, peak_row, score, weight, back)


def bipartite_attention(
    q: Tensor,
    k: Tensor,
    v_gene: Tensor,
    v_peak: Tensor,
    gene_block_ptr: Tensor,
    peak_block_ptr: Tensor,
    *,
    top_k: int = 10,
    threshold: float | None = 0.5,
    scale: float | None = None,
    window: Window | None = None,
    bias: DistanceBias | None = None,
    peaks_in_pair: Tensor | None = None,
) -> BipartiteMessages:
    """Exchange messages between genes and peaks along the best links of each gene.

    Each gene attends to the links of :func:`block_topk`. By default its weights are the softmax of the logits of the
    kept links, so that they sum to 1 and the scores learn. With ``peaks_in_pair`` the weights are those of the
    published code: a softmax over the *sigmoids* of the ``top_k`` largest entries of the gene's whole row, in which
    every pair outside its block counts as a masked logit 0 (sigmoid 0.5), times the threshold mask.

    Parameters
    ----------
    q, k
        Queries of genes (NR, D) and keys of peaks (NA, D), floating.
    v_gene, v_peak
        Values, shapes (NR, V) and (NA, V), floating.
    gene_block_ptr, peak_block_ptr
        First and last-plus-one row of every block, shapes (n_blocks, 2).
    top_k
        Most links per gene; published: 10.
    threshold
        Keep links with ``sigmoid(score) > threshold``; published: 0.5. None keeps all.
    scale
        Factor on the dot products; ``1 / sqrt(D)`` by default, published: 1.
    window
        Restriction to peaks within a distance.
    bias
        A learnt term of distance, added to the scaled dot products.
    peaks_in_pair
        Number of all peaks in the pair of each gene, shape (NR,), for the published weights; None for the corrected
        ones.

    Returns
    -------
    BipartiteMessages
        Messages to both sides, and the links with scores and weights.

    Raises
    ------
    GraphError
        Shapes or blocks that do not fit, parameters out of range, or published weights with a threshold below 0.5,
        where masked pairs would pass as links.

    Examples
    --------
    >>> q, k = torch.ones(2, 1), torch.tensor([[2.0], [2.0], [-1.0]])
    >>> block = torch.tensor([[0, 2]]), torch.tensor([[0, 3]])
    >>> sent = bipartite_attention(q, k, torch.tensor([[1.0], [3.0]]), torch.tensor([[4.0], [8.0], [0.0]]), *block)
    >>> sent.gene.tolist(), sent.peak.tolist()
    ([[6.0], [6.0]], [[2.0], [2.0], [0.0]])
    """
    scale = _checked_scale(q, k, top_k, scale, threshold)
    if len(v_gene) != len(q) or len(v_peak) != len(k):
        raise GraphError(
            f"Values for {len(v_gene):,} genes, {len(v_peak):,} peaks; there are {len(q):,} queries, {len(k):,} keys."
        )
    if peaks_in_pair is None:
        blocks = gene_block_ptr, peak_block_ptr
        relation, score = choose_links(q, k, *blocks, top_k, scale, threshold, window, bias)
        return send_messages(relation, score, v_gene, v_peak, segment_softmax(score, relation.indptr))
    if threshold is None or threshold < 0.5:
        raise GraphError(
            f"The published weights need a threshold of at least 0.5, found {threshold}: below it, masked pairs "
            f"(sigmoid 0.5) would be links. Fix: raise it, or use the corrected weights (peaks_in_pair=None)."
        )
    choice = Choice.of(q, k, gene_block_ptr, peak_block_ptr, top_k, scale, window, bias)
    peak, logit, reachable = choice.by_products()
    counted, filler = _published_entries(logit, reachable, peaks_in_pair, top_k)
    relation = _relation(peak, counted, len(k))
    score = score_links(relation, q, k, scale, bias)
    sent = send_messages(relation, score, v_gene, v_peak, _published_weights(score, relation.indptr, filler, threshold))
    linked = sent.weight.detach() > 0
    rows = sent.gene_row[linked], sent.peak_row[linked]
    weight = sent.weight[linked]
    return BipartiteMessages(sent.gene, sent.peak, *rows, score[linked], weight, weight)


def _published_entries(logit: Tensor, reachable: Tensor, peaks_in_pair: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Replay the published top-k over the whole row, where pairs outside the block are entries of sigmoid 0.5.

    Returns which of the candidates (NR, K) are among the ``top_k`` largest, and how many masked entries are (NR,).
    """
    size = peaks_in_pair.to(reachable).clamp(max=top_k)
    above = (torch.sigmoid(logit) > 0.5).sum(1)
    filler = torch.minimum((size - above).clamp(min=0), peaks_in_pair.to(reachable) - reachable)
    rank = torch.arange(logit.shape[1], device=logit.device)
    return (logit != -torch.inf) & (rank < (size - filler)[:, None]), filler


def _published_weights(score: Tensor, indptr: Tensor, filler: Tensor, threshold: float) -> Tensor:
    """Softmax over sigmoids with the masked entries in its denominator, times the threshold mask; shape (E,)."""
    share = torch.sigmoid(score)
    raised = share.exp()
    total = segment_sum(raised, indptr) + filler.to(raised) * math.exp(0.5)
    return raised / total.index_select(0, segment_ids(indptr)) * (share > threshold)


def _kept(logit: Tensor, threshold: float | None) -> Tensor:
    """Tell which candidates are links, shape (NR, K)."""
    found = logit != -torch.inf
    return found if threshold is None else found & (torch.sigmoid(logit) > threshold)


def _relation(peak: Tensor, kept: Tensor, n_peaks: int) -> Relation:
    """Genes as destinations of the kept candidates, (NR, K) to E edges."""
    degree = kept.sum(1)
    indptr = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
    return Relation.from_csr(indptr, peak[kept], (len(peak), n_peaks))


def _checked_scale(q: Tensor, k: Tensor, top_k: int, scale: float | None, threshold: float | None) -> float:
    if q.ndim != 2 or k.ndim != 2 or q.shape[1] != k.shape[1] or not q.shape[1]:
        raise GraphError(f"Queries {tuple(q.shape)} and keys {tuple(k.shape)} must be (NR, D) and (NA, D) with one D.")
    if top_k < 1 or (threshold is not None and not 0 <= threshold < 1):
        raise GraphError(f"top_k must be at least 1 and threshold in [0, 1); found {top_k} and {threshold}.")
    return 1 / math.sqrt(q.shape[1]) if scale is None else scale
