"""Telling sparse matrices apart."""

from __future__ import annotations

from scipy import sparse


def is_sparse(matrix: object) -> bool:
    """Whether a matrix is SciPy sparse, without telling the type checker more than it can use."""
    return bool(sparse.issparse(matrix))
