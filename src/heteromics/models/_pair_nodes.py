"""Genes and peaks as a network sees them: IDs, values, chromosomes and attributes, projected together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from heteromics.nn.segments import segment_ids, segment_sum

if TYPE_CHECKING:
    from heteromics.graphs import HeteroGraph


class NodeConfig(Protocol):
    """What a configuration says of nodes; see :class:`heteromics.models.Bi2FormerConfig`."""

    @property
    def id_width(self) -> int: ...
    @property
    def ids(self) -> bool: ...
    @property
    def sparse_ids(self) -> bool: ...
    @property
    def attributes(self) -> bool: ...
    @property
    def values(self) -> Literal["standardised", "log1p", "raw"]: ...
    @property
    def spread_floor(self) -> float: ...


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """What is known of all genes, or of all peaks: ``attributes`` (n, a) float32 and ``chrom`` codes (n,)."""

    attributes: Tensor
    chrom: Tensor

    @classmethod
    def of(cls, graph: HeteroGraph, ntype: str) -> FeatureTable:
        """Read it from a bipartite graph."""
        data = graph.ndata(ntype)
        return cls(data["attributes"], data["chrom"].long())


class Nodes(nn.Module):
    """Linear projections of [ID embedding | value | chromosome | attributes].

    All but the value depends on the feature alone, so it is projected once per distinct feature of a batch.

    Parameters
    ----------
    config
        Which of them, and how values are scaled.
    table
        Of all features.
    codes
        Number of chromosomes.
    parts
        Widths of the projections.
    alone
        Numbers of the projections that know the value and nothing else.
    """

    attributes: Tensor
    chrom: Tensor
    depth: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(
        self, config: NodeConfig, table: FeatureTable, codes: int, parts: Sequence[int], alone: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.config, self.parts, self.alone = config, list(parts), list(alone)
        size = len(table.chrom)
        self.register_buffer("attributes", table.attributes if config.attributes else table.attributes[:, :0])
        self.register_buffer("chrom", table.chrom)
        self.register_buffer("depth", torch.ones(()))
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("spread", torch.ones(size))
        self.widths = [config.id_width * config.ids, 1, codes * config.attributes, self.attributes.shape[1]]
        if config.ids:
            self.ids = nn.Embedding(size, config.id_width, sparse=config.sparse_ids)
        self.project = nn.Linear(sum(self.widths), sum(self.parts))

    def forward(self, feature: Tensor, value: Tensor, offsets: Tensor) -> list[Tensor]:
        """Project features (N,) with values (N,), the pairs bounded by offsets (B + 1,), to parts (N, width)."""
        seen = torch.zeros(len(self.chrom), dtype=torch.bool, device=feature.device)
        seen[feature.long()] = True
        distinct = seen.nonzero().squeeze(1)
        ids, of_value, chrom, attributes = self.project.weight.split(self.widths, 1)
        fixed = functional.linear(self.attributes[distinct], attributes, self.project.bias)
        if self.config.ids:
            fixed = fixed + functional.linear(self.ids(distinct), ids)
        if self.config.attributes:
            code = self.chrom[distinct]
            fixed = fixed + chrom.T[code.clamp(min=0)] * (code >= 0)[:, None]
        place = (seen.cumsum(0) - 1)[feature.long()]
        varying = self.scaled(feature, value, offsets)[:, None] * of_value.T
        found = list((fixed.index_select(0, place) + varying).split(self.parts, 1))
        for part in self.alone:
            found[part] = varying.split(self.parts, 1)[part] + self.project.bias.split(self.parts)[part]
        return found

    def scaled(self, feature: Tensor, value: Tensor, offsets: Tensor) -> Tensor:
        """Return the values as the network sees them, shape (N,)."""
        if self.config.values == "raw":
            return value
        if self.config.values == "log1p":
            return torch.log1p(value)
        return (self._logs(value, offsets) - self.centre[feature.long()]) / self.spread[feature.long()]

    def _logs(self, value: Tensor, offsets: Tensor) -> Tensor:
        total = segment_sum(value, offsets)
        return torch.log1p(value / total[segment_ids(offsets)] * self.depth)

    @torch.no_grad()
    def calibrate(self, feature: Tensor, value: Tensor, offsets: Tensor) -> None:
        """Set depth, centre and spread of ``standardised`` values from the non-zero values of training cells."""
        size = len(self.chrom)
        self.depth.copy_(segment_sum(value, offsets).median())
        logs, row = self._logs(value, offsets).double(), feature.long()
        count = torch.bincount(row, minlength=size).clamp(min=1)
        mean = torch.bincount(row, logs, minlength=size) / count
        variance = torch.bincount(row, (logs - mean[row]).square(), minlength=size) / count
        self.centre.copy_(mean)
        self.spread.copy_(variance.sqrt() + self.config.spread_floor)


class PairNetwork(nn.Module):
    """Two logits per pair of a batch: "other cell" and "same cell"."""

    genes: Nodes
    peaks: Nodes
