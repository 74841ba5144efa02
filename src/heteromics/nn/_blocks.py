"""The best peaks of every gene inside its block, by padded products over blocks of like size or along edges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from heteromics.errors import GraphError
from heteromics.nn._compressed import compute_dtype
from heteromics.nn.relation import Relation
from heteromics.nn.segments import segment_ids, segment_topk

_MOST_SCORES = 1 << 22  # scores held at a time: 16 MB in float32, the size of a core's share of cache
_FEW = 2.0  # times the links that are kept: so many scores along edges take less time than padded products
KNOT_BP = 1_000  # scale of distances: linear below, logarithmic above
_MOST_PADDING = 1.25  # padded over real scores of blocks computed together
_SPARE = 1 << 15  # padded scores that cost less than another product: blocks of few peaks come in dozens of shapes


@dataclass(frozen=True, slots=True)
class Window:
    """Restriction of each gene to peaks near its transcription start.

    Attributes
    ----------
    gene_position
        Transcription start of every gene row in bp, shape (NR,), int64.
    peak_position
        Midpoint of every peak row in bp, shape (NA,), int64. Any order within a block.
    within_bp
        Largest distance kept, inclusive.
    """

    gene_position: Tensor
    peak_position: Tensor
    within_bp: int


@dataclass(frozen=True, slots=True)
class DistanceBias:
    """A term of the score that a model learns from how far a peak lies from the start of a gene.

    The height at ``KNOT_BP * (2 ** i - 1)`` bp is ``height[i]``; between these knots it is linear in the logarithm of
    the distance, ``log2(1 + distance / KNOT_BP)``, and beyond the last it stays. Relative positions as a learnt term of
    the logits are those of Shaw et al. 2018 and of T5 (Raffel et al. 2020, there in logarithmic bins).

    Attributes
    ----------
    gene_position, peak_position
        Transcription start of every gene row and midpoint of every peak row in bp, shapes (NR,) and (NA,), int64.
    height
        Shape (knots,), two or more, floating; with gradient.
    gene_chrom, peak_chrom
        Chromosome codes, needed where blocks hold several: a distance counts inside one chromosome alone, elsewhere
        and for code -1 the term is 0.

    Examples
    --------
    >>> bias = DistanceBias(torch.tensor([0]), torch.tensor([0, 500, 3_000, 9_000]), torch.tensor([2.0, 1.0, 0.0]))
    >>> [round(x, 2) for x in bias.at(torch.tensor([0]), torch.arange(4)).tolist()]
    [2.0, 1.42, 0.0, 0.0]
    """

    gene_position: Tensor
    peak_position: Tensor
    height: Tensor
    gene_chrom: Tensor | None = None
    peak_chrom: Tensor | None = None

    def at(self, gene_row: Tensor, peak_row: Tensor) -> Tensor:
        """Return the term for rows of genes and of peaks, of shapes that broadcast; gradient to ``height``."""
        apart = self.gene_position[gene_row] - self.peak_position[peak_row]
        place = torch.log2(1 + apart.abs_().to(self.height.dtype) / KNOT_BP).clamp_(max=len(self.height) - 1)
        knot = place.long().clamp_(max=len(self.height) - 2)
        flat = knot.flatten()
        steps = self.height.diff().index_select(0, flat).view(place.shape)
        term = self.height.index_select(0, flat).view(place.shape) + (place - knot) * steps
        if self.gene_chrom is None or self.peak_chrom is None:
            return term
        gene, peak = self.gene_chrom[gene_row], self.peak_chrom[peak_row]
        return term * ((gene == peak) & (gene >= 0))


@dataclass(frozen=True, slots=True)
class Choice:
    """Whom each gene may choose its best peaks from, and by what score.

    Attributes
    ----------
    q, k
        Queries (NR, D) and keys (NA, D).
    genes, peaks
        Rows of each block, checked, (n_blocks, 2) each.
    top_k, scale, window, bias
        As in :func:`heteromics.nn.block_topk`.
    """

    q: Tensor
    k: Tensor
    genes: np.ndarray
    peaks: np.ndarray
    top_k: int
    scale: float
    window: Window | None
    bias: DistanceBias | None

    @classmethod
    def of(
        cls,
        q: Tensor,
        k: Tensor,
        gene_ptr: Tensor,
        peak_ptr: Tensor,
        top_k: int,
        scale: float,
        window: Window | None,
        bias: DistanceBias | None,
    ) -> Choice:
        """Check that blocks come in pairs inside the rows, and those of genes apart."""
        genes = checked_blocks(gene_ptr, len(q), "gene", apart=True)
        peaks = checked_blocks(peak_ptr, len(k), "peak", apart=False)
        if len(genes) != len(peaks):
            raise GraphError(f"{len(genes):,} gene blocks and {len(peaks):,} peak blocks; they must come in pairs.")
        return cls(q, k, genes, peaks, top_k, scale, window, bias)

    @property
    def keeps_most(self) -> bool:
        """Whether the best ``top_k`` are half of all pairs inside blocks or more."""
        height, width = np.diff(self.genes)[:, 0], np.diff(self.peaks)[:, 0]
        return bool((height * width).sum() <= _FEW * (height * np.minimum(width, self.top_k)).sum())

    @torch.no_grad()
    def by_products(self) -> tuple[Tensor, Tensor, Tensor]:
        """Find the best peaks of every gene by padded products over blocks of like size.

        Returns peak rows (NR, K) and logits (NR, K), by falling logit, -inf where there is none, and the number of
        peaks each gene can reach (NR,).
        """
        dtype = self._dtype
        q, k = self.q.to(dtype) * self.scale, self.k.to(dtype)
        groups = list(tiled(self.genes, self.peaks, _SPARE))
        found = [_best_of_group(q, k, tiles, self.top_k, self.window, self.bias) for tiles in groups]
        nothing = (
            q.new_zeros(1, self.top_k, dtype=torch.int64),
            q.new_full((1, self.top_k), -torch.inf),
            q.new_zeros(1).long(),
        )
        position = torch.from_numpy(padded_positions(groups, len(q))).to(q.device)
        best, logit, reachable = (
            torch.cat(parts).index_select(0, position) for parts in zip(*found, nothing, strict=True)
        )
        return best, logit, reachable

    @torch.no_grad()
    def by_edges(self) -> tuple[Relation, Tensor]:
        """Find the same along edges to all peaks of the block: the links, gene after gene by falling logit, and logits.

        Memory grows with all pairs inside blocks.
        """
        every, dtype = every_pair(self.genes, self.peaks, (len(self.q), len(self.k)), self.q.device), self._dtype
        if self.window is not None:
            gene, peak = segment_ids(every.indptr), every.indices.long()
            apart = self.window.gene_position[gene] - self.window.peak_position[peak]
            every = every.take((apart.abs_() <= self.window.within_bp).nonzero().squeeze(1))
        with torch.autocast(self.q.device.type, enabled=False):
            logit = every.sddmm(self.q.to(dtype), self.k.to(dtype)) * self.scale
        if self.bias is not None:
            logit += self.bias.at(segment_ids(every.indptr), every.indices.long())
        best = segment_topk(logit, every.indptr, self.top_k)
        return every.take(best), logit[best]

    @property
    def _dtype(self) -> torch.dtype:
        return compute_dtype(torch.promote_types(self.q.dtype, self.k.dtype))


def every_pair(queries: np.ndarray, keys: np.ndarray, shape: tuple[int, int], device: torch.device) -> Relation:
    """Join each query row with all key rows of its block; blocks are start and stop, (n_blocks, 2) each, checked."""
    height, width = np.diff(queries)[:, 0], np.diff(keys)[:, 0]
    row = np.arange(height.sum()) + np.repeat(queries[:, 0] - (height.cumsum() - height), height)
    first, reach = np.zeros((2, shape[0]), dtype=np.int64)
    first[row], reach[row] = np.repeat(keys[:, 0], height), np.repeat(width, height)
    indptr = np.concatenate([[0], reach.cumsum()])
    key = np.arange(indptr[-1]) + np.repeat(first - indptr[:-1], reach)
    bounds, column = (torch.from_numpy(each).to(device) for each in (indptr, key))
    return Relation.from_csr(bounds, column, shape)


def _best_of_group(
    q: Tensor, k: Tensor, tiles: np.ndarray, top_k: int, window: Window | None, bias: DistanceBias | None
) -> tuple[Tensor, Tensor, Tensor]:
    """One padded product over tiles of like size; returns what :class:`Choice` does for B * R rows, with padding."""
    row, _ = padded_rows(tiles[:, :2], q.device)
    column, real = padded_rows(tiles[:, 2:], q.device)
    with torch.autocast(q.device.type, enabled=False):
        score = torch.bmm(_take(q, row), _take(k, column).transpose(1, 2))  # (B, R, A)
    if bias is not None:
        score += bias.at(row[:, :, None], column[:, None])
    narrowest = int((tiles[:, 3] - tiles[:, 2]).min())
    score[:, :, narrowest:].masked_fill_(~real[:, None, narrowest:], -torch.inf)
    if window is None:
        reachable = real.sum(1, keepdim=True).expand(row.shape)
    else:
        distance = window.gene_position[row][:, :, None] - window.peak_position[column][:, None]
        score.masked_fill_(distance.abs_() > window.within_bp, -torch.inf)
        reachable = (score != -torch.inf).sum(2)
    width = min(top_k, score.shape[2])
    logit, place = score.topk(width, dim=2)
    place += column[:, :1, None]
    missing = (0, top_k - width)
    best, logit = torch.nn.functional.pad(place, missing), torch.nn.functional.pad(logit, missing, value=-torch.inf)
    return best.flatten(0, 1), logit.flatten(0, 1), reachable.flatten()


def padded_positions(groups: list[np.ndarray], n_genes: int) -> np.ndarray:
    """Tell where each gene stands among the padded rows of all groups; behind all of them when it is in none."""
    padded = [int((tiles[:, 1] - tiles[:, 0]).max()) for tiles in groups]
    heights = np.repeat(np.array(padded, dtype=np.int64), [len(tiles) for tiles in groups])
    position = np.full(n_genes, heights.sum(), dtype=np.int64)
    for tile, begin in zip(
        np.concatenate([np.empty((0, 4), np.int64), *groups]), heights.cumsum() - heights, strict=True
    ):
        position[tile[0] : tile[1]] = np.arange(begin, begin + tile[1] - tile[0])
    return position


def tiled(genes: np.ndarray, peaks: np.ndarray, spare: int = 0) -> Iterator[np.ndarray]:
    """Group blocks of like size, large ones cut by rows, so that each group is one padded product.

    ``spare`` is the padding of a group that is not counted, for products where another call costs more.
    Yields arrays (B, 4) of gene start, gene stop, peak start, peak stop.
    """
    blocks = np.hstack([genes, peaks])
    blocks = blocks[(blocks[:, 0] < blocks[:, 1]) & (blocks[:, 2] < blocks[:, 3])]
    height, width = blocks[:, 1] - blocks[:, 0], blocks[:, 3] - blocks[:, 2]
    step = np.clip(_MOST_SCORES // width, 1, height)
    cuts = -(-height // step)
    tiles = np.repeat(blocks, cuts, axis=0)
    tiles[:, 0] += (np.arange(len(tiles)) - np.repeat(cuts.cumsum() - cuts, cuts)) * np.repeat(step, cuts)
    tiles[:, 1] = np.minimum(tiles[:, 1], tiles[:, 0] + np.repeat(step, cuts))
    height, width = tiles[:, 1] - tiles[:, 0], tiles[:, 3] - tiles[:, 2]
    order = np.lexsort([height, np.floor(8 * np.log2(width))]) if len(tiles) else np.arange(0)
    tiles, sizes = tiles[order], np.stack([height, width], 1)[order].tolist()
    first, tall, wide, real = 0, 0, 0, 0
    for here, (h, w) in enumerate(sizes):
        padded = (here - first + 1) * max(tall, h) * max(wide, w)
        if here > first and (padded > _MOST_SCORES or padded > _MOST_PADDING * (real + h * w) + spare):
            yield tiles[first:here]
            first, tall, wide, real = here, 0, 0, 0
        tall, wide, real = max(tall, h), max(wide, w), real + h * w
    if len(tiles):
        yield tiles[first:]


def padded_rows(bounds: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    """Expand ranges (B, 2) to padded row numbers (B, longest); padding repeats the last row and is marked False."""
    start, stop = torch.from_numpy(np.ascontiguousarray(bounds.T)).to(device)[:, :, None]
    row = start + torch.arange(int((bounds[:, 1] - bounds[:, 0]).max()), device=device)
    return torch.minimum(row, stop - 1), row < stop


def _take(values: Tensor, row: Tensor) -> Tensor:
    return values.index_select(0, row.flatten()).view(*row.shape, values.shape[1])


def checked_blocks(pointers: Tensor, rows: int, what: str, *, apart: bool) -> np.ndarray:
    """Bring block bounds to the host, (n_blocks, 2) int64; ``apart``: they must not overlap."""
    bounds = pointers.detach().cpu().numpy().astype(np.int64)
    if bounds.ndim != 2 or bounds.shape[1] != 2:
        raise GraphError(f"{what} blocks have shape {bounds.shape}; start and stop of each are needed, (n_blocks, 2).")
    broken = (bounds[:, 0] < 0) | (bounds[:, 1] > rows) | (bounds[:, 0] > bounds[:, 1])
    if broken.any():
        first = bounds[broken][0]
        raise GraphError(
            f"{int(broken.sum()):,} of {len(bounds):,} {what} blocks leave the {rows:,} {what} rows or end before they "
            f"start; the first is {first[0]:,} to {first[1]:,}."
        )
    if apart:
        filled = bounds[bounds[:, 0] < bounds[:, 1]]
        filled = filled[filled[:, 0].argsort(kind="stable")]
        shared = int((filled[1:, 0] < filled[:-1, 1]).sum())
        if shared:
            raise GraphError(f"{shared:,} {what} blocks overlap another; a {what} lies in at most one block.")
    return bounds
