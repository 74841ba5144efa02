"""The best partners of every row and of every column of a similarity that is only ever there in tiles.

A tile of rows is one product. The k-th largest of the maxima over chunks of a row is at most its k-th largest value, so
that what reaches it holds the k best and little else; columns likewise, over chunks of rows. Two passes of products,
comparisons and maxima take a tenth of the time of ``torch.topk`` over all values on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Int = NDArray[np.int64]
Tile = Callable[[int, int], Tensor]

_TILE = {"cpu": 1 << 21, "cuda": 1 << 25}  # values at a time: 8 MB, enough to keep threads busy; 128 MB
_CLASSES = 4  # chunks per value wanted: more make thresholds tighter, and finding them slower
_MANY = 8  # times the values wanted of a tile that are kept without ranking them
_TALL = 16  # rows of a chunk of a column, at most


class Edges(NamedTuple):
    """Pairs with their value: fields of shape (E,), int64, int64 and float32."""

    row: Int
    column: Int
    value: NDArray[np.float32]

    def take(self, which: NDArray[Any]) -> Edges:
        """Return some of the pairs, by number or mask."""
        return Edges(self.row[which], self.column[which], self.value[which])


def best_pairs(
    tile: Tile, rows: int, columns: int, most: tuple[int, int], device: torch.device, *, progress: bool = False
) -> Edges:
    """Find the pairs that are among the best of their row or of their column.

    Parameters
    ----------
    tile
        ``tile(first, stop)`` returns those rows of the similarity, (stop - first, columns), the same when asked again;
        the next call may write over what the last one returned.
    rows, columns
        Size of the whole.
    most
        How many for each row, and for each column. Of equal values those of the lowest number are taken.
    device
        Where tiles are.
    progress
        Show a bar over the tiles of both passes.

    Returns
    -------
    Edges
        Each pair once, by row and column. Memory: one tile, and some k * (rows + columns) values.
    """
    of_row, of_column = min(most[0], columns), min(most[1], rows)
    least = _column_thresholds(tile, rows, columns, of_column, device, progress)
    parts: list[Edges] = []
    held, limit = 0, 8 * (of_row * rows + of_column * columns)
    space = least.new_empty(0)  # for thresholds, tile after tile: fresh memory costs as much as the products
    for first, stop in _tiles(rows, columns, device, "choosing pairs", progress):
        score = tile(first, stop)
        space = room(space, score.shape)
        low = torch.minimum(_row_thresholds(score, of_row)[:, None], least, out=space[: stop - first])
        parts.append(_best_of_tile(score, low, first, of_row, least, of_column))
        held += len(parts[-1].row)
        if held > limit:  # many ties: keep no more than what can still be among the best
            parts = [_best_of_columns(_joined(parts), of_row, of_column)]
            held = len(parts[0].row)
    return _best_of_columns(_joined(parts), of_row, of_column)


def room(space: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return ``space``, or a new one where it has too few rows or other columns; what it holds does not matter."""
    rows, columns = shape
    return space if space.shape[1:] == (columns,) and len(space) >= rows else space.new_empty(rows, columns)


def _tiles(rows: int, columns: int, device: torch.device, what: str, progress: bool) -> Iterator[tuple[int, int]]:
    from heteromics._progress import track

    step = max(1, _TILE[device.type] // max(columns, 1))
    step = step - step % _TALL or step
    for first in track(range(0, rows, step), what, enabled=progress):
        yield first, min(first + step, rows)


def _row_thresholds(score: Tensor, most: int) -> Tensor:
    """Return a value per row that at least ``most`` of its values reach, shape (rows,)."""
    rows, columns = score.shape
    classes = columns if most * _CLASSES > columns // 2 else most * _CLASSES
    whole = columns // classes * classes
    highest = score[:, :whole].reshape(rows, -1, classes).amax(1) if classes < columns else score
    return highest.topk(most, dim=1).values[:, -1]


def _column_thresholds(tile: Tile, rows: int, columns: int, most: int, device: torch.device, progress: bool) -> Tensor:
    """Return a value per column that at least ``most`` of its values reach, shape (columns,)."""
    tall = max(1, min(_TALL, rows // (2 * most)))
    best: list[Tensor] = []
    for first, stop in _tiles(rows, columns, device, "finding thresholds", progress):
        score = tile(first, stop)
        whole = (stop - first) // tall * tall
        if whole:
            best.append(score[:whole].reshape(-1, tall, columns).amax(1))
        if whole < stop - first:
            best.append(score[whole:].amax(0, keepdim=True))
        if sum(map(len, best)) > 8 * most:
            best = [_highest(torch.cat(best), most)]
    return _highest(torch.cat(best), most)[-1]


def _highest(values: Tensor, most: int) -> Tensor:
    """Return the largest values of every column, falling, (most, columns); all where there are fewer."""
    return values.T.contiguous().topk(min(most, len(values)), dim=1).values.T


def _best_of_tile(score: Tensor, low: Tensor, first: int, of_row: int, least: Tensor, of_column: int) -> Edges:
    """Return what may be among the best; in a tile of many ties, only the best of each row and column of the tile."""
    if score.device.type == "cpu":
        flat = np.flatnonzero(np.greater_equal(score.numpy(), low.numpy()))  # half the time of torch's comparison
        value = score.numpy().reshape(-1)[flat]
    else:
        place = (score >= low).flatten().nonzero().squeeze(1)
        flat, value = place.cpu().numpy(), score.reshape(-1)[place].cpu().numpy()
    row, column = np.divmod(flat, score.shape[1])
    found = Edges(row, column, value)
    if flat.size > _MANY * of_row * len(score):
        keep = rank(row, value) < of_row
        there = np.flatnonzero(value >= least.cpu().numpy()[column])
        keep[there[rank(column[there], value[there]) < of_column]] = True
        found = found.take(keep)
    return found._replace(row=found.row + first)


def _best_of_columns(found: Edges, of_row: int, of_column: int) -> Edges:
    return found.take((rank(found.row, found.value) < of_row) | (rank(found.column, found.value) < of_column))


def rank(group: Int, value: NDArray[np.float32]) -> Int:
    """Place of each value within its group, largest first and of equal ones the earlier; shape (E,), from 0.

    >>> rank(np.array([0, 1, 0]), np.array([1.0, 2.0, 1.0], dtype=np.float32))
    array([0, 0, 1])
    """
    bits = (-value + np.float32(0)).view(np.int32).astype(np.int64)  # zero of one sign; the order of floats is that of
    bits = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # their bits, those of negative ones turned
    order = np.argsort((group << 32) + bits, kind="stable")
    size = np.bincount(group)
    place = np.empty(len(group), dtype=np.int64)
    place[order] = np.arange(len(group)) - np.repeat(np.cumsum(size) - size, size)
    return place


def _joined(parts: list[Edges]) -> Edges:
    return Edges(
        np.concatenate([part.row for part in parts]),
        np.concatenate([part.column for part in parts]),
        np.concatenate([part.value for part in parts]),
    )
