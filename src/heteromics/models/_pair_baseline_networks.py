"""Networks of the paper's baselines on bipartite graphs: same inputs, readout and classifier, other layers between."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from heteromics.models._pair_baseline_config import PairBaselineConfig, PairGCNIIConfig, PairTransformerConfig
from heteromics.models._pair_neighbours import Neighbours, neighbours
from heteromics.models._pair_nodes import FeatureTable, Nodes, PairNetwork, classifier
from heteromics.nn.segments import segment_mean

if TYPE_CHECKING:
    from heteromics.graphs import PairBatch


class PairBaselineNetwork(PairNetwork):
    """Nodes, layers that a subclass defines, mean over genes and over peaks, classifier.

    Parameters
    ----------
    config
        Sizes and switches.
    genes, peaks
        Of the whole collection.
    """

    def __init__(self, config: PairBaselineConfig, genes: FeatureTable, peaks: FeatureTable) -> None:
        super().__init__()
        codes = 1 + max(0, int(genes.chrom.max()), int(peaks.chrom.max()))
        self.genes, self.peaks = (Nodes(config, table, codes, [config.hidden]) for table in (genes, peaks))
        self.norms = nn.ModuleList(
            nn.BatchNorm1d(config.hidden) if config.normalise else nn.Identity() for _ in range(2)
        )
        self.classifier = classifier(config.classifier, config.hidden, config.dropout)

    def forward(self, batch: PairBatch) -> Tensor:
        """Return the logits of "other cell" and "same cell", shape (B, 2)."""
        (gene,) = self.genes(batch.gene, batch.gene_value, batch.gene_offsets)
        (peak,) = self.peaks(batch.peak, batch.peak_value, batch.peak_offsets)
        gene, peak = self.passed(torch.cat([gene, peak]), batch).split([len(gene), len(peak)])
        read = [
            norm(segment_mean(states, offsets))
            for norm, states, offsets in zip(
                self.norms, (gene, peak), (batch.gene_offsets, batch.peak_offsets), strict=True
            )
        ]
        return self.classifier(torch.cat(read, 1))

    def passed(self, states: Tensor, batch: PairBatch) -> Tensor:
        """Pass the projected inputs of all genes and peaks, (NR + NA, D), through the layers."""
        raise NotImplementedError


class MLPNetwork(PairBaselineNetwork):
    """Every node for itself: linear layers with ReLU, no edges."""

    def __init__(self, config: PairBaselineConfig, genes: FeatureTable, peaks: FeatureTable) -> None:
        super().__init__(config, genes, peaks)
        self.layers = nn.ModuleList(nn.Linear(config.hidden, config.hidden) for _ in range(config.layers))

    def passed(self, states: Tensor, batch: PairBatch) -> Tensor:
        """Pass each node through the layers."""
        states = functional.relu(states)
        for layer in self.layers:
            states = functional.relu(layer(states))
        return states


class GCNIINetwork(PairBaselineNetwork):
    """Layers of GCNII over the edges; see :class:`heteromics.models.PairGCNII`."""

    def __init__(self, config: PairGCNIIConfig, genes: FeatureTable, peaks: FeatureTable) -> None:
        super().__init__(config, genes, peaks)
        self.layers = nn.ModuleList(
            GCNIILayer(config.hidden, config.residual, math.log(config.identity / number + 1))
            for number in range(1, config.layers + 1)
        )

    def passed(self, states: Tensor, batch: PairBatch) -> Tensor:
        """Pass messages, with the first states in every layer."""
        near, states = neighbours(batch), functional.relu(states)
        first = states
        for layer in self.layers:
            states = functional.relu(layer(states, first, near))
        return states


class GCNIILayer(nn.Module):
    """``((1 - alpha) P h + alpha h0) ((1 - beta) I + beta W)``, with P of the graph with self-loops."""

    def __init__(self, width: int, alpha: float, beta: float) -> None:
        super().__init__()
        self.alpha, self.beta = alpha, beta
        self.weight = nn.Linear(width, width, bias=False)

    def forward(self, states: Tensor, first: Tensor, near: Neighbours) -> Tensor:
        """Return new states, before the activation."""
        scale = (near.degree + 1).to(states.dtype).rsqrt()[:, None]
        scaled = states * scale
        mixed = (1 - self.alpha) * scale * (scaled + near.sums(scaled)) + self.alpha * first
        return (1 - self.beta) * mixed + self.beta * self.weight(mixed)


class SAGENetwork(PairBaselineNetwork):
    """Layers of GraphSAGE over the edges; see :class:`heteromics.models.PairSAGE`."""

    def __init__(self, config: PairBaselineConfig, genes: FeatureTable, peaks: FeatureTable) -> None:
        super().__init__(config, genes, peaks)
        self.layers = nn.ModuleList(SAGELayer(config.hidden) for _ in range(config.layers))

    def passed(self, states: Tensor, batch: PairBatch) -> Tensor:
        """Pass messages."""
        near = neighbours(batch)
        for layer in self.layers:
            states = layer(states, near)
        return states


class SAGELayer(nn.Module):
    """``relu(W [h, mean of the neighbours])``, scaled to length 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.own = nn.Linear(width, width, bias=False)
        self.near = nn.Linear(width, width)

    def forward(self, states: Tensor, near: Neighbours) -> Tensor:
        """Return new states."""
        mean = near.sums(states) / near.degree.clamp(min=1).to(states.dtype)[:, None]
        return functional.normalize(functional.relu(self.own(states) + self.near(mean)))


class TransformerNetwork(PairBaselineNetwork):
    """Layers of the graph transformer over the edges; see :class:`heteromics.models.PairTransformer`."""

    def __init__(self, config: PairTransformerConfig, genes: FeatureTable, peaks: FeatureTable) -> None:
        super().__init__(config, genes, peaks)
        self.layers = nn.ModuleList(TransformerLayer(config.hidden, config.heads) for _ in range(config.layers))

    def passed(self, states: Tensor, batch: PairBatch) -> Tensor:
        """Pass messages."""
        near = neighbours(batch)
        for layer in self.layers:
            states = layer(states, near)
        return states


class TransformerLayer(nn.Module):
    """Attention over the neighbours, then two linear layers, each with a residual and layer norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(width, 3 * width, bias=False)
        self.mix = nn.Linear(width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))

    def forward(self, states: Tensor, near: Neighbours) -> Tensor:
        """Return new states."""
        q, k, v = self.project(states).chunk(3, 1)
        sent = near.attend(q, k, v, self.heads)
        states = self.norms[0](states + self.mix(sent))
        return self.norms[1](states + self.feed(states))
