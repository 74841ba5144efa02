"""The network of Bi2Former: attributed nodes, attention between genes and peaks that may meet, readout, classifier."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from heteromics.errors import ModelError
from heteromics.models._bi2former_config import Bi2FormerConfig
from heteromics.models._pair_nodes import FeatureTable, Nodes, PairNetwork, classifier
from heteromics.nn.bipartite import (
    BipartiteMessages,
    DistanceBias,
    Window,
    bipartite_attention,
    choose_links,
    score_links,
    send_messages,
)
from heteromics.nn.relation import Relation
from heteromics.nn.segments import segment_ids, segment_softmax

if TYPE_CHECKING:
    from heteromics.graphs import PairBatch

_HELD = 1 << 21  # numbers of one temporary array, 8 MB in float32
_KNOTS = 19  # of the distance bias: to 262 Mb, beyond the largest human chromosome


@dataclass(frozen=True, slots=True)
class Attention:
    """What one head sent, along which links, and the values it sent: ``gene`` (NR, V) and ``peak`` (NA, V)."""

    messages: BipartiteMessages
    gene: Tensor
    peak: Tensor

    @torch.no_grad()
    def effect(self, to_gene: Tensor, to_peak: Tensor) -> Tensor:
        """Return weight times gradient of every link, shape (E,), given the gradients of its messages.

        To first order, what the output would lose without the link. In the precision of the gradients, at least
        float32; some thousand links at a time, for a row per link of all four would be far more than the states.
        """
        sent, dtype = self.messages, torch.promote_types(to_gene.dtype, torch.float32)
        found = to_gene.new_empty(len(sent.weight), dtype=dtype)
        step = max(_HELD // max(to_gene.shape[1], 1), 1)
        for part in (slice(start, start + step) for start in range(0, len(found), step)):
            gene, peak = sent.gene_row[part], sent.peak_row[part]
            received = (to_gene[gene].to(dtype) * self.peak[peak]).sum(1) * sent.weight[part]
            found[part] = received + (to_peak[peak].to(dtype) * self.gene[gene]).sum(1) * sent.back[part]
        return found


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
        pooled = [2] if pools_self(config) else []
        self.genes, self.peaks = (Nodes(config, table, codes, config.parts, alone, pooled) for table in (genes, peaks))
        self.layers = nn.ModuleList(_Layer(config, first=number == 0) for number in range(config.layers))
        width = config.hidden
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) if config.normalise else nn.Identity() for _ in range(2))
        self.classifier = classifier(config.classifier, width, config.dropout)

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
        half = self.config.precision == "bfloat16"
        with torch.autocast(batch.gene.device.type, torch.bfloat16, enabled=half):
            layers = cast("list[_Layer]", list(self.layers))
            roles = [
                self.genes(batch.gene, batch.gene_value, batch.gene_offsets),
                self.peaks(batch.peak, batch.peak_value, batch.peak_offsets),
            ]
            states: list[Tensor] = []
            sent: list[Attention] = []
            for layer, following in itertools.pairwise(layers):
                parts, messages = layer(roles, batch)
                new = [layer.updated(side, *part) for side, part in enumerate(parts)]
                states = [old + more for old, more in zip(states, new, strict=True)] if states else new
                sent += messages
                roles = following.roles(states)
            last = layers[-1]
            parts, messages = last(roles, batch)
            pools = [_Pool(offsets) for offsets in (batch.gene_offsets, batch.peak_offsets)]
            read = [
                last.read(side, message, own, pool)
                for side, ((message, own), pool) in enumerate(zip(parts, pools, strict=True))
            ]
            if states:
                read = [new + pool(old) for new, pool, old in zip(read, pools, states, strict=True)]
        whole = [norm(state.float() if half else state) for norm, state in zip(self.norms, read, strict=True)]
        return self.classifier(torch.cat(whole, 1)), sent + messages


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
        if config.distance_bias:
            self.heights = nn.Parameter(torch.zeros(config.heads, _KNOTS))

    def forward(
        self, roles: Sequence[Sequence[Tensor]], batch: PairBatch
    ) -> tuple[list[tuple[Tensor, Tensor]], list[Attention]]:
        """Return messages and self of genes and of peaks, each (N, hidden), and what every head sent.

        Self is (B, hidden) where its mean over each pair is all that is needed.
        """
        gene_heads, peak_heads = (
            zip(*(self._of_heads(part) for part in (*side[:2], *side[3:])), strict=True) for side in roles
        )
        sent = [
            Attention(self._attend(number, gene, peak, batch), gene[1], peak[1])
            for number, (gene, peak) in enumerate(zip(gene_heads, peak_heads, strict=True))
        ]
        received = ([head.messages.gene for head in sent], [head.messages.peak for head in sent])
        mixed = []
        for side, (messages, own) in enumerate(zip(received, (roles[0][2], roles[1][2]), strict=True)):
            message = torch.cat(messages, 1) if len(messages) > 1 else messages[0]
            mixed.append((self.mix[side](message) if self.config.heads > 1 else message, own))
        return mixed, sent

    def _of_heads(self, part: Tensor) -> tuple[Tensor, ...]:
        return part.chunk(self.config.heads, 1) if self.config.heads > 1 else (part,)  # one chunk is copied backwards

    def roles(self, states: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
        """Project states of the layer before to query or key, message and self, and those of the way back."""
        return [project(state).split(self.config.parts, 1) for project, state in zip(self.project, states, strict=True)]

    def updated(self, side: int, message: Tensor, own: Tensor) -> Tensor:
        """Return the new states of genes (side 0) or peaks (1), shape (N, hidden)."""
        state = self.update[side](torch.cat([message, own], 1))
        return functional.gelu(state) if self.config.activation else state

    def read(self, side: int, message: Tensor, own: Tensor, pool: _Pool) -> Tensor:
        """Return the mean new state of each pair, shape (B, hidden); a linear update is taken after the mean."""
        if self.config.activation:
            return pool(self.updated(side, message, own))
        return self.updated(side, pool(message), own if pools_self(self.config) else pool(own))

    def _attend(
        self, head: int, gene: tuple[Tensor, ...], peak: tuple[Tensor, ...], batch: PairBatch
    ) -> BipartiteMessages:
        """Send values, given query and value of genes, key and value of peaks, and what asks on the way back."""
        query, gene_value, *gene_key = gene
        key, peak_value, *peak_query = peak
        bias = self._bias(head, batch)
        if self.config.weights == "published":
            return self._published(query, key, gene_value, peak_value, batch, bias)
        relation, score = self._links(query, key, batch, bias)
        weight, back = self._weight(score, relation), None
        if self.config.directions == "separate":
            returned = score_links(relation, gene_key[0], peak_query[0], self._scale(query), bias)
            turned = self._weight(relation.reverse_values(returned), relation.T)
            back = relation.T.reverse_values(turned)
        return send_messages(relation, score, gene_value, peak_value, weight, back)

    def _links(
        self, query: Tensor, key: Tensor, batch: PairBatch, bias: DistanceBias | None
    ) -> tuple[Relation, Tensor]:
        config, scale = self.config, self._scale(query)
        if config.top_k is not None:
            blocks = batch.gene_block_ptr, batch.peak_block_ptr
            return choose_links(query, key, *blocks, config.top_k, scale, config.threshold, _window(batch), bias)
        relation = Relation.from_csr(*batch.edges(), (len(query), len(key)))
        score = score_links(relation, query, key, scale, bias)
        if config.threshold is None:
            return relation, score
        kept = (torch.sigmoid(score.detach()) > config.threshold).nonzero().squeeze(1)
        return relation.take(kept), score[kept]

    def _published(
        self, query: Tensor, key: Tensor, gene: Tensor, peak: Tensor, batch: PairBatch, bias: DistanceBias | None
    ) -> BipartiteMessages:
        return bipartite_attention(
            query,
            key,
            gene,
            peak,
            batch.gene_block_ptr,
            batch.peak_block_ptr,
            top_k=cast("int", self.config.top_k),
            threshold=self.config.threshold,
            scale=self._scale(query),
            window=_window(batch),
            bias=bias,
            peaks_in_pair=batch.peak_offsets.diff()[segment_ids(batch.gene_offsets)],
        )

    def _weight(self, score: Tensor, relation: Relation) -> Tensor:
        """Weigh links by the sigmoid of their score (the paper's equation) or a softmax over each destination."""
        return torch.sigmoid(score) if self.config.weights == "sigmoid" else segment_softmax(score, relation.indptr)

    def _scale(self, query: Tensor) -> float:
        return query.shape[1] ** -0.5 if self.config.scaled else 1.0

    def _bias(self, head: int, batch: PairBatch) -> DistanceBias | None:
        if not self.config.distance_bias:
            return None
        if batch.gene_position is None or batch.peak_position is None:
            raise ModelError("distance_bias: found a batch without positions. Fix: PairBatcher(graph, positions=True).")
        return DistanceBias(
            batch.gene_position, batch.peak_position, self.heights[head], batch.gene_chrom, batch.peak_chrom
        )


class _Pool:
    """Mean over the nodes of each pair: :func:`heteromics.nn.segments.segment_mean`, in a third of its time."""

    def __init__(self, offsets: Tensor) -> None:
        size = int(offsets[-1])
        nodes = torch.arange(size, device=offsets.device)
        self.relation = Relation.from_csr(offsets, nodes, (len(offsets) - 1, size))

    def __call__(self, state: Tensor) -> Tensor:
        return self.relation.spmm(state, reduce="mean")


def pools_self(config: Bi2FormerConfig) -> bool:
    """Tell whether all is linear from the projection of nodes to the readout but for the messages."""
    return config.layers == 1 and not config.activation and not config.sparse_ids


def _window(batch: PairBatch) -> Window | None:
    if batch.gene_position is None or batch.peak_position is None or batch.within_bp is None:
        return None
    return Window(batch.gene_position, batch.peak_position, batch.within_bp)
