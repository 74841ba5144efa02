"""One space for two modalities that have features in common: a joint singular value decomposition."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, svds

from heteromics.errors import DataError

__all__ = ["SharedSpace", "shared_space"]

Float = NDArray[np.float64]
Mask = NDArray[np.bool_]


class SharedSpace(NamedTuple):
    """Places of the cells of both sides, (N, d) and (M, d) float32, and how many features were of no use."""

    left: NDArray[np.float32]
    right: NDArray[np.float32]
    constant: int
    """Features that do not vary among the training cells of one side, or of both; they are left out."""


class _Standard(NamedTuple):
    """A sparse matrix seen as (X - mean) / deviation, times ``share``; it is never made dense."""

    matrix: sparse.csr_array
    mean: Float
    inverse: Float
    share: float

    def times(self, values: Float) -> Float:
        scaled = self.inverse[:, None] * values
        return self.share * (self.matrix @ scaled - self.mean @ scaled)

    def transposed_times(self, values: Float) -> Float:
        product = self.matrix.T @ values - np.outer(self.mean, values.sum(axis=0))
        return self.share * self.inverse[:, None] * product


def shared_space(
    left: Any, right: Any, n_components: int, left_training: Mask, right_training: Mask, *, seed: int = 0
) -> SharedSpace:
    """Place the cells of both sides in the space of the strongest common directions of their shared features.

    Each side is standardised by itself (mean 0, variance 1 of every feature over its training cells), so that what
    sets the two assays apart as wholes does not set their cells apart; both count alike, however many cells they have.
    The directions are the right singular vectors of both sides on top of each other.

    Parameters
    ----------
    left, right
        Cells x the same G features in the same order, SciPy sparse, normalised as its kind needs.
    n_components
        Dimensions d.
    left_training, right_training
        Cells that means, deviations and directions are fitted on; all cells are placed.
    seed
        Where ARPACK begins; the same gives the same space.

    Returns
    -------
    SharedSpace

    Raises
    ------
    DataError
        When d is not below the number of features that vary on both sides and of training cells.

    Notes
    -----
    The co-embedding of Seurat's anchors (Stuart et al. 2019, doi:10.1016/j.cell.2019.05.031) standardises likewise but
    decomposes the cells x cells product; here cost follows the non-zeros (``scipy.sparse.linalg.svds``, ARPACK).
    ``sklearn.decomposition.PCA`` was weighed: it centres both sides by one mean.
    """
    sides = [sparse.csr_array(each, dtype=np.float64) for each in (left, right)]
    masks = (left_training, right_training)
    moments = [_moments(side[mask]) for side, mask in zip(sides, masks, strict=True)]
    used = np.flatnonzero((moments[0][1] > 0) & (moments[1][1] > 0))
    training = int(left_training.sum() + right_training.sum())
    if not 1 <= n_components < min(len(used), training):
        raise DataError(
            f"a shared space of {n_components} dimensions needs more features than that, found {len(used)} that vary "
            f"on both sides (of {sides[0].shape[1]} shared) and {training} training cells.\n"
            "  Fix: take fewer components, or give embeddings of both in one space."
        )
    whole = [
        _Standard(side[:, used], mean[used], deviation[used] ** -1, 1.0)
        for side, (mean, deviation) in zip(sides, moments, strict=True)
    ]
    fitted = [
        each._replace(matrix=each.matrix[mask], share=float(mask.sum()) ** -0.5)
        for each, mask in zip(whole, masks, strict=True)
    ]
    directions = _directions(fitted, n_components, seed)
    places = [each.times(directions).astype(np.float32) for each in whole]
    return SharedSpace(places[0], places[1], sides[0].shape[1] - len(used))


def _moments(matrix: sparse.csr_array) -> tuple[Float, Float]:
    """Mean and standard deviation of each column, zeros included; 0 where it is no more than rounding."""
    n = max(matrix.shape[0], 1)
    mean = np.asarray(matrix.sum(axis=0)).ravel() / n
    rows = matrix.tocoo()
    off = np.bincount(rows.col, weights=(rows.data - mean[rows.col]) ** 2, minlength=matrix.shape[1])
    zeros = n - np.bincount(rows.col, minlength=matrix.shape[1])
    deviation = np.sqrt((off + zeros * mean**2) / n)
    return mean, np.where(deviation > 1e-12 * np.abs(mean), deviation, 0)


def _directions(sides: list[_Standard], d: int, seed: int) -> Float:
    """Right singular vectors (G, d), strongest first, the largest entry of each above zero."""
    rows = [side.matrix.shape[0] for side in sides]
    shape = (sum(rows), len(sides[0].mean))

    def forward(values: Float) -> Float:
        return np.concatenate([side.times(values.reshape(shape[1], -1)) for side in sides])

    def backward(values: Float) -> Float:
        parts = np.split(values.reshape(shape[0], -1), [rows[0]])
        return sides[0].transposed_times(parts[0]) + sides[1].transposed_times(parts[1])

    stacked = LinearOperator(
        shape=shape,
        matvec=lambda v: forward(v).ravel(),
        rmatvec=lambda v: backward(v).ravel(),
        matmat=forward,
        rmatmat=backward,
        dtype=np.float64,
    )
    start = np.random.default_rng(seed).standard_normal(min(shape))
    _, strength, vectors = svds(stacked, k=d, v0=start)
    vectors = vectors[np.argsort(-strength)]
    sign = np.sign(vectors[np.arange(d), np.abs(vectors).argmax(axis=1)])
    return (vectors * sign[:, None]).T
