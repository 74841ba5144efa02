"""Matrices in memory and on disk as one thing: compressed lines or dense rows, read a bounded block at a time.

``anndata`` in backed mode was weighed for reading blocks: it slices a CSC matrix by rows only by reading it whole, and
its slices of CSR look up each row. Here a block is one slice of each stored array, so that each byte is read once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from heteromics.data._sparse import is_sparse
from heteromics.errors import DataError, UnreadableFile

Ints = NDArray[np.int64]

MOST_VALUES = 1 << 19
"""Values of a block: about 30 MiB with all that is made of them."""
_INT32_MOST = np.iinfo(np.int32).max


@dataclass(frozen=True, slots=True)
class Lines:
    """A compressed matrix: CSR, whose lines are rows, or CSC, whose lines are columns.

    Attributes
    ----------
    by_row
        Whether it is CSR.
    bounds
        Where each line begins and ends, shape (lines + 1,).
    indices, data
        Arrays in memory (sliced without a copy), HDF5 datasets or zarr arrays.
    shape
        Rows and columns.
    """

    by_row: bool
    bounds: Ints
    indices: Any
    data: Any
    shape: tuple[int, int]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values as they are read."""
        return plain(self.data.dtype)

    @property
    def on_disk(self) -> bool:
        """Whether reading takes time."""
        return not isinstance(self.data, np.ndarray)

    def ranges(self, most_values: int, lines: Ints | None = None) -> list[tuple[int, int]]:
        """Cut the lines, or some ascending ones, into ranges of at most so many values, of at least one line."""
        if lines is None:
            return list(_ranges(self.bounds, most_values))
        runs = np.split(lines, np.flatnonzero(np.diff(lines) > 1) + 1) if len(lines) else []
        return [
            (int(run[0]) + start, int(run[0]) + stop)
            for run in runs
            for start, stop in _ranges(self.bounds[run[0] : run[-1] + 2], most_values)
        ]

    def indices_of(self, start: int, stop: int) -> NDArray[Any]:
        """Read the indices of some lines.

        Raises
        ------
        UnreadableFile
            For indices outside the matrix.
        """
        found = np.asarray(self.indices[int(self.bounds[start]) : int(self.bounds[stop])])
        width = self.shape[1] if self.by_row else self.shape[0]
        if self.on_disk and found.size and not (found.min() >= 0 and found.max() < width):
            outside = int(((found < 0) | (found >= width)).sum())
            raise UnreadableFile(
                f"{outside:,} of {found.size:,} indices of lines {start} to {stop} lie outside 0 to {width - 1}.\n"
                "  Fix: fetch or write the file again."
            )
        return found

    def read(self, start: int, stop: int) -> sparse.csr_array | sparse.csc_array:
        """Read some lines as a matrix of their own; arrays in memory are shared."""
        low, high = int(self.bounds[start]), int(self.bounds[stop])
        bounds = self.bounds[start : stop + 1] - low
        values = np.asarray(self.data[low:high]).astype(self.dtype, copy=False)
        parts = (values, *_narrow(self.indices_of(start, stop), bounds, max(self.shape)))
        if self.by_row:
            return sparse.csr_array(parts, shape=(stop - start, self.shape[1]))
        return sparse.csc_array(parts, shape=(self.shape[0], stop - start))


@dataclass(frozen=True, slots=True)
class Dense:
    """A dense matrix: in memory, or an HDF5 dataset or zarr array.

    Blocks are whole rows; where the chunks of the file are taller than a block, tiles along the chunks, so that each
    chunk is unpacked once and never more than a block, or one chunk, is held dense.
    """

    stored: Any

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self.stored.shape
        return int(rows), int(columns)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values as they are read."""
        return plain(self.stored.dtype)

    @property
    def by_row(self) -> bool:
        """Whether it is read by rows: always."""
        return True

    @property
    def on_disk(self) -> bool:
        """Whether reading takes time."""
        return not isinstance(self.stored, np.ndarray)

    def ranges(self, most_values: int) -> list[tuple[int, int]]:
        """Cut the rows into ranges of at most so many entries, of at least one row and as tall as a chunk."""
        tall, _ = self._chunk()
        height = max(tall, most_values // max(1, self.shape[1]) // tall * tall)
        return [(top, min(top + height, self.shape[0])) for top in range(0, self.shape[0], height)]

    def read(self, start: int, stop: int, most_values: int = MOST_VALUES) -> sparse.csr_array:
        """Read some rows and keep what is not zero."""
        columns, (_, wide) = self.shape[1], self._chunk()
        width = columns if (stop - start) * columns <= most_values else most_values // (stop - start) // wide * wide
        width = max(width, wide)
        tiles = [
            sparse.csr_array(np.asarray(self.stored[start:stop, left : left + width]).astype(self.dtype, copy=False))
            for left in range(0, columns, width)
        ]
        if len(tiles) == 1:
            return tiles[0]
        return sparse.csr_array(sparse.hstack(tiles, format="csr")) if tiles else _empty(stop - start, self.dtype)

    def _chunk(self) -> tuple[int, int]:
        tall, wide = getattr(self.stored, "chunks", None) or (1, max(1, self.shape[1]))
        return max(1, int(tall)), max(1, int(wide))


def stored(matrix: Any, what: str = "matrix") -> Lines | Dense:
    """Find how a matrix is stored; nothing but its row bounds is read.

    Parameters
    ----------
    matrix
        SciPy sparse, NumPy, a dense HDF5 dataset or zarr array, a sparse group of AnnData (h5py or zarr), or the
        backed dataset that AnnData makes of one.
    what
        What it is called in messages.

    Raises
    ------
    DataError
        For another form.
    """
    if is_sparse(matrix):
        if matrix.format not in ("csr", "csc"):
            matrix = matrix.tocsr()
        bounds = matrix.indptr.astype(np.int64)
        return Lines(matrix.format == "csr", bounds, matrix.indices, matrix.data, (matrix.shape[0], matrix.shape[1]))
    group = getattr(matrix, "group", matrix)  # of a backed dataset
    if all(hasattr(group, name) for name in ("attrs", "keys")):
        form = str(group.attrs.get("encoding-type", f"a {type(group).__name__}"))
        if form not in ("csr_matrix", "csc_matrix"):
            raise DataError(f"{what}: found {form}, expected a dense, CSR or CSC matrix of AnnData 0.7 on.")
        rows, columns = (int(n) for n in group.attrs["shape"])
        bounds = np.asarray(group["indptr"][:]).astype(np.int64)
        return Lines(form == "csr_matrix", bounds, group["indices"], group["data"], (rows, columns))
    if isinstance(matrix, np.ndarray) or _is_dense(matrix):
        if len(matrix.shape) != 2:
            raise DataError(f"{what}: found {len(matrix.shape)} dimensions, expected 2.")
        if np.dtype(matrix.dtype).kind not in "biuf":
            raise DataError(f"{what}: found values of type {matrix.dtype}, expected numbers.")
        return Dense(np.asarray(matrix) if isinstance(matrix, np.ndarray) else matrix)
    raise DataError(
        f"{what}: found a {type(matrix).__name__}, expected SciPy sparse, NumPy, or a backed matrix of h5ad or zarr."
    )


def plain(dtype: Any) -> np.dtype[Any]:
    """Return the type that SciPy has for numbers stored in another byte order, or in half precision."""
    native = np.dtype(dtype).newbyteorder("=")
    return np.dtype(np.float32) if native == np.float16 else native


def _is_dense(matrix: Any) -> bool:
    """Whether it is a dense dataset of HDF5 or zarr; the chunks of a dask array are tuples."""
    if not all(hasattr(matrix, name) for name in ("shape", "dtype", "chunks")):
        return False
    return matrix.chunks is None or all(isinstance(size, int | np.integer) for size in matrix.chunks)


def _ranges(bounds: Ints, most: int) -> Iterator[tuple[int, int]]:
    start = 0
    while start < bounds.size - 1:
        stop = max(start + 1, int(np.searchsorted(bounds, bounds[start] + most, side="right")) - 1)
        yield start, stop
        start = stop


def _narrow(indices: NDArray[Any], bounds: Ints, widest: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Give both index arrays of a block one type, int32 where it fits."""
    small = max(widest, int(bounds[-1])) <= _INT32_MOST
    idtype = np.int32 if small else np.int64
    return indices.astype(idtype, copy=False), bounds.astype(idtype)


def _empty(rows: int, dtype: np.dtype[Any]) -> sparse.csr_array:
    return sparse.csr_array((rows, 0), dtype=dtype)
