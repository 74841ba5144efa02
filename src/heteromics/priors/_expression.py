"""Expression of chosen genes in named cells, streamed from .h5ad or .h5mu a block of cells at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from heteromics.data._modality import canonical
from heteromics.errors import DataError, MissingLayer, MissingModality, UnreadableFile, some
from heteromics.priors._files import text_lines

BLOCK_CELLS = 4096
BLOCK_ENTRIES = 1 << 24  # of the file, all its genes: 128 MiB as int32 and float32


@dataclass(frozen=True, slots=True)
class Expression:
    """The expression matrix of an open file.

    Attributes
    ----------
    genes, cells
        Names, as the file has them: of the columns that hold expression, and of the rows.
    columns
        Where ``genes`` are among all columns.
    """

    path: Path
    genes: list[str]
    cells: list[str]
    columns: NDArray[np.int64]
    stored: Any

    def blocks(self, genes: NDArray[np.int64], cells: NDArray[np.bool_]) -> Iterator[sparse.csr_array]:
        """Yield the rows of the cells chosen, in order, with the columns of the genes chosen (places in ``genes``).

        Parameters
        ----------
        genes
            Places in ``self.genes``, in any order, shape (G,).
        cells
            Which cells, shape (N,).

        Raises
        ------
        DataError
            For values that are not finite.
        """
        columns = self.columns[genes]
        rows = _dense_rows if isinstance(self.stored, h5py.Dataset) else _sparse_rows
        for start, block in rows(self.stored, columns):
            kept = cells[start : start + block.shape[0]]
            chosen = block if kept.all() else block[np.flatnonzero(kept)]
            if not np.isfinite(chosen.data).all():
                raise DataError(f"{self.path}: the expression has values that are not finite. Fix: replace them.")
            yield chosen

    def chosen(self, path: Path) -> NDArray[np.bool_]:
        """Return which cells a list of names (text, one a line) names, shape (N,).

        Raises
        ------
        DataError
            For names that are no cell of the data (they are counted), or an empty list.
        """
        named = dict.fromkeys(line.strip() for _, line in text_lines(path) if line.strip())
        unknown = named.keys() - set(self.cells)
        if unknown or not named:
            raise DataError(
                f"{path}: {len(unknown):,} of {len(named):,} names are no cell of {self.path.name}"
                f"{f': {some(sorted(unknown))}' if unknown else ''}.\n  cells: {some(self.cells)}\n"
                "  Fix: write the names of the cells to look at, one a line, as the data spell them."
            )
        return np.array([name in named for name in self.cells], bool)


@contextmanager
def open_expression(path: Path, layer: str | None = None) -> Iterator[Expression]:
    """Open ``.h5ad`` or ``.h5mu`` for reading expression: ``X`` of the rna modality, or one of its layers.

    An ``.h5ad`` file is taken to hold RNA, unless its var has ``feature_types``, which then selects.

    Raises
    ------
    UnreadableFile
        When it is no HDF5 file or has no matrix.
    MissingModality, MissingLayer
        When it holds no RNA, or not this layer; what it has is listed.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise UnreadableFile(f"{path} is not a readable HDF5 file: {error}") from error
    with file:
        group = file
        if "mod" in file:
            found = [name for name in file["mod"] if canonical(name) == "rna"]
            if not found:
                raise MissingModality(f"{path} holds no rna modality: found {some(list(file['mod']), 8)}.")
            group = file["mod"][found[0]]
        yield _described(path, group, layer)


def _described(path: Path, group: h5py.Group, layer: str | None) -> Expression:
    from anndata.io import read_elem, sparse_dataset

    layers = list(group.get("layers", ()))
    if layer is not None and layer not in layers:
        raise MissingLayer(f"{path} has no layer {layer}: found {some(layers, 8) or 'none'}.")
    stored = group.get("X") if layer is None else group["layers"][layer]
    if stored is None or not {"var", "obs"} <= group.keys():
        raise UnreadableFile(f"{path}: found {some(list(group), 8)}, expected X, obs and var of .h5ad or .h5mu.")
    var = read_elem(group["var"])
    columns = np.arange(len(var))
    if "feature_types" in var.columns:
        kinds = var["feature_types"].astype(str)
        columns = np.flatnonzero([canonical(kind) == "rna" for kind in kinds])
        if not columns.size:
            raise MissingModality(f"{path} holds no rna modality: found {some(sorted(kinds.unique()), 8)}.")
    matrix = stored if isinstance(stored, h5py.Dataset) else sparse_dataset(stored)
    return Expression(path, [str(name) for name in var.index[columns]], _index(group["obs"]), columns, matrix)


def _index(frame: h5py.Group) -> list[str]:
    return [str(name) for name in frame[frame.attrs["_index"]].asstr()[:]]


def _sparse_rows(stored: Any, columns: NDArray[np.int64]) -> Iterator[tuple[int, sparse.csr_array]]:
    """Yield blocks of rows; of a matrix stored by column, the chosen columns are held whole."""
    if stored.format == "csc":
        order = np.argsort(columns)
        held = _picked(sparse.csr_array(stored[:, columns[order]]), np.argsort(order))
        for start in range(0, held.shape[0], BLOCK_CELLS):
            yield start, sparse.csr_array(held[start : start + BLOCK_CELLS])
        return
    bounds = stored.group["indptr"][:]
    start = 0
    while start < stored.shape[0]:
        stop = int(np.searchsorted(bounds, bounds[start] + BLOCK_ENTRIES, side="right")) - 1
        stop = min(max(stop, start + 1), start + BLOCK_CELLS, stored.shape[0])
        yield start, _picked(sparse.csr_array(stored[start:stop]), columns)
        start = stop


def _dense_rows(stored: h5py.Dataset, columns: NDArray[np.int64]) -> Iterator[tuple[int, sparse.csr_array]]:
    step = max(1, min(BLOCK_CELLS, BLOCK_ENTRIES // max(1, stored.shape[1])))
    for start in range(0, stored.shape[0], step):
        yield start, sparse.csr_array(np.asarray(stored[start : start + step])[:, columns])


def _picked(block: sparse.csr_array, columns: NDArray[np.int64]) -> sparse.csr_array:
    return sparse.csr_array(block[:, columns])
