"""How likely a random walk is to be back where it began after 1, 2, ... steps: exact by blocks, or estimated.

Dwivedi, V. P. et al. "Graph Neural Networks with Learnable Structural and Positional Representations", ICLR 2022,
arXiv:2110.07875: the diagonals of P, P^2, ... with P = D^-1 A. For symmetric weights S = D^-1/2 A D^-1/2 has the same
diagonals, and by symmetry (S^(a+b))_ii = sum_j (S^a)_ij (S^b)_ij, so that powers up to half the number of steps are
enough. Weighed and left aside: ``dgl.random_walk_pe`` (dense N x N powers) and PyG's ``AddRandomWalkPE`` (all powers,
sparse: they fill).
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heteromics._progress import track
from heteromics.errors import GraphError
from heteromics.graphs._adjacency import Matrix, by_degree, checked_adjacency, is_symmetric

_CACHE = 3 << 19  # bytes of a dense block; measured: at 13,000 nodes 32 columns are twice as fast as 128
_NARROWEST, _WIDEST = 16, 128  # columns of a block; 16 numbers are a line of the cache
_FULL = 0.05  # share of filled entries above which dense blocks are faster than sparse ones
_PROBES = 64


class Estimate(NamedTuple):
    """Estimated probabilities of return, float32, shape (N, steps), and the standard error of each."""

    value: Tensor
    error: Tensor


def return_probabilities(adjacency: Any, steps: int, *, most_bytes: int = 1 << 28, progress: bool = True) -> Tensor:
    """Compute the diagonals of P, P^2, ..., P^steps for P = D^-1 A, exactly.

    Parameters
    ----------
    adjacency
        SciPy sparse weights, shape (N, N), rows = sources, none negative. A walk goes from row to column with a
        probability in proportion to the weight; where a node has no way out the walk ends and never returns.
    steps
        How many powers, 1 or more.
    most_bytes
        Memory for blocks, about; they are no wider than it allows.
    progress
        Show a bar on stderr.

    Returns
    -------
    Tensor
        float32, shape (N, steps), in [0, 1]. Computed in float32: all terms are positive, so that nothing cancels.

    Notes
    -----
    Powers stay sparse as long as they are: in a spatial graph ten steps reach few nodes, and the cost follows the
    nodes within reach. Where they fill (graphs with hubs), blocks of columns are dense and the cost is about
    ``steps / 2 - 1.5`` products of E x N multiplications for symmetric weights, the last one over half of the rows
    only, and ``steps - 1`` otherwise: estimate instead (:func:`estimated_returns`) where that is too much. To keep S^2
    whole and go by even powers was tried: fewer products, but dense ones, and no faster at 6 % density.

    Examples
    --------
    >>> from scipy import sparse
    >>> return_probabilities(sparse.csr_array([[0, 1, 1], [1, 0, 0], [1, 0, 0]]), steps=2).tolist()
    [[0.0, 1.0], [0.0, 0.5], [0.0, 0.5]]
    """
    _check_steps(steps)
    matrix = checked_adjacency(adjacency)
    symmetric = is_symmetric(matrix)
    walk = by_degree(matrix, symmetric=symmetric)
    out = np.zeros((walk.shape[0], steps), np.float32)
    _first_two(walk, out)
    if not walk.nnz or steps < 3:
        return torch.from_numpy(out)
    walk, highest = walk.astype(np.float32), (steps + 1) // 2 if symmetric else steps
    per_row = _filled(walk, highest)
    if per_row < _FULL * len(out):
        width = int(np.clip(most_bytes // (48 * max(per_row, 1)), 1, len(out)))
        blocks = range(0, len(out), width)
        for first in track(blocks, "returns of random walks", enabled=progress):
            _sparse_block(walk, first, min(first + width, len(out)), symmetric, out)
        return torch.from_numpy(out)
    total = np.zeros((len(out), steps))
    width = int(np.clip(most_bytes // (16 * len(out)), 1, _width(len(out))))
    multiply = _multiplier(walk)
    for first in track(range(0, len(out), width), "returns of random walks", enabled=progress):
        if symmetric:
            _symmetric_block(walk, multiply, _columns(walk, first, width), first, total)
        else:
            block = walk[:, first : first + width].toarray()  # of most_bytes
            _directed_block(multiply, torch.from_numpy(block), first, total)
    out[:, 2:] = total[:, 2:]
    return torch.from_numpy(out)


def estimated_returns(adjacency: Any, steps: int, *, samples: int, seed: int = 0, progress: bool = True) -> Estimate:
    """Estimate the diagonals of P, ..., P^steps from random signs, without bias, where exact is too much.

    Parameters
    ----------
    adjacency, steps, progress
        As in :func:`return_probabilities`.
    samples
        Random vectors of signs, 2 or more; cost and memory are ``steps / 2`` products of E x ``samples``.
    seed
        Of the signs.

    Returns
    -------
    Estimate
        Estimates and standard errors, each (N, steps). The first two steps are exact (error 0). Odd steps may come
        out below 0 where the truth is near 0: cutting them off would bias them.

    Notes
    -----
    With signs z and x_t = S^t z, the mean of (x_a)_i (x_b)_i is (S^(a+b))_ii (Hutchinson's estimator, in the form for
    a diagonal: Bekas, Kokiopoulou and Saad 2007, doi:10.1016/j.apnum.2007.01.003, with half of the power on each side).
    Its variance is at most d_2a d_2b + d_(a+b)^2 with d_t = (S^t)_ii: for even steps the standard error is at most
    ``sqrt(2 / samples)`` of the value itself, 4.4 % for 1,024 samples, however small it is. Without symmetry
    z_i (P^t z)_i is used, whose variance is the sum of the squares beside the diagonal of that row.
    """
    _check_steps(steps)
    if samples < 2:
        raise GraphError(f"found {samples} samples, expected 2 or more: a standard error needs two.")
    matrix = checked_adjacency(adjacency)
    symmetric = is_symmetric(matrix)
    walk = by_degree(matrix, symmetric=symmetric)
    size = walk.shape[0]
    total, squares = np.zeros((2, size, steps))
    if walk.nnz and steps > 2:
        multiply = _multiplier(walk.astype(np.float32))
        generator = torch.Generator().manual_seed(seed)
        at_once = _width(size)
        for first in track(range(0, samples, at_once), "estimating returns", enabled=progress):
            width = min(at_once, samples - first)
            signs = torch.randint(0, 2, (size, width), generator=generator).float() * 2 - 1
            before = after = signs  # x_a and x_b
            for step in range(1, steps + 1):
                if symmetric:
                    before, after = (after, after) if step % 2 == 0 else (after, multiply(after))
                else:
                    after = multiply(after)
                term = before * after
                total[:, step - 1] += term.sum(1).numpy()
                squares[:, step - 1] += term.square().sum(1, dtype=torch.float64).numpy()
    value = total / samples
    error = np.sqrt(np.maximum(squares / samples - value**2, 0) / (samples - 1))
    error[:, :2] = 0
    _first_two(walk, value)
    return Estimate(torch.from_numpy(value).float(), torch.from_numpy(error).float())


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise GraphError(f"found {steps} steps, expected 1 or more.")


def _first_two(walk: Matrix, out: NDArray[Any]) -> None:
    """Fill the columns of one and of two steps, which cost no more than the edges."""
    out[:, 0] = walk.diagonal()
    if out.shape[1] > 1:
        out[:, 1] = walk.multiply(walk.T.tocsr()).sum(axis=1)


def _filled(walk: Matrix, highest: int) -> int:
    """Return the most entries that the highest power has in one of a few rows."""
    size = walk.shape[0]
    rows = np.random.default_rng(0).choice(size, min(_PROBES, size), replace=False)
    power = walk[np.sort(rows)]
    for _ in range(highest - 1):
        power = power @ walk
        if power.nnz >= _FULL * size * len(rows):
            return size
    return int(np.diff(power.indptr).max())


def _sparse_block(walk: Matrix, first: int, stop: int, symmetric: bool, out: NDArray[np.float32]) -> None:
    """Fill the rows of ``out`` from sparse powers of these rows."""
    power = walk[first:stop]
    for step in range(2, out.shape[1] + 1):
        if not symmetric:
            power = power @ walk
            out[first:stop, step - 1] = power[:, first:stop].diagonal()
        elif step % 2:
            before, power = power, power @ walk
            out[first:stop, step - 1] = before.multiply(power).sum(axis=1)
        elif step > 2:
            out[first:stop, step - 1] = power.multiply(power).sum(axis=1)


def _symmetric_block(walk: Matrix, multiply: Any, block: Tensor, first: int, total: NDArray[np.float64]) -> None:
    """Add what columns from ``first`` on of the powers give to steps 3, 4, ...; of the highest, half of the rows."""
    steps, width = total.shape[1], block.shape[1]
    highest = (steps + 1) // 2
    reached = 1
    for step in range(3, steps + 1):
        before = block
        if step % 2:
            reached += 1
            if reached == highest:
                block, before = _multiplier(walk, first)(block), before[first:]
            else:
                block = multiply(block)
        _add(total, step, before * block, first, width, half=reached == highest)


def _columns(walk: Matrix, first: int, width: int) -> Tensor:
    """Return columns of a symmetric matrix, dense, shape (N, width): the caller bounds the width by its bytes."""
    return torch.from_numpy(walk[first : first + width].toarray()).T.contiguous()


def _add(total: NDArray[np.float64], step: int, term: Tensor, first: int, width: int, *, half: bool) -> None:
    """Add the sums over products of two powers at pairs (j, i), i of this block; with ``half``, only j from first on.

    What stands at (j, i) belongs to both i and j, so that with half of the rows later nodes get their side now.
    """
    total[first : first + width, step - 1] += term.sum(0).numpy()
    if half:
        total[first + width :, step - 1] += term[width:].sum(1).numpy()


def _directed_block(multiply: Any, block: Tensor, first: int, total: NDArray[np.float64]) -> None:
    width = block.shape[1]
    for step in range(1, total.shape[1]):
        block = multiply(block)
        total[first : first + width, step] = block[first : first + width].diagonal().numpy()


def _width(size: int) -> int:
    """Return how many columns a dense block should have: so many that it stays in the cache of a core."""
    width = _CACHE // (4 * max(size, 1))
    return min(width, _WIDEST) if width >= _NARROWEST else _WIDEST // 2


def _multiplier(walk: Matrix, first: int = 0) -> Any:
    """Return the function that multiplies the rows from ``first`` on with a dense block, by torch's kernels."""
    ids = np.int32 if max(walk.nnz, *walk.shape) <= np.iinfo(np.int32).max else np.int64
    begin = walk.indptr[first]
    parts = (walk.indptr[first:] - begin, walk.indices[begin:])
    indptr, indices = (torch.from_numpy(part.astype(ids, copy=False)) for part in parts)
    values, shape = torch.from_numpy(walk.data[begin:]), (walk.shape[0] - first, walk.shape[1])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        matrix = torch.sparse_csr_tensor(indptr, indices, values, shape, check_invariants=False)
    if torch.backends.mkl.is_available():
        return lambda block: matrix @ block
    return lambda block: torch.sparse.mm(matrix, block, "sum")
