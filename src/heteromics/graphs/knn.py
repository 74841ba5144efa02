"""Nearest neighbours between two sets of points, exact in blocks or approximate, on the device of the points.

Sources: exact search by blocked matrix products, as in Johnson et al. (2021), doi:10.1109/TBDATA.2019.2921572, with our
own selection and certificate (``_knn_blocks``); approximate search by nearest-neighbour descent, Dong et al. (2011),
doi:10.1145/1963405.1963487, of pynndescent; neighbours from every batch as in BBKNN, Polański et al. (2020),
doi:10.1093/bioinformatics/btz625. ``sklearn.neighbors`` was weighed: it has no CUDA, and leaves ties to chance.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heteromics.errors import DataError
from heteromics.graphs._knn_blocks import Points, distances, search, unit_scale

__all__ = ["Choose", "Method", "Metric", "Neighbors", "nearest_neighbors"]

Metric = Literal["euclidean", "cosine"]
Method = Literal["exact", "approximate"]
Choose = Literal["any", "within", "across", "each"]
Array = Tensor | NDArray[Any]


class Neighbors(NamedTuple):
    """Neighbours of each query, nearest first.

    ``indices`` (Q, K) int64, rows of the targets; ``distance`` (Q, K) in the type of the points.
    """

    indices: Tensor
    distance: Tensor


class _Job(NamedTuple):
    """Queries that search among the same targets; None means all of them."""

    queries: Tensor | None
    targets: Tensor | None


@torch.no_grad()
def nearest_neighbors(
    queries: Array,
    targets: Array | None = None,
    k: int = 15,
    *,
    metric: Metric = "euclidean",
    batch: Array | None = None,
    target_batch: Array | None = None,
    choose: Choose = "any",
    method: Method = "exact",
    seed: int = 0,
    progress: bool = False,
) -> Neighbors:
    """Find the k nearest targets of each query.

    Parameters
    ----------
    queries
        Points, shape (Q, D), on any device, finite. Floats are best; whole numbers are taken as float64.
    targets
        Points to search in, shape (T, D), on the same device. None: the queries themselves; a point is then never its
        own neighbour (by its row: another point at the same place is one, at distance 0).
    k
        Number of neighbours, at least 1. More than there are targets is an error.
    metric
        ``"euclidean"``, or ``"cosine"``: 1 - cosine, from 0 to 2. A zero vector has no direction and is an error.
    batch, target_batch
        Whole numbers that say which batch a point is of, shapes (Q,) and (T,); without targets only ``batch``.
    choose
        ``"any"`` target; only targets ``"within"`` the query's batch, or only ``"across"`` to other batches; or k from
        ``"each"`` batch of targets, together K = k x batches, nearest first (BBKNN).
    method
        ``"exact"``, or ``"approximate"`` by pynndescent, which computes on the CPU and is worth its preparation from
        some ten thousand points. It is good where points lie near few dimensions, as cells do, and poor on noise.
    seed
        Of the approximate search, which gives the same answer for the same seed.
    progress
        Show a bar on stderr while an exact search goes on.

    Returns
    -------
    Neighbors
        ``indices`` (Q, K) int64 and ``distance`` (Q, K), on the device of the points, K = k except for ``"each"``.

    Raises
    ------
    DataError
        For NaN or infinite values, zero vectors under cosine, shapes or batches that do not fit, a k that a batch
        cannot give, a missing pynndescent.

    Notes
    -----
    Exact means: ranked by the distance in float64 between the points given (for cosine, between the points scaled to
    length 1 in float64), the lowest row first among equal distances, whatever the device and the blocks. Memory is
    that of one tile (64 MiB on the CPU, 256 MiB on CUDA) and about two copies of the points; no Q x T array is made.
    Points and answers stay on their device; only single numbers, such as how many rows are not sure yet, come to the
    host. Gradients do not flow through.

    Examples
    --------
    >>> line = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    >>> found = nearest_neighbors(line, k=2)
    >>> found.indices.tolist()
    [[1, 2], [0, 2], [1, 0], [2, 1]]
    >>> found.distance.tolist()
    [[1.0, 3.0], [1.0, 2.0], [2.0, 3.0], [4.0, 6.0]]
    >>> nearest_neighbors(line, k=1, batch=torch.tensor([0, 1, 0, 1]), choose="across").indices.ravel().tolist()
    [1, 0, 1, 2]
    """
    _check_words(metric, method, choose)
    query = _points(queries, "queries")
    target = query if targets is None else _points(targets, "targets")
    if query.shape[1] != target.shape[1] or query.device != target.device:
        raise DataError(
            f"queries are {tuple(query.shape)} on {query.device}, targets {tuple(target.shape)} on {target.device}; "
            "expected the same width and device. Fix: embed both in one space."
        )
    jobs = _jobs(query, target, batch, target_batch, choose, itself=targets is None)
    _check_k(k, jobs, target, itself=targets is None)
    dtype = torch.promote_types(query.dtype, target.dtype)
    query, target = query.to(dtype), target.to(dtype)
    scale = 1.0
    if metric == "cosine":
        query, target = (_unit(points, what) for points, what in ((query, "queries"), (target, "targets")))
    elif target.numel() or query.numel():
        scale = unit_scale(max(float(x.abs().max()) for x in (query, target) if x.numel()), dtype)
    width = k * len(jobs) if choose == "each" else k
    indices = torch.empty((len(query), width), dtype=torch.int64, device=query.device)
    distance = torch.empty((len(query), width), dtype=torch.float64, device=query.device)
    for number, job in enumerate(jobs):
        columns = slice(number * k, number * k + k) if choose == "each" else slice(None)
        rows = slice(None) if job.queries is None else job.queries
        own = _own(job, len(target), query.device) if targets is None else None
        there = target if job.targets is None else target[job.targets]
        if method == "exact":
            found, near = _exact(query[rows] * scale, there * scale, own, k, progress=progress)
        else:
            itself = own is not None and choose in ("any", "within")
            found, near = _approximate(query[rows] * scale, there * scale, own, k, seed, itself=itself)
        indices[rows, columns] = found if job.targets is None else job.targets[found]
        distance[rows, columns] = near
    if choose == "each" and len(jobs) > 1:
        indices, place = torch.sort(indices, dim=1)
        distance, place = torch.sort(distance.gather(1, place), dim=1, stable=True)
        indices = indices.gather(1, place)
    distance = distance.square() / 2 if metric == "cosine" else distance / scale
    return Neighbors(indices, distance.to(dtype))


def _exact(
    query: Tensor, target: Tensor, own: Tensor | None, k: int, *, progress: bool = False
) -> tuple[Tensor, Tensor]:
    offset = target.double().mean(0)
    return search(Points(query, offset), Points(target, offset), own, k, progress=progress)


def _approximate(
    query: Tensor, target: Tensor, own: Tensor | None, k: int, seed: int, *, itself: bool
) -> tuple[Tensor, Tensor]:
    """Let pynndescent choose; rank by float64 distance; search exactly for queries that it found too little for."""
    from heteromics.graphs._knn_descent import FEWEST, descend

    if len(target) < max(FEWEST, 4 * k) or not len(query):
        return _exact(query, target, own, k)
    ask = k + (own is not None)
    centre = target.double().mean(0)  # float32 keeps little of points far from zero
    narrow = [(points - centre).float().cpu().numpy() for points in (query, target)]
    rows = descend(narrow[0], narrow[1], ask, seed, itself=itself)
    found = torch.from_numpy(rows).to(query.device).sort(dim=1).values
    near = torch.empty(found.shape, dtype=torch.float64, device=query.device)
    for first in range(0, len(query), 1 << 12):
        at = slice(first, first + (1 << 12))
        near[at] = distances(query[at].double()[:, None], target[found[at]].double())[:, 0]
    out = found < 0 if own is None else (found < 0) | (found == own[:, None])
    near, place = torch.sort(near.masked_fill(out, torch.inf), dim=1, stable=True)
    found, near = found.gather(1, place)[:, :k].clone(), near[:, :k].clone()
    if len(short := torch.isinf(near[:, -1]).nonzero()[:, 0]):
        found[short], near[short] = _exact(query[short], target, None if own is None else own[short], k)
    return found, near


def _check_words(metric: str, method: str, choose: str) -> None:
    known = {
        "metric": (metric, ("euclidean", "cosine")),
        "method": (method, ("exact", "approximate")),
        "choose": (choose, ("any", "within", "across", "each")),
    }
    for name, (found, expected) in known.items():
        if found not in expected:
            raise DataError(f"found {name}={found!r}, expected {', '.join(map(repr, expected))}.")


def as_tensor(given: Any, what: str) -> Tensor:
    """Take numbers of NumPy, pandas or torch as a tensor without gradient; memory is shared where it can be."""
    if isinstance(given, Tensor):
        return given.detach()
    values = np.ascontiguousarray(given)
    if values.dtype.kind not in "biuf":
        raise DataError(f"{what}: found {values.dtype}, expected numbers. Fix: a dense array or tensor of numbers.")
    if values.dtype.itemsize > 8 or not values.dtype.isnative:
        values = values.astype(np.float64 if values.dtype.kind == "f" else np.int64)
    return torch.from_numpy(values if values.flags.writeable else values.copy())


def _points(given: Array, what: str) -> Tensor:
    points = as_tensor(given, what)
    if points.ndim != 2 or not points.shape[1]:
        raise DataError(f"{what}: found shape {tuple(points.shape)}, expected points x dimensions.")
    if points.dtype not in (torch.float32, torch.float64):
        points = points.float() if points.is_floating_point() else points.double()
    if wrong := int((~torch.isfinite(points)).any(1).sum()):
        raise DataError(
            f"{what}: {wrong} of {len(points)} points hold NaN or infinite values. Fix: leave them out or mend them."
        )
    return points


def _unit(points: Tensor, what: str) -> Tensor:
    """Scale rows to length 1 in float64; by their greatest value first, so that no square is lost."""
    wide = points.double()
    largest = wide.abs().amax(1, keepdim=True)
    if zero := int((largest == 0).sum()):
        raise DataError(
            f"{what}: {zero} of {len(points)} points are zero, which has no cosine with anything. "
            "Fix: leave them out, or take metric='euclidean'."
        )
    wide = wide / largest
    return wide / wide.square().sum(1, keepdim=True).sqrt()


def _jobs(
    query: Tensor, target: Tensor, batch: Array | None, target_batch: Array | None, choose: str, *, itself: bool
) -> list[_Job]:
    """Split queries and targets so that every query of a job may have every target of it, but itself."""
    if itself and target_batch is not None:
        raise DataError("found target_batch without targets. Fix: pass `batch` alone, which is then that of both.")
    if choose == "any":
        return [_Job(None, None)]
    targets_of = batch if itself else target_batch
    of_target = _codes(targets_of, len(target), query.device, "batch" if itself else "target_batch", choose)
    if choose == "each":
        return [_Job(None, (of_target == code).nonzero()[:, 0]) for code in torch.unique(of_target)]
    of_query = of_target if itself else _codes(batch, len(query), query.device, "batch", choose)
    jobs = []
    for code in torch.unique(of_query):
        allowed = of_target == code if choose == "within" else of_target != code
        jobs.append(_Job((of_query == code).nonzero()[:, 0], allowed.nonzero()[:, 0]))
    return jobs


def _codes(given: Array | None, count: int, device: torch.device, what: str, choose: str) -> Tensor:
    if given is None:
        raise DataError(f"choose={choose!r} needs `{what}`, found None. Fix: pass the batch of each point.")
    codes = as_tensor(given, what)
    if codes.shape != (count,) or codes.is_floating_point():
        raise DataError(
            f"{what}: found {codes.dtype} of shape {tuple(codes.shape)}, expected whole numbers of shape ({count},)."
        )
    return codes.to(device)


def _check_k(k: int, jobs: list[_Job], target: Tensor, *, itself: bool) -> None:
    if k < 1:
        raise DataError(f"found k={k}, expected 1 or more.")
    for job in jobs:
        there = len(target) if job.targets is None else len(job.targets)
        if itself and (job.queries is None or _share(job.queries, job.targets)):
            there -= 1
        if k > there:
            where = "" if job.targets is None else " in the smallest of the batches asked for"
            raise DataError(
                f"found k={k}, but a point has only {max(there, 0)} others to choose from{where}. "
                "Fix: take a smaller k, or leave out small batches."
            )


def _share(queries: Tensor, targets: Tensor | None) -> bool:
    return targets is None or bool(torch.isin(queries[:1], targets).any())


def _own(job: _Job, n_targets: int, device: torch.device) -> Tensor:
    """Where each query of a job stands among the job's targets, -1 where it does not."""
    place = torch.arange(n_targets, device=device)
    if job.targets is not None:
        place = torch.full((n_targets,), -1, device=device)
        place[job.targets] = torch.arange(len(job.targets), device=device)
    return place if job.queries is None else place[job.queries]
