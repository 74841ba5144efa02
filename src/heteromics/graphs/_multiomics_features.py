"""Features of cells, genes and peaks from the expression of training cells alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from heteromics.errors import GraphError

_BLOCK = 1 << 22
"""Non-zeros held in float64 at a time."""

Float = NDArray[np.float32]


def cell_svd(values: sparse.csr_array, fitted_on: NDArray[np.bool_], n_components: int, seed: int) -> Float:
    """Project every cell on the leading right singular vectors of the cells it is fitted on.

    Parameters
    ----------
    values
        Cells x genes, (N, G).
    fitted_on
        Cells that the vectors come from, boolean, (N,).
    n_components
        Number of vectors K.
    seed
        Of the randomised solver.

    Returns
    -------
    ndarray
        ``X V``, float32, (N, K). The row of a cell that it is not fitted on depends on that cell's values alone.

    Raises
    ------
    GraphError
        When there are fewer cells or genes than components.

    Notes
    -----
    Truncated SVD without centring, by the randomised solver of scikit-learn's ``TruncatedSVD`` (Halko et al., SIAM
    Review 2011, doi:10.1137/090771806), which scMoFormer's public code uses; the class itself goes over the values
    twice more, for variances. SciPy's ``svds`` needs many more passes for as many components. Cost: some passes over
    the non-zeros, memory (N + G) x K, and a copy of the rows that it is fitted on where these are not all.
    """
    from sklearn.utils.extmath import randomized_svd, svd_flip

    cells, most = int(fitted_on.sum()), min(int(fitted_on.sum()), values.shape[1])
    if not 1 <= n_components <= most:
        raise GraphError(
            f"n_components: found {n_components}, expected 1 to {most}: the SVD is fitted on {cells:,} cells with "
            f"{values.shape[1]:,} genes. Fix: n_components={min(most, max(n_components, 1))}."
        )
    rows = values if fitted_on.all() else values[fitted_on]
    left, _, right = randomized_svd(rows, n_components, n_iter=5, random_state=seed, flip_sign=False)
    _, right = svd_flip(left, right, u_based_decision=False)
    projected: Float = np.asarray(values @ right.T, dtype=np.float32)
    return projected


def feature_profiles(values: sparse.csr_array, cells: NDArray[np.bool_], embedding: Float) -> Float:
    """Average the embeddings of cells, weighted by the value each feature has in them.

    Parameters
    ----------
    values
        Cells x features, (N, F).
    cells
        Which cells count, boolean, (N,).
    embedding
        Of the cells, (N, K).

    Returns
    -------
    ndarray
        ``X_C^T S_C / |C|`` over the chosen cells C, float32, (F, K). The public code of scMoFormer takes the sum; the
        mean does not grow with the number of cells.

    Notes
    -----
    Sums in float64, some 4 million non-zeros at a time.

    Examples
    --------
    >>> values = sparse.csr_array(np.array([[2.0, 0.0], [0.0, 4.0], [9.0, 9.0]]))
    >>> feature_profiles(values, np.array([True, True, False]), np.array([[1.0], [3.0], [5.0]], np.float32))
    array([[1.],
           [6.]], dtype=float32)
    """
    total = np.zeros((values.shape[1], embedding.shape[1]))
    chosen = np.flatnonzero(cells)
    ends = np.cumsum(np.diff(values.indptr)[chosen], dtype=np.int64)
    for rows in np.split(chosen, np.searchsorted(ends, np.arange(_BLOCK, int(ends[-1]), _BLOCK))):
        part = values[rows].astype(np.float64)
        total += part.T @ embedding[rows].astype(np.float64)
    return (total / chosen.size).astype(np.float32)
