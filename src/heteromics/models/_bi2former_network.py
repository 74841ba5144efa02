"""The network of Bi2Former: attributed nodes, attention between genes and peaks that may meet, readout, classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from heteromics.models._bi2former_config import Bi2FormerConfig
from heteromics.models._pair_nodes import FeatureTable, Nodes, PairNetwork
from heteromics.nn.bipartite import BipartiteMessages, Window, bipartite_attention, block_topk
from heteromics.nn.relation import Relation
from heteromics.nn.segments import segment_ids, segment_mean, segment_softmax

if TYPE_CHECKING:
    from heteromics.graphs import PairBatch


Roles = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Attention:
    """What one head sent, along which links, and the values it sent: ``gene`` (NR, V) and ``peak`` (NA, V)."""

    messages: BipartiteMessages
    gene: Tensor
    peak: Tensor

    def effect(self, to_gene: Tensor, to_peak: Tensor) -> Tensor:
        """Return weight times gradient of every link, shape (E,), given the gradients of its messages.

        To first order, what the output would lose without the link.
        """
        sent = self.messages
        received = (to_gene[sent.gene_row] * self.peak[sent.peak_row]).sum(1)
        returned = (to_peak[sent.peak_row] * self.gene[sent.gene_row]).sum(1)
        return (sent.weight * (received + returned)).detach()


class Bi2FormerNetwork(PairNetwork):
    """Two logits per pair, and the attention they were made with.

    Parameters
    ----------
    config
        Sizes and switches.
    genes, peaks
        Of the whole collection.
    """

    def __init__(self, config: Bi2FormerConfig, genes: FeatureTable, peaks: FeatureTable) -> None:
        super().__init__()
        self.config = config
        codes = 1 + int(max(genes.chrom.max(), peaks.chrom.max()))
        alone = [1] if config.messages == "values" else []
        self.genes, self.peaks = (Nodes(config, table, codes, config.parts, alone) for table in (genes, peaks))
        self.layers = nn.ModuleList(_Layer(config, first=number == 0) for number in range(config.layers))
        width = config.hidden
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) if config.normalise else nn.Identity() for _ in range(2))
        self.classifier = _classifier(config)

    def forward(self, batch: PairBatch) -> Tensor:
        """Return the logits of "other cell" and "same cell", shape (B, 2)."""
        return self.explained(batch)[0]

    def effects(self, batch: PairBatch) -> tuple[list[Attention], list[Tensor]]:
        """Return the attention of every layer and head, and the effect of its links on the log odds of "same cell"."""
        with torch.enable_grad():
            logits, sent = self.explained(batch)
            messages = [part for head in sent for part in (head.messages.gene, head.messages.peak)]
            odds = (logits[:, 1] - logits[:, 0]).sum()
            gradients = torch.autograd.grad(odds, messages)
        return sent, [
            head.effect(*pair)
            for head, pair in zip(sent, zip(gradients[::2], gradients[1::2], strict=True), strict=True)
        ]

    def explained(self, batch: PairBatch) -> tuple[Tensor, list[Attention]]:
        """Return the logits, and what was sent along which links in every layer and head."""
        first, *later = cast("list[_Layer]", list(self.layers))
        gene = self.genes(batch.gene, batch.gene_value, batch.gene_offsets)
        peak = self.peaks(batch.peak, batch.peak_value, batch.peak_offsets)
        gene, peak, sent = first(gene, peak, batch)
        for layer in later:
            more_gene, more_peak, messages = layer(*layer.roles(gene, peak), batch)
            gene, peak, sent = gene + more_gene, peak + more_peak, sent + messages
        read = [
            norm(segment_mean(state, offsets))
            for norm, state, offsets in zip(
                self.norms, (gene, peak), (batch.gene_offsets, batch.peak_offsets), strict=True
            )
        ]
        return self.classifier(torch.cat(read, 1)), sent


class _Layer(nn.Module):
    """Attention both ways, then a linear update of each node from its messages and itself."""

    def __init__(self, config: Bi2FormerConfig, *, first: bool) -> None:
        super().__init__()
        self.config = config
        width = config.hidden
        if not first:
            self.project = nn.ModuleList(nn.Linear(width, sum(config.parts)) for _ in range(2))
        if config.heads > 1:
            self.mix = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.update = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(2))

    def forward(self, gene: Roles, peak: Roles, batch: PairBatch) -> tuple[Tensor, Tensor, list[Attention]]:
        query, gene_value, gene_self = gene
        key, peak_value, peak_self = peak
        heads = [part.chunk(self.config.heads, 1) for part in (query, key, gene_value, peak_value)]
        sent = [Attention(self._attend(q, k, g, p, batch), g, p) for q, k, g, p in zip(*heads, strict=True)]
        states = []
        for side, messages, own in (
            (0, [head.messages.gene for head in sent], gene_self),
            (1, [head.messages.peak for head in sent], peak_self),
        ):
            message = torch.cat(messages, 1)
            message = self.mix[side](message) if self.config.heads > 1 else message
            state = self.update[side](torch.cat([message, own], 1))
            states.append(functional.gelu(state) if self.config.activation else state)
        return states[0], states[1], sent

    def roles(self, gene: Tensor, peak: Tensor) -> tuple[Roles, Roles]:
        """Project states of the layer before to query or key, message and self."""
        parts = self.config.parts
        return self.project[0](gene).split(parts, 1), self.project[1](peak).split(parts, 1)

    def _attend(self, query: Tensor, key: Tensor, gene: Tensor, peak: Tensor, batch: PairBatch) -> BipartiteMessages:
        config = self.config
        if config.top_k is None and config.weights != "published":
            relation = Relation.from_csr(*batch.edges(), (len(gene), len(peak)))
            score = relation.sddmm(query, key)
            score = score / query.shape[1] ** 0.5 if config.scaled else score
            if config.threshold is not None:
                kept = torch.sigmoid(score.detach()) > config.threshold
                relation, score = _subset(relation, kept), score[kept]
            return _send(relation, score, gene, peak, config.weights)
        window = None
        if batch.gene_position is not None and batch.peak_position is not None and batch.within_bp is not None:
            window = Window(batch.gene_position, batch.peak_position, batch.within_bp)
        blocks = batch.gene_block_ptr, batch.peak_block_ptr
        scale, top_k = None if config.scaled else 1.0, config.top_k or max(_widest(batch.peak_block_ptr), 1)
        if config.weights == "sigmoid":
            gene_row, peak_row, score = block_topk(query, key, *blocks, top_k, scale, config.threshold, window)
            indptr = _bounds(torch.bincount(gene_row, minlength=len(gene)))
            relation = Relation.from_csr(indptr, peak_row, (len(gene), len(peak)))
            return _send(relation, score, gene, peak, "sigmoid")
        peaks_in_pair = None
        if config.weights == "published":
            peaks_in_pair = batch.peak_offsets.diff()[segment_ids(batch.gene_offsets)]
        return bipartite_attention(
            query,
            key,
            gene,
            peak,
            *blocks,
            top_k=top_k,
            threshold=config.threshold,
            scale=scale,
            window=window,
            peaks_in_pair=peaks_in_pair,
        )


def _classifier(config: Bi2FormerConfig) -> nn.Module:
    width = config.hidden
    if config.classifier == "linear":
        return nn.Linear(2 * width, 2)
    return nn.Sequential(
        nn.Linear(2 * width, width),
        nn.ReLU(),
        nn.Dropout(config.dropout),
        nn.Linear(width, width // 2),
        nn.ReLU(),
        nn.Dropout(config.dropout),
        nn.Linear(width // 2, 2),
    )


def _widest(block_ptr: Tensor) -> int:
    return int(block_ptr.diff().max()) if len(block_ptr) else 1


def _bounds(sizes: Tensor) -> Tensor:
    return torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])


def _subset(relation: Relation, kept: Tensor) -> Relation:
    """Return the relation with some of its edges."""
    row = segment_ids(relation.indptr)[kept]
    indptr = _bounds(torch.bincount(row, minlength=relation.shape[0]))
    return Relation.from_csr(indptr, relation.indices[kept], relation.shape)


def _send(relation: Relation, score: Tensor, gene: Tensor, peak: Tensor, weights: str) -> BipartiteMessages:
    """Send along links weighed by the sigmoid of their score (the paper's equation) or a softmax over each gene."""
    weight = torch.sigmoid(score) if weights == "sigmoid" else segment_softmax(score, relation.indptr)
    to_gene = relation.spmm(peak, weight=weight)
    to_peak = relation.T.spmm(gene, weight=relation.reverse_values(weight))
    return BipartiteMessages(to_gene, to_peak, segment_ids(relation.indptr), relation.indices.long(), score, weight)
