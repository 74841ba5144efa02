"""What single links are worth to the log odds of a match, from the messages on, in float64.

In a network of one attention layer the weights of links reach the log odds through the messages alone, to which they
are linear: a link adds ``weight * value of its peak`` to what the gene receives and ``weight * value of its gene`` to
what the peak receives. So the attention is computed once per batch, and everything here works on what comes after it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from heteromics.errors import ModelError
from heteromics.models._bi2former_network import Attention, Bi2FormerNetwork, pools_self
from heteromics.nn.segments import segment_ids, segment_mean

if TYPE_CHECKING:
    from heteromics.graphs import PairBatch

Sides = tuple[Tensor, Tensor]  # of genes, of peaks

_HELD = 1 << 21  # numbers of one temporary array, 16 MB in float64
_ROUNDING = 1e-6  # of weights that add up to 1, in float32


@dataclass(frozen=True, slots=True)
class AfterAttention:
    """The rest of a network of one layer, from the messages of a batch to its log odds.

    Attributes
    ----------
    sent
        The attention of each head.
    linear
        States of genes (NR, W) and peaks (NA, W) before the activation.
    into
        By side and head, what a message (V,) adds to ``linear``: matrices (V, W).
    offsets
        Bounds of the pairs among genes and among peaks, (B + 1,).
    odds
        From the mean states of genes and of peaks, (B, W) each, to the log odds of "same cell", (B,).
    activation
        Of the states; None where they are linear.
    """

    sent: list[Attention]
    linear: Sides
    into: tuple[list[Tensor], list[Tensor]]
    offsets: Sides
    odds: Callable[[Tensor, Tensor], Tensor]
    activation: Callable[[Tensor], Tensor] | None

    @classmethod
    @torch.no_grad()
    def of(cls, network: Bi2FormerNetwork, batch: PairBatch) -> Self:
        """Run a network on a batch, up to the states of its only layer.

        Raises
        ------
        ModelError
            For a network of several layers, in which removing a link of one changes the attention of the next.
        """
        layers = list(network.layers)
        if len(layers) != 1:
            raise ModelError(
                f"found {len(layers)} attention layers; integrated gradients and ablation of links need 1, since later "
                "layers would attend otherwise. Fix: methods=('attention', 'effect'), which hold for any depth, or a "
                "model with layers=1."
            )
        layer: Any = layers[0]
        seen: list[Any] = []
        watch = layer.register_forward_hook(lambda _module, _given, made: seen.append(made))
        try:
            _, sent = network.explained(batch)
        finally:
            watch.remove()
        offsets = batch.gene_offsets, batch.peak_offsets
        received = seen[0][0]  # by side: messages, mixed over heads, and own states
        gene, peak = (
            _linear(update, part[0], part[1][segment_ids(bounds)] if pools_self(network.config) else part[1])
            for update, part, bounds in zip(layer.update, received, offsets, strict=True)
        )
        width, heads = network.config.hidden, len(sent)
        into = []
        for side in range(2):
            of_message = layer.update[side].weight[:, :width].double()
            if heads > 1:
                of_message = of_message @ layer.mix[side].weight.double()
            into.append(list(of_message.T.chunk(heads, 0)))
        gene_norm, peak_norm, classifier = (
            copy.deepcopy(cast("torch.nn.Module", part)).double() for part in (*network.norms, network.classifier)
        )

        def odds(gene: Tensor, peak: Tensor) -> Tensor:
            logits = classifier(torch.cat([gene_norm(gene), peak_norm(peak)], 1))
            return cast("Tensor", logits[:, 1] - logits[:, 0])

        activation = functional.gelu if network.config.activation else None
        return cls(sent, (gene, peak), (into[0], into[1]), offsets, odds, activation)

    def means(self, linear: Sides) -> Sides:
        """Return the mean state of the genes and of the peaks of every pair, (B, W) each."""
        gene, peak = (
            segment_mean(self._state(part), bounds) for part, bounds in zip(linear, self.offsets, strict=True)
        )
        return gene, peak

    @torch.no_grad()
    def integrated_gradients(self, steps: int) -> tuple[list[Tensor], Tensor]:
        """Return the integrated gradients of every link, and what they should add up to.

        The path leads from no weight at all to the weights of the model, all links in step; ``steps`` points of
        Gauss and Legendre on it. Without activation only the means are followed, and steps cost next to nothing.

        Returns
        -------
        attributions
            By head, shape (E,), float64.
        explained
            Log odds with all links minus log odds with none, shape (B,).
        """
        added = self._added()
        none = self.linear[0] - added[0], self.linear[1] - added[1]
        explained = self.odds(*self.means(self.linear)) - self.odds(*self.means(none))
        slopes = self._mean_slopes(none, steps) if self.activation is None else self._slopes(none, added, steps)
        found = [
            head.effect(slopes[0] @ to_gene.T, slopes[1] @ to_peak.T)
            for head, to_gene, to_peak in zip(self.sent, *self.into, strict=True)
        ]
        return found, explained

    def _added(self) -> Sides:
        """Return what the messages of all heads add to ``linear``."""
        gene, peak = torch.zeros_like(self.linear[0]), torch.zeros_like(self.linear[1])
        for head, to_gene, to_peak in zip(self.sent, *self.into, strict=True):
            gene.addmm_(head.messages.gene.double(), to_gene)
            peak.addmm_(head.messages.peak.double(), to_peak)
        return gene, peak

    def _slopes(self, none: Sides, added: Sides, steps: int) -> Sides:
        """Average over the path how the log odds change with the states before the activation, (NR, W) and (NA, W)."""
        slopes = torch.zeros_like(added[0]), torch.zeros_like(added[1])
        rows = max(_HELD // added[0].shape[1], 1)
        for place, share in _path(steps):
            means = self.means((none[0] + place * added[0], none[1] + place * added[1]))
            for side, upstream in enumerate(self._odds_slopes(means)):
                pair, each = self._shares(side, share * upstream)
                for part in torch.arange(len(pair), device=pair.device).split(rows):
                    linear = (none[side][part] + place * added[side][part]).requires_grad_()
                    with torch.enable_grad():
                        state = self._state(linear)
                    slopes[side][part] += torch.autograd.grad(state, linear, each[pair[part]])[0]
        return slopes

    def _mean_slopes(self, none: Sides, steps: int) -> Sides:
        """Return the same where states are linear in the messages: one slope for all nodes of a pair."""
        start, end = self.means(none), self.means(self.linear)
        total = torch.zeros_like(start[0]), torch.zeros_like(start[1])
        for place, share in _path(steps):
            at = start[0] + place * (end[0] - start[0]), start[1] + place * (end[1] - start[1])
            for side, upstream in enumerate(self._odds_slopes(at)):
                total[side].add_(upstream, alpha=share)
        (gene, of_gene), (peak, of_peak) = (self._shares(side, upstream) for side, upstream in enumerate(total))
        return of_gene[gene], of_peak[peak]

    def _odds_slopes(self, means: Sides) -> Sides:
        """Return the gradient of the log odds by the means."""
        gene, peak = (part.detach().requires_grad_() for part in means)
        with torch.enable_grad():
            total = self.odds(gene, peak).sum()
        of_gene, of_peak = torch.autograd.grad(total, [gene, peak])
        return of_gene, of_peak

    def _shares(self, side: int, upstream: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pair of every node of a side, and the gradient by one of its nodes, given that by the mean."""
        offsets = self.offsets[side]
        return segment_ids(offsets), upstream / offsets.diff().clamp(min=1)[:, None]

    def _state(self, linear: Tensor) -> Tensor:
        return linear if self.activation is None else self.activation(linear)

    def summed(self, attributions: list[Tensor]) -> Tensor:
        """Add the values of links by pair, shape (B,)."""
        pair = self.pair_of_gene()
        total = torch.zeros(len(self.offsets[0]) - 1, dtype=torch.float64, device=pair.device)
        for head, values in zip(self.sent, attributions, strict=True):
            total.index_add_(0, pair[head.messages.gene_row], values)
        return total

    def links(self) -> Sides:
        """Return gene and peak rows of the links that any head kept, each once."""
        peaks = max(len(self.linear[1]), 1)
        key = torch.unique(torch.cat([head.messages.gene_row * peaks + head.messages.peak_row for head in self.sent]))
        return key // peaks, key % peaks

    def pair_of_gene(self) -> Tensor:
        """Return the pair of every gene row, shape (NR,)."""
        return segment_ids(self.offsets[0])

    @torch.no_grad()
    def ablation(self, gene_row: Tensor, peak_row: Tensor, *, renormalise: bool = False) -> Tensor:
        """Return log odds minus log odds without a link, for chosen links, shape (L,), float64.

        Parameters
        ----------
        gene_row, peak_row
            The links, shapes (L,), in any order; a link goes from all heads at once. One that no head kept is worth 0.
        renormalise
            Whether the remaining links of the gene share the weight that went, head by head, as a softmax without the
            link would have it. Otherwise their weights stay. No link that was pruned comes back in either case.

        Notes
        -----
        Exact: removing a link changes the states of its gene and its peak, renormalised also those of the gene's
        other peaks, and nothing else up to the means. Time grows with L, or with L times the links of a gene.
        """
        peaks = len(self.linear[1])
        asked, place = torch.unique(gene_row * peaks + peak_row, return_inverse=True)
        heads = [
            _Links.of(head, *into, peaks) for head, into in zip(self.sent, zip(*self.into, strict=True), strict=True)
        ]
        means = self.means(self.linear)
        whole = self.odds(*means)
        each = max(head.most for head in heads) * len(heads) if renormalise else len(heads)
        step = max(_HELD // (max(each, 1) * self.linear[0].shape[1]), 1)
        found = [self._without(part, heads, means, whole, renormalise=renormalise) for part in asked.split(step)]
        return torch.cat([whole.new_empty(0), *found])[place]

    def _without(self, asked: Tensor, heads: list[_Links], means: Sides, whole: Tensor, *, renormalise: bool) -> Tensor:
        """Return what some links (keys, distinct) are worth."""
        peaks = len(self.linear[1])
        gene = asked // peaks
        lost_gene = self.linear[0].new_zeros(len(asked), self.linear[0].shape[1])
        number, target, lost = [], [], []  # by entry: which link goes, a peak that feels it, and what that peak loses
        for head in heads:
            link, edge = head.find(asked)
            lost_gene.index_add_(0, link, head.weight[edge, None] * head.peak[head.peak_row[edge]])
            number.append(link)
            target.append(head.peak_row[edge])
            lost.append(head.back[edge, None] * head.gene[gene[link]])
            if renormalise:
                other, owner = head.others(gene[link], edge)
                falls = (1 - head.growth(edge, other, owner)[owner, None]) * head.weight[other][:, None]
                lost_gene.index_add_(0, link[owner], falls * head.peak[head.peak_row[other]])
                number.append(link[owner])
                target.append(head.peak_row[other])
                lost.append(falls * head.gene[gene[link[owner]]])
        key, place = torch.unique(torch.cat(number) * peaks + torch.cat(target), return_inverse=True)
        lost_peak = lost_gene.new_zeros(len(key), lost_gene.shape[1]).index_add_(0, place, torch.cat(lost))
        pair = self.pair_of_gene()[gene]
        sizes = [offsets.diff()[pair][:, None] for offsets in self.offsets]
        gene_mean = means[0][pair] + self._change(0, gene, lost_gene) / sizes[0]
        felt = self._change(1, key % peaks, lost_peak)
        peak_mean = means[1][pair] + torch.zeros_like(lost_gene).index_add_(0, key // peaks, felt) / sizes[1]
        return whole[pair] - self.odds(gene_mean, peak_mean)

    def _change(self, side: int, row: Tensor, lost: Tensor) -> Tensor:
        """Return how states of a side change when they lose something before the activation."""
        linear = self.linear[side][row]
        return self._state(linear - lost) - self._state(linear)


def _linear(update: torch.nn.Linear, message: Tensor, own: Tensor) -> Tensor:
    """Return states before the activation, (N, W); own states may be means of pairs where there is no activation."""
    bias = None if update.bias is None else update.bias.double()
    return functional.linear(torch.cat([message, own], 1).double(), update.weight.double(), bias)


def _path(steps: int) -> Iterator[tuple[float, float]]:
    """Yield places between 0 and 1 and what each counts, by the rule of Gauss and Legendre."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    yield from zip(((nodes + 1) / 2).tolist(), (weights / 2).tolist(), strict=True)


@dataclass(frozen=True, slots=True)
class _Links:
    """Links of one head by rising key ``gene row * peaks + peak row``, with what they carry into the states.

    ``gene`` (NR, W) and ``peak`` (NA, W) are added per unit of weight.
    """

    key: Tensor
    peak_row: Tensor
    weight: Tensor
    back: Tensor
    start: Tensor
    gene: Tensor
    peak: Tensor

    @classmethod
    def of(cls, head: Attention, to_gene: Tensor, to_peak: Tensor, peaks: int) -> Self:
        sent = head.messages
        key, order = (sent.gene_row * peaks + sent.peak_row).sort()
        degree = torch.bincount(sent.gene_row, minlength=len(head.gene))
        start = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
        carried = head.gene.double() @ to_peak, head.peak.double() @ to_gene
        weights = sent.weight.double()[order], sent.back.double()[order]
        return cls(key, sent.peak_row[order], *weights, start, *carried)

    @property
    def most(self) -> int:
        """Most links of a gene."""
        return int(self.start.diff().max()) if len(self.start) > 1 else 0

    def find(self, asked: Tensor) -> tuple[Tensor, Tensor]:
        """Return which of some keys are links, and which links they are."""
        if not len(self.key):
            return asked.new_empty(0), asked.new_empty(0)
        edge = torch.searchsorted(self.key, asked).clamp(max=len(self.key) - 1)
        link = (self.key[edge] == asked).nonzero().squeeze(1)
        return link, edge[link]

    def others(self, row: Tensor, edge: Tensor) -> tuple[Tensor, Tensor]:
        """Return all links of some genes but one each, and the number of the gene they belong to."""
        size = self.start.diff()[row]
        owner = torch.repeat_interleave(torch.arange(len(row), device=row.device), size)
        first = size.cumsum(0) - size
        other = self.start[row][owner] + torch.arange(len(owner), device=row.device) - first[owner]
        kept = other != edge[owner]
        return other[kept], owner[kept]

    def growth(self, edge: Tensor, other: Tensor, owner: Tensor) -> Tensor:
        """Return the factor on the weights of the other links of a gene when some link of it goes, shape (L,)."""
        left = torch.zeros_like(self.weight[edge]).index_add_(0, owner, self.weight[other])
        rest = 1 - self.weight[edge]  # more than is left where masked entries share the published softmax
        rest = torch.where((rest - left).abs() < _ROUNDING, left, rest)
        return torch.where(rest > 0, 1 / rest, 1.0)
