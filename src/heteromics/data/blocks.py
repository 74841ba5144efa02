"""Matrices of any form and place, block by block: SciPy, NumPy, and what AnnData keeps on disk in h5ad, h5mu and zarr.

Builders of graphs read their matrices here, so that a backed AnnData needs no more memory than the graph and one block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy import sparse

from heteromics.data._stored import MOST_VALUES, Dense, Ints, Lines, plain, stored
from heteromics.errors import DataError

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Assembled", "as_csr", "assemble", "open_backed", "row_blocks"]

Expect = Literal["counts", "normalised", "any"]
_INT32_MOST = np.iinfo(np.int32).max


def row_blocks(matrix: Any, *, most_values: int = MOST_VALUES) -> Iterator[tuple[int, sparse.csr_array]]:
    """Yield a matrix from top to bottom in blocks of whole rows.

    Parameters
    ----------
    matrix
        Rows x columns: SciPy sparse, NumPy, an h5py or zarr array, or a backed CSR or CSC dataset of AnnData.
    most_values
        Most values of a block, for a dense matrix entries; a block has one row at least, and the rows of one chunk
        where a dense matrix on disk is chunked.

    Yields
    ------
    first, block
        Number of the first row, and CSR of the rows from there in the type and order in which they are stored. Blocks
        of CSR in memory share its arrays: do not write to them.

    Raises
    ------
    DataError
        For a matrix of another form.

    Notes
    -----
    Memory: one block. A CSC matrix has no rows to read, so that of one all values are assembled first, in memory.

    Examples
    --------
    >>> blocks = row_blocks(np.array([[0, 2], [1, 0], [3, 4]]), most_values=4)
    >>> [(first, block.toarray().tolist()) for first, block in blocks]
    [(0, [[0, 2], [1, 0]]), (2, [[3, 4]])]
    """
    source = stored(matrix)
    if isinstance(source, Lines) and not source.by_row:
        source = stored(_by_column(source, "matrix", "any", source.dtype, most_values).csr)
    for start, stop in source.ranges(most_values):
        yield start, _read(source, start, stop, most_values)


class Assembled(NamedTuple):
    """A matrix in canonical form, and how many stored zeros were left out of it."""

    csr: sparse.csr_array
    zeros: int


def as_csr(
    matrix: Any, what: str, expect: Expect, dtype: DTypeLike = np.float32, *, most_values: int = MOST_VALUES
) -> sparse.csr_array:
    """Make one CSR matrix in canonical form: columns rising within a row, each once, no stored zero.

    Parameters
    ----------
    matrix
        As in :func:`row_blocks`; it is read once (the indices of CSC on disk twice) and not changed.
    what
        What it is called in messages.
    expect
        ``"counts"``: finite whole numbers >= 0. ``"normalised"``: finite. ``"any"``: not looked at.
    dtype
        Of the values; float32 for half precision, which SciPy has not.
    most_values
        As in :func:`row_blocks`.

    Returns
    -------
    scipy.sparse.csr_array
        It shares no memory with ``matrix``; int32 indices where they suffice.

    Raises
    ------
    NotCounts, DataError
        How many values are not as expected, in all of the matrix, and where the first is.

    Notes
    -----
    Blocks are written to their place in the result, so that memory is the result, one block, and the row bounds; of CSC
    the entries are counted by row first and each block of columns is then sorted into its rows.

    Examples
    --------
    >>> as_csr(np.array([[0, 2], [1, 0]]), "rna", "counts").data
    array([2., 1.], dtype=float32)
    """
    return assemble(matrix, what, expect, dtype, most_values=most_values).csr


def assemble(
    matrix: Any,
    what: str,
    expect: Expect,
    dtype: DTypeLike = np.float32,
    *,
    most_values: int = MOST_VALUES,
    columns: Ints | None = None,
) -> Assembled:
    """Make the matrix of :func:`as_csr`, of some ascending ``columns``, and count the stored zeros that it leaves out.

    Of rows all is read, block by block; of CSC the runs of columns that are asked for.
    """
    source = stored(matrix, what)
    if isinstance(source, Lines) and not source.by_row:
        return _by_column(source, what, expect, plain(dtype), most_values, columns)
    return _by_row(source, what, expect, plain(dtype), most_values, columns)


def _by_row(
    source: Lines | Dense,
    what: str,
    expect: Expect,
    dtype: np.dtype[Any],
    most_values: int,
    columns: Ints | None = None,
) -> Assembled:
    from heteromics.data.checks import ValueCheck

    check = ValueCheck(expect)
    width = source.shape[1] if columns is None else len(columns)
    # of the rest it grows block by block
    known = int(source.bounds[-1]) if isinstance(source, Lines) and columns is None else 0
    idtype = np.int32 if max(known, width) <= _INT32_MOST else np.int64
    indices, data = np.empty(known, dtype=idtype), np.empty(known, dtype=dtype)
    bounds = np.zeros(source.shape[0] + 1, dtype=np.int64)
    used = zeros = 0
    for start, stop in _tracked(source, source.ranges(most_values), what):
        whole = _read(source, start, stop, most_values)
        part = whole if columns is None else whole[:, columns]
        block, dropped = _cast(_canonical(part), dtype, check, start, 0)
        if used + block.nnz > indices.size:
            indices.resize(used + block.nnz, refcheck=False)
            data.resize(used + block.nnz, refcheck=False)
        indices[used : used + block.nnz], data[used : used + block.nnz] = block.indices, block.data
        bounds[start + 1 : stop + 1] = block.indptr[1:].astype(np.int64) + used
        used, zeros = used + block.nnz, zeros + dropped
    check.finish(what)
    return Assembled(_finished(indices, data, bounds, (source.shape[0], width)), zeros)


def _by_column(
    source: Lines,
    what: str,
    expect: Expect,
    dtype: np.dtype[Any],
    most_values: int,
    columns: Ints | None = None,
) -> Assembled:
    from heteromics.data.checks import ValueCheck

    check, rows = ValueCheck(expect), source.shape[0]
    width = source.shape[1] if columns is None else len(columns)
    ranges = source.ranges(most_values, columns)
    bounds = np.zeros(rows + 1, dtype=np.int64)
    for start, stop in _tracked(source, ranges, f"{what}: counting"):
        bounds[1:] += np.bincount(source.indices_of(start, stop), minlength=rows)
    np.cumsum(bounds, out=bounds)
    idtype = np.int32 if max(int(bounds[-1]), width) <= _INT32_MOST else np.int64
    indices, data = np.empty(int(bounds[-1]), dtype=idtype), np.empty(int(bounds[-1]), dtype=dtype)
    free, zeros, column = bounds[:-1].copy(), 0, 0
    for start, stop in _tracked(source, ranges, what):
        block, dropped = _cast(_canonical(source.read(start, stop).tocsr()), dtype, check, 0, column)
        size = np.diff(block.indptr).astype(np.int64)
        at = np.repeat(free - block.indptr[:-1], size) + np.arange(block.nnz)
        indices[at], data[at] = block.indices + column, block.data
        free, zeros, column = free + size, zeros + dropped, column + stop - start
    check.finish(what)
    if (free < bounds[1:]).any():
        bounds = _close_gaps(indices, data, bounds, free, most_values)
    return Assembled(_finished(indices, data, bounds, (rows, width)), zeros)


def _canonical(block: sparse.csr_array) -> sparse.csr_array:
    """Sort a block and sum what stands twice, where integers are as wide as they come; the given one stays."""
    if block.has_canonical_format:
        return block
    kind = block.dtype.kind
    block = block.astype({"b": np.int64, "i": np.int64, "u": np.uint64}.get(kind, block.dtype), copy=True)
    block.sum_duplicates()
    return block


def _cast(
    block: sparse.csr_array, dtype: np.dtype[Any], check: Any, row: int, column: int
) -> tuple[sparse.csr_array, int]:
    """Check the values of a block, give them their type, and leave out zeros, whose number is returned.

    What overflows the type is not finite; what is too small for it is zero.
    """
    before = block.nnz
    block = _without_zeros(block)
    if check.expect == "counts":
        check.look(block, row, column)
    with np.errstate(over="ignore", under="ignore"):
        values = block.data.astype(dtype, copy=False)
    block = _without_zeros(sparse.csr_array((values, block.indices, block.indptr), shape=block.shape))
    if check.expect == "normalised":
        check.look(block, row, column)
    return block, before - block.nnz


def _without_zeros(block: sparse.csr_array) -> sparse.csr_array:
    """Leave out stored zeros; the given block stays."""
    if np.count_nonzero(block.data) == block.nnz:
        return block
    block = block.copy()
    block.eliminate_zeros()
    return block


def _close_gaps(indices: NDArray[Any], data: NDArray[Any], bounds: Ints, free: Ints, most_values: int) -> Ints:
    """Move rows that fill only ``bounds[:-1]`` to ``free`` together, in place and block by block; return new bounds."""
    size = free - bounds[:-1]
    closed = np.concatenate([[0], np.cumsum(size)])
    start = 0
    while start < size.size:
        stop = max(start + 1, int(np.searchsorted(closed, closed[start] + most_values, side="right")) - 1)
        shift = np.repeat(bounds[start:stop] - closed[start:stop], size[start:stop])
        origin = np.arange(closed[start], closed[stop]) + shift  # never before its goal, so nothing unread is lost
        indices[closed[start] : closed[stop]] = indices[origin]
        data[closed[start] : closed[stop]] = data[origin]
        start = stop
    return closed


def _finished(indices: NDArray[Any], data: NDArray[Any], bounds: Ints, shape: tuple[int, int]) -> sparse.csr_array:
    """Give back what was not used and make the matrix, its index arrays of one type."""
    used = int(bounds[-1])
    indices.resize(used, refcheck=False)
    data.resize(used, refcheck=False)
    idtype = indices.dtype if used <= _INT32_MOST else np.dtype(np.int64)
    csr = sparse.csr_array((data, indices.astype(idtype, copy=False), bounds.astype(idtype)), shape=shape)
    csr.has_canonical_format = True
    return csr


def _read(source: Lines | Dense, start: int, stop: int, most_values: int) -> sparse.csr_array:
    block = source.read(start, stop, most_values) if isinstance(source, Dense) else source.read(start, stop)
    return sparse.csr_array(block)


def _tracked(source: Lines | Dense, ranges: list[tuple[int, int]], what: str) -> Iterable[tuple[int, int]]:
    if not source.on_disk or len(ranges) < 2:
        return ranges
    from heteromics._progress import track

    return track(ranges, f"reading {what}", len(ranges))


@contextmanager
def open_backed(path: str | Path, *, modality: str, layer: str) -> Iterator[AnnData]:
    """Open one layer of one modality and leave its values on disk.

    Parameters
    ----------
    path
        ``.h5ad``, ``.h5mu``, or the folder of a ``.zarr`` store of AnnData or MuData.
    modality, layer
        As in :func:`heteromics.data.read`; not ``obsm/KEY``.

    Yields
    ------
    AnnData
        ``X`` as it is stored: a backed CSR or CSC dataset, or a dense h5py or zarr array; ``obs``, ``var``, ``obsm``
        and ``uns`` as :func:`heteromics.data.read` has them, names unique. To be used before the context ends. Where
        one matrix mixes modalities, ``X`` is CSR in memory: the columns of the one asked for, taken out of it block by
        block.

    Raises
    ------
    MissingModality, MissingLayer, DuplicateNames, UnreadableFile
        As :func:`heteromics.data.read`. Values are not looked at: builders of graphs do so as they read them.
    DataError
        For a file of another format.

    Examples
    --------
    >>> import tempfile, anndata
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     anndata.AnnData(np.eye(3, dtype="float32")).write_h5ad(f"{folder}/tiny.h5ad")
    ...     with open_backed(f"{folder}/tiny.h5ad", modality="rna", layer="X") as cells:
    ...         print(type(cells.X).__name__, as_csr(cells.X, "rna", "counts").nnz)
    Dataset 3
    """
    from heteromics.data._h5ad import H5ad, H5mu
    from heteromics.data._modality import canonical
    from heteromics.data.readers import assembled, check_modality, opened

    path, wanted = Path(path), canonical(modality)
    with opened(path) as source:
        if not isinstance(source, H5ad | H5mu):
            raise DataError(
                f"{path.name}: found ending '{path.suffix}', expected .h5ad, .h5mu or .zarr, which can be read in "
                "parts.\n  Fix: write it as one of these."
            )
        check_modality(source, path, modality)
        yield assembled(source.load(wanted, layer, backed=True), path, wanted, layer)
