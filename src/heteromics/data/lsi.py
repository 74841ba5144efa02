"""Latent semantic indexing of counts: tf-idf and a truncated singular value decomposition, fitted on training cells.

The form of the published matching pipeline of scMoGNN (Wen et al., KDD 2022, and its public code OmicsML/dance): tf is
the value over its cell's total, idf the number of cells over the feature's total, rows are brought to a sum of one,
then ``log1p(1e4 x)``; the first singular vector, which follows the depth of the cells, is dropped.
``sklearn.decomposition.TruncatedSVD`` does the decomposition (randomised, seeded); muon's and SnapATAC2's LSI were
weighed, but scale otherwise and cannot be applied to cells they were not fitted on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from heteromics.data.blocks import as_csr
from heteromics.errors import DataError, EmptyCells, some

__all__ = ["Lsi", "scaled_tfidf"]

SCALE = 1e4


@dataclass(frozen=True, slots=True)
class Lsi:
    """A fitted LSI; see :meth:`fit`.

    Attributes
    ----------
    idf
        Training cells over the total of each feature, shape (F,), float64; 0 for features that no training cell has.
    components
        Right singular vectors, shape (k, F), float32.
    singular_values
        Of the components, shape (k,), descending.
    """

    idf: NDArray[np.float64]
    components: NDArray[np.float32]
    singular_values: NDArray[np.float64]

    @classmethod
    def fit(cls, counts: Any, k: int, *, seed: int, drop_first: bool = True) -> Lsi:
        """Fit on training cells.

        Parameters
        ----------
        counts
            Training cells x features, values >= 0, (N, F); any form that :func:`heteromics.data.blocks.as_csr` takes,
            backed ones included. Sparse stays sparse.
        k
            Numbers per cell. The paper's: 256 for RNA, 512 for peaks (64 for RNA in joint embedding).
        seed
            Of the randomised decomposition.
        drop_first
            Compute ``k`` + 1 vectors and leave the first out, as the paper's code does.

        Returns
        -------
        Lsi
            The same for the same seed.

        Raises
        ------
        DataError
            For negative or infinite values, or a ``k`` that needs more vectors than there are cells or features.
        EmptyCells
            For cells whose values are all zero.

        Examples
        --------
        >>> counts = np.random.default_rng(0).poisson(0.5, (40, 30)) + np.eye(40, 30)
        >>> lsi = Lsi.fit(counts[:30], 5, seed=0)
        >>> lsi.apply(counts[30:]).shape
        (10, 5)
        """
        from sklearn.decomposition import TruncatedSVD

        csr = _checked(counts)
        wanted, most = k + drop_first, min(csr.shape)
        if k < 1 or wanted > most:
            raise DataError(
                f"LSI: found k={k}, which needs {wanted} singular vectors of {csr.shape[0]:,} cells x "
                f"{csr.shape[1]:,} features, expected 1 to {most}.\n  Fix: lower k."
            )
        total = np.bincount(csr.indices, csr.data, minlength=csr.shape[1])
        idf = np.divide(csr.shape[0], total, out=np.zeros_like(total), where=total > 0)
        svd = TruncatedSVD(wanted, random_state=seed).fit(_scaled(csr, idf))
        first = int(drop_first)
        return cls(idf, svd.components_[first:].astype(np.float32), svd.singular_values_[first:].astype(np.float64))

    def apply(self, counts: Any) -> NDArray[np.float32]:
        """Bring cells into the space of the training cells.

        Parameters
        ----------
        counts
            Cells x the features of training, (N, F).

        Returns
        -------
        ndarray
            Shape (N, k), float32; zeros for a cell that has none of the features of the training cells.

        Raises
        ------
        DataError
            For another number of features, or values as in :meth:`fit`.
        EmptyCells
            As in :meth:`fit`.
        """
        return np.asarray(scaled_tfidf(counts, self.idf) @ self.components.T, dtype=np.float32)


def scaled_tfidf(counts: Any, idf: NDArray[np.float64]) -> sparse.csr_array:
    """Weigh counts by tf-idf, bring each cell to a sum of one, and take ``log1p(1e4 x)``.

    Parameters
    ----------
    counts
        Cells x features, values >= 0, (N, F), of any form.
    idf
        Weight of each feature, shape (F,).

    Returns
    -------
    scipy.sparse.csr_array
        Shape (N, F), float32, values as in ``log1p(1e4 * tf * idf / sum over the cell)``.

    Raises
    ------
    DataError, EmptyCells
        As in :meth:`Lsi.fit`.

    Examples
    --------
    >>> scaled_tfidf(np.array([[1.0, 3.0]]), np.array([2.0, 1.0])).toarray().round(3)
    array([[8.294, 8.7  ]], dtype=float32)
    """
    if counts.shape[1] != len(idf):
        raise DataError(f"LSI: found {counts.shape[1]:,} features, expected the {len(idf):,} it was fitted on.")
    return _scaled(_checked(counts), idf)


def _checked(counts: Any) -> sparse.csr_array:
    csr = as_csr(counts, "LSI", "normalised")
    if negative := int((csr.data < 0).sum()):
        raise DataError(
            f"LSI: found {negative:,} negative of {csr.nnz:,} values, expected counts. Fix: use raw counts."
        )
    if (empty := np.flatnonzero(np.diff(csr.indptr) == 0)).size:
        raise EmptyCells(
            f"LSI: {empty.size} of {csr.shape[0]} cells have no value but zero, rows {some(empty)}.\n"
            "  Fix: remove them before."
        )
    return csr


def _scaled(csr: sparse.csr_array, idf: NDArray[np.float64]) -> sparse.csr_array:
    """As :func:`scaled_tfidf`, for a matrix of our own; the division by the cell's total cancels in that by its sum."""
    weighed = csr.data * idf[csr.indices]
    size = np.diff(csr.indptr)
    total = np.add.reduceat(weighed, csr.indptr[:-1]) if csr.nnz else np.zeros(0)
    scale = np.divide(SCALE, total, out=np.zeros_like(total), where=total > 0)
    data = np.log1p(weighed * np.repeat(scale, size)).astype(np.float32)
    return sparse.csr_array((data, csr.indices, csr.indptr), shape=csr.shape)
