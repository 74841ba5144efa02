"""Genes and peaks as a network sees them: IDs, values, chromosomes and attributes, projected together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from heteromics.errors import ModelError
from heteromics.nn.relation import Relation
from heteromics.nn.segments import segment_ids, segment_mean, segment_sum

if TYPE_CHECKING:
    from heteromics.graphs import HeteroGraph


_ROWS = {"cpu": 1 << 10}  # of an embedding gathered at a time; on other devices:
_ROWS_ELSEWHERE = 1 << 14


Readout = Literal["mlp", "compared", "linear"]


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
    """Of all genes, or all peaks: ``attributes`` (n, a) float32, ``chrom`` codes (n,) and ``position`` in bp (n,)."""

    attributes: Tensor
    chrom: Tensor
    position: Tensor

    @classmethod
    def of(cls, graph: HeteroGraph, ntype: str) -> FeatureTable:
        """Read it from a bipartite graph."""
        data = graph.ndata(ntype)
        return cls(data["attributes"], data["chrom"].long(), data["position"].long())


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
        means; 0 for a pair without nodes.

    Raises
    ------
    ModelError
        For pooled projections with sparse gradients, which a mean does not have.
    """

    attributes: Tensor
    chrom: Tensor
    position: Tensor
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
        if pooled and config.ids and config.sparse_ids:
            raise ModelError("pooled projections need dense gradients of the IDs. Fix: sparse_ids=False.")
        self.config, self.parts, self.alone, self.pooled = config, list(parts), list(alone), list(pooled)
        size = len(table.chrom)
        self.register_buffer("attributes", table.attributes if config.attributes else table.attributes[:, :0])
        self.register_buffer("chrom", table.chrom)
        self.register_buffer("position", table.position)
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
        known, mean, ids = self._known(distinct), None, None
        whole = [number for number in range(len(self.parts)) if number not in (*self.alone, *self.pooled)]
        if self.pooled:
            mean = Relation.from_csr(offsets, feature, (len(offsets) - 1, len(self.chrom)))
            filled = (offsets.diff() > 0)[:, None]
        weights = [self._weights(number) for number in range(len(self.parts))]
        fixed = [functional.linear(known, weights[number][2], weights[number][3]) for number in whole]
        half = fixed[0].dtype
        if self.config.ids:
            of_ids = [weights[number][0].to(half) for number in whole]
            *fixed, ids = _AddEmbedded.apply(self.ids.weight, distinct, mean, self.ids.sparse, *fixed, *of_ids)
        parts = dict(zip(whole, fixed, strict=True))
        scaled = self.scaled(feature, value, offsets).to(half)
        found = []
        for number in range(len(self.parts)):
            of_mean, slopes, of_known, shifts = (each.to(half) for each in weights[number])
            if number in self.pooled:
                assert mean is not None
                seen = torch.arange(len(feature), device=feature.device) if place is None else place
                known_mean = Relation.from_csr(offsets, seen, (len(filled), len(known))).spmm(known, reduce="mean")
                part = functional.linear(known_mean.to(half), of_known, shifts)
                part = part if ids is None else part + functional.linear(ids.to(half), of_mean)
                found.append(torch.addr(part, segment_mean(scaled, offsets), slopes) * filled)
            elif number in self.alone:
                found.append(torch.addr(shifts.expand(len(scaled), -1), scaled, slopes))
            else:
                part = parts[number] if place is None else parts[number].index_select(0, place)
                found.append(part.addr_(scaled, slopes))
        return found

    def _weights(self, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return a part's weights of IDs (w, id_width), values (w,) and the rest (w, codes + a), and its bias (w,)."""
        weight, bias = (each.split(self.parts)[number] for each in (self.project.weight, self.project.bias))
        ids, value, *known = weight.split(self.widths, 1)
        return ids, value.squeeze(1), torch.cat(known, 1), bias

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

        A feature that none of them has takes centre and spread of all values together. ``profiles()`` yields features,
        values and bounds of some cells at a time, all cells once; it is called twice.
        """
        self.depth.copy_(torch.cat([segment_sum(value, offsets) for _, value, offsets in profiles()]).median())
        size = len(self.chrom)
        count, total, squares = torch.zeros(3, size, dtype=torch.float64)
        for feature, value, offsets in profiles():
            logs, row = self._logs(value, offsets).double(), feature.long()
            count += torch.bincount(row, minlength=size)
            total += torch.bincount(row, logs, minlength=size)
            squares += torch.bincount(row, logs.square(), minlength=size)
        seen, number = count > 0, count.sum().clamp(min=1)
        mean = torch.where(seen, total / count.clamp(min=1), total.sum() / number)
        square = torch.where(seen, squares / count.clamp(min=1), squares.sum() / number)
        variance = (square - mean.square()).clamp(min=0)
        self.centre.copy_(mean)
        self.spread.copy_(variance.sqrt() + self.config.spread_floor)


class _AddEmbedded(torch.autograd.Function):
    """Add rows of an embedding, projected by some weights (w, D), to some tensors (d, w), in place, and average rows.

    The average is over pairs. Neither the rows nor, for dense gradients, theirs are ever there as a whole: some
    hundred or thousand at a time.
    """

    @staticmethod
    def forward(
        ctx: Any, table: Tensor, rows: Tensor, mean: Relation | None, sparse: bool, *given: Tensor
    ) -> tuple[Tensor | None, ...]:
        starts, weights = given[: len(given) // 2], given[len(given) // 2 :]
        ctx.mark_dirty(*starts)
        ctx.save_for_backward(table, rows, *weights)
        ctx.mean, ctx.sparse = mean, sparse
        with torch.autocast(table.device.type, enabled=False):
            for part in _some(rows):
                some = table[rows[part]].to(starts[0].dtype)
                for start, weight in zip(starts, weights, strict=True):
                    start[part].addmm_(some, weight.T)
            return *starts, None if mean is None else mean.spmm(table, reduce="mean")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        table, rows, *weights = ctx.saved_tensors
        *of_starts, of_mean = grads
        of_weights = [torch.zeros_like(weight, dtype=table.dtype) for weight in weights]
        if ctx.mean is None or of_mean is None:
            of_rows = table.new_zeros(len(rows) if ctx.sparse else len(table), table.shape[1])
        else:
            of_rows = ctx.mean.T.spmm(of_mean / ctx.mean.indptr.diff().clamp(min=1)[:, None])
        for part in _some(rows):
            some = table[rows[part]]
            found = torch.zeros_like(some)
            for of_start, of_weight, weight in zip(of_starts, of_weights, weights, strict=True):
                here = cast("Tensor", of_start)[part].to(table.dtype)
                of_weight.addmm_(here.T, some)
                found.addmm_(here, weight.to(table.dtype))
            place = torch.arange(part.start, part.stop, device=rows.device) if ctx.sparse else rows[part]
            of_rows.index_add_(0, place, found)
        if ctx.sparse:
            of_rows = torch.sparse_coo_tensor(
                rows[None], of_rows, table.shape, is_coalesced=True, check_invariants=False
            )
        weighed = (each.to(weight.dtype) for each, weight in zip(of_weights, weights, strict=True))
        return of_rows, None, None, None, *of_starts, *weighed


def _some(rows: Tensor) -> list[slice]:
    step = _ROWS.get(rows.device.type, _ROWS_ELSEWHERE)
    return [slice(start, min(start + step, len(rows))) for start in range(0, len(rows), step)]


class PairNetwork(nn.Module):
    """Two logits per pair of a batch: "other cell" and "same cell"."""

    genes: Nodes
    peaks: Nodes


class _Compared(nn.Module):
    """Set beside two readouts, (B, 2 width), their product and their distance: (B, 4 width)."""

    def forward(self, readouts: Tensor) -> Tensor:
        one, other = readouts.chunk(2, 1)
        return torch.cat([readouts, one * other, (one - other).abs()], 1)


def classifier(kind: Readout, width: int, dropout: float) -> nn.Module:
    """Return what tells from two readouts side by side, (B, 2 width), whether they are of one cell.

    ``"mlp"`` is that of the public code of Bi2Former. ``"compared"`` gives one hidden layer the readouts, their product
    and their distance, the heuristic matching of Mou et al. 2016 (ACL, section 3.3): what two readouts share is then
    there to be weighed and need not be learnt from sums of them. ``"linear"`` adds up.
    """
    if kind == "linear":
        return nn.Linear(2 * width, 2)
    if kind == "compared":
        return nn.Sequential(
            _Compared(), nn.Linear(4 * width, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 2)
        )
    return nn.Sequential(
        nn.Linear(2 * width, width),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(width, width // 2),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(width // 2, 2),
    )
