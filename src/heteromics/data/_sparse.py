"""Sparse matrices: telling them apart, and making stored dense ones sparse without ever holding them whole."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

BLOCK_BYTES = 1 << 25


def is_sparse(matrix: object) -> bool:
    """Whether a matrix is SciPy sparse, without telling the type checker more than it can use."""
    return bool(sparse.issparse(matrix))


def sparse_by_blocks(stored: Any) -> sparse.csr_matrix:
    """Make a dense matrix in an HDF5 file CSR, block by block.

    Blocks are whole rows of about 32 MiB; where the chunks of the file are taller than that, tiles of about 32 MiB
    along the chunks, so that each chunk is unpacked once and never more than a block, or one chunk, is held dense.
    """
    n_rows, n_columns = stored.shape
    tall, wide = stored.chunks or (1, max(1, n_columns))
    size = stored.dtype.itemsize
    height = max(tall, _multiple(BLOCK_BYTES // max(1, n_columns * size), tall))
    width = n_columns if height * n_columns * size <= BLOCK_BYTES else _multiple(BLOCK_BYTES // (height * size), wide)
    rows = []
    for top in range(0, n_rows, height):
        tiles = [
            sparse.csr_matrix(np.asarray(stored[top : top + height, left : left + width]))
            for left in range(0, n_columns, max(1, width))
        ]
        rows += [sparse.hstack(tiles, format="csr")] if tiles else []
    return sparse.vstack(rows, format="csr") if rows else sparse.csr_matrix((n_rows, n_columns), dtype=stored.dtype)


def _multiple(at_most: int, of: int) -> int:
    return max(of, at_most // of * of)
