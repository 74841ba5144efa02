"""Checks of matrices and names that say what was found, where, and what to do. Arrays in, nothing or an error out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from heteromics.data._sparse import is_sparse
from heteromics.errors import DataError, DuplicateNames, EmptyCells, NotCounts, some

EXACT_FLOAT32 = 2**24  # the largest whole number up to which float32 holds every whole number (IEEE 754)


def check_counts(matrix: Any, what: str) -> None:
    """Make sure that a matrix holds counts: finite whole numbers, none negative, all exact in float32.

    Parameters
    ----------
    matrix
        SciPy sparse or NumPy, cells x features, any number type; left as it is.
    what
        What the matrix is called in the message.

    Raises
    ------
    NotCounts
        How many values are NaN, infinite, negative, fractional or too large, and where the first of each kind is.

    Examples
    --------
    >>> import numpy as np
    >>> check_counts(np.array([[0, 3], [1, 0]]), "rna")
    >>> check_counts(np.array([[0, 0.5]]), "rna")
    Traceback (most recent call last):
        ...
    heteromics.errors.NotCounts: rna: expected counts, that is finite whole numbers >= 0.
      found 1 fractional of 2 values, the first is 0.5 in row 0, column 1
      Fix: name the layer that holds counts, or say expect="normalised" where none are needed.
    """
    values = _values(matrix)
    if values.dtype == bool or np.issubdtype(values.dtype, np.unsignedinteger):
        kinds = {"beyond 2**24, which float32 rounds": values > EXACT_FLOAT32} if values.dtype != bool else {}
    else:
        finite = np.isfinite(values)
        kinds = {
            "NaN": np.isnan(values),
            "infinite": np.isinf(values),
            "negative": values < 0,
            "fractional": finite & (np.floor(values) != values),
            "beyond 2**24, which float32 rounds": finite & (values > EXACT_FLOAT32),
        }
    found = [_first(matrix, values, mask, kind) for kind, mask in kinds.items() if mask.any()]
    if found:
        raise NotCounts(
            f"{what}: expected counts, that is finite whole numbers >= 0.\n"
            + "".join(f"  {line}\n" for line in found)
            + '  Fix: name the layer that holds counts, or say expect="normalised" where none are needed.'
        )


def check_finite(matrix: Any, what: str) -> None:
    """Make sure that no value is NaN or infinite; parameters as in :func:`check_counts`.

    Raises
    ------
    DataError
        How many values are not finite, and where the first is.
    """
    values = _values(matrix)
    wrong = ~np.isfinite(values)
    if wrong.any():
        raise DataError(
            f"{what}: expected finite values.\n  {_first(matrix, values, wrong, 'NaN or infinite')}\n"
            "  Fix: remove or impute them before the matrix is used."
        )


def check_cells(matrix: Any, names: Iterable[object], what: str) -> None:
    """Make sure that every cell has at least one value that is not zero.

    Parameters
    ----------
    matrix
        SciPy sparse or NumPy, cells x features.
    names
        Names of the cells, for the message.
    what
        What the matrix is called in the message.

    Raises
    ------
    EmptyCells
        How many cells are empty and the names of the first.
    """
    filled = sparse.csr_matrix(matrix != 0).getnnz(axis=1) if is_sparse(matrix) else np.count_nonzero(matrix, axis=1)
    empty = np.flatnonzero(filled == 0)
    if empty.size:
        listed = list(names)
        raise EmptyCells(
            f"{what}: {empty.size} of {len(listed)} cells have no value but zero: {some(listed[i] for i in empty)}.\n"
            "  Fix: remove them, for example adata = adata[adata.X.getnnz(axis=1) > 0].copy()."
        )


def check_unique_names(names: Iterable[object], what: str, *, fix: str = "rename or remove the repeats.") -> None:
    """Make sure that no name is used twice.

    Parameters
    ----------
    names
        Names of cells or features.
    what
        What the names belong to, for the message.
    fix
        What the user can do.

    Raises
    ------
    DuplicateNames
        How many names are used more than once, and the first of them.
    """
    index = pd.Index([str(name) for name in names])
    if index.is_unique:
        return
    repeated = index[index.duplicated()].unique()
    entries = int(index.isin(repeated).sum())
    raise DuplicateNames(
        f"{what}: {len(repeated)} of {index.nunique()} names are used more than once, by {entries} of {len(index)} "
        f"entries: {some(repeated)}.\n  Fix: {fix}"
    )


def _values(matrix: Any) -> np.ndarray:
    return matrix.data if is_sparse(matrix) else np.asarray(matrix).ravel()


def _first(matrix: Any, values: np.ndarray, mask: np.ndarray, kind: str) -> str:
    at = int(np.argmax(mask))
    if not is_sparse(matrix):
        row, column = map(int, np.unravel_index(at, np.asarray(matrix).shape))
    elif matrix.format in {"csr", "csc"}:
        major = int(np.searchsorted(matrix.indptr, at, side="right")) - 1
        minor = int(matrix.indices[at])
        row, column = (major, minor) if matrix.format == "csr" else (minor, major)
    else:
        coordinates = matrix.tocoo()
        row, column = int(coordinates.row[at]), int(coordinates.col[at])
    stored = "stored values" if is_sparse(matrix) else "values"
    return (
        f"found {int(mask.sum()):,} {kind} of {values.size:,} {stored}, "
        f"the first is {values[at]} in row {row}, column {column}"
    )
