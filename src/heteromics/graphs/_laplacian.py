"""Smallest non-trivial eigenvectors of the normalised Laplacian, each connected component on its own.

Dwivedi, V. P. et al. "Benchmarking Graph Neural Networks", JMLR 2023, arXiv:2003.00982, on L = I - D^-1/2 A D^-1/2.
Weighed and left aside: ``dgl.lap_pe`` (dense ``eig`` of N x N, which loses orthogonality among equal eigenvalues) and
PyG's ``AddLaplacianEigenvectorPE`` (``eigsh`` at the small end, which is slow). Both drop the first eigenvector of the
whole graph alone, so that in a graph of C components C - 1 of the others only say which component a node is in.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, SuperLU, eigsh, splu
from torch import Tensor

from heteromics._progress import track
from heteromics.errors import GraphError
from heteromics.graphs._adjacency import Matrix, by_degree, checked_adjacency, is_symmetric

_DENSE = 256  # components up to this size are solved by LAPACK, many of one size at once
_DENSE_VALUES = 1 << 23  # float64 in one stack of such components
_SHIFT = 1e-6  # how far below 0 the inverse is taken: near the wanted end, and L + shift can be factorised
_AWAY = 3.0  # added to the eigenvalue of the known trivial eigenvector; all others are at most 2
_PLANE = 8.0  # a band of so many square roots of N after reordering: such graphs are factorised with little fill
_TOLERANCE = 1e-10
_SAME = 1e-8  # eigenvalues closer than this are equal


class Spectrum(NamedTuple):
    """Eigenvectors of every component.

    Attributes
    ----------
    vectors
        float32, shape (N, k): per component orthonormal columns by rising eigenvalue; zeros where a component has no
        more.
    values
        float32, shape (C, k): eigenvalues of each component, in (0, 2]; 0 where there is no eigenvector.
    component
        int64, shape (N,): the component of each node, counted by their first nodes.
    """

    vectors: Tensor
    values: Tensor
    component: Tensor


def laplacian_eigenvectors(adjacency: Any, k: int, *, seed: int = 0, progress: bool = True) -> Spectrum:
    """Compute the k smallest non-trivial eigenvectors of each component's normalised Laplacian.

    Parameters
    ----------
    adjacency
        SciPy sparse weights, shape (N, N), none negative. Edges count in both directions, (A + A^T) / 2: an undirected
        edge may be stored once or twice, as long as all are stored alike. Self-loops count in the degree.
    k
        How many, 1 or more.
    seed
        Of the vector that the iteration of large components starts from.
    progress
        Show a bar on stderr while components are solved.

    Returns
    -------
    Spectrum
        A component of n nodes has n - 1 non-trivial eigenvectors; missing ones are zeros, and a node without
        neighbours has zeros only. Of the two signs, that is taken in which the entry of largest size (the first of
        them, among equals up to 1e-6) is positive: a convention, not an invariant; flip signs in training or use
        :class:`heteromics.nn.SignNet`. Among equal eigenvalues the basis is arbitrary.

    Raises
    ------
    GraphError
        For weights that are no weights, k below 1, or a component that did not converge.

    Notes
    -----
    The trivial eigenvector of a component, D^1/2 1, is known and is moved out of the way instead of being looked for.
    Components of up to 256 nodes, or of few more than k, are solved densely; larger ones by Lanczos iteration
    (ARPACK). Where reordering brings all edges into a band as narrow as that of graphs drawn in the plane (spatial
    neighbours), small eigenvalues crowd and L is cheap to factorise: the iteration works on its inverse, shifted to
    just below 0. Elsewhere (gene networks) a factor would fill up and the small eigenvalues lie apart: the iteration
    works on D^-1/2 A D^-1/2 at its large end, with no factor. Memory O(N k + E) and the factor.

    Examples
    --------
    >>> from scipy import sparse
    >>> path = sparse.csr_array([[0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    >>> spectrum = laplacian_eigenvectors(path, k=3)
    >>> spectrum.values.round(decimals=3).tolist()
    [[1.0, 2.0, 0.0], [0.0, 0.0, 0.0]]
    >>> spectrum.component.tolist()
    [0, 0, 0, 1]
    """
    if k < 1:
        raise GraphError(f"found k = {k} eigenvectors, expected 1 or more.")
    matrix = checked_adjacency(adjacency)
    if not is_symmetric(matrix):
        matrix = ((matrix + matrix.T.tocsr()) / 2).tocsr()
    size = matrix.shape[0]
    count, component = csgraph.connected_components(matrix, directed=False) if size else (0, np.zeros(0, np.int64))
    members = np.bincount(component, minlength=count)
    order = np.argsort(component, kind="stable")
    bounds = np.concatenate([[0], np.cumsum(members)])
    scaled, root = by_degree(matrix, symmetric=True), np.sqrt(matrix.sum(axis=1))
    vectors, values = np.zeros((size, k)), np.zeros((count, k))
    dense = members <= max(_DENSE, 4 * (k + 1))
    for number in np.unique(members[dense & (members > 1)]).tolist():
        chosen = np.flatnonzero(members == number)
        at_once = max(_DENSE_VALUES // number**2, 1)
        for first in range(0, len(chosen), at_once):
            part = chosen[first : first + at_once]
            nodes = order[bounds[part][:, None] + np.arange(number)]
            _solve_alike(scaled, root, nodes, part, vectors, values)
    for large in track(np.flatnonzero(~dense).tolist(), "eigenvectors", enabled=progress):
        nodes = order[bounds[large] : bounds[large + 1]]
        values[large], vectors[nodes] = _solve_large(scaled[nodes][:, nodes], root[nodes], k, seed)
    _fix_signs(vectors, order, bounds, members)
    return Spectrum(
        *(torch.from_numpy(part) for part in (np.float32(vectors), np.float32(values), np.int64(component)))
    )


def _solve_alike(
    scaled: Matrix,
    root: NDArray[np.float64],
    nodes: NDArray[np.int64],
    part: NDArray[np.int64],
    vectors: NDArray[np.float64],
    values: NDArray[np.float64],
) -> None:
    """Solve components of one size, ``nodes`` of shape (components, size), densely."""
    count, number = nodes.shape
    place = np.full(scaled.shape[0], -1)
    place[nodes.ravel()] = np.arange(nodes.size)
    rows = scaled[nodes.ravel()].tocoo()
    stack = np.zeros((count, number, number))
    stack[rows.row // number, rows.row % number, place[rows.col] % number] = -rows.data
    stack[:, np.arange(number), np.arange(number)] += 1
    trivial = root[nodes] / np.linalg.norm(root[nodes], axis=1, keepdims=True)
    stack += _AWAY * trivial[:, :, None] * trivial[:, None, :]
    found, basis = np.linalg.eigh(stack)
    most = min(values.shape[1], number - 1)
    values[part, :most] = found[:, :most]
    vectors[nodes, :most] = basis[:, :, :most]


def _solve_large(
    scaled: Matrix, root: NDArray[np.float64], k: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Solve one large component by iteration, returning k eigenvalues and eigenvectors of its Laplacian.

    One start vector finds one vector of a space of equal eigenvalues and may miss the others. So it is asked again
    beside all that was found, until what comes is no smaller than the k found.
    """
    factor = _factor(scaled) if _lies_in_a_plane(scaled) else None
    random = np.random.default_rng(seed)
    known = (root / np.linalg.norm(root))[:, None]  # the trivial one comes first
    values = np.zeros(0)
    while True:
        wanted = k if not len(values) else min(k, 3)
        try:
            found, basis = _smallest_beside(scaled, factor, known, wanted, random)
        except ArpackNoConvergence as error:
            raise GraphError(
                f"a component of {len(root):,} nodes: {len(error.eigenvalues)} of {wanted} eigenvectors converged.\n"
                "  Fix: ask for fewer, or pass weight=None; weights of many orders of size make parts hardly hang "
                "together."
            ) from error
        complete = len(values) and found.min() >= values[-1] - _SAME
        order = np.argsort(np.concatenate([values, found]), kind="stable")[:k]
        values = np.concatenate([values, found])[order]
        known = np.hstack([known[:, :1], np.hstack([known[:, 1:], basis])[:, order]])
        if complete:
            return values, known[:, 1:]


def _smallest_beside(
    scaled: Matrix, factor: SuperLU | None, known: NDArray[np.float64], k: int, random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return k small eigenpairs of the Laplacian that are orthogonal to the eigenvectors known."""
    size = scaled.shape[0]

    def beside(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return x - known @ (known.T @ x)

    def inverse(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return beside(factor.solve(beside(x.ravel())))  # type: ignore[union-attr]

    def away(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return scaled @ x - _AWAY * (known @ (known.T @ x))

    options = {"k": k, "v0": beside(random.standard_normal(size)), "tol": _TOLERANCE, "ncv": min(size, max(4 * k, 40))}
    if factor is None:
        operator = LinearOperator((size, size), matvec=away, dtype=np.float64)
        values, basis = eigsh(operator, which="LA", **options)
        return 1 - values, basis
    operator = LinearOperator((size, size), matvec=lambda x: x - scaled @ x, dtype=np.float64)
    solve = LinearOperator((size, size), matvec=inverse, dtype=np.float64)
    return eigsh(operator, sigma=-_SHIFT, OPinv=solve, which="LM", **options)


def _lies_in_a_plane(scaled: Matrix) -> bool:
    """Say whether reverse Cuthill-McKee ordering finds a band as narrow as that of a graph in the plane."""
    size = scaled.shape[0]
    order = csgraph.reverse_cuthill_mckee(scaled, symmetric_mode=True)
    place = np.empty(size, np.int64)
    place[order] = np.arange(size)
    row = np.repeat(np.arange(size), np.diff(scaled.indptr))
    reach = np.zeros(size, np.int64)
    np.maximum.at(reach, place[row], place[row] - place[scaled.indices])
    return bool(reach.mean() <= _PLANE * np.sqrt(size))


def _factor(scaled: Matrix) -> SuperLU:
    """Factorise L + shift, which is definite: no pivoting is needed, and the order of least fill is kept."""
    shifted = sparse.csc_array((1 + _SHIFT) * sparse.eye_array(scaled.shape[0]) - scaled)
    return splu(
        shifted, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True, "Equil": False}
    )


def _fix_signs(
    vectors: NDArray[np.float64], order: NDArray[np.int64], bounds: NDArray[np.int64], members: NDArray[np.int64]
) -> None:
    """Turn each component's vectors so that the first of their largest entries is positive."""
    if not len(order):
        return
    sorted_ = vectors[order]
    size = np.abs(sorted_)
    largest = np.maximum.reduceat(size, bounds[:-1], axis=0)
    position = np.arange(len(order))[:, None]
    reached = size >= np.repeat(largest, members, axis=0) * (1 - 1e-6)
    first = np.minimum.reduceat(np.where(reached, position, len(order)), bounds[:-1], axis=0)
    sign = np.where(np.take_along_axis(sorted_, first, axis=0) < 0, -1.0, 1.0)
    vectors[order] = sorted_ * np.repeat(sign, members, axis=0)
