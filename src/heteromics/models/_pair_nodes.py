"""Genes and peaks as a network sees them: IDs, values, chromosomes and attributes, projected together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from heteromics.nn.relation import Relation
from heteromics.nn.segments import segment_ids, segment_mean, segment_sum

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
    pooled
        Numbers of the projections of which the mean over each pair is all that is needed: linear, hence taken of the
        means.
    """

    attributes: Tensor
    chrom: Tensor
    depth: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(
        self,
        config: NodeConfig,
        table: FeatureTable,
        codes: int,
        parts: Sequence[int],
        alone: Sequence[int] = (),
        pooled: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.config, self.parts, self.alone, self.pooled = config, list(parts), list(alone), list(pooled)
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
        """Project features (N,) with values (N,), the pairs bounded by offsets (B + 1,), to parts (N, width).

        Parts of ``pooled`` are (B, width), the mean over each pair.
        """
        distinct, place = self._distinct(feature, offsets)
        ids = self.ids(distinct) if self.config.ids else None
        known = self._known(distinct)
        whole = [number for number in range(len(self.parts)) if number not in (*self.alone, *self.pooled)]
        fixed = self._fixed(ids, known, whole)
        parts = dict(zip(whole, fixed.split([self.parts[number] for number in whole], 1), strict=True))
        slopes = self.project.weight[:, self.widths[0]].to(fixed.dtype).split(self.parts)
        shifts = self.project.bias.to(fixed.dtype).split(self.parts)
        scaled = self.scaled(feature, value, offsets).to(fixed.dtype)
        if self.pooled:
            nodes = torch.arange(len(feature), device=feature.device) if place is None else place
            mean = Relation.from_csr(offsets, nodes, (len(offsets) - 1, len(distinct)))
            means = None if ids is None else mean.spmm(ids, reduce="mean"), mean.spmm(known, reduce="mean")
        found = []
        for number in range(len(self.parts)):
            if number in self.pooled:
                part = self._fixed(*means, [number])
                found.append(torch.addr(part, segment_mean(scaled, offsets).to(part.dtype), slopes[number]))
            elif number in self.alone:
                found.append(torch.addr(shifts[number].expand(len(scaled), -1), scaled, slopes[number]))
            else:
                part = parts[number].clone() if place is None else parts[number].index_select(0, place)
                found.append(part.addr_(scaled, slopes[number]))
        return found

    def _fixed(self, ids: Tensor | None, known: Tensor, numbers: list[int]) -> Tensor:
        """Project what does not depend on the value, (n, id_width) and (n, codes + a), to some of the parts."""
        weight, bias = (
            torch.cat([each.split(self.parts)[number] for number in numbers])
            for each in (self.project.weight, self.project.bias)
        )
        of_ids, _, *of_known = weight.split(self.widths, 1)
        fixed = functional.linear(known, torch.cat(of_known, 1), bias)
        return fixed if ids is None else fixed.addmm_(ids.to(fixed.dtype), of_ids.T.to(fixed.dtype))

    def _distinct(self, feature: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the distinct features, rising, and where each node stands among them; None: where it stands itself."""
        if len(offsets) == 2:
            return feature.long(), None  # the features of one pair are distinct already
        seen = torch.zeros(len(self.chrom), dtype=torch.bool, device=feature.device)
        seen[feature.long()] = True
        return seen.nonzero().squeeze(1), (seen.cumsum(0) - 1)[feature.long()]

    def _known(self, distinct: Tensor) -> Tensor:
        """Return chromosome, one-hot, and attributes of some features, (n, codes + a), without gradient."""
        code = self.chrom[distinct]
        one_hot = functional.one_hot(code.clamp(min=0), self.widths[2]) if self.widths[2] else code[:, None][:, :0]
        one_hot = one_hot * (code >= 0)[:, None]
        return torch.cat([one_hot.to(self.attributes.dtype), self.attributes[distinct]], 1)

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
    def calibrate(self, profiles: Callable[[], Iterable[tuple[Tensor, Tensor, Tensor]]]) -> None:
        """Set depth, centre and spread of ``standardised`` values from the non-zero values of training cells.

        ``profiles()`` yields features, values and bounds of some cells at a time, all cells once; it is called twice.
        """
        self.depth.copy_(torch.cat([segment_sum(value, offsets) for _, value, offsets in profiles()]).median())
        size = len(self.chrom)
        count, total, squares = torch.zeros(3, size, dtype=torch.float64)
        for feature, value, offsets in profiles():
            logs, row = self._logs(value, offsets).double(), feature.long()
            count += torch.bincount(row, minlength=size)
            total += torch.bincount(row, logs, minlength=size)
            squares += torch.bincount(row, logs.square(), minlength=size)
        mean = total / count.clamp(min=1)
        variance = (squares / count.clamp(min=1) - mean.square()).clamp(min=0)
        self.centre.copy_(mean)
        self.spread.copy_(variance.sqrt() + self.config.spread_floor)


class PairNetwork(nn.Module):
    """Two logits per pair of a batch: "other cell" and "same cell"."""

    genes: Nodes
    peaks: Nodes
