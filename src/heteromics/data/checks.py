"""Checks of matrices and names that say what was found, where, and what to do. Arrays in, nothing or an error out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import sparse

from heteromics.data._sparse import is_sparse
from heteromics.errors import DataError, DuplicateNames, EmptyCells, NotCounts, some

EXACT_FLOAT32 = 2**24  # the largest whole number up to which float32 holds every whole number (IEEE 754)
_BEYOND = "beyond 2**24, which float32 rounds"
_KINDS = ("NaN or infinite", "NaN", "infinite", "negative", "fractional", _BEYOND)


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
    check = ValueCheck("counts")
    check.look(matrix)
    check.finish(what)


def check_finite(matrix: Any, what: str) -> None:
    """Make sure that no value is NaN or infinite; parameters as in :func:`check_counts`.

    Raises
    ------
    DataError
        How many values are not finite, and where the first is.
    """
    check = ValueCheck("normalised")
    check.look(matrix)
    check.finish(what)


class ValueCheck:
    """Look at a matrix part by part, and say at the end what is wrong in all of it.

    Parameters
    ----------
    expect
        ``"counts"``: see :func:`check_counts`. ``"normalised"``: see :func:`check_finite`. ``"any"``: not looked at.

    Examples
    --------
    >>> import numpy as np
    >>> check = ValueCheck("counts")
    >>> for row in (0, 1):
    ...     check.look(np.array([[row / 2, 3]]), first_row=row)
    >>> check.finish("rna")
    Traceback (most recent call last):
        ...
    heteromics.errors.NotCounts: rna: expected counts, that is finite whole numbers >= 0.
      found 1 fractional of 4 values, the first is 0.5 in row 1, column 0
      Fix: name the layer that holds counts, or say expect="normalised" where none are needed.
    """

    def __init__(self, expect: Literal["counts", "normalised", "any"]) -> None:
        if expect not in ("counts", "normalised", "any"):
            raise DataError(f"found expect={expect!r}, expected 'counts', 'normalised' or 'any'.")
        self.expect = expect
        self._looked = 0
        self._noun = "values"
        self._found: dict[str, tuple[int, str]] = {}

    def look(self, matrix: Any, first_row: int = 0, first_column: int = 0) -> None:
        """Look at a part, SciPy sparse or NumPy, whose first entry stands in that row and column of the whole."""
        if self.expect == "any":
            return
        values = _values(matrix)
        self._looked += values.size
        if is_sparse(matrix):
            self._noun = "stored values"
        if not values.size or (_clearly_counts if self.expect == "counts" else _clearly_finite)(values):
            return
        kinds = _no_counts(values) if self.expect == "counts" else {"NaN or infinite": ~np.isfinite(values)}
        for kind, mask in kinds.items():
            if wrong := int(np.count_nonzero(mask)):
                before, place = self._found.get(kind, (0, ""))
                self._found[kind] = before + wrong, place or _place(matrix, values, mask, first_row, first_column)

    def finish(self, what: str) -> None:
        """Raise NotCounts or DataError if anything was wrong."""
        if not self._found:
            return
        lines = [
            f"found {wrong:,} {kind} of {self._looked:,} {self._noun}, the first is {place}"
            for kind, (wrong, place) in sorted(self._found.items(), key=lambda item: _KINDS.index(item[0]))
        ]
        if self.expect == "counts":
            raise NotCounts(
                f"{what}: expected counts, that is finite whole numbers >= 0.\n"
                + "".join(f"  {line}\n" for line in lines)
                + '  Fix: name the layer that holds counts, or say expect="normalised" where none are needed.'
            )
        raise DataError(
            f"{what}: expected finite values.\n  {lines[0]}\n  Fix: remove or impute them before the matrix is used."
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
    if not is_sparse(matrix):
        filled = np.count_nonzero(matrix, axis=1)
    elif matrix.format == "csr" and np.count_nonzero(matrix.data) == matrix.nnz:
        filled = np.diff(matrix.indptr)
    else:
        filled = sparse.csr_matrix(matrix != 0).getnnz(axis=1)
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


def _clearly_counts(values: np.ndarray) -> bool:
    """Whether all values are counts; NaN compares as no."""
    if values.dtype == bool:
        return True
    least, most = values.min(), values.max()
    if not (least >= 0 and most <= EXACT_FLOAT32):
        return False
    return not np.issubdtype(values.dtype, np.floating) or bool((np.rint(values) == values).all())


def _clearly_finite(values: np.ndarray) -> bool:
    """Whether all values are finite; the least and the greatest are not where one is not."""
    if not np.issubdtype(values.dtype, np.floating):
        return True
    return bool(np.isfinite(values.min()) and np.isfinite(values.max()))


def _no_counts(values: np.ndarray) -> dict[str, np.ndarray]:
    beyond = values > EXACT_FLOAT32
    if np.issubdtype(values.dtype, np.unsignedinteger):
        return {_BEYOND: beyond}
    finite = np.isfinite(values)
    return {
        "NaN": np.isnan(values),
        "infinite": np.isinf(values),
        "negative": values < 0,
        "fractional": finite & (np.floor(values) != values),
        _BEYOND: finite & beyond,
    }


def _place(matrix: Any, values: np.ndarray, mask: np.ndarray, first_row: int, first_column: int) -> str:
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
    return f"{values[at]} in row {first_row + row}, column {first_column + column}"
