"""The exact search behind :func:`heteromics.graphs.knn.nearest_neighbors`: float32 products, float64 answers.

Products in float32 are fast and rounded. They choose a few candidates more than needed; distances of the candidates are
computed again in float64, and a bound of the rounding says whether a target that was not chosen could be nearer than
the last neighbour. Rows where it could (ties, points that almost coincide far from the centre) are searched again with
more candidates, and in the end by float64 differences over all targets. So the answer is that of float64 brute force,
whatever the blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import frexp, ldexp
from typing import NamedTuple

import torch
from torch import Tensor

from heteromics._progress import track

_SPARE = 8
"""Candidates beyond k (and beyond the query itself)."""
_WIDER = 12
"""How many times as many candidates the second try takes."""
_CHUNK = 64
"""Targets of which only the best score is looked at first."""
_HELD = 1 << 24
"""Values of candidates at a time."""
_PLAIN = 1 << 21
"""Pairs at a time in the float64 search."""
_UNIT = 2.0**-24
"""Unit roundoff of float32."""
_TINY = 2.0**-115
"""Above what underflow of float32 can take from a score, for points within the unit cube."""


class Tiles(NamedTuple):
    """Queries and targets of one tile, and targets of one matrix product (a stripe of the tile)."""

    queries: int
    targets: int
    stripe: int


CPU_TILES = Tiles(256, 1 << 16, 1 << 11)
"""Stripes of 2 MiB that stay in cache, tiles of 64 MiB."""
CUDA_TILES = Tiles(1 << 10, 1 << 16, 1 << 16)
"""Tiles of 256 MiB, one product each."""


@dataclass(frozen=True, slots=True)
class Points:
    """Points to search in, in the two forms that the search needs.

    ``plain`` (N, D) holds the values, finite and at most 1 in size; distances are those of it in float64. ``offset``
    (D,) float64 is taken off before products, which makes them small where the points lie far from zero.
    """

    plain: Tensor
    offset: Tensor

    def wide(self, rows: Tensor | slice) -> Tensor:
        """Return rows in float64."""
        return self.plain[rows].double()

    def centred(self, rows: Tensor | slice) -> Tensor:
        """Return rows without the offset, in float64."""
        return self.wide(rows) - self.offset


def unit_scale(largest: float, dtype: torch.dtype) -> float:
    """Return the power of two that brings values of this size to at most 1 and near it; multiplying by it is exact."""
    most = 120 if dtype == torch.float32 else 1_000  # what the type itself can hold
    return ldexp(1.0, min(-frexp(largest)[1], most)) if largest > 0 else 1.0


def search(
    queries: Points,
    targets: Points,
    own: Tensor | None,
    k: int,
    tiles: Tiles | None = None,
    *,
    progress: bool = False,
) -> tuple[Tensor, Tensor]:
    """Find the k nearest targets of each query by float64 distance, lowest row first among equals.

    Parameters
    ----------
    queries, targets
        Shapes (Q, D) and (T, D), with the same offset, on one device.
    own
        The target that is the query itself and is left out, shape (Q,), int64, -1 where there is none; or None.
    k
        At most T, or T - 1 with ``own``.
    tiles
        Sizes of blocks; those for the device where None.
    progress
        Show a bar on stderr.

    Returns
    -------
    indices, distance
        Shapes (Q, k), int64 and float64, nearest first.
    """
    device = targets.plain.device
    tiles = tiles or (CUDA_TILES if device.type == "cuda" else CPU_TILES)
    n_queries, n_targets = len(queries.plain), len(targets.plain)
    spare = k + _SPARE + (own is not None)
    indices = torch.empty((n_queries, k), dtype=torch.int64, device=device)
    distance = torch.empty((n_queries, k), dtype=torch.float64, device=device)
    rows = torch.arange(n_queries, device=device)
    with true_float32(device):
        prepared = _stripes(targets, tiles)
        if not n_queries:
            return indices, distance
        for width in (spare, _WIDER * spare):
            sure = torch.empty(len(rows), dtype=torch.bool, device=device)
            held = width * max(_CHUNK, targets.plain.shape[1])  # values looked at for each query
            at_once = min(tiles.queries, max(_HELD // held, 1), len(rows))
            room = _Room(at_once, prepared, tiles)
            blocks = list(_blocks(len(rows), at_once))
            for at in track(blocks, "neighbours", enabled=progress):
                block = rows[at]
                mine = None if own is None else own[block]
                score, found = _candidates(queries.centred(block), prepared, min(width, n_targets), room)
                indices[block], distance[block], sure[at] = _settle(queries, targets, block, mine, score, found, k)
            rows = rows[~sure]
            if not len(rows):
                return indices, distance
    for at in track(list(_blocks(len(rows), 128)), "neighbours, ties", enabled=progress):
        block = rows[at]
        mine = None if own is None else own[block]
        indices[block], distance[block] = _plain_search(queries.wide(block), targets, mine, k)
    return indices, distance


def distances(left: Tensor, right: Tensor) -> Tensor:
    """Return distances (..., P, R) of float64 points (..., P, D) and (..., R, D), each the same in any company."""
    return torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist")


def _stripes(targets: Points, tiles: Tiles) -> list[Tensor]:
    """Targets as float32 matrices (stripe, D + 1): minus the point, and half its square; filled up with infinity.

    One product with (query, 1) gives |t|^2 / 2 - q t, which ranks the targets of a query as their distances do.
    """
    n_targets = len(targets.plain)
    width = min(tiles.stripe, -(-n_targets // _CHUNK) * _CHUNK)
    stripes = []
    for rows in _blocks(n_targets, width):
        point = targets.centred(rows)
        stripe = point.new_zeros((width, point.shape[1] + 1), dtype=torch.float32)
        stripe[:, -1] = torch.inf
        stripe[: len(point), :-1] = -point
        stripe[: len(point), -1] = point.square().sum(1) / 2
        stripes.append(stripe)
    return stripes


class _Room:
    """Memory of one tile, taken once: scores (stripes, B, stripe) and the lowest of each chunk."""

    def __init__(self, rows: int, stripes: list[Tensor], tiles: Tiles) -> None:
        stripe = len(stripes[0])
        self.together = min(max(tiles.targets // stripe, 1), len(stripes))
        self._scores = stripes[0].new_empty(self.together * rows * stripe)
        self._lowest = stripes[0].new_empty(self.together * rows * (stripe // _CHUNK))

    def take(self, number: int, rows: int, stripe: int) -> tuple[Tensor, Tensor]:
        """Return room for ``number`` stripes: (number, rows, stripe) and (number, rows, stripe / 64)."""
        size = number * rows * stripe
        return self._scores[:size].view(number, rows, stripe), self._lowest[: size // _CHUNK].view(number, rows, -1)


def _candidates(query: Tensor, stripes: list[Tensor], width: int, room: _Room) -> tuple[Tensor, Tensor]:
    """Return the ``width`` lowest rounded scores and their targets, shapes (B, width); past the end: infinity."""
    left = torch.cat([query, query.new_ones((len(query), 1))], dim=1).float()  # (B, D + 1)
    score = left.new_full((len(query), 0), torch.inf)
    found = torch.zeros((len(query), 0), dtype=torch.int64, device=query.device)
    for first in range(0, len(stripes), room.together):
        new_score, new_found = _lowest(left, stripes[first : first + room.together], width, room)
        every = torch.cat([score, new_score], dim=1)
        score, place = torch.topk(every, min(width, every.shape[1]), dim=1, largest=False, sorted=False)
        found = torch.cat([found, new_found + first * len(stripes[0])], dim=1).gather(1, place)
    return score, found


def _lowest(left: Tensor, stripes: list[Tensor], width: int, room: _Room) -> tuple[Tensor, Tensor]:
    """Lowest scores of a tile: the lowest of each chunk first, then all of the chunks that can hold one of them.

    The m lowest of all lie in the m chunks with the lowest minima, so only those are sorted out.
    """
    n, stripe = len(left), len(stripes[0])
    chunks = stripe // _CHUNK
    scores, lowest = room.take(len(stripes), n, stripe)
    for number, right in enumerate(stripes):
        torch.mm(left, right.T, out=scores[number])
        torch.amin(scores[number].view(n, chunks, _CHUNK), dim=2, out=lowest[number])
    flat = lowest.transpose(0, 1).reshape(n, -1)
    chunk = torch.topk(flat, min(width, flat.shape[1]), dim=1, largest=False, sorted=False).indices  # (n, m)
    at, within = chunk // chunks, chunk % chunks
    row = torch.arange(n, device=left.device)[:, None]
    held = ((at * n + row) * chunks + within).flatten()
    members = scores.view(-1, _CHUNK).index_select(0, held).view(n, -1)  # (n, m * 64)
    score, place = torch.topk(members, min(width, members.shape[1]), dim=1, largest=False, sorted=False)
    return score, chunk.gather(1, place // _CHUNK) * _CHUNK + place % _CHUNK


def _settle(
    queries: Points, targets: Points, rows: Tensor, own: Tensor | None, score: Tensor, found: Tensor, k: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Rank candidates by float64 distance, and say of which rows it is sure that no other target is as near."""
    order = torch.where(torch.isinf(score), len(targets.plain), found).sort(dim=1).values
    there = order < len(targets.plain)
    found = order.clamp(max=len(targets.plain) - 1)
    point = queries.wide(rows)
    near = distances(point[:, None], targets.wide(found))[:, 0]  # (B, m)
    near[~there] = torch.inf
    if own is not None:
        near[found == own[:, None]] = torch.inf
    near, place = torch.sort(near, dim=1, stable=True)
    found, near = found.gather(1, place)[:, :k], near[:, :k]
    worst = score.amax(1).double()  # of those not chosen none has a lower rounded score
    length = queries.centred(rows).square().sum(1).sqrt()
    last = near[:, -1]
    reach = length + last  # a target as near as the last neighbour is no longer than that
    rounding = 1.1 * (point.shape[1] + 8) * _UNIT * (length * reach + reach.square() / 2) + _TINY
    sure = (last.square() - length.square()) / 2 + rounding < worst
    return found, near, sure | (score.shape[1] == len(targets.plain))


def _plain_search(point: Tensor, targets: Points, own: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
    """Find the k nearest among all targets by float64 differences."""
    near = point.new_full((len(point), 0), torch.inf)
    found = torch.zeros((len(point), 0), dtype=torch.int64, device=point.device)
    number = torch.arange(len(targets.plain), device=point.device)
    for rows in _blocks(len(targets.plain), max(_PLAIN // len(point), k)):
        new = distances(point, targets.wide(rows))
        if own is not None:
            new[number[rows] == own[:, None]] = torch.inf
        lowest = _k_lowest(new, min(k, new.shape[1]))
        near, place = torch.sort(torch.cat([near, new.gather(1, lowest)], dim=1), dim=1, stable=True)
        near, found = near[:, :k], torch.cat([found, lowest + rows.start], dim=1).gather(1, place[:, :k])
    return found, near


def _k_lowest(values: Tensor, k: int) -> Tensor:
    """Columns of the k lowest values of each row, rising; the first ones of those that are equal. Shape (B, k)."""
    last = torch.topk(values, k, dim=1, largest=False).values.amax(1, keepdim=True)
    below, tied = values < last, values == last
    chosen = below | (tied & (tied.cumsum(1) <= k - below.sum(1, keepdim=True)))
    return chosen.nonzero()[:, 1].view(-1, k)


def _blocks(total: int, size: int) -> Iterator[slice]:
    return (slice(first, min(first + size, total)) for first in range(0, total, size))


@contextmanager
def true_float32(device: torch.device) -> Iterator[None]:
    """Keep products of float32 from being taken in fewer digits, as autocast and fast matmul modes do."""
    with torch.autocast(device.type, enabled=False):
        try:
            before = torch.get_float32_matmul_precision()
        except RuntimeError:  # torch refuses to say once precision was set for one backend alone
            with _each_backend_in_float32():
                yield
            return
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)


@contextmanager
def _each_backend_in_float32() -> Iterator[None]:
    products = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    before = [each.fp32_precision for each in products]
    try:
        for each in products:
            each.fp32_precision = "ieee"
        yield
    finally:
        for each, precision in zip(products, before, strict=True):
            each.fp32_precision = precision
