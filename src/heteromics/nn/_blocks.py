"""The best peaks of every gene inside its block, found by padded products over blocks of like size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from heteromics.errors import GraphError
from heteromics.nn._compressed import compute_dtype

_MOST_SCORES = 1 << 22  # scores held at a time: 16 MB in float32, the size of a core's share of cache
_MOST_PADDING = 1.25  # padded over real scores of blocks computed together


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


@torch.no_grad()
def candidates(
    q: Tensor, k: Tensor, gene_ptr: Tensor, peak_ptr: Tensor, top_k: int, scale: float, window: Window | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the ``top_k`` best peaks of every gene inside its block.

    Returns peak rows (NR, K) and logits (NR, K), by falling logit, -inf where there is none, and the number of peaks
    each gene can reach (NR,).
    """
    genes, peaks = _checked_blocks(gene_ptr, len(q), "gene"), _checked_blocks(peak_ptr, len(k), "peak")
    if len(genes) != len(peaks):
        raise GraphError(f"{len(genes):,} gene blocks and {len(peaks):,} peak blocks; they must come in pairs.")
    dtype = compute_dtype(torch.promote_types(q.dtype, k.dtype))
    q, k = q.to(dtype), k.to(dtype)
    best = torch.zeros(len(q), top_k, dtype=torch.int64, device=q.device)
    logit = torch.full((len(q), top_k), -torch.inf, dtype=dtype, device=q.device)
    reachable = torch.zeros(len(q), dtype=torch.int64, device=q.device)
    with torch.autocast(q.device.type, enabled=False):
        for tiles in _tiles(genes, peaks):
            row, real_row = _rows(tiles[:, :2], q.device)
            column, real_column = _rows(tiles[:, 2:], q.device)
            bias = torch.where(real_column, 0.0, -torch.inf).to(dtype)[:, None]  # (B, 1, A)
            score = torch.baddbmm(bias, _take(q, row), _take(k, column).transpose(1, 2), alpha=scale)  # (B, R, A)
            count = real_column.sum(1, keepdim=True).expand(row.shape)
            if window is not None:
                distance = window.gene_position[row][:, :, None] - window.peak_position[column][:, None]
                score.masked_fill_(distance.abs_() > window.within_bp, -torch.inf)
                count = (score != -torch.inf).sum(2)
            width = min(top_k, score.shape[2])
            values, place = score.topk(width, dim=2)
            row = row[real_row]
            best[row, :width] = (place + column[:, :1, None])[real_row]
            logit[row, :width] = values[real_row]
            reachable[row] = count[real_row]
    return best, logit, reachable


def _tiles(genes: np.ndarray, peaks: np.ndarray) -> Iterator[np.ndarray]:
    """Group blocks of like size, large ones cut by rows, so that each group is one padded product.

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
        if here > first and (padded > _MOST_SCORES or padded > _MOST_PADDING * (real + h * w)):
            yield tiles[first:here]
            first, tall, wide, real = here, 0, 0, 0
        tall, wide, real = max(tall, h), max(wide, w), real + h * w
    if len(tiles):
        yield tiles[first:]


def _rows(bounds: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    """Expand ranges (B, 2) to padded row numbers (B, longest); padding repeats the last row and is marked False."""
    start, stop = torch.from_numpy(np.ascontiguousarray(bounds.T)).to(device)[:, :, None]
    row = start + torch.arange(int((bounds[:, 1] - bounds[:, 0]).max()), device=device)
    return torch.minimum(row, stop - 1), row < stop


def _take(values: Tensor, row: Tensor) -> Tensor:
    return values.index_select(0, row.flatten()).view(*row.shape, values.shape[1])


def _checked_blocks(pointers: Tensor, rows: int, what: str) -> np.ndarray:
    """Bring block bounds to the host, (n_blocks, 2) int64; gene blocks must not overlap."""
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
    if what == "gene":
        filled = bounds[bounds[:, 0] < bounds[:, 1]]
        filled = filled[filled[:, 0].argsort(kind="stable")]
        shared = int((filled[1:, 0] < filled[:-1, 1]).sum())
        if shared:
            raise GraphError(f"{shared:,} gene blocks overlap another; a gene lies in at most one block.")
    return bounds
