"""How well two embeddings of the same cells find each other: scores over all pairs, in blocks, on CPU or GPU.

No N x N array is kept: memory is O(block x N). Distances and cosines are computed in float64 (under autocast too), and
what differs by rounding alone is a tie, so that no score hangs on it, as where many cells share a code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from torch import Tensor

from heteromics.errors import DataError, some
from heteromics.nn.segments import segment_sum

Float = NDArray[np.float64]
Int = NDArray[np.int64]

_BLOCK = 1 << 21


class Foscttm(NamedTuple):
    """Fraction of samples closer than the true match, of each cell of the left and of the right, shape (N,)."""

    left: Float
    right: Float

    @property
    def mean(self) -> float:
        """Mean over cells and both directions; 0 is perfect, 0.5 is chance."""
        return float(np.concatenate([self.left, self.right]).mean())


class AveragePrecision(NamedTuple):
    """Retrieval by label: ``of_query`` (Q,), NaN where no target has the label; ``precision`` at each ``recall``."""

    of_query: Float
    recall: Float
    precision: Float

    @property
    def mean(self) -> float:
        """MAP: mean over the queries whose label is among the targets."""
        return float(np.nanmean(self.of_query))


def foscttm(left: ArrayLike, right: ArrayLike, device: str = "cpu") -> Foscttm:
    """Count, for each cell, the cells of the other side that are closer (Euclidean) than its own other half.

    Parameters
    ----------
    left, right
        Row i of both is the same cell, shape (N, D).
    device
        Where to compute, ``cpu`` or ``cuda``.

    Returns
    -------
    Foscttm
        Shares of all N cells; cells at the same distance, up to rounding, do not count as closer (Liu et al. 2019,
        WABI, doi:10.4230/LIPIcs.WABI.2019.10; as in GLUE, Cao and Gao 2022).

    Raises
    ------
    DataError
        When the shapes differ, are empty, or hold NaN.

    Examples
    --------
    >>> foscttm([[0.0], [1.0]], [[0.1], [0.9]]).mean
    0.0
    """
    from_left, from_right = closer_counts(left, right, device)
    return Foscttm(from_left / from_left.size, from_right / from_right.size)


def recall_at(left: ArrayLike, right: ArrayLike, k: Sequence[int] = (1, 5), device: str = "cpu") -> dict[str, float]:
    """Return the share of cells whose other half is among the k nearest of the other side, both ways.

    Cells at the same distance as the other half do not push it out.

    Examples
    --------
    >>> recall_at([[0.0], [1.0]], [[0.1], [0.2]], k=[1])
    {'left_to_right@1': 1.0, 'right_to_left@1': 0.5}
    """
    if any(one < 1 for one in k):
        raise DataError(f"recall_at: found k {some(k, 6)}, expected 1 or more.")
    from_left, from_right = closer_counts(left, right, device)
    return {
        f"{way}@{one}": float((counts < one).mean())
        for one in k
        for way, counts in (("left_to_right", from_left), ("right_to_left", from_right))
    }


def closer_counts(left: ArrayLike, right: ArrayLike, device: str = "cpu") -> tuple[Int, Int]:
    """Count the rows of the other side that are strictly closer than the own one, both ways, shapes (N,)."""
    x, y = _table(left, "left", device), _table(right, "right", device)
    if x.shape != y.shape or not len(x):
        raise DataError(f"found shapes {tuple(x.shape)} and {tuple(y.shape)}, expected two equal (N, D) with N > 0.")
    centre = 0.5 * (x.mean(0) + y.mean(0))
    x, y = x - centre, y - centre  # the nearer to zero, the less is rounded
    x_length, y_length = x.square().sum(1), y.square().sum(1)
    own = 2 * (x * y).sum(1) + 16 * x.shape[1] * torch.finfo(x.dtype).eps * (x_length + y_length)
    from_left = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    from_right = torch.zeros_like(from_left)
    for rows in _row_blocks(len(x), len(y)):
        product = 2 * (x[rows] @ y.T)  # |x - y|^2 = |x|^2 + |y|^2 - 2 xy, of which one square is the same for a row
        from_left[rows] = (y_length - product < (y_length - own)[rows, None]).sum(1)
        from_right += (x_length[rows, None] - product < x_length - own).sum(0)
    return from_left.cpu().numpy(), from_right.cpu().numpy()


def mean_average_precision(
    queries: ArrayLike,
    targets: ArrayLike,
    query_labels: ArrayLike,
    target_labels: ArrayLike,
    *,
    points: int = 101,
    device: str = "cpu",
) -> AveragePrecision:
    """Rank all targets for each query by cosine; those of its label should come first.

    Parameters
    ----------
    queries, targets
        Shapes (Q, D) and (T, D).
    query_labels, target_labels
        Shapes (Q,) and (T,).
    points
        Places of the curve: recall from 0 to 1.
    device
        Where to compute.

    Returns
    -------
    AveragePrecision
        Average precision over the full list: the mean, over the targets of the label, of the share of such targets
        down to their rank (Manning et al. 2008, Introduction to Information Retrieval, 8.4). The curve holds the
        largest precision at that recall or a higher one, averaged over queries. Of targets with equal cosines (to
        float32), those of another label are ranked first.

    Raises
    ------
    DataError
        For shapes that do not fit, NaN in vectors or labels, or when no query has its label among the targets.

    Examples
    --------
    >>> mean_average_precision([[1.0, 0.0]], [[0.9, 0.1], [0.5, 0.5], [0.1, 0.9]], ["T"], ["T", "B", "T"]).mean
    0.8333333333333333
    """
    x = torch.nn.functional.normalize(_table(queries, "queries", device), dim=1)
    y = torch.nn.functional.normalize(_table(targets, "targets", device), dim=1)
    labels = [np.asarray(target_labels), np.asarray(query_labels)]
    if [one.shape for one in labels] != [(len(y),), (len(x),)] or x.shape[1] != y.shape[1]:
        raise DataError(
            f"found {len(x)} queries and {len(y)} targets of widths {x.shape[1]} and {y.shape[1]}, labels of shapes "
            f"{labels[1].shape} and {labels[0].shape}. Expected one width and a label each."
        )
    if missing := sum(int((one != one).sum()) for one in labels):  # NaN differs from itself
        raise DataError(f"{missing:,} labels are NaN, which is no cell type. Fix: leave these cells out.")
    names, codes = np.unique(np.concatenate(labels), return_inverse=True)
    of_target, of_query = (torch.as_tensor(part, device=x.device) for part in np.split(codes, [len(y)]))
    grid = torch.linspace(0, 1, points, dtype=torch.float64, device=x.device)
    of_queries, curve = [], torch.zeros_like(grid)
    for rows in _row_blocks(len(x), len(y)):
        relevant = of_query[rows, None] == of_target
        hits = relevant.sum(1)
        precision = _precision_at_hits((x[rows] @ y.T).float(), relevant, hits)
        of_queries.append(segment_sum(precision, _offsets(hits)) / hits)
        curve += _at_recall(precision, hits[hits > 0], grid).sum(0)
    found = torch.cat([grid[:0], *of_queries]).cpu().numpy()
    counted = int(np.isfinite(found).sum())
    if not counted:
        raise DataError(f"no query has its label among the targets; labels: {some(names, 6)}.")
    return AveragePrecision(found, grid.cpu().numpy(), curve.cpu().numpy() / counted)


def _precision_at_hits(similarity: Tensor, relevant: Tensor, hits: Tensor) -> Tensor:
    """Return the precision at the rank of each relevant target, rank by rank, query after query, shape (all hits,).

    One sort of whole numbers: the bits of a float, read as an integer, are in its order once those of negative numbers
    are flipped; below them stands whether the target is relevant.
    """
    bits = similarity.contiguous().view(torch.int32)
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(torch.int64)
    key = -2 * ordered + relevant
    if key.device.type == "cpu":
        key.numpy().sort(axis=1)
    else:
        key = key.sort(dim=1).values
    rank = (key & 1).nonzero()[:, 1] + 1
    nth = torch.arange(len(rank), device=rank.device) - torch.repeat_interleave(_offsets(hits)[:-1], hits) + 1
    return nth.double() / rank


def _at_recall(precision: Tensor, hits: Tensor, grid: Tensor) -> Tensor:
    """Return for each query with a hit the largest precision at each recall or above, shape (queries, points)."""
    query = torch.repeat_interleave(torch.arange(len(hits), device=hits.device), hits)
    lifted = precision - 2.0 * query  # backwards, each query stands above the one before, so no maximum carries over
    highest = lifted.flip(0).cummax(0).values.flip(0) + 2.0 * query
    first = (grid * hits[:, None] - 1e-9).ceil().clamp(min=1).to(torch.int64)  # the hit that reaches this recall
    return highest[_offsets(hits)[:-1, None] + first - 1]


def _offsets(sizes: Tensor) -> Tensor:
    return torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])


def matching_score(matching: sparse.csr_array, truth: ArrayLike) -> float:
    """Mean weight that the rows of a matching give to the true partner, each row scaled to sum 1; 0 for empty rows.

    The measure of the NeurIPS 2021 matching task (Lance et al. 2022). ``truth``: column of each row, shape (N,).

    Examples
    --------
    >>> matching_score(sparse.csr_array([[3.0, 1.0], [0.0, 2.0]]), [0, 1])
    0.875
    """
    truth = np.asarray(truth)
    if truth.shape != (matching.shape[0],) or not ((truth >= 0) & (truth < matching.shape[1])).all():
        raise DataError(f"truth has shape {truth.shape}, expected a column of {matching.shape} for each row.")
    if wrong := int((~(matching.data >= 0)).sum()):
        raise DataError(f"{wrong:,} weights are negative or NaN, expected 0 or more.")
    if not truth.size:
        raise DataError("the matching has no row to score.")
    total = np.asarray(matching.sum(axis=1)).ravel()
    pick = sparse.csr_array((np.ones(truth.size), (np.arange(truth.size), truth)), shape=matching.shape)
    given = np.asarray(matching.multiply(pick).sum(axis=1)).ravel()
    return float(np.divide(given, total, out=np.zeros(truth.size), where=total > 0).mean())


def _row_blocks(rows: int, columns: int) -> Iterator[slice]:
    step = max(1, _BLOCK // max(1, columns))
    for first in range(0, rows, step):
        yield slice(first, min(first + step, rows))


def _table(values: ArrayLike, what: str, device: str) -> Tensor:
    table = torch.as_tensor(np.asarray(values, dtype=np.float64), device=device)
    if table.ndim != 2:
        raise DataError(f"{what}: found shape {tuple(table.shape)}, expected (cells, dimensions).")
    if strange := int((~table.isfinite()).sum()):
        raise DataError(f"{what}: {strange:,} of {table.numel():,} values are NaN or infinite.")
    return table
